//! Another root in the place of the old one, without a moment in which somebody trusts neither: a pure fold over the
//! authority's files.
//!
//! First the new root is announced: everybody who gets a certificate is told to trust both. When the last certificate that
//! came without it has ended, the new root signs. When the last certificate under the old root has ended, that one is dropped.
//! The time between is the overlap, which is the life of a workload's certificate or longer. What stage it is stands beside
//! the files, so that any replica can take the next step, and the first one after a restart does.

use super::{
    authority::{AuthorityError, CA_CERT, CA_KEY, CERT_CHAIN, Lifetimes, ROOT_CERT, pem},
    files::Files,
    generate::{self, ROOT_KEY},
};
use rcgen::{Issuer, KeyPair};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;

/// The new root and its key while it is only announced, and where the rotation stands.
pub(super) const NEXT_CERT: &str = "next-root-cert.pem";
pub(super) const NEXT_KEY: &str = "next-root-key.pem";
/// What the new root signs with, where it does not come from its own key.
pub(super) const NEXT: [(&str, &str); 3] =
    [(CA_CERT, "next-ca-cert.pem"), (CA_KEY, "next-ca-key.pem"), (CERT_CHAIN, "next-cert-chain.pem")];
pub(super) const ROTATION: &str = "rotation.json";

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// Both roots are trusted, the old one signs.
    Announced,
    /// Both roots are trusted, the new one signs.
    Signing,
}

/// What stands beside the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    pub stage: Stage,
    /// Since when, in seconds of Unix time.
    pub since: i64,
}

/// Announces a new root.
pub(super) fn begin(
    files: &Files,
    now: OffsetDateTime,
    lifetimes: Lifetimes,
    trust_domain: &str,
) -> Result<Files, AuthorityError> {
    if files.texts.contains_key(ROTATION) {
        return Err(files.unusable(ROTATION, "a rotation is under way; wait for its end"));
    }
    if !files.texts.contains_key(ROOT_KEY) {
        let mend = "the root is not control's own; put the new root beside the old one into root-cert.pem, wait for the life of a \
                    certificate, then replace the signing certificate, wait again, and drop the old root";
        return Err(files.unusable(ROOT_KEY, format!("is not there: {mend}")));
    }
    let (key, root) = generate::root(lifetimes, trust_domain)?;
    let old: String = files.certificates(ROOT_CERT)?.iter().map(pem).collect();
    let mut files = files.clone();
    files.put(NEXT_KEY, key.serialize_pem());
    files.put(NEXT_CERT, root.pem());
    files.put(ROOT_CERT, old + &root.pem());
    files.enter(Stage::Announced, now)?;
    Ok(files)
}

/// Takes the next step once its time has come.
pub(super) fn step(
    files: &Files,
    now: OffsetDateTime,
    lifetimes: Lifetimes,
    trust_domain: &str,
) -> Result<Option<Files>, AuthorityError> {
    let Some(rotation) = stage_of(files)? else { return Ok(None) };
    let passed =
        Duration::try_from(now - OffsetDateTime::UNIX_EPOCH - time::Duration::seconds(rotation.since));
    if passed.unwrap_or_default() < lifetimes.overlap {
        return Ok(None);
    }
    let mut next = files.clone();
    match rotation.stage {
        Stage::Announced => {
            let brought = NEXT.map(|(name, next)| (name, files.texts.get(next).cloned()));
            if let [(_, Some(_)), (_, Some(_)), (_, Some(_))] = &brought {
                for (name, text) in brought {
                    next.put(name, text.unwrap_or_default());
                }
            } else {
                let root_key = files.key(NEXT_KEY)?;
                let root = files.certificates(NEXT_CERT)?.swap_remove(0);
                let issuer =
                    Issuer::from_ca_cert_der(&root, root_key).map_err(|e| files.unusable(NEXT_CERT, e))?;
                // Another key as well: the old one may be the reason for it all.
                let key = KeyPair::generate()?;
                let signed = generate::intermediate(trust_domain, lifetimes)?.signed_by(&key, &issuer)?.pem();
                next.put(CA_KEY, key.serialize_pem());
                next.put(CERT_CHAIN, signed.clone() + &pem(&root));
                next.put(CA_CERT, signed);
            }
            // Without it the root is somebody else's to keep.
            match next.texts.remove(NEXT_KEY) {
                Some(key) => next.put(ROOT_KEY, key),
                None => drop(next.texts.remove(ROOT_KEY)),
            }
            next.forget_brought();
            next.enter(Stage::Signing, now)?;
        }
        Stage::Signing => {
            next.put(ROOT_CERT, files.get(NEXT_CERT)?.to_owned());
            next.texts.remove(NEXT_CERT);
            next.texts.remove(ROTATION);
        }
    }
    Ok(Some(next))
}

/// Where the rotation stands; `None` where there is none.
pub(super) fn stage_of(files: &Files) -> Result<Option<Rotation>, AuthorityError> {
    let Some(text) = files.texts.get(ROTATION) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|e| files.unusable(ROTATION, e))
}

