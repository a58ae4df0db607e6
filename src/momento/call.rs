//! Calls over one channel: bounded, authorised, and sent again only where that is safe.

use std::error::Error as _;
use std::time::Duration;

use momento::{MomentoError, MomentoErrorCode};
use momento_protos::cache_client::pubsub::pubsub_client::PubsubClient;
use momento_protos::cache_client::scs_client::ScsClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

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
        matches!(self, Self::TimedOut { .. } | Self::Failed { code: Code::DeadlineExceeded, .. })
    }

    /// Is the key refused, rather than the call?
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Failed { code: Code::Unauthenticated, .. })
    }
}

/// The way to Momento: one HTTP/2 connection, opened with the first call, and again when it has broken.
pub(super) struct Calls {
    channel: Channel,
    authorization: MetadataValue<Ascii>,
    deadline: Duration,
}

impl Calls {
    pub(super) fn new(credentials: &Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let url = credentials.cache_url();
        let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| CredentialsError::Unreadable)?;
        if url.starts_with("https://") {
            let tls = ClientTlsConfig::new().with_webpki_roots();
            endpoint = endpoint.tls_config(tls).map_err(|_| CredentialsError::Unreadable)?;
        }
        let mut authorization: MetadataValue<Ascii> =
            credentials.auth_token().parse().map_err(|_| CredentialsError::Unreadable)?;
        authorization.set_sensitive(true);
        Ok(Self { channel: endpoint.connect_timeout(deadline).connect_lazy(), authorization, deadline })
    }

    pub(super) fn cache(&self) -> ScsClient<Channel> {
        ScsClient::new(self.channel.clone())
    }

    pub(super) fn topics(&self) -> PubsubClient<Channel> {
        PubsubClient::new(self.channel.clone())
    }

    pub(super) async fn warm(&self) {
        use tonic::client::GrpcService;
        let mut channel = self.channel.clone();
        let ready = std::future::poll_fn(|context| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, context));
        let _ = tokio::time::timeout(self.deadline, ready).await;
    }

    /// A request as Momento wants it. The service gives up on it when we do.
    pub(super) fn request<T>(&self, cache: &str, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        metadata.insert("cache", cache.parse().map_err(|_| Status::invalid_argument("a cache name is ASCII"))?);
        metadata
            .insert("agent", MetadataValue::from_static(concat!("rust:momento-webhook:", env!("CARGO_PKG_VERSION"))));
        metadata.insert("runtime-version", MetadataValue::from_static("rust"));
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
        tokio::time::timeout(self.deadline, answer).await.ok()
    }

    fn outcome<T>(&self, call: &'static str, answer: Option<Result<Response<T>, Status>>) -> Result<T, Error> {
        let answer = answer.ok_or(Error::TimedOut { call, deadline: self.deadline })?;
        let code = |status: Status| if is_broken(&status) { Code::Unavailable } else { status.code() };
        answer.map(Response::into_inner).map_err(|status| Error::Failed { call, code: code(status) })
    }
}

/// Did the connection break, rather than the service answer? Only what happens on this side has a source.
fn is_broken(status: &Status) -> bool {
    status.source().is_some()
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
