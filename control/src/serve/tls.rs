//! The port's TLS: a certificate of the own authority, made anew when half of its life is over.

use crate::issue::{Authority, AuthorityError, SKEW, Signer};
use rcgen::SanType;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How long the port's own certificate lives, unless the signing certificate ends before.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A name that no certificate can carry.
    #[error("`{0}` is not a DNS name or an IP address")]
    BadName(String),
    /// The authority gives no certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// rustls refuses.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The configuration of a port that answers to `names`.
pub fn server_config(authority: Arc<Authority>, names: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
    let names = names.iter().map(|n| name(n)).collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let resolver = Resolver {
        authority,
        names,
        provider: provider.clone(),
        current: Mutex::default(),
        signer: Mutex::default(),
    };
    // A start without a certificate is to fail at once, not at the first handshake.
    resolver.renew()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn name(name: &str) -> Result<SanType, TlsError> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    name.try_into().map(SanType::DnsName).map_err(|_| TlsError::BadName(name.to_owned()))
}

struct Resolver {
    authority: Arc<Authority>,
    names: Vec<SanType>,
    provider: Arc<CryptoProvider>,
    /// The certificate.
    current: Mutex<Option<(Half, Arc<CertifiedKey>)>>,
    /// What signed it: when the authority changes, the certificate does.
    signer: Mutex<Option<Arc<Signer>>>,
}

/// The first half of a certificate's life, by two clocks: the one that others judge it by may be set, and the one that cannot
/// stands still while the machine does.
#[derive(Clone, Copy, Debug)]
struct Half {
    begun: (Instant, SystemTime),
    length: Duration,
}

impl Half {
    fn is_over(&self, now: Instant, time: SystemTime) -> bool {
        let (begun, made) = self.begun;
        let by_clock = match time.duration_since(made) {
            Ok(passed) => passed >= self.length,
            // The clock went back: to others the certificate is not valid yet.
            Err(ahead) => ahead.duration() >= SKEW,
        };
        by_clock || now.duration_since(begun) >= self.length
    }
}

impl Resolver {
    fn renew(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        self.is_current();
        let (chain, key, valid) = self.authority.server(self.names.clone(), LIFETIME)?;
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &self.provider)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Half { begun: (Instant::now(), SystemTime::now()), length: valid / 2 }, certified.clone()));
        Ok(certified)
    }

    /// Whether the authority is still the one that signed.
    fn is_current(&self) -> bool {
        self.authority.is_unchanged(&mut self.signer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match current {
            Some((half, certified))
                if !half.is_over(Instant::now(), SystemTime::now()) && self.is_current() =>
            {
                Some(certified)
            }
            old => match self.renew() {
                Ok(certified) => Some(certified),
                Err(error) => {
                    tracing::error!(%error, "the port's certificate cannot be renewed");
                    old.map(|(_, certified)| certified)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_no_reason_to_show_a_certificate_that_others_refuse() {
        let (now, time, hour) = (Instant::now(), SystemTime::now(), Duration::from_secs(3600));
        let half = Half { begun: (now, time), length: 12 * hour };
        assert!(!half.is_over(now, time) && !half.is_over(now + hour, time + hour));
        assert!(half.is_over(now + 12 * hour, time), "the clock stood still");
        assert!(half.is_over(now + hour, time + 13 * hour), "it jumped ahead");
        assert!(half.is_over(now + hour, time - hour), "it jumped back, before the certificate was made");
        assert!(!half.is_over(now + hour, time - SKEW / 2), "clocks differ by as much");
    }
}
