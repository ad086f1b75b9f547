//! How a node reaches the control plane: where it is, whom to trust, and how to say who is asking.

use std::{io, net::IpAddr, path::PathBuf, time::Duration};
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri},
};

/// Where the control plane answers, and what both sides show each other.
#[derive(Clone, Debug)]
pub struct ControlEndpoint {
    /// `https://host:port`. `http` is refused unless the host is a loopback address and `plaintext` is set.
    pub url: String,
    /// The PEM file of the certificates that the server's must chain to. Read at every connection: it may be rotated.
    pub root: Option<PathBuf>,
    /// The name that the server's certificate must carry, where it is not the host of `url`.
    pub server_name: Option<String>,
    /// The file of the bearer token. Read at every connection and request: Kubernetes renews it in place.
    pub token: Option<PathBuf>,
    /// Allow `http` to a loopback address: for tests and for a proxy that encrypts on the same machine.
    pub plaintext: bool,
    /// The cluster to announce (`clusterid`).
    pub cluster: String,
}

/// Why no connection to the control plane was even tried.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The URL makes no sense.
    #[error("`{0}` is not a URL of the form https://host:port")]
    BadUrl(String),
    /// Plaintext was asked for where it is not allowed.
    #[error("`{0}` is plaintext: use https, or a loopback address together with the plaintext option")]
    Plaintext(String),
    /// An `https` URL without anything to verify the server by.
    #[error("`{0}` needs a root certificate file to verify the server by")]
    NoRoot(String),
    /// The token cannot be sent.
    #[error("the token in {0} is empty or holds characters that no header may carry")]
    BadToken(PathBuf),
    /// TLS cannot be set up with what was given.
    #[error("TLS to the control plane: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// The connection failed.
    #[error("cannot connect to {url}: {}", innermost(cause))]
    Connect {
        /// Where to.
        url: String,
        /// Why.
        #[source]
        cause: tonic::transport::Error,
    },
}

/// tonic wraps the interesting error ("connection refused") in layers that only say "transport error".
fn innermost(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}

impl ControlEndpoint {
    /// Opens a connection.
    pub async fn connect(&self) -> Result<Channel, EndpointError> {
        let endpoint = self.endpoint().await?;
        endpoint.connect().await.map_err(|cause| EndpointError::Connect { url: self.url.clone(), cause })
    }

    async fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        let bad = || EndpointError::BadUrl(self.url.clone());
        let uri: Uri = self.url.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?.to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.plaintext && is_loopback(&host) => false,
            Some("http") => return Err(EndpointError::Plaintext(self.url.clone())),
            _ => return Err(bad()),
        };
        let endpoint = Endpoint::from(uri)
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            // The first state of a big mesh is tens of megabytes in one stream.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20);
        if !secure {
            return Ok(endpoint);
        }
        let path = self.root.as_ref().ok_or_else(|| EndpointError::NoRoot(self.url.clone()))?;
        let pem = read(path).await?;
        let name = self.server_name.clone().unwrap_or(host);
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name(name);
        endpoint.tls_config(tls).map_err(EndpointError::Tls)
    }

    /// Puts the token and the cluster on a request.
    pub async fn authorize<T>(&self, request: &mut Request<T>) -> Result<(), EndpointError> {
        if let Some(path) = &self.token {
            let bad = || EndpointError::BadToken(path.clone());
            let token = read(path).await?;
            let token = str::from_utf8(&token).map_err(|_| bad())?.trim();
            if token.is_empty() {
                return Err(bad());
            }
            let mut value: MetadataValue<_> = format!("Bearer {token}").parse().map_err(|_| bad())?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        if let Ok(cluster) = self.cluster.parse() {
            request.metadata_mut().insert("clusterid", cluster);
        }
        Ok(())
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, EndpointError> {
    tokio::fs::read(path).await.map_err(|cause| EndpointError::Unreadable { path: path.clone(), cause })
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, plaintext: bool) -> ControlEndpoint {
        ControlEndpoint {
            url: url.into(),
            root: None,
            server_name: None,
            token: None,
            plaintext,
            cluster: "c".into(),
        }
    }

    #[tokio::test]
    async fn plaintext_only_to_loopback_and_only_when_asked_for() {
        assert!(endpoint("http://127.0.0.1:1", true).endpoint().await.is_ok());
        assert!(endpoint("http://[::1]:1", true).endpoint().await.is_ok());
        for (url, plaintext) in [("http://127.0.0.1:1", false), ("http://192.0.2.1:1", true)] {
            let error = endpoint(url, plaintext).endpoint().await.unwrap_err();
            assert!(matches!(error, EndpointError::Plaintext(_)), "{url}: {error}");
        }
        let error = endpoint("https://control:1", false).endpoint().await.unwrap_err();
        assert!(matches!(error, EndpointError::NoRoot(_)), "{error}");
        let error = endpoint("control:1", false).endpoint().await.unwrap_err();
        assert!(matches!(error, EndpointError::BadUrl(_)), "{error}");
    }

    #[tokio::test]
    async fn a_token_is_trimmed_and_must_not_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let mut e = endpoint("https://control:1", false);
        e.token = Some(path.clone());
        std::fs::write(&path, "secret\n").unwrap();
        let mut request = Request::new(());
        e.authorize(&mut request).await.unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
        assert_eq!(request.metadata().get("clusterid").unwrap(), "c");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(e.authorize(&mut Request::new(())).await, Err(EndpointError::BadToken(_))));
    }
}
