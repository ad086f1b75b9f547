//! Weft's control plane: it reads objects, works out what nodes must know, tells them, and certifies their workloads.
//!
//! `source` (a directory, Kubernetes) gives objects to `weft-index`, which answers with deltas; `serve` brings those to
//! the nodes over delta xDS, and `issue` signs their certificates. [`app`] wires it together.
#![forbid(unsafe_code)]

pub mod app;
pub mod args;
pub mod check;
pub mod cli;
pub mod config;
pub mod issue;
mod lead;
pub mod metrics;
mod monitor;
mod report;
pub mod serve;
pub mod source;
mod status;
pub mod taint;
