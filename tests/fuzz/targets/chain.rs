//! The authority's answer, a chain of certificates in PEM with an empty line between its texts: whatever it holds, only a
//! certificate of the identity that was asked for, and for our key, is ever taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use weft_io::tls::{WorkloadCert, csr};
use weft_model::Identity;

static ASKED: LazyLock<(Identity, csr::Request)> = LazyLock::new(|| {
    let identity = Identity::new("cluster.local", "shop", "web");
    let request = csr::request(&identity).expect("a request");
    (identity, request)
});

fuzz_target!(|text: &str| {
    let (identity, request) = &*ASKED;
    let chain: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
    match WorkloadCert::new(identity.clone(), request.key.clone_key(), &chain, &[]) {
        // The key is new in each run, and nobody has signed it.
        Ok(cert) => panic!("taken: {cert:?}"),
        Err(error) => weft_fuzz::check_error(&error),
    }
});
