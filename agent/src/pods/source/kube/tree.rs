//! The kubelet's cgroups: which pods there are, and which processes are in them.
//!
//! The kubelet makes one cgroup for each pod, named after its uid, below one for each class of service. How they are called
//! depends on its cgroup driver, not on the container runtime; the runtime's own ones stand below:
//!
//! ```text
//! kubepods/burstable/pod<uid>/<container>                                              cgroupfs
//! kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/<…>.scope   systemd, `-` of the uid as `_`
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
};

/// How far below the given cgroup the kubelet's may be: it has a `--cgroup-root` of its own in some clusters.
const DEPTH: usize = 3;
/// Cgroups of one pod, and processes in them, beyond which it is not looked further.
const MOST: usize = 4096;

/// Why the kubelet's cgroup is not known.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error(
        "no cgroup of the kubelet (kubepods, kubepods.slice) is below {root}: mount the host's /sys/fs/cgroup there, or name \
         it with --pods-cgroup",
        root = root.display()
    )]
    None {
        /// Where it was looked.
        root: PathBuf,
    },
    /// There are two.
    #[error(
        "both {first} and {second} may be the kubelet's cgroup: name the right one with --pods-cgroup",
        first = first.display(),
        second = second.display()
    )]
    Several {
        /// One of them.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
}

/// Finds the kubelet's cgroup at or below `cgroup`, or at the same place of a v1 hierarchy where the pods are in none of v2.
pub fn find(cgroup: &Path) -> Result<PathBuf, FindError> {
    for root in std::iter::once(cgroup.to_owned()).chain(of_v1(cgroup)) {
        let found = below(&root);
        match &found[..] {
            [] => {}
            [one] => return Ok(one.clone()),
            // A kubelet whose cgroup driver was changed leaves the cgroup of the other one behind, empty.
            several @ [first, second, ..] => {
                let mut used = several.iter().filter(|dir| is_populated(dir));
                return match (used.next(), used.next()) {
                    (Some(one), None) => Ok(one.clone()),
                    _ => Err(FindError::Several { first: first.clone(), second: second.clone() }),
                };
            }
        }
    }
    Err(FindError::None { root: cgroup.to_owned() })
}

/// The same place in the hierarchies of v1, where v2 is mounted beside them.
fn of_v1(cgroup: &Path) -> Vec<PathBuf> {
    let Some(mount) = cgroup.ancestors().find(|dir| dir.ends_with("unified")) else { return Vec::new() };
    let (Some(all), Ok(place)) = (mount.parent(), cgroup.strip_prefix(mount)) else { return Vec::new() };
    ["systemd", "pids", "memory", "cpu"].map(|hierarchy| all.join(hierarchy).join(place)).into()
}

/// The nearest cgroups below `root` that are called as the kubelet calls its own; `root` itself counts.
fn below(root: &Path) -> Vec<PathBuf> {
    let mut level = vec![root.to_owned()];
    for _ in 0..=DEPTH {
        let found: Vec<_> = level.iter().filter(|dir| dir.is_dir() && is_kubepods(dir)).cloned().collect();
        if !found.is_empty() {
            return found;
        }
        level = level.iter().flat_map(|dir| directories(dir).unwrap_or_default()).take(MOST).collect();
        level.sort();
    }
    Vec::new()
}

/// Whether a process is in the cgroup or below it.
fn is_populated(dir: &Path) -> bool {
    match fs::read_to_string(dir.join("cgroup.events")) {
        Ok(events) => events.lines().any(|line| line == "populated 1"),
        // Cgroups of v1 do not tell.
        Err(_) => !processes(dir).is_empty(),
    }
}

fn is_kubepods(dir: &Path) -> bool {
    let name = name_of(dir);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    name == "kubepods" || name.ends_with("-kubepods")
}

/// The pods of the node, by uid, and the cgroups in which others may appear.
#[derive(Debug, Default)]
pub struct Tree {
    /// The cgroup of each pod.
    pub pods: BTreeMap<String, PathBuf>,
    /// What holds them.
    pub parents: Vec<PathBuf>,
}

