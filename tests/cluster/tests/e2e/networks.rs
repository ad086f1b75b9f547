//! What a node's network is made of, to be compared: whatever the mesh adds must be gone with it.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use weft_cluster::{Cluster, Node};

/// Every node's network, by the node's name: what was asked for, and the lines of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks(BTreeMap<String, BTreeMap<String, Vec<String>>>);

/// What is asked for in each node. Pods come and go, and with them links and routes of the CNI plugin and tables'
/// content of kube-proxy: those are left out.
const QUESTIONS: [(&str, &str); 7] = [
    ("links", "ip -o link show | sed 's/^[0-9]*: //; s/[@:].*//' | grep -v '^veth' | sort"),
    ("rules", "ip rule; ip -6 rule"),
    (
        "routes",
        "(ip route show table all; ip -6 route show table all) | grep -v 'veth' | grep -v 'fe80::' | sort",
    ),
    ("nftables", "nft list tables | sort"),
    ("queues", "tc qdisc show dev eth0"),
    ("pins", "find /sys/fs/bpf -mindepth 1 | sort"),
    ("sockets", "ss -Hltn | awk '{print $4}' | grep -v '127.0.0.1' | sort -u"),
];

impl Networks {
    /// Looks at every node.
    pub fn see(cluster: &Cluster) -> Result<Self> {
        let nodes = cluster.nodes().iter();
        nodes.map(|node| Ok((node.name().to_owned(), see(node)?))).collect::<Result<_>>().map(Self)
    }

    /// What differs, a line each; empty where nothing does.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (node, now) in &self.0 {
            for (question, lines) in now {
                let empty = Vec::new();
                let was = before.0.get(node).and_then(|all| all.get(question)).unwrap_or(&empty);
                let added = lines.iter().filter(|line| !was.contains(line)).map(|line| format!("+ {line}"));
                let gone = was.iter().filter(|line| !lines.contains(line)).map(|line| format!("- {line}"));
                found.extend(added.chain(gone).map(|line| format!("{node}: {question}: {line}")));
            }
        }
        found
    }
}

fn see(node: &Node) -> Result<BTreeMap<String, Vec<String>>> {
    let answer = |(question, command): (&str, &str)| {
        let said = node.run("/bin/sh", &["-c", command])?;
        Ok((question.to_owned(), said.lines().map(|line| line.trim().to_owned()).collect()))
    };
    QUESTIONS.into_iter().map(answer).collect()
}
