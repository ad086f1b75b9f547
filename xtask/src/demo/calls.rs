//! The calls of the story: who calls whom, what should become of it, and what did.

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;

/// How a call should travel once there is a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Within the node, by the kernel alone.
    Direct,
    /// Through mutual TLS between the nodes.
    Tunnel,
    /// As it came: the caller has no place in the mesh.
    Plain,
    /// Not at all.
    Refused,
}

/// One call.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Call {
    /// The calling pod.
    pub from: &'static str,
    /// The pod that is called.
    pub to: &'static str,
    /// How it should travel in the mesh.
    pub way: Way,
}

/// Every call of examples/bookshop/README.md.
pub const CALLS: [Call; 8] = [
    Call { from: "bookshop/web", to: "bookshop/catalog", way: Way::Direct },
    Call { from: "bookshop/web", to: "bookshop/reviews", way: Way::Tunnel },
    Call { from: "bookshop/web", to: "bookshop/payments", way: Way::Tunnel },
    Call { from: "legacy/desk", to: "bookshop/reviews", way: Way::Plain },
    Call { from: "bookshop/catalog", to: "bookshop/payments", way: Way::Refused },
    Call { from: "bookshop/reviews", to: "bookshop/payments", way: Way::Refused },
    Call { from: "legacy/desk", to: "bookshop/payments", way: Way::Refused },
    Call { from: "legacy/desk", to: "bookshop/catalog", way: Way::Refused },
];

/// What became of a call.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The call.
    pub call: Call,
    /// The listener of its agent that the caller was pointed at; none where the call was captured.
    pub door: Option<Door>,
    /// What was called: an address, or a name and a port.
    pub asked: String,
    /// What the client printed.
    pub result: Value,
    /// How many connections the server's application accepted meanwhile.
    pub reached: u64,
}

/// A listener of an agent for a workload's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// HTTP CONNECT.
    Connect,
    /// SOCKS5.
    Socks,
}

impl Answer {
    /// Whether it was answered.
    pub fn is_ok(&self) -> bool {
        self.result["ok"] == true
    }

    /// What the client was left with: the status, or the name of the error.
    pub fn seen_by_client(&self) -> String {
        match self.result["status"].as_u64() {
            Some(status) => format!("HTTP {status}"),
            None if self.door.is_some() => self.result["message"].as_str().unwrap_or("?").to_owned(),
            None => self.result["error"].as_str().unwrap_or("?").to_owned(),
        }
    }

    /// What an application sees of a call, if nothing stands between: each side's idea of both ends agrees.
    ///
    /// # Errors
    /// Says what differs.
    pub fn is_unchanged(&self) -> Result<()> {
        let [client, peer, server, caller] = [
            &self.result["local"],
            &self.result["peer"],
            &self.result["body"]["local"],
            &self.result["body"]["peer"],
        ];
        let who = format!("{} → {}", self.call.from, self.asked);
        ensure!(*peer == *self.asked, "{who}: the client's socket says that its peer is {peer}");
        ensure!(*server == *self.asked, "{who}: the server saw itself as {server}");
        ensure!(caller == client, "{who}: the client was {client} and the server saw {caller}");
        Ok(())
    }
}