/// Reads the tree below the kubelet's cgroup.
pub fn read(kubepods: &Path) -> io::Result<Tree> {
    let mut tree = Tree { parents: vec![kubepods.to_owned()], ..Tree::default() };
    for dir in directories(kubepods)? {
        match uid_of(name_of(&dir)) {
            Some(uid) => drop(tree.pods.insert(uid, dir)),
            None => tree.parents.push(dir),
        }
    }
    for class in &tree.parents[1..] {
        // A class may go while it is read.
        let pods = directories(class).unwrap_or_default().into_iter();
        tree.pods.extend(pods.filter_map(|dir| Some((uid_of(name_of(&dir))?, dir))));
    }
    Ok(tree)
}

/// The uid in the name of a pod's cgroup, by either driver.
pub fn uid_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.rsplit_once("-pod") {
        Some((class, uid)) if class.starts_with("kubepods") || class.contains("-kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    (!uid.is_empty() && uid.bytes().all(is_plain)).then(|| uid.replace('_', "-"))
}

/// The processes in a pod's cgroup and those below it. A process in another PID namespace than ours counts as 0.
pub fn processes(pod: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let mut rest = VecDeque::from([pod.to_owned()]);
    let mut seen = 0;
    while let Some(dir) = rest.pop_front() {
        seen += 1;
        if seen > MOST || found.len() > MOST {
            break;
        }
        // Containers come and go meanwhile; v2 knows cgroups that may hold none.
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        rest.extend(directories(&dir).unwrap_or_default());
    }
    found
}

fn directories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.flatten();
    Ok(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect())
}

fn name_of(dir: &Path) -> &str {
    dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "5f1c7a10-0000-4000-8000-000000000010";

    #[test]
    fn pods_are_known_by_their_names_with_either_driver() {
        let systemd = UID.replace('-', "_");
        for name in [
            format!("pod{UID}"),
            format!("kubepods-pod{systemd}.slice"),
            format!("kubepods-burstable-pod{systemd}.slice"),
            format!("kubelet-kubepods-besteffort-pod{systemd}.slice"),
        ] {
            assert_eq!(uid_of(&name).as_deref(), Some(UID), "{name}");
        }
        // A static pod is called after the hash of its manifest.
        assert_eq!(uid_of("pod5ca1ab1e").as_deref(), Some("5ca1ab1e"));
        for other in
            ["kubepods-burstable.slice", "burstable", "besteffort", "pod", "pod..", "crio-conmon.scope", ""]
        {
            assert_eq!(uid_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_tree_is_read_with_either_driver() {
        let root = tempfile::tempdir().unwrap();
        let systemd = UID.replace('-', "_");
        let make = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
        make("fs/system/x");
        make("fs/kubepods/pod1/c");
        make(&format!("fs/kubepods/burstable/pod{UID}/c"));
        make(&format!(
            "sd/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{systemd}.slice/cri-a.scope"
        ));
        let tree = read(&find(&root.path().join("fs")).unwrap()).unwrap();
        assert_eq!(tree.pods.keys().collect::<Vec<_>>(), ["1", UID]);
        assert_eq!(tree.parents.len(), 2);
        let tree = read(&find(&root.path().join("sd")).unwrap()).unwrap();
        assert_eq!(tree.pods.keys().collect::<Vec<_>>(), [UID]);
        assert!(matches!(find(root.path()), Err(FindError::Several { .. })), "of two nodes");
        let populated = |path: &str, is: u8| {
            fs::write(root.path().join(path).join("cgroup.events"), format!("populated {is}\nfrozen 0\n"))
                .unwrap();
        };
        populated("fs/kubepods", 0);
        populated("sd/kubepods.slice", 1);
        assert_eq!(
            find(root.path()).unwrap(),
            root.path().join("sd/kubepods.slice"),
            "the other one is left over"
        );
        populated("fs/kubepods", 1);
        assert!(matches!(find(root.path()), Err(FindError::Several { .. })), "both are in use");
        assert!(matches!(find(&root.path().join("fs/system")), Err(FindError::None { .. })));
    }

    #[test]
    fn pods_that_are_in_no_cgroup_of_v2_are_found_in_v1() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
        make("unified/node-a/system");
        make("memory/node-a/kubepods/besteffort/pod1");
        make("memory/node-b/kubepods/besteffort/pod2");
        let found = find(&root.path().join("unified/node-a")).unwrap();
        assert_eq!(read(&found).unwrap().pods.keys().collect::<Vec<_>>(), ["1"]);
    }
}
