//! Weft's node agent: it carries the connections of the meshed pods on one node, and is its own command line.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod drains;
pub mod flows;
pub mod inbound;
pub mod keeper;
pub mod kernel;
pub mod lanes;
pub mod outbound;
pub mod pods;
pub mod sock_diag;
pub mod state;
pub mod vault;
