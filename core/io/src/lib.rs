//! What every Weft proxy does to the world: HBONE, TLS, discovery, lifecycle, telemetry.

pub mod discovery;
pub mod hbone;
pub mod lifecycle;
pub mod relay;
pub mod socket;
pub mod telemetry;
pub mod tls;
pub mod told;

mod buffer;

#[cfg(test)]
mod testing;
