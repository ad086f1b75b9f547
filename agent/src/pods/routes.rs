//! What the agent changes in a pod's namespace besides opening sockets: marked packets stay inside.
//!
//! A connection is delivered to the application with its client's own source address, which is not an address of the
//! pod; the application's answers would leave through the pod's interface. So the agent marks what it delivers, sysctls
//! make every answer carry the same mark, and a rule keeps marked packets on loopback.

use super::Netns;
use rtnetlink::{
    Error, Handle, RouteMessageBuilder,
    packet_core::ErrorMessage,
    packet_route::{
        AddressFamily,
        route::{RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};
use weft_ebpf_abi::DELIVERY_MARK;

/// The routing table that keeps marked packets inside the pod.
const TABLE: u32 = 15006;
/// Before the main table (32766), after the local one (0).
const PRIORITY: u32 = 15006;
/// The loopback device is the first one of every namespace.
const LOOPBACK: u32 = 1;

/// Why a pod's routing cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The sysctl cannot be written.
    #[error("cannot set {name} in the pod: {source}; is /proc/sys mounted read-only?")]
    Sysctl {
        /// Its path below `/proc/sys`.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No netlink socket.
    #[error("cannot open a netlink socket in the pod: {0}")]
    Netlink(io::Error),
    /// The kernel refused a rule or a route.
    #[error("the kernel refused a {what} for {family:?}: {source}")]
    Refused {
        /// `rule` or `route`.
        what: &'static str,
        /// IPv4 or IPv6.
        family: AddressFamily,
        /// What it said.
        source: Error,
    },
}

/// Prepares the pod: answers carry the mark of the question. Doing it twice changes nothing. `proc` is any proc file system that
/// may be written: that of a container may not.
pub fn prepare(netns: &Netns, proc: &Path) -> Result<(), RouteError> {
    for name in families(netns).flat_map(sysctls) {
        let set = || std::fs::write(proc.join("sys").join(name), "1");
        netns.enter(set).map_err(|source| RouteError::Sysctl { name, source })?;
    }
    Ok(())
}

/// Keeps marked packets inside the pod; doing it twice changes nothing. To be called before the first delivery, and not sooner:
/// from the first rule on, the kernel asks its rules for every packet of the namespace that it routes, which costs each new
/// connection some 3 µs.
pub async fn add(netns: &Netns) -> Result<(), RouteError> {
    let handle = connect(netns)?;
    for family in families(netns) {
        let mut request = handle.rule().add();
        *request.message_mut() = rule(family);
        tolerate(request.execute().await, libc::EEXIST, "rule", family)?;
        let request = handle.route().add(route(family)).replace();
        tolerate(request.execute().await, libc::EEXIST, "route", family)?;
    }
    Ok(())
}

/// Takes back what [`add`] did, if it was called. The sysctls of [`prepare`] stay: without marked packets they change nothing.
pub async fn remove(netns: &Netns) -> Result<(), RouteError> {
    let handle = connect(netns)?;
    for family in families(netns) {
        tolerate(handle.rule().del(rule(family)).execute().await, libc::ENOENT, "rule", family)?;
        tolerate(handle.route().del(route(family)).execute().await, libc::ESRCH, "route", family)?;
    }
    Ok(())
}

/// What makes answers carry the mark of the question: of an accepted connection (both families have the one switch), and
/// of the RST that a closed port answers with.
fn sysctls(family: AddressFamily) -> impl Iterator<Item = &'static str> {
    let names: &[_] = match family {
        AddressFamily::Inet6 => &["net/ipv6/fwmark_reflect"],
        _ => &["net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect"],
    };
    names.iter().copied()
}

/// The netlink connection ends with the last handle.
fn connect(netns: &Netns) -> Result<Handle, RouteError> {
    let (connection, handle, _) = netns.enter(rtnetlink::new_connection).map_err(RouteError::Netlink)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// IPv4, and IPv6 where the namespace has it on loopback (a route to a device without IPv6 is refused).
fn families(netns: &Netns) -> impl Iterator<Item = AddressFamily> + use<> {
    let v6 = netns
        .enter(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6"))
        .is_ok_and(|disabled| disabled.trim() == "0");
    std::iter::once(AddressFamily::Inet).chain(v6.then_some(AddressFamily::Inet6))
}

fn rule(family: AddressFamily) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::FwMark(DELIVERY_MARK),
        RuleAttribute::Table(TABLE),
    ];
    rule
}

fn route(family: AddressFamily) -> rtnetlink::packet_route::route::RouteMessage {
    let any = match family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .table_id(TABLE)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .output_interface(LOOPBACK);
    // A prefix of no bits is valid for either family.
    let mut message = match builder.destination_prefix(any, 0) {
        Ok(builder) => builder.build(),
        Err(_) => RouteMessageBuilder::<IpAddr>::new().build(),
    };
    message.header.address_family = family;
    message
}

fn tolerate(
    done: Result<(), Error>,
    errno: i32,
    what: &'static str,
    family: AddressFamily,
) -> Result<(), RouteError> {
    match done {
        Err(Error::NetlinkError(ErrorMessage { code: Some(code), .. })) if code.get() == -errno => Ok(()),
        Err(source) => Err(RouteError::Refused { what, family, source }),
        Ok(()) => Ok(()),
    }
}
