//! A node with two enrolled pods and one that is not, and the agent's listeners in them.

use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use weft_agent::{
    kernel::{
        Enrolment, EnrolmentFlags, Kernel, KernelConfig, KernelError, LocalPod, netns_cookie, reconcile::Plan,
    },
    pods::listeners::{self, ListenerName, Role},
};
use weft_model::{
    Delta, Name, Service, ServiceKey, SnapshotStore, Workload,
    policy::{Action, Clause, Match, Policy, PolicyKey, PolicyScope, Rule, StringMatch},
    service::ServicePort,
    workload::{PortMapping, Tunnel},
};
use weft_tests::{Netns, Place, Run};

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Where nothing is: a meshed workload of another node, as far as the maps know.
pub const REMOTE: [&str; 2] = ["10.77.1.9", "fd77:1::9"];
/// The virtual addresses of the service `shop/catalog`.
pub const VIP: [&str; 2] = ["10.96.0.7", "fd96::7"];
/// The port of the service, and the one that its endpoints have.
pub const SERVICE_PORT: u16 = 80;
pub const TARGET_PORT: u16 = 8080;

/// A pod, and the agent's listeners in it.
pub struct TestPod {
    pub netns: Netns,
    pub cookie: u64,
    pub addresses: [IpAddr; 2],
    pub outbound: TcpListener,
    pub inbound: TcpListener,
    pub hbone: TcpListener,
}

/// The node. `web` and `db` are enrolled, `other` is not.
pub struct Stage {
    pub kernel: Kernel,
    pub config: KernelConfig,
    pub store: SnapshotStore,
    pub node: Netns,
    pub web: TestPod,
    pub db: TestPod,
    pub other: TestPod,
    // Last: its end removes the namespaces.
    pub run: Arc<Run>,
}

impl Stage {
    /// Builds it. Everything is allowed until policies come.
    pub fn new() -> Result<Self> {
        Self::with_room_for(None)
    }

    /// Builds it with policies that allow everybody by address, so that the agent has to look at whoever comes from outside.
    pub fn guarded() -> Result<Self> {
        let mut stage = Self::new()?;
        let everywhere = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a network"));
        stage.apply(vec![by_match(
            "everybody",
            Action::Allow,
            vec![Match { source_ips: everywhere.to_vec(), ..Match::default() }],
        )])?;
        Ok(stage)
    }

    /// Builds it with maps for so many addresses.
    pub fn with_room_for(max_addresses: Option<u32>) -> Result<Self> {
        let run = Arc::new(Run::unique("kernel")?);
        let names = ["node", "web", "db", "other"].map(|n| format!("{}-{n}", run.name()));
        let made = Netns::create(&names)?;
        let [node, web, db, other]: [Netns; 4] = made.try_into().ok().context("four namespaces")?;
        bridge(&node)?;
        let pods = [(web, 2_u8), (db, 3), (other, 4)].map(|(netns, n)| pod(&node, netns, n));
        let [web, db, other] = pods;
        let (web, db, other) = (web?, db?, other?);
        let pin_dir = format!("/sys/fs/bpf/{}/node", run.name());
        let config = KernelConfig { max_addresses, ..KernelConfig::new(pin_dir) };
        let kernel = node.run(|| Ok(Kernel::load(&config)?))?;
        let store = SnapshotStore::default();
        store.apply(vec![
            workload("web", &web.addresses),
            workload("db", &db.addresses),
            workload("remote", &REMOTE.map(|a| a.parse().expect("an address"))),
        ]);
        let mut stage = Self { kernel, config, store, node, web, db, other, run };
        stage.reconcile()?;
        stage.enrol(EnrolmentFlags::default())?;
        stage.kernel.attach()?;
        Ok(stage)
    }

    /// Enrols both pods, again if need be.
    pub fn enrol(&mut self, flags: EnrolmentFlags) -> Result<()> {
        for pod in [&self.web, &self.db] {
            enrol(&mut self.kernel, pod, flags)?;
        }
        Ok(())
    }

