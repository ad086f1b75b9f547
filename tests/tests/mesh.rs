//! Scenarios of the whole mesh: the bookshop with its control plane and agents, on the real kernel.

#[path = "mesh/calls.rs"]
mod calls;
