//! The kernel programs on the real kernel: no agent process, only its loader, its listeners, and sockets in namespaces.

#[path = "kernel/accounting.rs"]
mod accounting;
#[path = "kernel/capture.rs"]
mod capture;
#[path = "kernel/direct.rs"]
mod direct;
#[path = "kernel/guard.rs"]
mod guard;
#[path = "kernel/inbound.rs"]
mod inbound;
#[path = "kernel/lanes.rs"]
mod lanes;
#[path = "kernel/plain.rs"]
mod plain;
#[path = "kernel/restart.rs"]
mod restart;
#[path = "kernel/reuse.rs"]
mod reuse;
#[path = "kernel/sandboxes.rs"]
mod sandboxes;
#[path = "kernel/sockets.rs"]
mod sockets;
#[path = "kernel/stage.rs"]
mod stage;
