//! A connection to a server, plain or over TLS: what HTTP/2 to Momento and HTTP/1.1 to AWS run over.

use std::io;
use std::sync::Arc;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Of one type, so that what runs over it is compiled once.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a server is, and over what it is spoken to.
pub(crate) struct Server {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Server {
    /// The server that a URL names, if it names one; `tls` is asked only where it is `https`.
    pub(crate) fn of(url: &Uri, tls: impl FnOnce() -> Arc<ClientConfig>) -> Option<Self> {
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        let is_https = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let tls = if is_https { Some((tls().into(), ServerName::try_from(host.clone()).ok()?)) } else { None };
        Some(Self { host, port, tls })
    }

    /// Tries the host's addresses one after another: a function has one way out, and a caller has a deadline.
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), tcp).await?)),
            None => Ok(Box::new(tcp)),
        }
    }
}

/// What a client trusts, and the one protocol it speaks, as TLS names it (ALPN).
pub(crate) fn tls(roots: RootCertStore, protocol: &[u8]) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    #[allow(clippy::expect_used, reason = "both are compiled in")]
    let config = config.with_safe_default_protocol_versions().expect("ring does what TLS 1.2 and 1.3 need");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

/// What is trusted: the certificates in PEM text, of which those that cannot be read are left out, or else Mozilla's. Those are
/// compiled in, since reading the system's bundle costs a third of a start.
pub(crate) fn roots(certificates: Option<&str>) -> RootCertStore {
    let Some(pem) = certificates else {
        return RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    if roots.is_empty() {
        tracing::error!("SSL_CERT_FILE holds no certificate that can be read: no server is trusted");
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_trusted_by_the_certificates_that_are_given_and_by_no_others() {
        use tokio_rustls::rustls::{ServerConfig, pki_types::PrivateKeyDer};
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        tokio::spawn(async move {
            let mut opened = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                opened.extend(acceptor.accept(stream).await.ok());
            }
        });
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (made, other) = (made.cert.pem(), other.cert.pem());
        for (certificates, trusted) in
            [(Some(made.as_str()), true), (Some(&other), false), (Some("no certificate"), false), (None, false)]
        {
            let server = Server::of(&url, || tls(roots(certificates), b"h2")).unwrap();
            assert_eq!(server.connect().await.is_ok(), trusted);
        }
    }
}
