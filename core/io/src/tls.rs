//! Mutual TLS between workloads: configuration, SPIFFE verification, certificates and their rotation.

pub mod ca;
pub mod clock;
pub mod config;
pub mod csr;
pub mod handshake;
pub mod rotate;
pub mod schedule;
pub mod spiffe;
pub mod verify;
pub mod workload_cert;

mod ending;
mod message;
mod record;
mod session;
mod stream;

pub use ca::{CaClient, CaError};
pub use clock::Clock;
pub use handshake::{Secured, TlsError};
pub use message::{Message, Messages};
pub use record::BadRecord;
pub use rotate::{CertError, CertManager, CertOptions, CertState, CertStatus};
pub use spiffe::SpiffeError;
pub use stream::TlsIo;
pub use workload_cert::{BadCertificate, Parts, WorkloadCert};

#[cfg(test)]
mod tests;
