//! Every answer, and what the log and the metrics call it.

use std::sync::Arc;

use aws_lambda_events::http::{HeaderMap, HeaderValue, header};
use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlResponse;

use crate::event::{Malformed, NotFresh};
use crate::metrics::Metric;
use crate::processing::{Fault, Processed};
use crate::reaction::Unprocessed;
use crate::secrets::{SecretsError, Unverified};

/// How long a sender is asked to wait before its next attempt, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// The event is in good hands.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Duplicate,
    /// Genuine, and diverted as a test.
    Test,
    /// Not processed now, and parked.
    Parked(Fault),
}

/// The event is not in good hands, or is none.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Not POST.
    MethodNotAllowed,
    /// The body is over the limit.
    TooLarge,
    /// Not genuine, not fresh or from nowhere that may send. The caller learns no more than that; the log has the cause.
    AccessDenied(Metric, &'static str),
    /// There is no signing secret to check the signature with.
    CannotVerify(Arc<SecretsError>),
    /// Genuine, but not an event.
    Malformed(Malformed),
    /// An event that the application can never accept.
    Unacceptable(Unprocessed),
    /// Neither processed nor parked; another attempt may succeed.
    Failed(Fault),
}

impl Answer {
    fn status(&self) -> u16 {
        if matches!(self, Self::Parked(_)) { 202 } else { 200 }
    }

    fn metric(&self) -> Metric {
        match self {
            Self::Done => Metric::Accepted,
            Self::Duplicate => Metric::Duplicate,
            Self::Test => Metric::Test,
            Self::Parked(_) => Metric::Parked,
        }
    }
}

impl Refusal {
    pub(super) const NO_REQUEST: Self = Self::AccessDenied(Metric::BadSignature, "not a request of a function URL");
    pub(super) const NO_SIGNATURE: Self = Self::AccessDenied(Metric::BadSignature, "no signature, or more than one");
    pub(super) const NOT_A_SOURCE: Self = Self::AccessDenied(Metric::BadSignature, "not one of the event sources");

    pub(super) fn status(&self) -> u16 {
        match self {
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::AccessDenied(..) => 403,
            Self::Malformed(_) => 400,
            Self::Unacceptable(_) => 422,
            Self::CannotVerify(_) | Self::Failed(_) => 503,
        }
    }

    /// What the caller reads. Nothing about the inside, and nothing at all where nothing is proved.
    fn message(&self) -> String {
        match self {
            Self::MethodNotAllowed => "Use POST".into(),
            Self::TooLarge => "The body is too large".into(),
            Self::AccessDenied(..) => "Access Denied!".into(), // to the letter, as the original example says it
            Self::CannotVerify(_) | Self::Failed(_) => "Not processed, try again later".into(),
            Self::Malformed(fault) => fault.to_string(),
            Self::Unacceptable(fault) => fault.to_string(),
        }
    }

    fn metric(&self) -> Metric {
        match self {
            Self::MethodNotAllowed | Self::TooLarge => Metric::BadRequest,
            Self::AccessDenied(metric, _) => *metric,
            Self::Malformed(_) => Metric::Malformed,
            Self::Unacceptable(_) => Metric::Rejected,
            Self::CannotVerify(_) | Self::Failed(_) => Metric::Failed,
        }
    }

    /// Has nothing about the request been proved?
    fn is_of_a_stranger(&self) -> bool {
        matches!(self, Self::MethodNotAllowed | Self::TooLarge | Self::AccessDenied(..) | Self::CannotVerify(_))
    }
}

/// What the log says of an answer: its status, its name, and why it is not simply done.
pub(super) struct Summary {
    pub(super) status: u16,
    pub(super) metric: Metric,
    pub(super) of_a_stranger: bool,
    pub(super) cause: Option<String>,
}

impl From<&Result<Answer, Refusal>> for Summary {
    fn from(answer: &Result<Answer, Refusal>) -> Self {
        match answer {
            Ok(answer) => Self {
                status: answer.status(),
                metric: answer.metric(),
                of_a_stranger: false,
                cause: if let Answer::Parked(fault) = answer { Some(fault.to_string()) } else { None },
            },
            Err(refusal) => Self {
                status: refusal.status(),
                metric: refusal.metric(),
                of_a_stranger: refusal.is_of_a_stranger(),
                cause: Some(match refusal {
                    Refusal::AccessDenied(_, cause) => (*cause).to_owned(),
                    Refusal::CannotVerify(error) => error.to_string(),
                    Refusal::Failed(fault) => fault.to_string(),
                    refusal => refusal.message(),
                }),
            },
        }
    }
}

/// What goes back through the function URL.
pub(super) fn response(answer: &Result<Answer, Refusal>) -> LambdaFunctionUrlResponse {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (status, body) = match answer {
        Ok(answer) => (answer.status(), "{}".to_owned()),
        Err(refusal) => {
            match refusal.status() {
                405 => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
                503 => headers.insert(header::RETRY_AFTER, RETRY_AFTER),
                _ => None,
            };
            (refusal.status(), serde_json::json!({ "message": refusal.message() }).to_string())
        }
    };
    let mut response = LambdaFunctionUrlResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = Some(body);
    response
}

impl From<Processed> for Answer {
    fn from(processed: Processed) -> Self {
        match processed {
            Processed::Done => Self::Done,
            Processed::Duplicate => Self::Duplicate,
        }
    }
}

impl From<Unverified> for Refusal {
    fn from(error: Unverified) -> Self {
        match error {
            Unverified::WrongSignature => Self::AccessDenied(Metric::BadSignature, "wrong signature"),
            Unverified::NoSecret(error) => Self::CannotVerify(error),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

impl From<NotFresh> for Refusal {
    fn from(fault: NotFresh) -> Self {
        let cause = match fault {
            NotFresh::TooOld => "too old",
            NotFresh::FromTheFuture => "from the future",
        };
        Self::AccessDenied(Metric::Stale, cause)
    }
}
