//! The connection under tonic's clients: opened with the first call, and again when it has broken.
//!
//! tonic's own channel hands each call to a task, whose HTTP client hands it to a second one, and that spawns a third for
//! the answer. Here a call goes straight to `h2`, which needs one task for all of them: all that is asked for at once
//! leaves in one packet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::body::Body as Message;
use tonic::codegen::Service;

/// How much of an answer may be under way, in bytes: as much as hyper's client allows.
const WINDOW: u32 = 2 * 1024 * 1024;

/// A connection that has been idle for this long is not used again. While a function is frozen, nothing keeps its connection
/// alive, and what lies on the way may forget it without a word: AWS's load balancers after 60 s, its NAT gateways after
/// 350 s. A call would then wait for nothing until its deadline.
const IDLE: Duration = Duration::from_secs(50);

/// The connection broke, or there was none to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("cannot connect")]
    Connect(#[from] io::Error),
    #[error("the connection broke")]
    Http2(#[from] h2::Error),
    #[error("the request could not be read")]
    Request(#[source] tonic::Status),
}

/// Cheap to clone, and all clones share the connection.
#[derive(Clone)]
pub(super) struct Channel(Arc<Shared>);

struct Shared {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connection: Mutex<Option<Kept>>,
}

struct Kept {
    sender: SendRequest<Bytes>,
    /// By the wall clock: it goes on while a function is frozen.
    used: SystemTime,
}

impl Kept {
    fn now(sender: SendRequest<Bytes>) -> Self {
        Self { sender, used: SystemTime::now() }
    }

    fn is_idle(&self) -> bool {
        self.used.elapsed().map_or(true, |idle| idle >= IDLE) // or the clock was set back
    }
}

impl Channel {
    /// Does not connect: the first call does. `None` where the URL names no server. `certificates`, as PEM, are trusted instead
    /// of those compiled in.
    pub(super) fn new(url: &Uri, certificates: Option<&str>) -> Option<Self> {
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        let is_https = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let tls = if is_https { Some((tls(certificates)?, ServerName::try_from(host.clone()).ok()?)) } else { None };
        Some(Self(Arc::new(Shared { host, port, tls, connection: Mutex::default() })))
    }

    /// Connects where there is no connection that works. Whoever comes meanwhile waits for the same one.
    pub(super) async fn connect(&self) -> Result<SendRequest<Bytes>, Broken> {
        let mut kept = self.0.connection.lock().await;
        let sender = match kept.take().filter(|kept| !kept.is_idle()) {
            Some(Kept { sender, .. }) => sender.ready().await.ok(),
            None => None,
        };
        let sender = match sender {
            Some(sender) => sender,
            None => Box::pin(self.0.open()).await?.ready().await?, // in a box, for it is rare and large
        };
        *kept = Some(Kept::now(sender.clone()));
        Ok(sender)
    }

    /// Leaves the connection to the calls that are under way on it. The next one opens another.
    pub(super) fn give_up(&self) {
        if let Ok(mut kept) = self.0.connection.try_lock() {
            *kept = None; // else somebody is about to open one
        }
    }

    async fn send(self, request: Request<Message>) -> Result<Response<Answer>, Broken> {
        let (head, message) = request.into_parts();
        let message = message.collect().await.map_err(Broken::Request)?.to_bytes();
        let mut connection = self.connect().await?;
        let (answer, mut body) = connection.send_request(Request::from_parts(head, ()), false)?;
        body.send_data(message, true)?;
        Ok(answer.await?.map(Answer))
    }
}

impl Shared {
    async fn open(&self) -> Result<SendRequest<Bytes>, Broken> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some((tls, name)) => Box::new(tls.connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        let mut builder = Builder::new();
        builder.enable_push(false).initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (sender, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection); // until it breaks, or the last sender has gone; calls are told why
        Ok(sender)
    }
}

/// What HTTP/2 runs over: of one type, so that it is compiled once.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn tls(certificates: Option<&str>) -> Option<TlsConnector> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().ok()?;
    let mut config = config.with_root_certificates(roots(certificates)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Some(Arc::new(config).into())
}

fn roots(certificates: Option<&str>) -> RootCertStore {
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

impl Service<Request<Message>> for Channel {
    type Response = Response<Answer>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// An answer's body.
pub(super) struct Answer(RecvStream);

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?; // it has been taken: there may come more
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_has_been_idle_for_long_is_not_used_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channel =
            Channel::new(&format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(), None).unwrap();
        let mut opened = Vec::new();
        for (idle, connections) in [(Duration::ZERO, 1), (IDLE - Duration::from_secs(5), 1), (IDLE, 2)] {
            if let Some(kept) = channel.0.connection.lock().await.as_mut() {
                kept.used -= idle;
            }
            channel.connect().await.unwrap();
            while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await {
                opened.push(stream); // or it would be closed
            }
            assert_eq!(opened.len(), connections, "{idle:?}");
        }
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_the_certificates_that_are_given_and_by_no_others() {
        use tokio_rustls::rustls::{ServerConfig, pki_types::PrivateKeyDer};
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        tokio::spawn(async move {
            let mut opened = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                opened.extend(acceptor.accept(stream).await.ok());
            }
        });
        let (ours, other) =
            (made.cert.pem(), rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap());
        for (certificates, trusted) in [(Some(ours), true), (Some(other.cert.pem()), false), (None, false)] {
            let connected = Channel::new(&url, certificates.as_deref()).unwrap().connect().await;
            assert_eq!(connected.is_ok(), trusted);
        }
    }
}
