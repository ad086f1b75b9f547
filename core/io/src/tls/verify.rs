//! Certificate verification by SPIFFE identity instead of by host name.

use super::spiffe::{SpiffeError, identity_of};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::sync::Arc;
use weft_model::{Identity, Name};

fn rejected(error: SpiffeError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn tls12_is_never_offered() -> Error {
    Error::General("TLS 1.2 is not offered".into())
}

/// Accepts a server whose certificate chains to the roots and names one of the expected identities.
#[derive(Debug)]
pub struct ExpectServer {
    roots: Arc<RootCertStore>,
    expected: Arc<[Identity]>,
    provider: Arc<CryptoProvider>,
}

impl ExpectServer {
    /// A verifier for servers that are any one of `expected`.
    pub fn new(roots: Arc<RootCertStore>, expected: Arc<[Identity]>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, expected, provider }
    }
}

impl ServerCertVerifier for ExpectServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        let got = identity_of(end_entity).map_err(rejected)?;
        if self.expected.contains(&got) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rejected(SpiffeError::WrongIdentity { expected: self.expected.to_vec(), got }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_is_never_offered())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts a client whose certificate chains to the roots and names an identity of a trusted trust domain.
#[derive(Debug)]
pub struct ExpectClient {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domains: Arc<[Name]>,
}

impl ExpectClient {
    /// A verifier for clients of any of `trust_domains`; a client without a certificate is refused.
    pub fn new(
        roots: Arc<RootCertStore>,
        trust_domains: Arc<[Name]>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        // Every peer has the same roots, so hints would only make the handshake longer.
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .clear_root_hint_subjects()
            .build()?;
        Ok(Self { chain, trust_domains })
    }
}

impl ClientCertVerifier for ExpectClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let got = identity_of(end_entity).map_err(rejected)?;
        if self.trust_domains.contains(&got.trust_domain) {
            Ok(verified)
        } else {
            let trusted = self.trust_domains.to_vec();
            Err(rejected(SpiffeError::ForeignTrustDomain { trusted, got }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_is_never_offered())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
