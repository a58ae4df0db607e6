//! TLS in front of `local`, as in production, where a start has two handshakes: with Secrets Manager and with Momento.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::output;

/// Where it listens, and the certificate to trust.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) url: String,
    pub(crate) certificate: PathBuf,
}

impl Tls {
    /// In a thread of its own, so that it does not wait for the harness. What it passes on costs a hop, there and back.
    pub(crate) fn before(url: &str) -> Result<Self> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate = output("tls.pem")?;
        fs::write(&certificate, cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let mut config = config.with_single_cert(vec![cert.der().clone()], key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let target = url.strip_prefix("http://").context("`local` has no TLS of its own")?.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(serve(listener, Arc::new(config).into(), target)));
        Ok(Self { url: format!("https://localhost:{port}"), certificate })
    }
}

/// Until the benchmark ends. A client whose connection fails says so itself.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, target: String) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let (acceptor, target) = (acceptor.clone(), target.clone());
        tokio::spawn(async move {
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(target).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
