//! The gate that every request passes: may whoever sent it be here at all, and who is it?
//!
//! On a loopback address anyone on this machine may do anything, since the official SDKs' local mode sends no key; so
//! requests that a web page could have caused, by DNS rebinding or from another site, are turned away. On any other
//! address a key is demanded of everyone.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN,
            VARY,
        },
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use tonic::Status;

use super::{
    faults::{self, Injector},
    now,
    peer::Peer,
    tokens::{Access, Claims, Resource, Tokens},
};

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    SuperUser,
    Token(Arc<Claims>),
    /// Sent no credential where one is demanded. Let through to the Token service alone, which reads one from the body.
    Nobody,
}

impl Caller {
    pub(super) fn may_use_item(&self, access: Access, cache: &str, key: &[u8]) -> Result<(), Status> {
        self.may(access, Resource::Items, cache, key)
    }

    pub(super) fn may_publish(&self, cache: &str, topic: &str) -> Result<(), Status> {
        self.may(Access::Write, Resource::Topics, cache, topic.as_bytes())
    }

    pub(super) fn may_subscribe(&self, cache: &str, topic: &str) -> Result<(), Status> {
        self.may(Access::Read, Resource::Topics, cache, topic.as_bytes())
    }

    /// Caches and tokens are made by whoever holds the API key, never by a token.
    pub(super) fn may_administer(&self) -> Result<(), Status> {
        match self {
            Self::SuperUser => Ok(()),
            Self::Token(_) => Err(Status::permission_denied("a token can neither manage caches nor make tokens")),
            Self::Nobody => Err(no_credential()),
        }
    }

    /// May a credential in the body speak for this caller? Not for a token: it stays what it is.
    pub(super) fn may_try_the_body(&self) -> Result<(), Status> {
        if let Self::Token(_) = self { self.may_administer() } else { Ok(()) }
    }

    /// The `token_id`, which is empty without a token.
    pub(super) fn id(&self) -> &str {
        if let Self::Token(claims) = self { &claims.id } else { "" }
    }

    /// When its credential ends, in epoch milliseconds.
    pub(super) fn ends_at(&self) -> Option<u64> {
        if let Self::Token(claims) = self { Some(claims.exp.saturating_mul(1000)) } else { None }
    }

    fn may(&self, access: Access, on: Resource, cache: &str, name: &[u8]) -> Result<(), Status> {
        match self {
            Self::SuperUser => Ok(()),
            Self::Token(claims) if claims.allow(access, on, cache, name) => Ok(()),
            Self::Token(_) => Err(Status::permission_denied("the token's permissions do not cover this call")),
            Self::Nobody => Err(no_credential()),
        }
    }
}

fn no_credential() -> Status {
    Status::unauthenticated("this server listens beyond loopback, and demands the API key or a token")
}

/// Knows the credentials.
pub(super) struct Gate {
    api_key: String,
    /// The same key in the form in which consoles hand it out.
    v1_api_key: String,
    tokens: Tokens,
    /// Whether the server listens on loopback alone, and so trusts whoever reaches it without a key.
    is_local: bool,
}

