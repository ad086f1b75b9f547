//! Scenarios of the whole mesh: the bookshop with its control plane and agents, on the real kernel.

#[path = "mesh/away.rs"]
mod away;
#[path = "mesh/bad_input.rs"]
mod bad_input;
#[path = "mesh/beside.rs"]
mod beside;
#[path = "mesh/between.rs"]
mod between;
#[path = "mesh/calls.rs"]
mod calls;
#[path = "mesh/capture.rs"]
mod capture;
#[path = "mesh/certificates.rs"]
mod certificates;
#[path = "mesh/closed.rs"]
mod closed;
#[path = "mesh/disk.rs"]
mod disk;
#[path = "mesh/encrypt.rs"]
mod encrypt;
#[path = "mesh/full_map.rs"]
mod full_map;
#[path = "mesh/intruder.rs"]
mod intruder;
#[path = "mesh/kube.rs"]
mod kube;
#[path = "mesh/limits.rs"]
mod limits;
#[path = "mesh/link_local.rs"]
mod link_local;
#[path = "mesh/manners.rs"]
mod manners;
#[path = "mesh/membership.rs"]
mod membership;
#[path = "mesh/near.rs"]
mod near;
#[path = "mesh/older.rs"]
mod older;
#[path = "mesh/policy.rs"]
mod policy;
#[path = "mesh/refused.rs"]
mod refused;
#[path = "mesh/restart.rs"]
mod restart;
#[path = "mesh/services.rs"]
mod services;
#[path = "mesh/stage.rs"]
mod stage;
#[path = "mesh/telemetry.rs"]
mod telemetry;
#[path = "mesh/tunnels.rs"]
mod tunnels;
#[path = "mesh/uninstall.rs"]
mod uninstall;
#[path = "mesh/unplugged.rs"]
mod unplugged;
#[path = "mesh/upgrade.rs"]
mod upgrade;
#[path = "mesh/volume.rs"]
mod volume;
