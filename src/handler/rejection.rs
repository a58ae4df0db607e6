//! Every answer but 200, and what the log says of it.

use std::error::Error;
use std::sync::Arc;

use crate::event::{Malformed, NotFresh};
use crate::reaction::Unprocessed;
use crate::secrets::{SecretsError, Unverified};

/// Why a webhook was not answered 200.
#[derive(Debug)]
pub enum Rejection {
    /// Not POST.
    MethodNotAllowed,
    /// The body is over the limit.
    TooLarge,
    /// Not genuine, not fresh or from nowhere that may send. The caller learns no more than that; the log has the cause.
    AccessDenied(&'static str),
    /// There is no signing secret to check the signature with.
    CannotVerify(Arc<SecretsError>),
    /// Genuine, but not an event.
    Malformed(Malformed),
    /// An event that the application can never accept.
    Unacceptable(Unprocessed),
    /// Not processed; another attempt may succeed.
    Failed(Box<dyn Error + Send + Sync>),
}

impl Rejection {
    pub(super) const NO_REQUEST: Self = Self::AccessDenied("not a request of a function URL");
    pub(super) const NO_SIGNATURE: Self = Self::AccessDenied("no signature, or more than one");
    pub(super) const NOT_A_SOURCE: Self = Self::AccessDenied("not one of the event sources");

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::AccessDenied(_) => 403,
            Self::Malformed(_) => 400,
            Self::Unacceptable(_) => 422,
            Self::CannotVerify(_) | Self::Failed(_) => 503,
        }
    }

    /// What the caller reads. Nothing about the inside, and nothing at all where nothing is proved.
    pub fn message(&self) -> String {
        match self {
            Self::MethodNotAllowed => "Use POST".into(),
            Self::TooLarge => "The body is too large".into(),
            Self::AccessDenied(_) => "Access Denied!".into(), // to the letter, as the original example says it
            Self::CannotVerify(_) | Self::Failed(_) => "Not processed, try again later".into(),
            Self::Malformed(fault) => fault.to_string(),
            Self::Unacceptable(fault) => fault.to_string(),
        }
    }

    /// One word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::AccessDenied(_) => "access_denied",
            Self::CannotVerify(_) => "cannot_verify",
            Self::Malformed(_) => "malformed",
            Self::Unacceptable(_) => "unacceptable",
            Self::Failed(_) => "failed",
        }
    }

    /// The cause, for logs.
    pub fn cause(&self) -> String {
        match self {
            Self::AccessDenied(cause) => (*cause).into(),
            Self::CannotVerify(error) => error.to_string(),
            Self::Failed(error) => error.to_string(),
            other => other.message(),
        }
    }
}

impl From<Unverified> for Rejection {
    fn from(error: Unverified) -> Self {
        match error {
            Unverified::WrongSignature => Self::AccessDenied("wrong signature"),
            Unverified::NoSecret(error) => Self::CannotVerify(error),
        }
    }
}

impl From<Malformed> for Rejection {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

impl From<NotFresh> for Rejection {
    fn from(fault: NotFresh) -> Self {
        Self::AccessDenied(match fault {
            NotFresh::TooOld => "too old",
            NotFresh::FromTheFuture => "from the future",
        })
    }
}

impl From<Unprocessed> for Rejection {
    fn from(unprocessed: Unprocessed) -> Self {
        match unprocessed {
            Unprocessed::Failed(error) => Self::Failed(error),
            rejected @ Unprocessed::Rejected { .. } => Self::Unacceptable(rejected),
        }
    }
}