impl Gate {
    pub(super) fn new(api_key: String, is_local: bool) -> Self {
        let v1_api_key = super::seed::v1_key(&api_key);
        Self { tokens: Tokens::new(&api_key), v1_api_key, api_key, is_local }
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who is this? `now` in epoch milliseconds.
    pub(super) fn authenticate(&self, credential: &str, now: u64) -> Result<Caller, Status> {
        if credential.is_empty() {
            return if self.is_local { Ok(Caller::SuperUser) } else { Err(no_credential()) };
        }
        if self.tokens.same(credential, &self.api_key) || self.tokens.same(credential, &self.v1_api_key) {
            return Ok(Caller::SuperUser);
        }
        match self.tokens.verify(credential, now) {
            Ok(claims) => Ok(Caller::Token(Arc::new(claims))),
            Err(refused) => Err(Status::unauthenticated(refused.to_string())),
        }
    }

    /// The caller whom the gate let in with this request.
    pub(super) fn caller<T>(&self, request: &tonic::Request<T>) -> Caller {
        request.extensions().get().cloned().unwrap_or(Caller::Nobody)
    }

    fn admit(&self, request: &Request, peer: SocketAddr) -> Result<Caller, Refusal> {
        let is_rpc = is_rpc(request);
        // Secrets are never checked for a signature, so they are for this machine alone, wherever the server listens.
        if (self.is_local || !is_rpc) && !(peer.ip().is_loopback() && is_for_loopback(request)) {
            return Err(Refusal::Elsewhere);
        }
        if !is_rpc {
            return Ok(Caller::Nobody);
        }
        let credential = match request.headers().get(AUTHORIZATION).map(HeaderValue::to_str) {
            None => "",
            Some(Ok(credential)) => credential,
            Some(Err(_)) => return Err(Refusal::Grpc(Status::unauthenticated("`authorization` is not ASCII"))),
        };
        if credential.is_empty() && !self.is_local && request.uri().path().starts_with("/token.Token/") {
            return Ok(Caller::Nobody);
        }
        self.authenticate(credential, now()).map_err(Refusal::Grpc)
    }
}

enum Refusal {
    /// The request was not meant for this server, or was caused by a page that does not belong to this machine.
    Elsewhere,
    Grpc(Status),
}

impl Refusal {
    fn answer(self, asked: &Request) -> Response {
        let status = match self {
            Self::Grpc(status) => status,
            Self::Elsewhere => {
                let message = "`host` and `origin` must be loopback: this server is for this machine alone";
                if !is_rpc(asked) {
                    return (StatusCode::FORBIDDEN, message).into_response();
                }
                Status::permission_denied(message)
            }
        };
        grpc_answer(status, asked.headers())
    }
}

/// Answers with a status, in the dialect of whoever asked with these headers.
pub(super) fn grpc_answer(status: Status, asked: &HeaderMap) -> Response {
    let mut response = status.into_http::<Body>();
    if let Some(content_type) = asked.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, content_type.clone()); // gRPC-web expects its own
    }
    response
}

/// What [`admit`] needs.
#[derive(Clone)]
pub(super) struct Entrance {
    pub(super) gate: Arc<Gate>,
    pub(super) injector: Injector,
}

/// The one place that every request passes. Nobody meets a fault who is not let in.
pub(super) async fn admit(
    State(Entrance { gate, injector }): State<Entrance>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(ORIGIN).filter(|origin| is_loopback_origin(origin)).cloned();
    let mut response = match gate.admit(&request, peer.address) {
        Err(refusal) => refusal.answer(&request),
        Ok(_) if origin.is_some() && request.method() == Method::OPTIONS => preflight(request.headers()),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            injector.serve(request, &peer.connection, next).await
        }
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("grpc-status, grpc-message, err"));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Answers a browser that asks whether a page of this machine may send gRPC-web.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// All but the root, where Secrets Manager answers, and the faults' switches. The path decides, since the content type is
/// the caller's to choose.
fn is_rpc(request: &Request) -> bool {
    let path = request.uri().path();
    path != "/" && path != faults::PATH && !path.starts_with("/faults/")
}

/// Every name that the request gives for this server must be a loopback one, and it must give one.
fn is_for_loopback(request: &Request) -> bool {
    let headers = request.headers();
    let authority = request.uri().authority().map(|authority| is_loopback_host(authority.host()));
    let mut hosts = headers.get_all(HOST).iter().map(is_loopback_authority).chain(authority).peekable();
    hosts.peek().is_some()
        && hosts.all(|is_loopback| is_loopback)
        && headers.get_all(ORIGIN).iter().all(is_loopback_origin)
}

fn is_loopback_authority(value: &HeaderValue) -> bool {
    Authority::try_from(value.as_bytes()).is_ok_and(|authority| is_loopback_host(authority.host()))
}

/// `null`, which sandboxed pages send, is not.
fn is_loopback_origin(value: &HeaderValue) -> bool {
    Uri::try_from(value.as_bytes()).is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some_and(is_loopback_host))
}

/// Is this a name for this machine alone, whatever a DNS server may say?
pub(super) fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_name = host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    is_name || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST", "cache.localhost", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["", "localhost.evil.test", "127.0.0.1.evil.test", "evillocalhost", "0.0.0.0", "10.0.0.1", "[::]"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_a_whole_one() {
        let is_loopback = |origin| is_loopback_origin(&HeaderValue::from_static(origin));
        assert!(is_loopback("http://localhost:3000"));
        assert!(is_loopback("https://[::1]"));
        assert!(!is_loopback("null"));
        assert!(!is_loopback("localhost"));
        assert!(!is_loopback("https://evil.test"));
        assert!(!is_loopback("http://localhost@evil.test"));
    }
}
