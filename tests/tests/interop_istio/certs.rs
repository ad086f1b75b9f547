//! Certificates of one mesh, for both sides.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::PrivateKeyDer;
use std::{fs, path::Path, sync::Arc};
use weft_io::tls::{WorkloadCert, csr};
use weft_model::Identity;

/// A root that signs workload certificates.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// What `identity` needs, for Weft.
    pub fn workload(&self, identity: &Identity) -> Arc<WorkloadCert> {
        let request = csr::request(identity).unwrap();
        let chain = [self.sign(&request.csr_pem), self.root.clone()];
        Arc::new(WorkloadCert::new(identity.clone(), request.key, &chain, &[]).unwrap())
    }

    /// The same for the Go program: flags that name files in `dir`.
    pub fn files(&self, identity: &Identity, dir: &Path) -> Vec<String> {
        let request = csr::request(identity).unwrap();
        let PrivateKeyDer::Pkcs8(key) = &request.key else { panic!("another kind of key") };
        let key = KeyPair::try_from(key.secret_pkcs8_der()).unwrap().serialize_pem();
        let files = [("cert", self.sign(&request.csr_pem)), ("key", key), ("roots", self.root.clone())];
        let mut flags = Vec::new();
        for (name, text) in files {
            let path = dir.join(format!("{}-{name}.pem", identity.service_account));
            fs::write(&path, text).unwrap();
            flags.extend([format!("-{name}"), path.to_str().unwrap().to_owned()]);
        }
        flags
    }

    fn sign(&self, csr: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        request.signed_by(&self.issuer).unwrap().pem()
    }
}