/// Whether what is under way leads to a root whose key control has.
pub(super) fn is_to_own(files: &Files) -> bool {
    files.texts.contains_key(NEXT_KEY)
}

impl Files {
    /// Drops the signing certificate that was brought and does not sign yet.
    pub(super) fn forget_brought(&mut self) {
        for (_, next) in NEXT {
            self.texts.remove(next);
        }
    }

    pub(super) fn enter(&mut self, stage: Stage, now: OffsetDateTime) -> Result<(), AuthorityError> {
        let rotation = Rotation { stage, since: now.unix_timestamp() };
        let text = serde_json::to_string(&rotation).map_err(|e| self.unusable(ROTATION, e))?;
        self.put(ROTATION, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::{Authority, check};
    use weft_io::tls::{WorkloadCert, csr};
    use weft_model::Identity;

    const LIFE: Duration = Duration::from_secs(3600);
    const LIFETIMES: Lifetimes = Lifetimes {
        leaf: LIFE,
        leaf_max: LIFE,
        root: Duration::from_secs(1 << 20),
        intermediate: Duration::from_secs(1 << 20),
        overlap: LIFE,
    };

    fn leaf(files: &Files) -> (Identity, Vec<String>) {
        let authority = Authority::of(files, LIFETIMES, "td").unwrap();
        let identity = Identity::new("td", "shop", "web");
        let request = csr::request(&identity).unwrap();
        let checked = check(&request.csr_pem, &identity).unwrap();
        let chain = authority.sign(&identity, &checked, None).unwrap();
        WorkloadCert::new(identity.clone(), request.key, &chain, &[]).unwrap();
        (identity, chain)
    }

    /// Whether somebody who got `trusting` accepts `shown`: its chain ends under one of the roots that came with `trusting`.
    fn trusts(trusting: &[String], shown: &[String]) -> bool {
        use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
        let roots: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(trusting.last().unwrap().as_bytes())
                .collect::<Result<_, _>>()
                .unwrap();
        let mut store = rustls::RootCertStore::empty();
        roots.into_iter().for_each(|root| store.add(root).unwrap());
        let chain: Vec<_> =
            shown.iter().map(|c| CertificateDer::from_pem_slice(c.as_bytes()).unwrap()).collect();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(store.into(), provider)
            .build()
            .unwrap();
        verifier.verify_client_cert(&chain[0], &chain[1..chain.len() - 1], UnixTime::now()).is_ok()
    }

    #[test]
    fn at_no_time_does_anybody_meet_a_root_that_he_was_not_told_of() {
        let start = OffsetDateTime::now_utc();
        let old = generate::make("ca".as_ref(), LIFETIMES, "td").unwrap();
        let announced = begin(&old, start, LIFETIMES, "td").unwrap();
        let early = start + LIFE - Duration::from_secs(60);
        assert!(step(&announced, early, LIFETIMES, "td").unwrap().is_none());
        assert!(begin(&announced, early, LIFETIMES, "td").unwrap_err().to_string().contains("under way"));
        let then = start + LIFE;
        let signing = step(&announced, then, LIFETIMES, "td").unwrap().unwrap();
        assert!(step(&signing, then + LIFE / 2, LIFETIMES, "td").unwrap().is_none());
        let done = step(&signing, then + LIFE, LIFETIMES, "td").unwrap().unwrap();
        assert!(step(&done, then + LIFE * 9, LIFETIMES, "td").unwrap().is_none());
        let names: Vec<_> = done.texts.keys().collect();
        assert_eq!(names, old.texts.keys().collect::<Vec<_>>(), "nothing is left over");

        // Certificates of two neighbouring stages are in use at once, and trust each other both ways.
        let stages = [&old, &announced, &signing, &done].map(|files| leaf(files).1);
        for pair in stages.windows(2) {
            assert!(trusts(&pair[0], &pair[1]) && trusts(&pair[1], &pair[0]));
        }
        // That is the reason for the stages: without them somebody would be refused.
        assert!(!trusts(&stages[0], &stages[2]) && !trusts(&stages[3], &stages[1]));
        assert!(!trusts(&stages[0], &stages[3]));
    }

    #[test]
    fn a_clock_that_goes_back_only_waits_longer() {
        let start = OffsetDateTime::now_utc();
        let old = generate::make("ca".as_ref(), LIFETIMES, "td").unwrap();
        let announced = begin(&old, start, LIFETIMES, "td").unwrap();
        assert!(step(&announced, start - LIFE * 24, LIFETIMES, "td").unwrap().is_none());
    }

    #[test]
    fn a_users_own_root_is_his_to_rotate() {
        let mut files = generate::make("ca".as_ref(), LIFETIMES, "td").unwrap();
        files.texts.remove(ROOT_KEY);
        let error = begin(&files, OffsetDateTime::now_utc(), LIFETIMES, "td").unwrap_err().to_string();
        assert!(error.contains("beside the old one"), "{error}");
    }
}
