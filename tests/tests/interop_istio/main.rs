//! Weft speaks with Istio's own code: its HBONE client and server, and its discovery messages.
//!
//! Istio's side is the Go program in `tests/interop/istio`. What needs it is skipped where Go is not installed.

// Clippy knows a test by its attribute, and not what a whole test program's functions are for.
#![allow(clippy::unwrap_used)]

mod certs;
mod go;
mod messages;
mod payload;
mod tunnels;
