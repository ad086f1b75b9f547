//! Mutual TLS between workloads: configuration, SPIFFE verification, certificates and their rotation.

pub mod ca;
pub mod config;
pub mod csr;
pub mod handshake;
pub mod rotate;
pub mod schedule;
pub mod spiffe;
pub mod verify;
pub mod workload_cert;

pub use ca::{CaClient, CaError};
pub use handshake::{Secured, TlsError, TlsIo};
pub use rotate::{CertError, CertManager, CertOptions, CertState, CertStatus};
pub use spiffe::SpiffeError;
pub use workload_cert::{BadCertificate, WorkloadCert};

#[cfg(test)]
mod tests;
