//! Weft's node agent: it carries the connections of the meshed pods on one node, and is its own command line.

pub mod config;
pub mod keeper;
pub mod kernel;
pub mod pods;
