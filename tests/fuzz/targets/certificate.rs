//! A peer's certificate in DER: one identity, in the words of the certificate, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use weft_io::tls::spiffe::identity_of;

fuzz_target!(|data: &[u8]| {
    match identity_of(&CertificateDer::from(data)) {
        Ok(identity) => {
            let uri = identity.to_string();
            assert!(data.windows(uri.len()).any(|w| w == uri.as_bytes()), "{uri} is not in the certificate");
        }
        Err(error) => weft_fuzz::check_error(&error),
    }
});
