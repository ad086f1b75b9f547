//! `weft-control` against a real API server, as the account and with the roles that the shipped manifests give it.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod identity;
mod manifests;
mod node;
mod replicas;
mod rotation;
mod scale;
mod source;
mod stage;
mod tokens;
