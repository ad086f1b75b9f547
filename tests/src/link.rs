//! The link between two nodes.

use crate::{Netns, manifests::NodeManifest};
use anyhow::Result;

/// One end of a link: a node's namespace and what the link is called in it.
#[derive(Clone, Debug)]
pub struct End {
    /// The node's namespace.
    pub netns: Netns,
    /// The interface, `to-<other node>`.
    pub interface: String,
    /// Addresses and routes of this end, as `ip` commands: the kernel forgets them when the link goes down.
    setup: Vec<String>,
}

/// A veth link between two nodes.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its ends.
    pub ends: [End; 2],
}

impl Link {
    /// Joins two nodes, and routes each one's pods over the link.
    pub(crate) fn create(a: (&str, &Netns, &NodeManifest), b: (&str, &Netns, &NodeManifest)) -> Result<Self> {
        let ends = [end(a, b), end(b, a)];
        let link = Self { ends };
        link.plug()?;
        Ok(link)
    }

    /// Makes the interfaces and brings them up; also after [`Link::unplug`].
    pub fn plug(&self) -> Result<()> {
        let [a, b] = &self.ends;
        let create = format!(
            "link add {} netns {} type veth peer name {} netns {}",
            a.interface,
            a.netns.name(),
            b.interface,
            b.netns.name()
        );
        crate::ip::batch(None, &[create])?;
        self.up()
    }

    /// Removes the interfaces, and with them all that was set up on them.
    pub fn unplug(&self) -> Result<()> {
        let [a, _] = &self.ends;
        a.netns.ip(&[format!("link delete {}", a.interface)])
    }

    /// Takes the link down, on both ends.
    pub fn down(&self) -> Result<()> {
        self.ends.iter().try_for_each(|end| end.netns.ip(&[format!("link set {} down", end.interface)]))
    }

    /// Brings the link up, with its addresses and routes.
    pub fn up(&self) -> Result<()> {
        self.ends.iter().try_for_each(|end| end.netns.ip(&[format!("link set {} up", end.interface)]))?;
        self.ends.iter().try_for_each(|end| end.netns.ip(&end.setup))
    }
}

fn end(this: (&str, &Netns, &NodeManifest), other: (&str, &Netns, &NodeManifest)) -> End {
    let (_, netns, own) = this;
    let (other_name, _, peer) = other;
    // The kernel's limit for an interface's name.
    const LONGEST: usize = 15;
    let interface: String = format!("to-{other_name}").chars().take(LONGEST).collect();
    let (own, to) = (own.addresses, peer.addresses);
    let mut setup = vec![
        format!("route replace {}/32 dev {interface} src {}", to.v4, own.v4),
        // Neighbour discovery answers for an address only on the link that has it.
        format!("addr replace {}/128 dev {interface} nodad", own.v6),
        format!("route replace {}/128 dev {interface} src {}", to.v6, own.v6),
    ];
    setup.extend(peer.pod_ranges.iter().map(|range| {
        if range.contains(':') {
            format!("route replace {range} via {} dev {interface} src {}", to.v6, own.v6)
        } else {
            format!("route replace {range} via {} dev {interface} onlink src {}", to.v4, own.v4)
        }
    }));
    End { netns: netns.clone(), interface, setup }
}
