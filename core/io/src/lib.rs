//! What every Weft proxy does to the world: HBONE, TLS, discovery, lifecycle, telemetry.

pub mod discovery;
pub mod hbone;
pub mod lifecycle;
pub mod relay;
pub mod telemetry;
pub mod tls;

mod buffer;
mod socket;

#[cfg(test)]
mod testing;
