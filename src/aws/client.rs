//! HTTP/1.1 for the AWS clients, with a connection for each request: a function has few, a relay one in five minutes, and a
//! connection that was kept may have died while the function was frozen. Where every event must be parked, each pays
//! for a handshake.
//!
//! The SDK's own client brings a pool, a second HTTP/2 and a second way to TLS: 0.3 MB that every cold start would read.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::connection::{self, Server};

/// The largest answer, in bytes: a secret has at most 64 KiB.
const MAX_ANSWER: usize = 1024 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// A client that trusts `roots`.
pub(super) fn client(roots: RootCertStore) -> SharedHttpClient {
    let tls = connection::tls(roots, b"http/1.1");
    http_client_fn(move |settings, _| {
        let connect_timeout = settings.connect_timeout().unwrap_or(Duration::MAX);
        let read_timeout = settings.read_timeout().unwrap_or(Duration::MAX);
        SharedHttpConnector::new(Connector { tls: Arc::clone(&tls), connect_timeout, read_timeout })
    })
}

/// How long a whole request may take is for the SDK to see to, with its `operation_attempt_timeout`.
#[derive(Clone, Debug)]
struct Connector {
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    /// Until an answer begins.
    read_timeout: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let (server, request) = connector.address(request).map_err(ConnectorError::user)?;
            let answer = connector.exchange(server, request).await?;
            HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

impl Connector {
    /// The server that a request is for, and the request as HTTP/1.1 wants it: a path, and the host in a header.
    fn address(&self, mut request: Request<SdkBody>) -> Result<(Server, Request<SdkBody>), BoxError> {
        let url = request.uri();
        let server = Server::of(url, || Arc::clone(&self.tls)).ok_or("no host in the URL")?;
        let host = HeaderValue::from_str(&host(url).ok_or("no host in the URL")?)?;
        let path = url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from(path);
        Ok((server, request))
    }

    async fn exchange(&self, server: Server, request: Request<SdkBody>) -> Result<Response<SdkBody>, ConnectorError> {
        let io = |error: hyper::Error| ConnectorError::io(error.into());
        let stream = tokio::time::timeout(self.connect_timeout, server.connect()).await;
        let stream = stream.map_err(|late| ConnectorError::timeout(late.into()).never_connected())?;
        let stream = stream.map_err(|error| ConnectorError::io(error.into()).never_connected())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io)?;
        tokio::spawn(connection); // until the answer has been read, or nobody waits for it any more
        let answer = tokio::time::timeout(self.read_timeout, sender.send_request(request)).await;
        let (head, body) = answer.map_err(|late| ConnectorError::timeout(late.into()))?.map_err(io)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(ConnectorError::io)?;
        Ok(Response::from_parts(head, body.to_bytes().into()))
    }
}

/// As it is signed: with a port only where it is not the scheme's own.
fn host(url: &Uri) -> Option<String> {
    let (host, own) = (url.host()?, if url.scheme_str() == Some("https") { 443 } else { 80 });
    Some(url.port_u16().filter(|port| *port != own).map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn connector(timeout: Duration) -> Connector {
        let tls = connection::tls(RootCertStore::empty(), b"http/1.1");
        Connector { tls, connect_timeout: timeout, read_timeout: timeout }
    }

    /// What a server gets to see of a request, and what the client makes of its answer.
    async fn exchanged(answer: &[u8]) -> (String, Result<HttpResponse, ConnectorError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a/path?a=query", listener.local_addr().unwrap());
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"a body") {
                length += stream.read(&mut request[length..]).await.unwrap();
            }
            request.truncate(length);
            let _ = stream.write_all(answer).await; // the client may have heard enough
            String::from_utf8(request).unwrap()
        };
        let request = Request::post(url).header("x-one", "1").body(SdkBody::from("a body")).unwrap();
        tokio::join!(answering, connector(SECOND).call(request.try_into().unwrap()))
    }

    #[tokio::test]
    async fn a_request_goes_out_with_its_path_and_its_host() {
        let (request, answer) = exchanged(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}").await;
        let mut lines = request.lines();
        assert_eq!(lines.next(), Some("POST /a/path?a=query HTTP/1.1"));
        let lines: Vec<_> = lines.collect();
        assert!(lines.iter().any(|line| line.starts_with("host: 127.0.0.1:")), "{lines:?}");
        assert!(lines.contains(&"content-length: 6") && lines.contains(&"x-one: 1"), "{lines:?}");
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().bytes()), (201, Some(&b"{}"[..])));
    }

    #[test]
    fn a_host_has_a_port_only_where_it_is_not_the_schemes_own() {
        for (url, expected) in [
            ("https://sqs.us-east-1.amazonaws.com/a", "sqs.us-east-1.amazonaws.com"),
            ("https://vpce.example.com:443", "vpce.example.com"),
            ("http://vpce.example.com:80/", "vpce.example.com"),
            ("https://vpce.example.com:80/", "vpce.example.com:80"),
            ("http://user:word@127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080/", "[::1]:8080"),
        ] {
            let request = Request::get(url).body(SdkBody::empty()).unwrap();
            let (_, request) = connector(SECOND).address(request).unwrap();
            assert_eq!(request.headers()[header::HOST], expected);
            assert_eq!(request.uri(), if url.ends_with('a') { "/a" } else { "/" });
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_or_is_too_large_is_an_error() {
        let large = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", &[b' '; MAX_ANSWER + 1][..]].concat();
        for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", b"no HTTP", &large] {
            assert!(exchanged(answer).await.1.is_err_and(|error| error.is_io()), "{}", answer.len());
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_or_says_nothing_is_an_error_in_time() {
        let client = connector(Duration::from_millis(100));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap(); // and closed
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // connects, and says nothing
        let begin = std::time::Instant::now();
        for (address, is_late) in [(closed, false), (silent.local_addr().unwrap(), true)] {
            let request = Request::get(format!("http://{address}/")).body(SdkBody::empty()).unwrap();
            let error = client.call(request.try_into().unwrap()).await.unwrap_err();
            assert_eq!((error.is_io(), error.is_timeout()), (!is_late, is_late), "{error}");
        }
        assert!(begin.elapsed() < SECOND);
    }
}
