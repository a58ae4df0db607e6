//! From a genuine event to its effect, once: claim it and read its user, react, settle the claim.

mod claim;
mod users;

use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use crate::config::ProcessingConfig;
use crate::event::{Event, EventId};
use crate::momento::{self, Momento};
use crate::reaction::{Incoming, Reaction, Unprocessed};
use crate::secrets::{ApiKey, SecretsError, SecretsManager};
use claim::{Claim, Claimed, Claims};
use users::Users;

#[cfg(panic = "abort")]
compile_error!("a reaction that panics would take its event with it: build with `panic = \"unwind\"`");

/// How much of the sender's patience one call to Momento may take.
const CALL: Duration = Duration::from_millis(1_000);

/// What reacts to events, whichever way they came.
pub(crate) struct Processor<R> {
    api_key: ApiKey,
    claims: Claims,
    lease: Duration,
    users: Users,
    reaction: R,
}

/// What an attempt at an event is given beside it.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) id: EventId,
    /// Of this attempt alone.
    pub(crate) owner: &'a str,
    /// In epoch milliseconds.
    pub(crate) now: u64,
    /// Has there been an attempt before, whatever the claim says?
    pub(crate) attempted: bool,
}

/// What an attempt at an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processed {
    /// The effect is there.
    Done,
    /// It has been there before.
    Duplicate,
}

/// Why an event was not processed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No attempt can succeed.
    Rejected(Unprocessed),
    /// Another attempt is under way, until then at the latest, in epoch milliseconds.
    UnderWay(u64),
    /// The attempt failed, and another one may succeed.
    Failed(Box<dyn Error + Send + Sync>),
    /// Whether the attempt had its effect is not known, and the claim stays held until its lease ends.
    Unknown(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => write!(f, "{rejected}"),
            Self::UnderWay(_) => f.write_str("another attempt is under way"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Unknown(error) => write!(f, "{error}; whether it had its effect is not known"),
        }
    }
}

impl From<momento::Error> for Fault {
    fn from(error: momento::Error) -> Self {
        Unprocessed::from(error).into()
    }
}

impl From<Unprocessed> for Fault {
    fn from(unprocessed: Unprocessed) -> Self {
        match unprocessed {
            rejected @ Unprocessed::Rejected { .. } => Self::Rejected(rejected),
            Unprocessed::Failed(error) => {
                let momento = momento::Error::within(&*error);
                if momento.is_some_and(momento::Error::may_still_happen) {
                    Self::Unknown(error)
                } else {
                    Self::Failed(error)
                }
            }
        }
    }
}

impl From<std::sync::Arc<SecretsError>> for Fault {
    fn from(error: std::sync::Arc<SecretsError>) -> Self {
        Self::Failed(error.into())
    }
}

/// The event was not processed in the time that there was.
#[derive(Debug, thiserror::Error)]
#[error("not processed in time")]
struct OutOfTime;

/// What remains to be done once the sender has its answer: the claim is settled as the attempt ended.
#[must_use = "an event that is not settled is processed again when its lease ends"]
pub(crate) struct Settlement {
    claim: Claim,
    momento: Momento,
    done: bool,
}

impl Settlement {
    /// Settles the claim. A failure is logged: the lease ends by itself, and whoever takes over is told so.
    pub(crate) async fn settle(self) {
        let Self { claim, momento, done } = self;
        let settled = if done { claim.done(&momento).await } else { claim.tried(&momento).await };
        match settled {
            Ok(true) => {}
            Ok(false) => tracing::warn!("claim not settled: its lease had ended"),
            Err(error) => tracing::warn!(%error, "claim not settled"),
        }
    }
}

/// An attempt's end, and what remains to be done.
pub(crate) struct Attempt {
    pub(crate) outcome: Result<Processed, Fault>,
    pub(crate) settlement: Option<Settlement>,
}

impl<R: Reaction> Processor<R> {
    /// Fetches nothing yet.
    pub(crate) fn new(config: ProcessingConfig, manager: SecretsManager, reaction: R) -> Self {
        let lease = config.claim_lease;
        Self {
            api_key: ApiKey::new(manager, config.api_key_secret, config.momento, CALL, &config.secrets),
            claims: Claims::new(config.claim_cache, lease),
            lease,
            users: Users::new(config.users),
            reaction,
        }
    }

    /// How long an attempt may hold an event.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Fetches the API key, so that the first event need not wait for it. A failure is logged, and tried again by then.
    pub(crate) async fn warm(&self, now: u64) {
        let _ = self.api_key.momento(now).await;
    }

    /// Processes one event within `budget`, and within its lease, however short that is: after it another attempt may begin.
    pub(crate) async fn process(&self, event: &Event, given: Given<'_>, budget: Duration) -> Attempt {
        let (mut held, budget) = (None, budget.min(self.lease));
        let outcome = tokio::time::timeout(budget, self.attempt(event, given, &mut held)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Fault::Unknown(OutOfTime.into())));
        if outcome.as_ref().is_err_and(is_unauthenticated) {
            self.api_key.doubt();
        }
        let settlement = match (held, &outcome) {
            (_, Err(Fault::Unknown(_))) | (None, _) => None,
            (Some((claim, momento)), outcome) => Some(Settlement { claim, momento, done: outcome.is_ok() }),
        };
        Attempt { outcome, settlement }
    }

    async fn attempt(
        &self,
        event: &Event,
        given: Given<'_>,
        held: &mut Option<(Claim, Momento)>,
    ) -> Result<Processed, Fault> {
        let Given { id, owner, now, attempted } = given;
        let momento = self.api_key.momento(now).await?;
        // One round trip for both.
        let (claimed, user) =
            tokio::join!(self.claims.claim(&momento, event, id, owner, now), self.users.read(&momento, event));
        let claim = match claimed? {
            Claimed::Won(claim) => claim,
            Claimed::Done => return Ok(Processed::Duplicate),
            Claimed::UnderWay(until) => return Err(Fault::UnderWay(until)),
        };
        let takes_over = attempted || claim.takes_over;
        *held = Some((claim, momento.clone()));
        let user = user?;
        let incoming = Incoming { event, id, user: user.as_ref(), momento: &momento, takes_over };
        // A panic in an application must not take the event with it, even one before its future is made.
        match AssertUnwindSafe(async { self.reaction.react(incoming).await }).catch_unwind().await {
            Ok(reacted) => reacted.map(|()| Processed::Done).map_err(Fault::from),
            Err(_) => Err(Fault::Unknown("the reaction panicked".into())),
        }
    }
}

/// Did Momento refuse our key?
fn is_unauthenticated(fault: &Fault) -> bool {
    let (Fault::Failed(error) | Fault::Unknown(error)) = fault else { return false };
    momento::Error::within(&**error).is_some_and(momento::Error::is_unauthenticated)
}
