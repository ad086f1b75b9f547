use super::*;
use crate::issue::{BadRequest, check};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use weft_io::tls::{WorkloadCert, csr};

const DAY: Duration = Duration::from_secs(24 * 3600);
const LIFETIMES: Lifetimes =
    Lifetimes { leaf: Duration::from_secs(60), leaf_max: DAY, root: DAY, intermediate: DAY, overlap: DAY };

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn parse(pem: &str) -> (Vec<u8>, time::Duration, Vec<String>) {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    let validity = cert.validity().not_after.to_datetime() - cert.validity().not_before.to_datetime();
    let names = cert.subject_alternative_name().unwrap().map(|s| s.value.general_names.clone());
    let names = names.unwrap_or_default().iter().map(|n| format!("{n:?}")).collect();
    (cert.public_key().subject_public_key.data.to_vec(), validity, names)
}

#[test]
fn the_first_start_makes_one_and_the_next_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    let first = Authority::open(&path, LIFETIMES, "cluster.local").unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(CA_KEY)), 0o600);
    assert_eq!(mode(&path.join("root-key.pem")), 0o600);
    let second = Authority::open(&path, LIFETIMES, "cluster.local").unwrap();
    assert_eq!(first.root_pem(), second.root_pem());
    assert_eq!(first.signer().chain, second.signer().chain);
    assert_eq!(first.signer().chain.len(), 1);
}

#[test]
fn a_leaf_carries_the_key_and_the_identity_for_as_long_as_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(&dir.path().join("ca"), LIFETIMES, "cluster.local").unwrap();
    let identity = Identity::new("cluster.local", "shop", "web");
    let request = csr::request(&identity).unwrap();
    let checked = check(&request.csr_pem, &identity).unwrap();
    let skew = time::Duration::try_from(SKEW).unwrap();
    for (asked, given) in [(None, 60), (Some(Duration::from_secs(5)), 5), (Some(DAY * 365), 86_400)] {
        let chain = authority.sign(&identity, &checked, asked).unwrap();
        let (_, validity, names) = parse(&chain[0]);
        let seconds = (validity - skew).whole_seconds();
        assert!((given - 3..=given).contains(&seconds), "{seconds} of {given}");
        assert_eq!(names, [format!("URI(\"{identity}\")")]);
    }
    let chain = authority.sign(&identity, &checked, None).unwrap();
    // The node's own code accepts it: chain, key and name fit together.
    WorkloadCert::new(identity, request.key, &chain, &[]).unwrap();
}

#[test]
fn a_request_must_be_signed_by_its_key() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let identity = Identity::new("cluster.local", "shop", "web");
    let request = csr::request(&identity).unwrap();
    let der =
        rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(request.csr_pem.as_bytes()).unwrap();
    let mut der = der.to_vec();
    // The last bytes are the signature's.
    *der.last_mut().unwrap() ^= 1;
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(der)
    );
    assert_eq!(check(&pem, &identity).unwrap_err(), BadRequest::NotSigned);
}

#[test]
fn what_the_user_brings_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (dir.path().join("ca"), dir.path().join("other"));
    Authority::open(&ours, LIFETIMES, "cluster.local").unwrap();
    Authority::open(&other, LIFETIMES, "cluster.local").unwrap();
    let open = || Authority::open(&ours, LIFETIMES, "cluster.local").map(|_| ()).unwrap_err();

    fs::set_permissions(ours.join(CA_KEY), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open(), AuthorityError::Exposed { mode: 0o644, .. }));
    fs::set_permissions(ours.join(CA_KEY), fs::Permissions::from_mode(0o600)).unwrap();

    fs::copy(other.join(CA_CERT), ours.join(CA_CERT)).unwrap();
    assert!(open().to_string().contains("does not belong to the key"));
    fs::write(ours.join(CA_CERT), "nothing").unwrap();
    assert!(open().to_string().contains("holds no certificate"));
    fs::remove_file(ours.join(CA_CERT)).unwrap();
    assert!(matches!(open(), AuthorityError::Incomplete { file: CA_CERT, .. }));
}

/// Whether the first certificate carries the second one's signature.
fn is_signed_by(leaf: &str, signer: &str) -> bool {
    let [leaf, signer] =
        [leaf, signer].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec());
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let (_, signer) = X509Certificate::from_der(&signer).unwrap();
    leaf.issuer() == signer.subject() && leaf.verify_signature(Some(signer.public_key())).is_ok()
}

#[test]
fn the_signing_certificate_is_renewed_at_half_its_life_and_what_it_signed_stays_valid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    let open = || Authority::open(&path, LIFETIMES, "cluster.local").unwrap();
    let authority = open();
    let (first, ends) = (authority.signer().chain[0].clone(), authority.not_after());
    let identity = Identity::new("cluster.local", "shop", "web");
    let request = csr::request(&identity).unwrap();
    let checked = check(&request.csr_pem, &identity).unwrap();
    let before = authority.sign(&identity, &checked, None).unwrap();

    let made = authority.signer().made;
    assert_eq!(authority.renew(made + DAY / 2 - Duration::from_secs(60)).unwrap(), None);
    assert_eq!(authority.signer().chain, std::slice::from_ref(&first));
    // The root of this test lives no longer, so the certificate does not either.
    let later = made + DAY / 2 + Duration::from_secs(60);
    assert!(authority.renew(later).unwrap().unwrap() >= ends);
    let [second] = &authority.signer().chain[..] else { panic!("a chain of more than one") };
    assert_ne!(*second, first);
    assert!(is_signed_by(second, &authority.root_pem()));
    assert!(is_signed_by(&before[0], &first) && is_signed_by(&before[0], second));
    let after = authority.sign(&identity, &checked, None).unwrap();
    assert!(is_signed_by(&after[0], second) && is_signed_by(&after[0], &first));
    WorkloadCert::new(identity, request.key, &after, &[]).unwrap();
    // The next start finds what this one left.
    assert_eq!(open().signer().chain, authority.signer().chain);
    assert_eq!(mode(&path.join(CA_KEY)), 0o600);
}

#[test]
fn a_signing_certificate_that_cannot_be_renewed_goes_on_to_sign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    let authority = Authority::open(&path, LIFETIMES, "cluster.local").unwrap();
    let (later, chain) = (authority.not_after() - Duration::from_secs(60), authority.signer().chain.clone());
    // There is no room for the new one: its name is taken by a directory.
    fs::create_dir(path.join("ca-cert.new")).unwrap();
    let error = authority.renew(later).unwrap_err().to_string();
    assert!(error.contains("ca-cert.pem"), "{error}");
    fs::remove_dir(path.join("ca-cert.new")).unwrap();
    fs::rename(path.join("root-key.pem"), path.join("away")).unwrap();
    let error = authority.renew(later).unwrap_err().to_string();
    assert!(error.contains("root-key.pem") && error.contains("start control again"), "{error}");
    assert_eq!(authority.signer().chain, chain);
    fs::rename(path.join("away"), path.join("root-key.pem")).unwrap();
    assert!(authority.renew(later).unwrap().is_some());
}
