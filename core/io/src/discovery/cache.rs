//! The last discovery state on disk, so that a node starts with it when control is away.
//!
//! The file is a head and then one resource after another, as they stand on the wire; it is written anew beside the old
//! one and renamed over it. It is written from the snapshot, so that nothing is held in memory for it.

use super::{
    convert::{self, Kind},
    proto::{cache::CacheHead, discovery::Resource},
};
use crate::told;
use prost::Message;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use weft_model::{Delta, Snapshot, snapshot::Shared};

const FORMAT: u32 = 1;
/// Who writes: the same resources may mean more to another version, which then asks for all of them anew.
const WRITER: &str = env!("CARGO_PKG_VERSION");

/// Where the state is kept, and how large it may grow.
#[derive(Clone, Debug)]
pub struct CacheFile {
    /// The file. Its directory must exist.
    pub path: PathBuf,
    /// Bytes; a state that needs more is not written, and a larger file is not read.
    pub limit: u64,
}

/// Why the state was not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk says no.
    #[error("state cache {path}: {cause}{mend}", path = path.display(), mend = told::file_mend(cause))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is not one of ours, or broken.
    #[error("state cache {path} is damaged: {what}; control sends the state anew", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// There is more state than the limit allows.
    #[error("state cache {path}: more than the limit of {limit} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

/// What the file held.
#[derive(Debug, Default)]
pub struct Cached {
    /// The state.
    pub deltas: Vec<Delta>,
    /// The version of each resource; empty where another version of the program wrote them.
    pub versions: Vec<(Kind, String, String)>,
    /// Whether the pods of the node are among it.
    pub node_pods: bool,
}

