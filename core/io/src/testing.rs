//! A certificate authority and small helpers for this crate's tests.

use crate::tls::{CaClient, CaError, WorkloadCert, csr};
use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::LocalSet,
};
use weft_model::Identity;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority with a root of its own; it signs whatever it is asked to.
pub(crate) struct TestCa {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let name = format!("weft test {:x}", rand::random::<u64>());
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self { root_pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a day around now.
    pub(crate) fn cert(&self, identity: &Identity) -> Arc<WorkloadCert> {
        let now = SystemTime::now();
        self.cert_between(identity, now - DAY / 2, now + DAY / 2)
    }

    pub(crate) fn cert_between(
        &self,
        identity: &Identity,
        from: SystemTime,
        to: SystemTime,
    ) -> Arc<WorkloadCert> {
        let request = csr::request(identity).unwrap();
        let chain = self.sign(&request.csr_pem, from, to);
        Arc::new(WorkloadCert::new(identity.clone(), request.key, &chain, &[]).unwrap())
    }

    /// The chain that answers `csr_pem`.
    pub(crate) fn sign(&self, csr_pem: &str, from: SystemTime, to: SystemTime) -> Vec<String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        complete(&mut request.params, from, to);
        vec![request.signed_by(&self.issuer).unwrap().pem(), self.root_pem.clone()]
    }

    /// A chain for `key` with whatever URIs.
    pub(crate) fn sign_uris(&self, key: &KeyPair, uris: &[&str]) -> Vec<String> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let now = SystemTime::now();
        complete(&mut params, now - DAY, now + DAY);
        vec![params.signed_by(key, &self.issuer).unwrap().pem(), self.root_pem.clone()]
    }
}

fn complete(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    params.not_before = from.into();
    params.not_after = to.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}

#[async_trait]
impl CaClient for TestCa {
    async fn issue(&self, _identity: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError> {
        let now = SystemTime::now();
        Ok(self.sign(csr_pem, now, now + DAY))
    }
}

pub(crate) fn identity(service_account: &str) -> Identity {
    Identity::new("cluster.local", "shop", service_account)
}

/// Runs `test` the way a worker runs: one thread, local tasks; fails it after a minute.
pub(crate) fn on_worker<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the test hangs");
}

/// Two ends of one TCP connection.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dial = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dial, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}
