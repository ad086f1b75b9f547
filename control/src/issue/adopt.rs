//! An authority that somebody brings takes over from the one in force, without a moment in which somebody trusts neither: a
//! pure fold over the files of both.
//!
//! Control's own Secret always holds what is in force; the user's is what shall be. Where both have the same root, what is
//! brought signs at once. Otherwise its root is announced first, and the steps are those of `rotate`.

use super::{
    authority::{AuthorityError, CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, Signer, pem},
    files::Files,
    generate::ROOT_KEY,
    rotate::{NEXT, NEXT_CERT, NEXT_KEY, ROTATION, Stage, is_to_own, stage_of},
};
use rcgen::{KeyPair, SanType};
use rustls::{RootCertStore, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{path::Path, sync::Arc, time::Duration};
use time::OffsetDateTime;

/// What makes an authority.
const WHOLE: [&str; 4] = [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT];

type Roots = Vec<CertificateDer<'static>>;

/// The files of `brought` that make an authority, kept at `origin`; an error where nobody could verify what they sign.
pub(super) fn copy(brought: &Files, origin: &Path, trust_domain: &str) -> Result<Files, AuthorityError> {
    prove(brought, trust_domain)?;
    let mut files = Files::new(origin);
    for name in WHOLE {
        files.put(name, brought.get(name)?.to_owned());
    }
    Ok(files)
}

/// What is in force after `brought` was seen; `None` where nothing changes by it.
pub(super) fn step(
    in_force: &Files,
    brought: &Files,
    now: OffsetDateTime,
    trust_domain: &str,
) -> Result<Option<Files>, AuthorityError> {
    prove(brought, trust_domain)?;
    if aim(in_force)? == Aim::of(brought)? { Ok(None) } else { begin(in_force, brought, now).map(Some) }
}

/// Begins to put `brought` in the place of what is in force, whatever was under way.
pub(super) fn begin(in_force: &Files, brought: &Files, now: OffsetDateTime) -> Result<Files, AuthorityError> {
    let (old, new) = (in_force.certificates(ROOT_CERT)?, brought.certificates(ROOT_CERT)?);
    let mut all = old.clone();
    all.extend(new.iter().filter(|root| !old.contains(root)).cloned());
    // Everybody trusts the roots under which what is in force signs; of others in the bundle nobody knows since when.
    let known: Roots =
        old.into_iter().filter(|root| signs_under(in_force, std::slice::from_ref(root))).collect();
    let mut next = in_force.clone();
    next.forget_brought();
    next.texts.remove(NEXT_KEY);
    next.texts.remove(ROTATION);
    next.put(ROOT_CERT, text(&all));
    next.put(NEXT_CERT, text(&new));
    if signs_under(brought, &known) {
        for name in [CA_CERT, CA_KEY, CERT_CHAIN] {
            next.put(name, brought.get(name)?.to_owned());
        }
        match brought.texts.get(ROOT_KEY) {
            Some(key) => next.put(ROOT_KEY, key.clone()),
            None => drop(next.texts.remove(ROOT_KEY)),
        }
        if all.len() == new.len() {
            next.texts.remove(NEXT_CERT);
        } else {
            next.enter(Stage::Signing, now)?;
        }
    } else {
        for (name, brought_as) in NEXT {
            next.put(brought_as, brought.get(name)?.to_owned());
        }
        if let Some(key) = brought.texts.get(ROOT_KEY) {
            next.put(NEXT_KEY, key.clone());
        }
        next.enter(Stage::Announced, now)?;
    }
    Ok(next)
}

/// What is in force once nothing is brought any more: what was announced and does not sign yet is given up.
pub(super) fn give_up(in_force: &Files, now: OffsetDateTime) -> Result<Option<Files>, AuthorityError> {
    let is_brought = NEXT.iter().all(|(_, brought_as)| in_force.texts.contains_key(*brought_as));
    // What comes with its root's key is control's own, which nobody brings.
    if !is_brought || is_to_own(in_force) {
        return Ok(None);
    }
    let roots = in_force.certificates(ROOT_CERT)?;
    let known: Roots =
        roots.into_iter().filter(|root| signs_under(in_force, std::slice::from_ref(root))).collect();
    let mut next = in_force.clone();
    next.forget_brought();
    next.texts.remove(NEXT_KEY);
    next.put(NEXT_CERT, text(&known));
    next.enter(Stage::Signing, now)?;
    Ok(Some(next))
}

/// What an authority is when all steps are taken: its signing certificate, key and roots.
#[derive(PartialEq, Eq)]
struct Aim {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    chain: Roots,
    roots: Roots,
}

impl Aim {
    fn of(files: &Files) -> Result<Self, AuthorityError> {
        Self::new(files, [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT])
    }

    fn new(
        files: &Files,
        [certificate, key, chain, roots]: [&'static str; 4],
    ) -> Result<Self, AuthorityError> {
        let mut roots = files.certificates(roots)?;
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        Ok(Self {
            certificate: files.certificates(certificate)?.swap_remove(0),
            key: files.key(key)?.serialize_der(),
            chain: files.certificates(chain)?,
            roots,
        })
    }
}

/// What the steps that are under way lead to.
fn aim(in_force: &Files) -> Result<Aim, AuthorityError> {
    let roots = if in_force.texts.contains_key(NEXT_CERT) { NEXT_CERT } else { ROOT_CERT };
    match stage_of(in_force)?.map(|rotation| rotation.stage) {
        Some(Stage::Announced) if in_force.texts.contains_key(NEXT[0].1) => {
            let [certificate, key, chain] = NEXT.map(|(_, brought_as)| brought_as);
            Aim::new(in_force, [certificate, key, chain, roots])
        }
        _ => Aim::new(in_force, [CA_CERT, CA_KEY, CERT_CHAIN, roots]),
    }
}

/// Whether others can verify what `files` sign.
fn prove(files: &Files, trust_domain: &str) -> Result<(), AuthorityError> {
    let roots = files.certificates(ROOT_CERT)?;
    let signer = Signer::new(files)?;
    verify(&signer, &roots, trust_domain).map_err(|why| {
        files.unusable(
            CERT_CHAIN,
            format!("does not lead from {CA_CERT} to a root in {ROOT_CERT}, so nobody could verify a certificate ({why})"),
        )
    })
}

fn signs_under(files: &Files, roots: &[CertificateDer<'static>]) -> bool {
    Signer::new(files).is_ok_and(|signer| verify(&signer, roots, "cluster.local").is_ok())
}

/// Signs a certificate as workloads have it, and verifies it as they do.
fn verify(signer: &Signer, roots: &[CertificateDer<'static>], trust_domain: &str) -> Result<(), String> {
    let told = |e: &dyn std::fmt::Display| e.to_string();
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|e| told(&e))?;
    }
    let name = format!("spiffe://{trust_domain}/ns/weft-system/sa/weft-control");
    let names = vec![SanType::URI(name.as_str().try_into().map_err(|e: rcgen::Error| told(&e))?)];
    let key = KeyPair::generate().map_err(|e| told(&e))?;
    let params = signer.params(names, Duration::from_secs(60)).map_err(|e| told(&e))?;
    let leaf = params.signed_by(&key, &signer.issuer).map_err(|e| told(&e))?;
    let chain: Vec<_> =
        signer.chain.iter().filter_map(|c| CertificateDer::from_pem_slice(c.as_bytes()).ok()).collect();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(store.into(), provider);
    let verifier = verifier.build().map_err(|e| told(&e))?;
    verifier.verify_client_cert(leaf.der(), &chain, UnixTime::now()).map(drop).map_err(|e| told(&e))
}

fn text(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(pem).collect()
}

#[cfg(test)]
mod tests;