    /// Brings the maps up to the snapshot; how many writes that took.
    pub fn reconcile(&mut self) -> Result<usize> {
        Ok(self.try_reconcile()?.len())
    }

    /// Brings the maps up to the snapshot, or tells what could not be written.
    pub fn try_reconcile(&mut self) -> Result<Plan, KernelError> {
        let pods = [(&self.web, "web"), (&self.db, "db")].map(|(pod, name)| LocalPod {
            cookie: pod.cookie,
            uid: name.into(),
            addresses: Vec::new(),
        });
        self.kernel.reconcile(&self.store.load(), &"".into(), &pods)
    }

    /// Changes the mesh's state.
    pub fn apply(&mut self, deltas: Vec<Delta>) -> Result<()> {
        self.store.apply(deltas);
        self.reconcile().map(drop)
    }

    /// Starts the kernel's side again, as a new agent process would.
    pub fn reload(&mut self) -> Result<()> {
        self.kernel = self.node.run(|| Ok(Kernel::load(&self.config)?))?;
        Ok(())
    }

    /// A counter's value.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let stats = self.kernel.stats()?;
        let found = stats.counters.iter().find(|(n, _)| *n == name);
        Ok(found.with_context(|| format!("no counter {name}"))?.1)
    }
}

/// Enrols one pod.
pub fn enrol(kernel: &mut Kernel, pod: &TestPod, flags: EnrolmentFlags) -> Result<()> {
    let netns = File::open(pod.netns.path())?;
    kernel.enrol(&Enrolment {
        netns: netns.as_fd(),
        cookie: pod.cookie,
        addresses: &pod.addresses,
        outbound: &[pod.outbound.as_fd()],
        inbound: &[pod.inbound.as_fd()],
        hbone: &[pod.hbone.as_fd()],
        flags,
    })?;
    Ok(())
}

fn bridge(node: &Netns) -> Result<()> {
    node.ip(&[
        "link add br0 type bridge".into(),
        "link set br0 up".into(),
        "addr add 10.77.0.1/24 dev br0".into(),
        "addr add fd77::1/64 dev br0 nodad".into(),
    ])
}

fn pod(node: &Netns, netns: Netns, n: u8) -> Result<TestPod> {
    node.ip(&[
        format!("link add veth{n} type veth peer name eth0 netns {}", netns.name()),
        format!("link set veth{n} master br0"),
        format!("link set veth{n} up"),
    ])?;
    netns.ip(&[
        format!("addr add 10.77.0.{n}/24 dev eth0"),
        format!("addr add fd77::{n}/64 dev eth0 nodad"),
        "link set eth0 up".into(),
        "route add default via 10.77.0.1".into(),
        "route add default via fd77::1".into(),
    ])?;
    let listener = |role| agent_listener(&netns, role, 0);
    let (outbound, inbound, hbone) =
        (listener(Role::Outbound)?, listener(Role::Inbound)?, listener(Role::Hbone)?);
    Ok(TestPod {
        cookie: netns_cookie(&outbound)?,
        addresses: [format!("10.77.0.{n}").parse()?, format!("fd77::{n}").parse()?],
        netns,
        outbound,
        inbound,
        hbone,
    })
}

/// A listener as the agent opens them.
pub fn agent_listener(netns: &Netns, role: Role, index: usize) -> Result<TcpListener> {
    let inside = weft_agent::pods::Netns::open(&netns.path())?;
    let name = ListenerName { cookie: inside.cookie(), role, index };
    Ok(listeners::open(&inside, &name, None)?)
}

impl TestPod {
    /// Where a process of this pod runs whose cgroup is `cgroup`.
    pub fn place(&self, run: &Arc<Run>, cgroup: &Path) -> Place {
        let name = self.netns.name().to_owned();
        Place { name, netns: self.netns.clone(), cgroup: cgroup.to_owned(), run: run.clone() }
    }

