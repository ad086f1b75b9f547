//! The workloads' certificates, left in the kernel's memory for the process that follows this one.
//!
//! Without them an agent that starts while control is away could open no tunnel, although nothing but itself has changed.
//! Keys never lie on a disk: the place is a pinned map of the kernel (`kernel/vault.rs`).

use crate::kernel::Vault;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use weft_io::tls::{CertManager, Parts, WorkloadCert};
use weft_model::Identity;
use zeroize::{Zeroize, Zeroizing};

/// Certificates are issued in bursts, and each time all are written: it rests this many times as long as it wrote. A process
/// that dies meanwhile leaves its successor without the newest ones.
const REST: u32 = 10;
/// What could not be kept is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// One certificate.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: Identity,
    /// PKCS #8, in base64.
    key: String,
    chain: Vec<String>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Keeps the certificates whenever they change, in a task of its own; answers up to which of [`CertManager::changes`] that was
/// done, or tried.
pub fn follow(certs: CertManager, vault: Vault) -> watch::Receiver<u64> {
    let changes = certs.changes();
    let (kept, answer) = watch::channel(*changes.borrow());
    tokio::spawn(keep(certs, vault, changes, kept));
    answer
}

async fn keep(
    certs: CertManager,
    mut vault: Vault,
    mut changes: watch::Receiver<u64>,
    kept: watch::Sender<u64>,
) {
    let mut failed = false;
    while failed || changes.changed().await.is_ok() {
        let upto = *changes.borrow_and_update();
        let began = Instant::now();
        let put = written(&certs.valid()).and_then(|text| Ok(vault.put(&text)?));
        let rest = if put.is_ok() { (began.elapsed() * REST).min(AGAIN) } else { AGAIN };
        match &put {
            Err(error) if !failed => {
                tracing::warn!(%error, "an agent after this one would have to ask for its certificates; trying again");
            }
            Ok(()) if failed => tracing::info!("the certificates are kept for the agent after this one"),
            _ => {}
        }
        failed = put.is_err();
        kept.send_replace(upto);
        tokio::time::sleep(rest).await;
    }
}

/// Takes over what an earlier process kept.
pub fn restore(vault: &Vault, certs: &CertManager) {
    if let Some(text) = vault.get().map(Zeroizing::new) {
        adopt(&text, certs);
    }
}

fn adopt(text: &[u8], certs: &CertManager) {
    let kept: Vec<Kept> = match serde_json::from_slice(text) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%error, "the certificates of the agent before this one cannot be read");
            return;
        }
    };
    for mut kept in kept {
        let Ok(key) = STANDARD.decode(&kept.key) else { continue };
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key).into();
        let parts = Parts { key, chain: std::mem::take(&mut kept.chain) };
        if let Err(error) = certs.adopt(&kept.identity, parts) {
            tracing::warn!(identity = %kept.identity, %error, "a certificate of the agent before this one cannot be used");
        }
    }
}

/// Everything that `certs` are made of.
fn written(certs: &[Arc<WorkloadCert>]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let kept = certs.iter().map(|cert| Kept {
        identity: cert.identity().clone(),
        key: STANDARD.encode(cert.parts().key.secret_der()),
        chain: cert.parts().chain.clone(),
    });
    Ok(Zeroizing::new(serde_json::to_vec(&kept.collect::<Vec<_>>())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use weft_io::tls::{CaClient, CaError, CertOptions};

    struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, String);

    #[async_trait]
    impl CaClient for Authority {
        async fn issue(&self, _: &Identity, csr_pem: &str) -> Result<Vec<String>, CaError> {
            let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
            Ok(vec![request.signed_by(&self.0).unwrap().pem(), self.1.clone()])
        }
    }

    struct Away;

    #[async_trait]
    impl CaClient for Away {
        async fn issue(&self, _: &Identity, _: &str) -> Result<Vec<String>, CaError> {
            Err(CaError::Unavailable("away".into()))
        }
    }

    fn authority() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = root.self_signed(&key).unwrap().pem();
        Authority(rcgen::Issuer::new(root, key), pem)
    }

    #[tokio::test]
    async fn the_next_agent_needs_no_authority() {
        let web = Identity::new("cluster.local", "shop", "web");
        let first = CertManager::new(Arc::new(authority()), CertOptions::default());
        let cert = first.certificate(&web).await.unwrap();
        let text = written(&first.valid()).unwrap();

        let second = CertManager::new(Arc::new(Away), CertOptions::default());
        adopt(&text, &second);
        assert_eq!(second.certificate(&web).await.unwrap().serial(), cert.serial());
        let other = Identity::new("cluster.local", "shop", "other");
        assert!(second.certificate(&other).await.is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left() {
        let certs = CertManager::new(Arc::new(Away), CertOptions::default());
        adopt(b"{\"not\": \"certificates\"}", &certs);
        assert!(certs.valid().is_empty());
    }
}
