//! `status` for people.

use super::{Show, full_name, or_dash, short_identity, units};
use crate::{
    admin::proto::{Control, Drains, Drop, Guard, Pod, Status, Totals},
    cli::output::{Row, columns, table},
};
use std::fmt::Write;

impl Row for Pod {
    const HEAD: &'static [&'static str] = &["POD", "STATE", "ADDRESSES", "ERROR"];
    const EMPTY: &'static str = "no pod of this node is in the mesh";

    fn cells(&self) -> Vec<String> {
        vec![
            full_name(&self.namespace, &self.name),
            self.state.clone(),
            or_dash(self.addresses.join(",")),
            or_dash(&*self.error),
        ]
    }
}

impl Show for Status {
    fn show(&self) -> String {
        let now = jiff::Timestamp::now();
        let up = units::apart(&self.started, now).map_or_else(String::new, |(t, _)| format!(", up {t}"));
        let ready = match self.ready {
            true => "yes".to_owned(),
            false => format!("no, waiting for {}", self.waiting_for.join(", ")),
        };
        let nothing = (Control::default(), Totals::default());
        let control = self.control.as_ref().unwrap_or(&nothing.0);
        let t = self.totals.as_ref().unwrap_or(&nothing.1);
        let rows = [
            ("Node", self.node.clone()),
            ("Version", format!("{}{up}", self.version)),
            ("Ready", ready),
            ("Control", told(control, now)),
            ("Capture", self.capture.clone()),
            ("Pods", pods(&self.pods)),
            ("Guard", self.guard.as_ref().map_or_else(|| "none: pods are listed by hand".to_owned(), guard)),
            ("Certificates", certificates(self, t.certificates, now)),
            ("Lost", lost(&self.drops)),
            ("Knows", format!("{} workloads, {} services, {} policies", t.workloads, t.services, t.policies)),
            ("Carries", format!("{} connections", t.connections)),
            ("Drains", self.drains.as_ref().map_or_else(|| "-".to_owned(), |d| drains(d, now))),
            ("Logs", self.log.clone()),
        ];
        let mut text = columns(None, rows.into_iter().map(|(k, v)| vec![k.to_owned(), v]));
        for refused in &control.refused {
            // Writing to a String does not fail.
            let _ = writeln!(text, "refused: {}: {}", refused.resource, refused.error);
        }
        if !control.cache_error.is_empty() {
            let _ = writeln!(text, "not kept on disk: {}", control.cache_error);
        }
        for c in &self.failing_certificates {
            let error = or_dash(&*c.last_error);
            let _ = writeln!(text, "certificate {}: {}: {error}", c.state, short_identity(&c.identity));
        }
        for pod in self.pods.iter().filter(|pod| !pod.warning.is_empty()) {
            let _ = writeln!(text, "{}: {}", full_name(&pod.namespace, &pod.name), pod.warning);
        }
        text.push('\n');
        text.push_str(&table(&self.pods));
        text
    }
}

fn pods(pods: &[Pod]) -> String {
    let count = |state: &str| pods.iter().filter(|p| p.state == state).count();
    let others = ["outside", "pending", "failed"].map(|state| (state, count(state)));
    let others = others.iter().filter(|(_, n)| *n > 0).map(|(state, n)| format!(", {n} {state}"));
    format!("{} enrolled{}", count("enrolled"), others.collect::<String>())
}

fn guard(guard: &Guard) -> String {
    let standing = match (&*guard.mode, &*guard.cgroup, &*guard.error) {
        ("off", _, "") => "off".to_owned(),
        (mode, "", "") => format!("{mode}, not attached yet"),
        (mode, "", error) => format!("{mode}, NOT ATTACHED: {error}"),
        (mode, cgroup, _) => format!("{mode}, at {cgroup}"),
    };
    let waiting = match &guard.waiting[..] {
        [] => String::new(),
        some => format!(", {} waiting ({})", some.len(), units::some(some)),
    };
    format!("{standing}, {} refused{waiting}", guard.refused)
}

fn drains(drains: &Drains, now: jiff::Timestamp) -> String {
    if !drains.error.is_empty() {
        return format!("not known: {}", drains.error);
    }
    let last = units::apart(&drains.last_ended, now).map_or_else(String::new, |(time, _)| {
        format!("; the last, {time} ago, {}", cut(drains.last_cut_outbound, drains.last_cut_inbound))
    });
    format!("{}, {}{last}", drains.count, cut(drains.cut_outbound, drains.cut_inbound))
}

fn cut(outbound: u64, inbound: u64) -> String {
    format!("{outbound} outbound and {inbound} inbound connections cut")
}

fn certificates(status: &Status, all: u64, now: jiff::Timestamp) -> String {
    let failing = match status.failing_certificates.len() {
        0 => String::new(),
        n => format!(", {n} failing"),
    };
    let next =
        units::apart(&status.next_expiry, now).map(|(time, _)| format!(", the next expires in {time}"));
    format!("{all}{failing}{}", next.unwrap_or_default())
}

fn lost(drops: &[Drop]) -> String {
    let all: Vec<_> = drops.iter().map(|d| format!("{} {}", d.count, d.what)).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn told(c: &Control, now: jiff::Timestamp) -> String {
    let state = if c.connected { "connected" } else { "away" };
    let since = units::apart(&c.since, now).map_or_else(String::new, |(t, _)| format!(" for {t}"));
    let cache = if c.from_cache { ", serving the state cached on disk" } else { "" };
    let error = if c.last_error.is_empty() { String::new() } else { format!(" ({})", c.last_error) };
    let version = match (c.version.as_str(), c.version_apart) {
        ("", _) => String::new(),
        (version, false) => format!(", version {version}"),
        (version, true) => {
            format!(", version {version}: more than one minor from the agent's, upgrade the older one")
        }
    };
    format!("{}, {state}{since}{version}{cache}{error}", c.address)
}
