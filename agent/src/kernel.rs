//! The kernel programs from user space: load and attach them, keep their maps, read what they tell.
//!
//! Everything lives in pins under one directory of bpffs: what the kernel does for the pods goes on when the agent
//! stops, and the next agent finds it there. [`Kernel`] is the one writer; the data path reads [`Arrivals`], telemetry
//! reads [`Events`] and [`Flows`].

mod agents;
mod arrivals;
mod attach;
mod cgroup;
mod diag;
mod error;
mod events;
mod flow;
mod flows;
mod guard;
mod load;
#[cfg(feature = "kernel-log")]
mod log;
mod maps;
mod object;
mod own_pid;
mod pins;
mod pods;
pub mod probe;
pub mod reconcile;
mod stats;
pub mod strangers;
mod sys;
pub mod text;
mod turn;
mod vault;

pub use arrivals::{Arrival, ArrivalKind, Arrivals};
pub use cgroup::find_cgroup;
pub use error::KernelError;
pub use events::{Event, EventKind, Events};
pub use flow::{Ending, Flow, Verdict, now};
pub use flows::Flows;
pub use guard::Guarded;
pub use load::{Kernel, KernelConfig};
pub use pods::{Enrolment, EnrolmentFlags};
pub use reconcile::LocalPod;
pub use stats::{MapStat, ProgramStat, Stats};
pub use sys::netns_cookie;
pub use vault::Vault;
pub use weft_ebpf_abi::DELIVERY_MARK;
