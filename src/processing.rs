//! From a genuine event to its effect: read the user, react.

mod users;

use std::time::Duration;

use crate::config::ProcessingConfig;
use crate::event::{Event, EventId};
use crate::momento;
use crate::reaction::{Incoming, Reaction, Unprocessed};
use crate::secrets::{ApiKey, SecretsManager};
use users::Users;

/// How much of the sender's patience one call to Momento may take.
const CALL: Duration = Duration::from_millis(1_000);

/// What reacts to events, whichever way they came.
pub(crate) struct Processor<R> {
    api_key: ApiKey,
    users: Users,
    reaction: R,
}

/// The event was not processed in the time that there was. What the reaction did by then is not known.
#[derive(Debug, thiserror::Error)]
#[error("not processed in time")]
struct OutOfTime;

impl<R: Reaction> Processor<R> {
    /// Fetches nothing yet.
    pub(crate) fn new(config: ProcessingConfig, manager: SecretsManager, reaction: R) -> Self {
        let api_key = ApiKey::new(manager, config.api_key_secret, config.momento, CALL, &config.secrets);
        Self { api_key, users: Users::new(config.users), reaction }
    }

    /// Fetches the API key, so that the first event need not wait for it. A failure is logged, and tried again by then.
    pub(crate) async fn warm(&self, now: u64) {
        let _ = self.api_key.momento(now).await;
    }

    /// Processes one event within `budget`. `now` in epoch milliseconds.
    pub(crate) async fn process(
        &self,
        event: &Event,
        id: EventId,
        budget: Duration,
        now: u64,
    ) -> Result<(), Unprocessed> {
        let processed = tokio::time::timeout(budget, self.react(event, id, now)).await;
        let processed = processed.unwrap_or_else(|_| Err(Unprocessed::Failed(OutOfTime.into())));
        processed.inspect_err(|unprocessed| {
            if is_unauthenticated(unprocessed) {
                self.api_key.doubt();
            }
        })
    }

    async fn react(&self, event: &Event, id: EventId, now: u64) -> Result<(), Unprocessed> {
        let momento = self.api_key.momento(now).await.map_err(|error| Unprocessed::Failed(error.into()))?;
        let user = self.users.read(&momento, event).await?;
        self.reaction.react(Incoming::new(event, id, user.as_ref(), &momento)).await
    }
}

/// Did Momento refuse our key?
fn is_unauthenticated(unprocessed: &Unprocessed) -> bool {
    let Unprocessed::Failed(error) = unprocessed else { return false };
    error.downcast_ref().is_some_and(momento::Error::is_unauthenticated)
}
