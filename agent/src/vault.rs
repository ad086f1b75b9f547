//! The workloads' certificates, left with the keeper for the worker that follows a crashed one.
//!
//! They lie in memory that no file system has (a sealed memfd): not on a disk, and gone with the keeper. Without them a
//! worker that starts while control is away could open no tunnel, although nothing but itself has changed.

use crate::keeper::KeeperClient;
use base64::{Engine, engine::general_purpose::STANDARD};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use weft_io::tls::{CertManager, Parts, WorkloadCert};
use weft_model::Identity;

/// The name under which the keeper holds them.
pub const NAME: &str = "certificates";
/// What a node's certificates never come near, in bytes.
const LARGEST: u64 = 64 << 20;
/// Certificates are issued in bursts; each burst is kept once.
const SETTLE: Duration = Duration::from_millis(100);

/// One certificate.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: Identity,
    /// PKCS #8, in base64.
    key: String,
    chain: Vec<String>,
}

/// Leaves the certificates with the keeper now, and whenever they change.
pub async fn follow(certs: CertManager, keeper: Arc<KeeperClient>) {
    let mut changes = certs.changes();
    while changes.changed().await.is_ok() {
        tokio::time::sleep(SETTLE).await;
        changes.mark_unchanged();
        keep(&certs, &keeper);
    }
}

/// Leaves the certificates with the keeper.
pub fn keep(certs: &CertManager, keeper: &KeeperClient) {
    match seal(&certs.valid()) {
        Ok(sealed) => keeper.hold(&NAME, sealed.as_fd()),
        Err(error) => tracing::warn!(%error, "a worker after this one will have to ask for its certificates"),
    }
}

/// Takes over what an earlier worker left.
pub fn restore(sealed: OwnedFd, certs: &CertManager) {
    let kept = match unseal(sealed) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%error, "the certificates of the worker before this one cannot be read");
            return;
        }
    };
    for Kept { identity, key, chain } in kept {
        let Ok(key) = STANDARD.decode(key) else { continue };
        let parts = Parts { key: rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(), chain };
        if let Err(error) = certs.adopt(&identity, parts) {
            tracing::warn!(%identity, %error, "a certificate of the worker before this one cannot be used");
        }
    }
}

fn seal(certs: &[Arc<WorkloadCert>]) -> io::Result<OwnedFd> {
    let kept = certs.iter().map(|cert| Kept {
        identity: cert.identity().clone(),
        key: STANDARD.encode(cert.parts().key.secret_der()),
        chain: cert.parts().chain.clone(),
    });
    let text = serde_json::to_vec(&kept.collect::<Vec<_>>())?;
    let mut file =
        File::from(memfd_create(c"weft-certificates", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(&text)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

fn unseal(sealed: OwnedFd) -> io::Result<Vec<Kept>> {
    let mut file = File::from(sealed);
    // Its position is shared with whoever held it before.
    file.rewind()?;
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
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
    async fn the_next_worker_needs_no_authority() {
        let web = Identity::new("cluster.local", "shop", "web");
        let first = CertManager::new(Arc::new(authority()), CertOptions::default());
        let cert = first.certificate(&web).await.unwrap();
        let sealed = seal(&first.valid()).unwrap();

        let second = CertManager::new(Arc::new(Away), CertOptions::default());
        restore(sealed.try_clone().unwrap(), &second);
        assert_eq!(second.certificate(&web).await.unwrap().serial(), cert.serial());
        let other = Identity::new("cluster.local", "shop", "other");
        assert!(second.certificate(&other).await.is_err());
        // And once more: reading it must not use it up.
        assert_eq!(unseal(sealed).unwrap().len(), 1);
    }

    #[test]
    fn what_is_sealed_cannot_be_changed() {
        let mut file = File::from(seal(&[]).unwrap());
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }
}
