//! Calls over one channel: bounded, authorised, and sent again only where that is safe.

use std::error::Error as _;
use std::time::Duration;

use http::Uri;
use momento::{MomentoError, MomentoErrorCode};
use momento_protos::cache_client::pubsub::pubsub_client::PubsubClient;
use momento_protos::cache_client::scs_client::ScsClient;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

use super::channel::Channel;
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

/// The largest answer, in bytes: sixteen entries of a list at 512 KiB each, and as much again.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The way to Momento: one HTTP/2 connection, opened with the first call, and again when it has broken.
pub(super) struct Calls {
    channel: Channel,
    origin: Uri,
    /// What every call carries.
    metadata: MetadataMap,
    deadline: Duration,
}

impl Calls {
    /// Does not connect: the first call does.
    pub(super) fn new(credentials: &Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let origin: Uri = credentials.cache_url().parse().map_err(|_| CredentialsError::Unreadable)?;
        let channel = Channel::new(&origin, credentials.certificates()).ok_or(CredentialsError::Unreadable)?;
        let mut authorization: MetadataValue<Ascii> =
            credentials.auth_token().parse().map_err(|_| CredentialsError::Unreadable)?;
        authorization.set_sensitive(true);
        let mut request = Request::new(());
        request.set_timeout(deadline); // the service gives up when we do
        let metadata = request.metadata_mut();
        metadata.insert("authorization", authorization);
        metadata
            .insert("agent", MetadataValue::from_static(concat!("rust:momento-webhook:", env!("CARGO_PKG_VERSION"))));
        metadata.insert("runtime-version", MetadataValue::from_static("rust"));
        Ok(Self { channel, origin, metadata: std::mem::take(metadata), deadline })
    }

    /// Connects where that succeeds in time, so that the first call need not.
    pub(super) async fn connected(credentials: &Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let calls = Self::new(credentials, deadline)?;
        let _ = calls.bounded(calls.channel.connect()).await; // else the first call tries, and tells
        Ok(calls)
    }

    pub(super) fn cache(&self) -> ScsClient<Channel> {
        ScsClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn topics(&self) -> PubsubClient<Channel> {
        PubsubClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// A request as Momento wants it.
    pub(super) fn request<T>(&self, cache: &str, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        let cache = cache.parse().map_err(|_| Status::invalid_argument("a cache name is ASCII"))?;
        request.metadata_mut().insert("cache", cache);
        Ok(request)
    }

    /// Sends a call once.
    pub(super) async fn once<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.outcome(call, self.bounded(answer).await)
    }

    /// Sends a call that does no harm twice, and sends it again where the connection broke: a function that was frozen finds
    /// its connection dead only when it uses it.
    pub(super) async fn repeatable<T, F>(&self, call: &'static str, send: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = match self.bounded(send()).await {
            Some(Err(status)) if is_broken(&status) => self.bounded(send()).await,
            answer => answer,
        };
        self.outcome(call, answer)
    }

    async fn bounded<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let answer = tokio::time::timeout(self.deadline, answer).await.ok();
        if answer.is_none() {
            self.channel.give_up(); // its other end may have gone without a word, while the function was frozen
        }
        answer
    }

    fn outcome<T>(&self, call: &'static str, answer: Option<Result<Response<T>, Status>>) -> Result<T, Error> {
        match answer {
            Some(Ok(answer)) => Ok(answer.into_inner()),
            Some(Err(status)) if is_broken(&status) => Err(Error::Failed { call, code: Code::Unavailable }),
            Some(Err(status)) if !is_late(&status) => Err(Error::Failed { call, code: status.code() }),
            _ => Err(Error::TimedOut { call, deadline: self.deadline }),
        }
    }
}

/// Did the connection break, rather than the service answer? Only what happens on this side has a source.
fn is_broken(status: &Status) -> bool {
    status.source().is_some() && !is_late(status)
}

/// Has the service given up? It keeps the same deadline as we do, and may be the first to notice.
fn is_late(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded
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