impl CacheFile {
    /// Reads the state; `None` where nothing was kept yet.
    pub fn load(&self) -> Result<Option<Cached>, CacheError> {
        let bytes = match fs::metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io(e)),
            Ok(m) if m.len() > self.limit => return Err(self.too_large()),
            Ok(_) => fs::read(&self.path).map_err(|e| self.io(e))?,
        };
        let mut rest = &bytes[..];
        let head = CacheHead::decode_length_delimited(&mut rest).map_err(|e| self.damaged(e))?;
        if head.format != FORMAT {
            return Err(self.damaged(format!("format {} is not known", head.format)));
        }
        let mut cached = Cached { node_pods: head.node_pods, ..Cached::default() };
        let mut shared = Shared::default();
        for _ in 0..head.count {
            let resource = Resource::decode_length_delimited(&mut rest).map_err(|e| self.damaged(e))?;
            let url = resource.resource.as_ref().map_or("", |any| any.type_url.as_str());
            let kind = Kind::from_type_url(url).ok_or_else(|| self.damaged(format!("type `{url}`")))?;
            let mut delta = convert::decode(kind, &resource).map_err(|e| self.damaged(e))?;
            if let Delta::Workload(workload) = &mut delta {
                shared.share(workload);
            }
            cached.deltas.push(delta);
            if head.writer == WRITER {
                cached.versions.push((kind, resource.name, resource.version));
            }
        }
        Ok(Some(cached))
    }

    /// Writes `snapshot`; `version` knows the version of each resource, and `node_pods` says whether the pods of the node were
    /// asked for.
    pub fn store(
        &self,
        snapshot: &Snapshot,
        node_pods: bool,
        version: impl Fn(Kind, &str) -> Option<String>,
    ) -> Result<(), CacheError> {
        let fresh = self.path.with_extension("new");
        let written = self.write(&fresh, snapshot, node_pods, version);
        if written.is_err() {
            // A half-written file is of no use; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&fresh);
        }
        written
    }

    fn write(
        &self,
        fresh: &Path,
        snapshot: &Snapshot,
        node_pods: bool,
        version: impl Fn(Kind, &str) -> Option<String>,
    ) -> Result<(), CacheError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(fresh)
            .map_err(|e| self.io(e))?;
        let mut out = BufWriter::with_capacity(1 << 16, file);
        let pods = snapshot.node_pods();
        let count = snapshot.workloads().count()
            + snapshot.services().count()
            + snapshot.policies().count()
            + pods.len();
        let head = CacheHead { format: FORMAT, writer: WRITER.into(), count: count as u64, node_pods };
        let mut written = 0;
        self.put(&mut out, &mut written, &head)?;
        let resources = (snapshot.workloads().map(|w| (Kind::Address, convert::encode_workload(w))))
            .chain(snapshot.services().map(|s| (Kind::Address, convert::encode_service(&s.service))))
            .chain(snapshot.policies().map(|p| (Kind::Authorization, convert::encode_policy(p))))
            .chain(pods.values().map(|p| (Kind::NodePod, convert::encode_node_pod(p))));
        for (kind, mut resource) in resources {
            resource.version = version(kind, &resource.name).unwrap_or_default();
            self.put(&mut out, &mut written, &resource)?;
        }
        let file = out.into_inner().map_err(|e| self.io(e.into_error()))?;
        file.sync_all().map_err(|e| self.io(e))?;
        fs::rename(fresh, &self.path).map_err(|e| self.io(e))
    }

    fn put(
        &self,
        out: &mut BufWriter<File>,
        written: &mut u64,
        message: &impl Message,
    ) -> Result<(), CacheError> {
        let bytes = message.encode_length_delimited_to_vec();
        *written += bytes.len() as u64;
        if *written > self.limit {
            return Err(self.too_large());
        }
        out.write_all(&bytes).map_err(|e| self.io(e))
    }

    fn io(&self, cause: io::Error) -> CacheError {
        CacheError::Io { path: self.path.clone(), cause }
    }

    fn damaged(&self, what: impl ToString) -> CacheError {
        CacheError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    fn too_large(&self) -> CacheError {
        CacheError::TooLarge { path: self.path.clone(), limit: self.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{NodePod, Service, SnapshotStore, Workload};

    fn filled() -> SnapshotStore {
        let store = SnapshotStore::default();
        store.apply(vec![
            Delta::Workload(Box::new(Workload::new("c//Pod/shop/web-0", "shop", "web-0", "web"))),
            Delta::Service(Service::new("shop", "web", "web.shop.svc.cluster.local")),
            Delta::NodePod(NodePod {
                uid: "0b7f-1".into(),
                namespace: "shop".into(),
                name: "web-0".into(),
                node: "n1".into(),
                meshed: true,
            }),
        ]);
        store
    }

    #[test]
    fn what_is_stored_is_loaded_with_its_versions() {
        let dir = tempfile::tempdir().unwrap();
        let file = CacheFile { path: dir.path().join("state"), limit: 1 << 20 };
        assert!(file.load().unwrap().is_none());
        let store = filled();
        file.store(&store.load(), true, |_, name| Some(format!("v-{name}"))).unwrap();
        let cached = file.load().unwrap().unwrap();
        assert!(cached.node_pods);
        assert!(cached.versions.contains(&(
            Kind::Address,
            "c//Pod/shop/web-0".into(),
            "v-c//Pod/shop/web-0".into()
        )));
        let again = SnapshotStore::default();
        again.apply(cached.deltas);
        assert_eq!(again.load().workloads().count(), 1);
        assert_eq!(again.load().services().count(), 1);
        assert_eq!(again.load().node_pods(), store.load().node_pods());
    }

    #[test]
    fn damage_and_size_are_errors_not_panics() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = CacheFile { path: dir.path().join("state"), limit: 1 << 20 };
        file.store(&filled().load(), false, |_, _| None).unwrap();
        let whole = fs::read(&file.path).unwrap();
        for end in 0..whole.len() {
            fs::write(&file.path, &whole[..end]).unwrap();
            assert!(matches!(file.load(), Err(CacheError::Damaged { .. })), "cut at {end}");
        }
        fs::write(&file.path, &whole).unwrap();
        file.limit = 10;
        assert!(matches!(file.load(), Err(CacheError::TooLarge { .. })));
        assert!(matches!(file.store(&filled().load(), false, |_, _| None), Err(CacheError::TooLarge { .. })));
        assert_eq!(fs::read(&file.path).unwrap(), whole, "the old file stays");
        assert!(!dir.path().join("state.new").exists());
    }
}
