//! Programs of others on the way of connections: of a CNI plugin that stands in for kube-proxy, or of another mesh.
//!
//! All programs of a cgroup run, those of the inner cgroup first, and within one in the order in which they were attached. A
//! program that translates a service's address before Weft's has its turn leaves it a pod's.

use super::sys;
use aya::programs::loaded_programs;
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// Where Weft attaches, by the numbers of `enum bpf_attach_type`.
const HOOKS: [(u32, &str); 5] =
    [(10, "connect4"), (11, "connect6"), (29, "getpeername4"), (30, "getpeername6"), (3, "sock_ops")];

/// A program that is not Weft's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// What it is asked about.
    pub hook: &'static str,
    /// What it is called.
    pub name: String,
    /// Whether it was attached in a way that lets no others beside it or below it.
    pub alone: bool,
}

/// Those that are attached to `cgroup`, or above it.
pub fn strangers(cgroup: &Path) -> io::Result<Vec<Stranger>> {
    let names: BTreeMap<u32, String> = loaded_programs()
        .flatten()
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut found = Vec::new();
    for dir in cgroup.ancestors() {
        let Ok(file) = File::open(dir) else { break };
        for (kind, hook) in HOOKS {
            // The first that is no cgroup of v2 any more is beyond the root.
            let Ok((ids, alone)) = sys::attached(file.as_fd(), kind) else { return Ok(found) };
            for id in ids {
                let name = names.get(&id).cloned().unwrap_or_else(|| format!("program {id}"));
                if !name.starts_with("weft_") {
                    found.push(Stranger { cgroup: dir.to_owned(), hook, name, alone });
                }
            }
        }
    }
    Ok(found)
}

/// What they mean for the mesh; none where there are none.
pub fn judge(strangers: &[Stranger]) -> Option<(String, &'static str)> {
    let list = strangers.iter().map(|one| format!("{} ({}) at {}", one.name, one.hook, one.cgroup.display()));
    let list = list.collect::<Vec<_>>().join(", ");
    let connects = strangers.iter().any(|one| one.hook.starts_with("connect"));
    if strangers.iter().any(|one| one.alone) {
        return Some((
            list,
            "it was attached so that no other program may be: have its owner attach it with BPF_F_ALLOW_MULTI",
        ));
    }
    connects.then_some((
        list,
        "where it translates services' addresses, policies and tunnels hold, and services are not seen as such: with Cilium, set \
         socketLB.hostNamespaceOnly=true",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_translates_and_who_shuts_others_out_is_told() {
        let one =
            |hook, alone| Stranger { cgroup: "/c".into(), hook, name: "cil_sock4_connec".into(), alone };
        assert_eq!(judge(&[]), None);
        assert_eq!(judge(&[one("sock_ops", false)]), None, "it only watches");
        let (found, mend) = judge(&[one("connect4", false)]).unwrap();
        assert!(found == "cil_sock4_connec (connect4) at /c" && mend.contains("hostNamespaceOnly"));
        assert!(judge(&[one("sock_ops", true)]).unwrap().1.contains("BPF_F_ALLOW_MULTI"));
    }
}
