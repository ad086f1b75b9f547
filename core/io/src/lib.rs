//! What every Weft proxy does to the world: HBONE, TLS, discovery, lifecycle, telemetry.

pub mod discovery;
pub mod telemetry;
