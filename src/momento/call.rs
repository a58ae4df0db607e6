//! Calls over one channel: bounded, authorised, and sent again only where that is safe.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use momento::{MomentoError, MomentoErrorCode};
use prost::Message;
use tonic::Code;

use super::channel::Channel;
use super::unary::{self, Failure, Method};
use super::{Credentials, CredentialsError};

/// A call to Momento did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service, or the way to it, answered with an error.
    #[error("Momento {call} failed: {code:?}")]
    Failed {
        /// Which call.
        call: &'static str,
        /// The service's status; `Unavailable` where it could not be reached. Its words may quote keys, and are left out.
        code: Code,
    },
    /// No answer within the deadline: whether the call had its effect is not known.
    #[error("Momento {call} did not answer within {} ms", deadline.as_millis())]
    TimedOut {
        /// Which call.
        call: &'static str,
        /// How long we waited.
        deadline: Duration,
    },
}

impl Error {
    pub(super) fn unexpected(call: &'static str) -> Self {
        Self::Failed { call, code: Code::DataLoss }
    }

    /// May the call still have its effect, now or later? It may where no answer came in time; where there was an answer,
    /// or the connection broke, what will happen has happened.
    pub fn may_still_happen(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// The error of a call to Momento that another error was caused by, or is.
    pub fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        causes(Some(error)).find_map(|error| error.downcast_ref())
    }

    /// Is the key refused, rather than the call?
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Failed { code: Code::Unauthenticated, .. })
    }
}

/// The way to Momento: one HTTP/2 connection, opened with the first call, and again when it has broken.
pub(super) struct Calls {
    channel: Channel,
    origin: Uri,
    /// What every call carries.
    headers: HeaderMap,
    deadline: Duration,
}

impl Calls {
    /// Does not connect: the first call does.
    pub(super) fn new(credentials: &Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let origin: Uri = credentials.cache_url().parse().map_err(|_| CredentialsError::Unreadable)?;
        let channel = Channel::new(&origin, credentials.certificates()).ok_or(CredentialsError::Unreadable)?;
        let mut authorization: HeaderValue =
            credentials.auth_token().parse().map_err(|_| CredentialsError::Unreadable)?;
        authorization.set_sensitive(true); // HTTP/2 would keep it in a table that is shared with what others write
        let timeout = format!("{}m", deadline.as_millis().min(99_999_999)); // eight digits are allowed
        let timeout = timeout.parse().map_err(|_| CredentialsError::Unreadable)?;
        let agent = HeaderValue::from_static(concat!("rust:momento-webhook:", env!("CARGO_PKG_VERSION")));
        let headers = HeaderMap::from_iter([
            (header::TE, HeaderValue::from_static("trailers")),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (header::AUTHORIZATION, authorization),
            (HeaderName::from_static("grpc-timeout"), timeout), // the service gives up when we do
            (HeaderName::from_static("agent"), agent),
            (HeaderName::from_static("runtime-version"), HeaderValue::from_static("rust")),
        ]);
        Ok(Self { channel, origin, headers, deadline })
    }

    /// Connects where that succeeds in time, so that the first call need not.
    pub(super) async fn connected(credentials: &Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let calls = Self::new(credentials, deadline)?;
        let _ = calls.bounded(calls.channel.connect()).await; // else the first call tries, and tells
        Ok(calls)
    }

    /// Sends a call once.
    pub(super) async fn once<Request: Message, Answer: Message + Default>(
        &self,
        method: &Method<Request, Answer>,
        cache: &str,
        request: &Request,
    ) -> Result<Answer, Error> {
        self.call(method, cache, request, 1).await
    }

    /// Sends a call that does no harm twice, and sends it again where the connection broke: a function that was frozen finds
    /// its connection dead only when it uses it.
    pub(super) async fn repeatable<Request: Message, Answer: Message + Default>(
        &self,
        method: &Method<Request, Answer>,
        cache: &str,
        request: &Request,
    ) -> Result<Answer, Error> {
        self.call(method, cache, request, 2).await
    }

    async fn call<Request: Message, Answer: Message + Default>(
        &self,
        method: &Method<Request, Answer>,
        cache: &str,
        request: &Request,
        attempts: u32,
    ) -> Result<Answer, Error> {
        let failed = |code| Error::Failed { call: method.name, code };
        let cache = cache.parse().map_err(|_| failed(Code::InvalidArgument))?; // a cache name is ASCII
        let message = method.encode(request).map_err(failed)?;
        let mut again = 1..attempts;
        let answer = loop {
            match self.bounded(self.exchange(method.path, &cache, message.clone())).await {
                Some(Err(Failure::Broken)) if again.next().is_some() => {}
                answer => break answer,
            }
        };
        match answer {
            Some(Ok(answer)) => method.decode(&answer).map_err(failed),
            Some(Err(Failure::Broken)) => Err(failed(Code::Unavailable)),
            // The service keeps the same deadline as we do, and may be the first to notice.
            None | Some(Err(Failure::Status(Code::DeadlineExceeded))) => {
                Err(Error::TimedOut { call: method.name, deadline: self.deadline })
            }
            Some(Err(Failure::Status(code))) => Err(failed(code)),
        }
    }

    /// Sends a message, and waits for the one that comes back.
    async fn exchange(&self, path: &'static str, cache: &HeaderValue, message: Bytes) -> Result<Vec<u8>, Failure> {
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri(path)?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HeaderName::from_static("cache"), cache.clone());
        let (answer, mut body) = self.channel.connect().await?.send_request(request, false)?;
        body.send_data(message, true)?;
        unary::read(answer.await?).await
    }

    async fn bounded<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let answer = tokio::time::timeout(self.deadline, answer).await.ok();
        if answer.is_none() {
            self.channel.give_up(); // its other end may have gone without a word, while the function was frozen
        }
        answer
    }

    fn uri(&self, path: &'static str) -> Result<Uri, Failure> {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        Uri::from_parts(parts).map_err(|_| Failure::Status(Code::Internal))
    }
}

fn causes<'a>(
    error: Option<&'a (dyn std::error::Error + 'static)>,
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error, |error| {
        let error: &'a (dyn std::error::Error + 'static) = *error;
        error.source()
    })
}

/// A call of the SDK's, within bounds.
pub(super) async fn sdk<T>(
    call: &'static str,
    deadline: Duration,
    answer: impl Future<Output = Result<T, MomentoError>>,
) -> Result<T, Error> {
    let code = |error: MomentoError| match error.error_code {
        MomentoErrorCode::AuthenticationError => Code::Unauthenticated,
        _ => error.details().map_or(Code::Unavailable, |details| details.code),
    };
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer.map_err(|error| Error::Failed { call, code: code(error) }),
        Err(_) => Err(Error::TimedOut { call, deadline }),
    }
}
