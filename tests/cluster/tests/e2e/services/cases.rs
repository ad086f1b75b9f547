//! The ways to the servers, and who answers there.

use super::NAMESPACE;
use crate::{
    calls::NOBODY,
    stage::{LONG, Stage, timed},
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::IpAddr;

const BOTH: &[&str] = &["one", "two"];

/// A way to some servers.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about.
    pub name: &'static str,
    /// What is called.
    pub to: String,
    /// Who answers a client of the first node, and one of the second.
    pub answers: [&'static [&'static str]; 2],
    /// Whether a server of the mesh is behind it.
    pub meshed: bool,
    /// Whether it leads past the mesh's own addresses: kube-proxy leads it on, from the node.
    pub past: bool,
}

impl Case {
    /// The same where nobody is served.
    pub fn refused(&self) -> Self {
        Self { answers: [&[NOBODY]; 2], ..self.clone() }
    }
}

/// Addresses and ports of the Services.
pub struct Cases {
    services: Vec<Value>,
    /// The first node's, and the second's.
    pub nodes: [String; 2],
}

impl Cases {
    /// Those of the scenario's Services, once each has what it shall have.
    pub fn of(stage: &Stage) -> Result<Self> {
        let mut services = Vec::new();
        timed(LONG, || {
            let all = stage.cluster.json(&["get", "services", "--namespace", NAMESPACE])?;
            services = all["items"].as_array().context("no list of Services")?.clone();
            let balanced = services.iter().filter(|service| service["spec"]["type"] == "LoadBalancer");
            let ready = |service: &Value| service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
            anyhow::ensure!(
                balanced.clone().count() == 2 && balanced.clone().all(ready),
                "no addresses: {all}"
            );
            Ok(())
        })?;
        let nodes = ["node-1", "node-2"].map(|name| stage.cluster.node(name));
        let [first, second] = nodes.map(|node| node.map(|node| node.plan().addresses.v4.clone()));
        Ok(Self { services, nodes: [first?, second?] })
    }

    fn service(&self, name: &str) -> Result<&Value> {
        let found = self.services.iter().find(|service| service["metadata"]["name"] == name);
        found.with_context(|| format!("no Service {name}"))
    }

    fn at(&self, name: &str, path: &str) -> Option<&str> {
        self.service(name).ok()?.pointer(path)?.as_str()
    }

    /// The first address of a Service, with its port.
    fn cluster(&self, name: &str) -> String {
        socket(self.at(name, "/spec/clusterIP").unwrap_or_default(), 80)
    }

    /// The address that a LoadBalancer Service has from the pool.
    pub fn balanced(&self, name: &str) -> String {
        socket(self.at(name, "/status/loadBalancer/ingress/0/ip").unwrap_or_default(), 80)
    }

    /// The port of a Service on every node.
    pub fn node_port(&self, name: &str) -> u64 {
        let port = self.service(name).ok().and_then(|service| service.pointer("/spec/ports/0/nodePort"));
        port.and_then(Value::as_u64).unwrap_or_default()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Case> {
        let named = |service: &str, port: u16| format!("{service}.{NAMESPACE}.svc.cluster.local:{port}");
        let case = |name, to, one, two| Case { name, to, answers: [one, two], meshed: true, past: false };
        let mut all = vec![
            case("a port of the pods' own name", self.cluster("plain"), BOTH, BOTH),
            case("a Service by its name", named("plain", 80), BOTH, BOTH),
            case("a headless Service", named("headless", 8081), &["two"], &["two"]),
            case("a ready pod's Service", self.cluster("last"), &["last"], &["last"]),
            case("PreferSameZone", self.cluster("zone"), &["one"], &["two"]),
            case("internalTrafficPolicy: Local", self.cluster("internal"), &["one"], &["two"]),
            case("the same without a server here", self.cluster("internal-two"), &[NOBODY], &["two"]),
            case("publishNotReadyAddresses", self.cluster("early"), &["unready"], &["unready"]),
            case("a server that is not ready", self.cluster("late"), &[NOBODY], &[NOBODY]),
            case("ExternalName of a Service of the mesh", named("inside", 80), BOTH, BOTH),
            case("a LoadBalancer's own address", self.cluster("balanced"), BOTH, BOTH),
        ];
        all.extend(self.at("plain", "/spec/clusterIPs/1").map(|address| {
            let family = if address.contains(':') { "IPv6" } else { "IPv4" };
            let name = if family == "IPv6" { "the IPv6 address" } else { "the IPv4 address" };
            case(name, socket(address, 80), BOTH, BOTH)
        }));
        all.extend(self.stable());
        let to = format!("outside.{NAMESPACE}.svc.cluster.local:8080");
        let alone = case("ExternalName of a Service outside", to, &["alone"], &["alone"]);
        all.push(Case { meshed: false, ..alone });
        all.push(case("LoadBalancer", self.balanced("balanced"), BOTH, BOTH));
        all.push(case("LoadBalancer, externalTrafficPolicy: Local", self.balanced("external"), BOTH, BOTH));
        let port = case("NodePort", format!("{}:{}", self.nodes[0], self.node_port("balanced")), BOTH, BOTH);
        all.push(Case { past: true, ..port });
        all
    }

    /// The pods of the StatefulSet, by their own names.
    pub fn stable(&self) -> Vec<Case> {
        let pod = |name, answers: &'static [&'static str]| Case {
            name: "a StatefulSet's pod",
            to: format!("{name}.set.{NAMESPACE}.svc.cluster.local:8080"),
            answers: [answers, answers],
            meshed: true,
            past: false,
        };
        vec![pod("set-0", &["set-0"]), pod("set-1", &["set-1"])]
    }

    /// The one whose server ends.
    pub fn last(&self) -> Vec<Case> {
        let name = "a server that ends, and is the only one";
        vec![Case {
            name,
            to: self.cluster("last"),
            answers: [&["last"], &["last"]],
            meshed: true,
            past: false,
        }]
    }
}

fn socket(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{address}:{port}"),
    }
}
