//! Loading: maps are reopened where they fit, made where they do not; programs come after (see `attach`).

use super::{
    KernelError,
    agents::Agents,
    attach, flow,
    flows::Diags,
    guard::Outside,
    maps::{self, NAMES, Raw, Table},
    object::{Loader, fingerprint},
    own_pid,
    pins::{self, Pins},
    reconcile::Reconciler,
    sys,
    turn::Turn,
};
use aya::maps::{Array, MapData, SkStorage, SockHash};
use std::path::{Path, PathBuf};
use weft_ebpf_abi::{Config, ListenerKey, VERSION, Workload, config};

/// Where the agent meets the kernel.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// The directory for the pins, one for each node: `/sys/fs/bpf/weft/<node>`.
    pub pin_dir: PathBuf,
    /// The cgroup v2 below which connections are seen; `None` finds the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Room for addresses of the mesh, when the maps are made; `None` for half a million.
    pub max_addresses: Option<u32>,
    /// Where the host's processes are seen: `/proc`, or where that of the host is mounted.
    pub proc: PathBuf,
    /// Whether to mount bpffs where it is missing. Not in a container, where the mount would end with it.
    pub mount_bpffs: bool,
}

impl KernelConfig {
    /// What most nodes need, with the pins in `pin_dir`.
    pub fn new(pin_dir: impl Into<PathBuf>) -> Self {
        Self {
            pin_dir: pin_dir.into(),
            cgroup: None,
            max_addresses: None,
            proc: "/proc".into(),
            mount_bpffs: true,
        }
    }
}

/// The kernel's side of the node: the one writer of its maps.
pub struct Kernel {
    pub(super) pins: Pins,
    cgroup: PathBuf,
    pub(super) loader: Loader,
    pub(super) config: Config,
    /// The programs that are attached are the ones of this agent's object.
    pub(super) current: bool,
    pub(super) workloads: Table<u64, Workload>,
    pub(super) listeners: SockHash<MapData, Raw<ListenerKey>>,
    /// Marks listeners as the agent's.
    pub(super) ours: SkStorage<MapData, u32>,
    pub(super) agents: Agents,
    pub(super) outside: Outside,
    pub(super) reconciler: Reconciler,
    /// At knowing what the maps hold.
    turn: Turn,
    pub(super) diags: Diags,
}

impl Kernel {
    /// Opens the maps, or makes them. Nothing is attached or detached by this: programs of an earlier agent go on with
    /// the same maps, and [`Kernel::attach`] brings the present ones. Enrol the known pods in between, so that there is
    /// no instant without them.
    ///
    /// The network namespace of the calling thread is taken for the node's own.
    pub fn load(config: &KernelConfig) -> Result<Self, KernelError> {
        let cgroup = match &config.cgroup {
            Some(path) => path.clone(),
            None => super::find_cgroup()?,
        };
        let pins = Pins::prepare(&config.pin_dir, config.mount_bpffs)?;
        let known = settings(&pins).ok().and_then(|c| c.get(&0, 0).ok());
        let known = known.map(|c| c.0).filter(|c| c.version == VERSION);
        let mut loader = Loader::new(&pins, config.max_addresses);
        let complete = NAMES.iter().all(|name| pins.map(name).exists());
        if known.is_none() || !complete {
            for path in pins::list(&pins.maps())? {
                pins::remove_file(&path)?;
            }
            loader.load(0)?;
        }
        let known = known.filter(|_| complete).unwrap_or_default();
        let settings = stamped(Config { version: VERSION, node: node_cookie()?, ..known });
        write_config(&pins, settings)?;
        let mut turn = Turn::of(&pins.links())?;
        turn.take();
        Ok(Self {
            turn,
            current: known.object == fingerprint() && attach::is_attached(&pins),
            workloads: Table::open(&pins, "WORKLOADS")?,
            listeners: maps::open(&pins, "LISTENERS")?,
            ours: maps::open(&pins, "OURS")?,
            agents: Agents::open(&pins, &config.proc)?,
            outside: Outside::open(&pins)?,
            reconciler: Reconciler::open(&pins)?,
            diags: Diags::default(),
            cgroup,
            loader,
            config: settings,
            pins,
        })
    }