    /// An application that listens on both families. Its first connection is what [`accept`] answers.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        self.netns.run(|| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
    }

    /// An application that connects.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        Ok(self.try_connect(to)??)
    }

    /// An application that connects, or is told why not.
    pub fn try_connect(&self, to: SocketAddr) -> Result<std::io::Result<TcpStream>> {
        self.netns.run(|| Ok(TcpStream::connect_timeout(&to, PATIENCE)))
    }

    /// Its own address of the same family as `like`.
    pub fn address(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.addresses[0] } else { self.addresses[1] }
    }
}

/// The next connection of a listener that does not block, with its client's address.
pub fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    let until = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok((stream, canonical(peer)));
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                ensure!(Instant::now() < until, "nobody connects to {:?}", listener.local_addr());
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// That nobody waits to be accepted.
pub fn nobody(listener: &TcpListener) -> Result<()> {
    match listener.accept() {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        other => anyhow::bail!("unexpected: {other:?}"),
    }
}

/// A line each way.
pub fn talk(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"ping")?;
    let mut four = [0; 4];
    server.read_exact(&mut four)?;
    ensure!(&four == b"ping");
    server.write_all(b"pong")?;
    client.read_exact(&mut four)?;
    ensure!(&four == b"pong");
    Ok(())
}

/// An address of a socket, where a dual-stack one reports an IPv4 address in its mapped form.
pub fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// `host:port`.
pub fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), port)
}

/// A meshed workload, named and with a service account like its uid, in the namespace `shop`.
pub fn workload(name: &str, addresses: &[IpAddr]) -> Delta {
    let mut w = Workload::new(name, "shop", name, name);
    w.addresses = addresses.to_vec();
    w.tunnel = Tunnel::Hbone;
    Delta::Workload(Box::new(w))
}

/// The service `shop/catalog` with these workloads behind it.
pub fn catalog(behind: &[(&str, &[IpAddr])]) -> Vec<Delta> {
    let key = ServiceKey { namespace: "shop".into(), hostname: "catalog.shop".into() };
    let mut service = Service::new("shop", "catalog", "catalog.shop");
    service.addresses = VIP
        .iter()
        .map(|ip| weft_model::NetworkAddress::new("".into(), ip.parse().expect("an address")))
        .collect();
    service.ports = vec![ServicePort { service_port: SERVICE_PORT, target_port: 0 }];
    let mut deltas = vec![Delta::Service(service)];
    for (name, addresses) in behind {
        let Delta::Workload(mut w) = workload(name, addresses) else { continue };
        Arc::make_mut(&mut w.services)
            .insert(key.clone(), vec![PortMapping { service_port: SERVICE_PORT, target_port: TARGET_PORT }]);
        deltas.push(Delta::Workload(w));
    }
    deltas
}

/// A policy for all of `shop` that matches the identities of these service accounts, on these ports (all, when empty).
pub fn policy(name: &str, action: Action, accounts: &[&str], ports: &[u16]) -> Delta {
    let principal = |a: &&str| StringMatch::Exact(Name::from(format!("cluster.local/ns/shop/sa/{a}")));
    let who = Match { principals: accounts.iter().map(principal).collect(), ..Match::default() };
    let r#where = Match { destination_ports: ports.to_vec(), ..Match::default() };
    by_match(name, action, vec![who, r#where])
}

/// A policy for all of `shop` that applies where all of these match.
pub fn by_match(name: &str, action: Action, all: Vec<Match>) -> Delta {
    let clauses = all.into_iter().map(|m| Clause { matches: vec![m] }).collect();
    Delta::Policy(Policy {
        key: PolicyKey { namespace: "shop".into(), name: name.into() },
        scope: PolicyScope::Namespace,
        action,
        dry_run: false,
        rules: vec![Rule { clauses }],
    })
}
