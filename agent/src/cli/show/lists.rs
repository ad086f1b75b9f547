//! Workloads, services, policies and certificates as rows.

use super::{full_name, or_dash, short_identity, units};
use crate::{
    admin::proto::{Certificate, Policy, Service, Workload},
    cli::output::Row,
};

impl Row for Workload {
    const HEAD: &'static [&'static str] = &["WORKLOAD", "ADDRESSES", "NODE", "MESH", "HEALTHY", "IDENTITY"];
    const EMPTY: &'static str = "no workloads: control has not told of any";

    fn cells(&self) -> Vec<String> {
        vec![
            full_name(&self.namespace, &self.name),
            or_dash(self.addresses.join(",")),
            or_dash(&*self.node),
            match (self.tunnel.as_str(), self.always_encrypt) {
                ("HBONE", true) => "always encrypted".to_owned(),
                ("HBONE", false) => "yes".to_owned(),
                _ => "no".to_owned(),
            },
            if self.healthy { "yes".to_owned() } else { "no".to_owned() },
            short_identity(&self.identity),
        ]
    }
}

impl Row for Service {
    const HEAD: &'static [&'static str] = &["SERVICE", "ADDRESSES", "PORTS", "ENDPOINTS", "WAYPOINT", "HOST"];
    const EMPTY: &'static str = "no services: control has not told of any";

    fn cells(&self) -> Vec<String> {
        let ports = self.ports.iter().map(|p| match p.target_port {
            0 => p.port.to_string(),
            target if target == p.port => p.port.to_string(),
            target => format!("{}→{target}", p.port),
        });
        vec![
            full_name(&self.namespace, &self.name),
            or_dash(self.addresses.join(",")),
            or_dash(ports.collect::<Vec<_>>().join(",")),
            format!("{} of {} ready", self.ready, self.endpoints.len()),
            or_dash(&*self.waypoint),
            self.hostname.clone(),
        ]
    }
}

impl Row for Policy {
    const HEAD: &'static [&'static str] = &["POLICY", "ACTION", "SCOPE", "WORKLOADS", "RULES"];
    const EMPTY: &'static str = "no policies: control has told of none, so everything is allowed";

    fn cells(&self) -> Vec<String> {
        let action = if self.dry_run { format!("{} (dry run)", self.action) } else { self.action.clone() };
        let rules = match self.rules.is_empty() {
            true => "matches nothing".to_owned(),
            false => self.rules.join("; "),
        };
        vec![
            full_name(&self.namespace, &self.name),
            action,
            self.scope.clone(),
            self.workloads.to_string(),
            rules,
        ]
    }
}

impl Row for Certificate {
    const HEAD: &'static [&'static str] = &["IDENTITY", "STATE", "EXPIRES", "SERIAL", "LAST ERROR"];
    const EMPTY: &'static str = "no certificates: no meshed pod on this node";

    fn cells(&self) -> Vec<String> {
        let expires = match units::apart(&self.not_after, jiff::Timestamp::now()) {
            Some((time, true)) => format!("{time} ago"),
            Some((time, false)) => format!("in {time}"),
            None => "-".to_owned(),
        };
        vec![
            short_identity(&self.identity),
            self.state.clone(),
            expires,
            or_dash(&*self.serial),
            or_dash(&*self.last_error),
        ]
    }
}
