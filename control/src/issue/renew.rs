//! Renewing the signing certificate, from the root whose key lies beside it.
//!
//! The key stays, and with it the name and the key identifier: whatever was signed before is valid under the new certificate
//! as well as under the old one, and each file is replaced by itself, at any moment of which the process may die.

use super::{
    authority::{
        Authority, AuthorityError, CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, Signer, certificates, pem, read,
    },
    generate::{self, ROOT_KEY},
};
use rcgen::{Issuer, KeyPair};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How often it is looked whether the time has come; clocks are set while a process sleeps.
const LOOK: Duration = Duration::from_secs(3600);
/// After a failure at most: the closer the end, the sooner it is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// Certificates that live for seconds only are renewed in time as well.
const SOONEST: Duration = Duration::from_secs(1);

/// Renews the signing certificate whenever half of its life is over, until `shutdown`.
pub async fn keep_renewing(authority: Arc<Authority>, shutdown: CancellationToken) {
    loop {
        let pause = match authority.renew(OffsetDateTime::now_utc()) {
            Ok(Some(until)) => {
                tracing::info!(%until, "the signing certificate is renewed");
                SOONEST
            }
            Ok(None) => authority.due_in(OffsetDateTime::now_utc()).clamp(SOONEST, LOOK),
            Err(error) => {
                let until = authority.not_after();
                tracing::error!(%error, %until, "the signing certificate cannot be renewed; without one no workload gets a certificate");
                let left = Duration::try_from(until - OffsetDateTime::now_utc()).unwrap_or_default();
                (left / 8).clamp(SOONEST, RETRY)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

impl Authority {
    /// How long until the signing certificate is to be renewed.
    fn due_in(&self, now: OffsetDateTime) -> Duration {
        let signer = self.signer();
        let half = signer.made + (signer.not_after - signer.made) / 2;
        Duration::try_from(half - now).unwrap_or_default()
    }

    /// Renews the signing certificate where half of its life is over; answers until when the new one is valid.
    pub fn renew(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, AuthorityError> {
        if !self.due_in(now).is_zero() {
            return Ok(None);
        }
        let [root_key, ca_key] = [ROOT_KEY, CA_KEY].map(|file| self.dir.join(file));
        if !root_key.exists() {
            return Err(AuthorityError::NoRootKey { dir: self.dir.clone(), file: ROOT_KEY });
        }
        let key_of = |path: &Path| KeyPair::from_pem(&read(path)?).map_err(|e| unusable(path, e.to_string()));
        let (root_key_pair, key) = (key_of(&root_key)?, key_of(&ca_key)?);
        let roots = self.dir.join(ROOT_CERT);
        let all = certificates(&roots)?;
        let (root, ends) = all
            .iter()
            .find_map(|der| {
                let (_, root) = X509Certificate::from_der(der).ok()?;
                let fits = root.public_key().subject_public_key.data == root_key_pair.public_key_raw();
                fits.then(|| (der, root.validity().not_after.to_datetime()))
            })
            .ok_or_else(|| unusable(&roots, format!("holds no certificate of the key in {ROOT_KEY}")))?;
        if ends <= now {
            return Err(unusable(&roots, format!("the root expired at {ends}")));
        }
        let issuer =
            Issuer::from_ca_cert_der(root, root_key_pair).map_err(|e| unusable(&roots, e.to_string()))?;
        let mut params = generate::intermediate(&self.trust_domain, self.lifetimes)?;
        params.not_after = params.not_after.min(ends);
        let fresh = params.signed_by(&key, &issuer)?.pem();
        replace(&self.dir.join(CA_CERT), &fresh)?;
        let above: String = all.iter().map(pem).collect();
        replace(&self.dir.join(CERT_CHAIN), &(fresh + &above))?;
        let signer = Signer::load(&self.dir)?;
        let until = signer.not_after;
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signer);
        Ok(Some(until))
    }
}

/// Puts a file in the place of another one, whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), AuthorityError> {
    let fresh = path.with_extension("new");
    let written = File::create(&fresh).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    });
    written.map_err(|cause| {
        // A part of a file is of no use, and may stand in the way of what makes room.
        let _ = fs::remove_file(&fresh);
        AuthorityError::Io { path: path.to_owned(), cause }
    })
}

fn unusable(path: &Path, what: String) -> AuthorityError {
    AuthorityError::Unusable { path: PathBuf::from(path), what }
}