    /// Attaches the programs to the cgroup, or puts them in the place of an earlier agent's in one step each.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        if self.current {
            return Ok(());
        }
        attach::attach(&mut self.loader, &self.pins, &self.cgroup)?;
        self.config.object = fingerprint();
        self.changed()?;
        self.pins.forget_other_versions()?;
        self.current = true;
        Ok(())
    }

    /// Tells the programs whether `DESTINATIONS` lacks something.
    pub(super) fn set_incomplete(&mut self, incomplete: bool) -> Result<(), KernelError> {
        self.set_flag(config::INCOMPLETE, incomplete)
    }

    /// Tells the programs one thing about the node.
    pub(super) fn set_flag(&mut self, flag: u32, set: bool) -> Result<(), KernelError> {
        let flags = if set { self.config.flags | flag } else { self.config.flags & !flag };
        if self.config.flags != flags {
            self.config.flags = flags;
            self.changed()?;
        }
        Ok(())
    }

    /// Becomes the one who knows what the maps hold, if another was that and has retired: what it has written since is read
    /// again, so that the next comparison is with the truth.
    pub(super) fn take_over(&mut self) -> Result<(), KernelError> {
        if !self.turn.is_ours() && self.turn.take() {
            self.reconciler = Reconciler::open(&self.pins)?;
            self.changed()?;
        }
        Ok(())
    }

    /// Tells the programs that the maps say something else from here on: verdicts that were found before are asked for again
    /// when a connection arrives by them. To be called after the change.
    pub(super) fn changed(&mut self) -> Result<(), KernelError> {
        self.config = stamped(self.config);
        write_config(&self.pins, self.config)
    }

    /// Whether no other agent writes to the maps: what a reconcile has written stays so.
    pub fn is_sole_writer(&self) -> bool {
        self.turn.is_ours()
    }

    /// This process writes to the maps no more; another may rely on that. To be called after the last reconcile.
    pub fn retire(&mut self) {
        self.turn.leave();
    }

    /// The id of this process in the initial PID namespace, which the programs see.
    pub fn own_pid(&self) -> Result<u32, KernelError> {
        own_pid::own_pid().map_err(KernelError::call("bpf(BPF_PROG_TEST_RUN)"))
    }

    /// Makes the process with this id (in the initial PID namespace: see [`Kernel::own_pid`]) an agent: its connections from pods are not captured. Several may be registered during a hand-over.
    pub fn register_agent(&mut self, pid: u32) -> Result<(), KernelError> {
        self.agents.register(pid)
    }

    /// Takes it back.
    pub fn unregister_agent(&mut self, pid: u32) -> Result<(), KernelError> {
        self.agents.unregister(pid)
    }

    /// Detaches everything and removes every pin below `pin_dir`: the node is as if Weft had never been there. The cookies of
    /// the namespaces that were enrolled, in which routes may be left.
    pub fn detach_all(pin_dir: &Path) -> Result<Vec<u64>, KernelError> {
        if !pins::is_bpffs(pin_dir)? {
            return Ok(Vec::new());
        }
        let pins = Pins::prepare(pin_dir, false)?;
        let names = pins::list(&pins.pods())?;
        pins.remove()?;
        Ok(names.iter().filter_map(|p| p.file_name()?.to_str()?.parse().ok()).collect())
    }
}

/// `config`, changed just now.
fn stamped(config: Config) -> Config {
    Config { changed_ns: u64::try_from(flow::now().as_nanos()).unwrap_or(u64::MAX), ..config }
}

fn write_config(pins: &Pins, config: Config) -> Result<(), KernelError> {
    settings(pins)?.set(0, Raw(config), 0).map_err(KernelError::map("CONFIG"))
}

/// The map of one entry that holds for the whole node.
fn settings(pins: &Pins) -> Result<Array<MapData, Raw<Config>>, KernelError> {
    maps::open(pins, "CONFIG")
}

fn node_cookie() -> Result<u64, KernelError> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None);
    socket.and_then(sys::netns_cookie).map_err(KernelError::call("getsockopt(SO_NETNS_COOKIE)"))
}
