//! Renewing the signing certificate, from the root whose key lies beside it.
//!
//! The key stays, and with it the name and the key identifier: whatever was signed before is valid under the new certificate
//! as well as under the old one, and each file is replaced by itself, at any moment of which the process may die.

use super::{
    authority::{Authority, AuthorityError, CA_CERT, CA_KEY, CERT_CHAIN, Lifetimes, ROOT_CERT, Signer, pem},
    files::Files,
    generate::{self, ROOT_KEY},
};
use rcgen::Issuer;
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    sync::Arc,
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
        self.signer().due_in(now)
    }

    /// Renews the signing certificate where half of its life is over; answers until when the new one is valid.
    pub fn renew(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, AuthorityError> {
        let Some(dir) = self.dir.as_deref().filter(|_| self.due_in(now).is_zero()) else { return Ok(None) };
        let files = renewed(&Files::read(dir)?, now, self.lifetimes, &self.trust_domain)?;
        for file in [CA_CERT, CERT_CHAIN] {
            replace(&dir.join(file), files.get(file)?)?;
        }
        self.follow(&files)?;
        Ok(Some(self.not_after()))
    }
}

impl Signer {
    /// Whether three quarters of its life are over: whoever renews it should have by then.
    pub(super) fn is_ending(&self, now: OffsetDateTime) -> bool {
        now >= self.made + (self.not_after - self.made) * 3 / 4
    }

    /// How long until half of its life is over.
    pub(super) fn due_in(&self, now: OffsetDateTime) -> Duration {
        let half = self.made + (self.not_after - self.made) / 2;
        Duration::try_from(half - now).unwrap_or_default()
    }
}

/// The same authority with a new signing certificate for the same key.
pub(super) fn renewed(
    files: &Files,
    now: OffsetDateTime,
    lifetimes: Lifetimes,
    trust_domain: &str,
) -> Result<Files, AuthorityError> {
    if !files.texts.contains_key(ROOT_KEY) {
        return Err(AuthorityError::NoRootKey { dir: files.origin.clone(), file: ROOT_KEY });
    }
    let (root_key, key) = (files.key(ROOT_KEY)?, files.key(CA_KEY)?);
    let all = files.certificates(ROOT_CERT)?;
    let (root, ends) = all
        .iter()
        .find_map(|der| {
            let (_, root) = X509Certificate::from_der(der).ok()?;
            let fits = root.public_key().subject_public_key.data == root_key.public_key_raw();
            fits.then(|| (der, root.validity().not_after.to_datetime()))
        })
        .ok_or_else(|| files.unusable(ROOT_CERT, format!("holds no certificate of the key in {ROOT_KEY}")))?;
    if ends <= now {
        return Err(files.unusable(ROOT_CERT, format!("the root expired at {ends}")));
    }
    let issuer = Issuer::from_ca_cert_der(root, root_key).map_err(|e| files.unusable(ROOT_CERT, e))?;
    let mut params = generate::intermediate(trust_domain, lifetimes)?;
    params.not_after = params.not_after.min(ends);
    let fresh = params.signed_by(&key, &issuer)?.pem();
    let above: String = all.iter().map(pem).collect();
    let mut files = files.clone();
    files.put(CERT_CHAIN, fresh.clone() + &above);
    files.put(CA_CERT, fresh);
    Ok(files)
}

/// Puts a file in the place of another one, whole or not at all.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), AuthorityError> {
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
