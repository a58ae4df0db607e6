//! The parking queue: where the handler puts a genuine event that it could not process, so that it is not lost when the
//! sender does not try again. `redrive` takes it from there.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::aws::reason;
use crate::signature::Verified;

/// SQS delays no message by more than 15 minutes.
const MAX_DELAY: Duration = Duration::from_secs(900);

/// An application's error may be of any length, and what SQS does not take must not keep the event from being parked.
const MAX_REASON: usize = 500;

/// A parked event, as it lies in the queue.
///
/// Its signature is not kept, and not checked again: only the handler's role may send to the queue, and the handler parks
/// nothing that it has not verified. Whoever may write to the queue may forge events.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// The event's body, byte for byte, in base64: SQS does not take every character.
    body: String,
    /// Why it was not processed, for whoever looks into the queue.
    reason: String,
    /// When the handler received and parked it, in epoch milliseconds.
    received_at: u64,
    parked_at: u64,
}

impl Parked {
    /// A parked event, from the record in the queue; `None` where it is none.
    pub fn from_json(record: &str) -> Option<(Self, Vec<u8>)> {
        let parked: Self = serde_json::from_str(record).ok()?;
        let body = STANDARD.decode(&parked.body).ok()?;
        Some((parked, body))
    }
}

/// The parking queue could not take, move or postpone a record.
#[derive(Debug, thiserror::Error)]
#[error("SQS {call} failed: {reason}")]
pub struct ParkError {
    call: &'static str,
    reason: String,
}

/// A queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    config: SdkConfig,
    /// Made with the first record: that takes a fifth of what a start does, and few functions ever park an event.
    client: OnceLock<Client>,
    url: String,
}

impl Queue {
    /// The queue at `url`. Calls nothing.
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { config: config.clone(), client: OnceLock::new(), url: url.into() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| Client::new(&self.config))
    }

    /// Parks an event, to be taken up after `delay`.
    ///
    /// # Errors
    /// [`ParkError`].
    pub async fn park(
        &self,
        event: &Verified<'_>,
        reason: &str,
        received_at: u64,
        parked_at: u64,
        delay: Duration,
    ) -> Result<(), ParkError> {
        let parked = Parked { body: STANDARD.encode(event.body()), reason: abridged(reason), received_at, parked_at };
        let record = serde_json::to_string(&parked)
            .map_err(|_| ParkError { call: "SendMessage", reason: "the record cannot be written".into() })?;
        self.send(record, delay).await
    }

    /// Sends a record as it is.
    ///
    /// # Errors
    /// [`ParkError`].
    pub async fn send(&self, record: String, delay: Duration) -> Result<(), ParkError> {
        let delay = seconds(delay.min(MAX_DELAY));
        let request = self.client().send_message().queue_url(&self.url).message_body(record).delay_seconds(delay);
        Box::pin(request.send())
            .await
            .map(drop)
            .map_err(|error| ParkError { call: "SendMessage", reason: reason(&error) })
    }

    /// Lets a record that is being worked on come back after `delay`, instead of when its visibility ends.
    ///
    /// # Errors
    /// [`ParkError`].
    pub async fn postpone(&self, receipt: &str, delay: Duration) -> Result<(), ParkError> {
        let request = self.client().change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        let changed = request.visibility_timeout(seconds(delay)).send().await;
        changed.map(drop).map_err(|error| ParkError { call: "ChangeMessageVisibility", reason: reason(&error) })
    }
}

fn abridged(reason: &str) -> String {
    reason.chars().filter(|c| !matches!(c, '\u{fffe}' | '\u{ffff}')).take(MAX_REASON).collect()
}

/// Whole seconds, rounded up: a record that comes back too early finds its claim still held.
fn seconds(delay: Duration) -> i32 {
    i32::try_from(delay.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_that_sqs_takes() {
        assert_eq!(abridged("no \u{ffff}answer"), "no answer");
        assert_eq!(abridged(&"é".repeat(1_000_000)).chars().count(), MAX_REASON);
    }
}
