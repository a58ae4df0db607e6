//! Redrive: takes parked events up again, until they are processed or can never be.
//!
//! A Lambda function on the parking queue. Freshness is not checked, since what is parked has been fresh; claims are, as
//! always. A record whose fault may pass comes back after a while that doubles; one that can never be processed goes to
//! the dead-letter queue at once, instead of being tried for hours.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::{LambdaEvent, service_fn};

use crate::clock;
use crate::config::RedriveConfig;
use crate::event::{self, Malformed};
use crate::metrics::{Metric, Metrics};
use crate::park::{Parked, Queue};
use crate::processing::{Fault, Given, Processed, Processor};
use crate::reaction::Reaction;
use crate::secrets::SecretsManager;
use crate::signature::Verified;

/// How long the processing of one record may take.
const BUDGET: Duration = Duration::from_millis(4_000);
/// A record is not begun with less of the function's minute left: its budget, the settling and the calls to SQS.
const ENOUGH_MS: u64 = 9_000;
/// The pause after the first attempt; it doubles with each further one, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// With it, 30 attempts last for more than six hours: the outage that is survived.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

struct Redrive<R> {
    processor: Processor<R>,
    queue: Queue,
    dead_letters: Queue,
    metrics: Metrics,
}

/// Runs on the Lambda runtime until the environment is shut down.
///
/// # Errors
/// Whatever the runtime client cannot recover from.
pub async fn run(config: RedriveConfig, reaction: impl Reaction) -> Result<(), lambda_runtime::Error> {
    let aws = crate::aws::lambda(&crate::config::env, config.processing.momento.certificates.as_deref());
    let redrive = Arc::new(Redrive {
        processor: Processor::new(config.processing, SecretsManager::new(&aws), reaction),
        queue: Queue::new(&aws, config.queue_url),
        dead_letters: Queue::new(&aws, config.dead_letter_url),
        metrics: Metrics::install("redrive", config.metrics),
    });
    redrive.processor.warm(clock::now()).await;
    let service = service_fn(|invocation: LambdaEvent<SqsEvent>| {
        let redrive = Arc::clone(&redrive);
        // In a box: else the runtime's types nest this one too deeply for the compiler.
        Box::pin(async move { Ok::<_, std::convert::Infallible>(redrive.batch(invocation).await) })
    });
    lambda_runtime::run(service).await
}

/// Why a record leaves the queue for the dead letters.
enum Dead {
    NotParked,
    Malformed(Malformed),
    Rejected,
}

impl<R: Reaction> Redrive<R> {
    /// Takes up the records of a batch, one after the other: Momento's limits are on calls a second, and nobody waits.
    async fn batch(&self, invocation: LambdaEvent<SqsEvent>) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        let deadline = clock::plausible_deadline(invocation.context.deadline, clock::now());
        for (number, record) in invocation.payload.records.iter().enumerate() {
            let owner = format!("{}/{number}", invocation.context.request_id);
            let in_time = clock::now() + ENOUGH_MS < deadline;
            if !in_time || !self.record(record, &owner).await {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = record.message_id.clone().unwrap_or_default();
                response.batch_item_failures.push(failure);
            }
        }
        response
    }

    /// Takes up one record; `true` when it may leave the queue.
    async fn record(&self, record: &SqsMessage, owner: &str) -> bool {
        let Some((_, body)) = record.body.as_deref().and_then(Parked::from_json) else {
            return self.bury(record, &Dead::NotParked).await;
        };
        let event = match event::parse(&Verified::from_parking_queue(&body)) {
            Ok(event) => event,
            Err(fault) => return self.bury(record, &Dead::Malformed(fault)).await,
        };
        let (id, now) = (event.id(), clock::now());
        let given = Given { id, owner, now, attempted: true }; // by whoever parked it, even where its claim has ended
        let attempt = self.processor.process(&event, given, BUDGET).await;
        if let Some(settlement) = attempt.settlement {
            settlement.settle().await;
        }
        let outcome = match &attempt.outcome {
            Ok(processed) => format!("{processed:?}"),
            Err(fault) => fault.to_string(),
        };
        tracing::info!(event_id = %id, outcome, "parked event taken up");
        match attempt.outcome {
            Ok(processed) => {
                match processed {
                    Processed::Done => {
                        let latency = clock::now().saturating_sub(event.event_timestamp);
                        self.metrics.event(Metric::Accepted, Some(latency));
                    }
                    Processed::Duplicate => self.metrics.event(Metric::Duplicate, None),
                }
                true
            }
            Err(Fault::Rejected(_)) => self.bury(record, &Dead::Rejected).await,
            Err(Fault::UnderWay(until)) => {
                self.postpone(record, Duration::from_millis(until.saturating_sub(now))).await;
                false
            }
            Err(fault) => {
                self.metrics.event(Metric::Failed, None);
                let least = if matches!(fault, Fault::Unknown(_)) { self.processor.lease() } else { Duration::ZERO };
                self.postpone(record, least).await;
                false
            }
        }
    }

    /// Moves a record to the dead letters; `false` when it could not be, and stays where it is.
    async fn bury(&self, record: &SqsMessage, dead: &Dead) -> bool {
        let (metric, reason) = match dead {
            Dead::NotParked => (Metric::Malformed, "not a parked event".to_owned()),
            Dead::Malformed(fault) => (Metric::Malformed, fault.to_string()),
            Dead::Rejected => (Metric::Rejected, "the application can never accept it".to_owned()),
        };
        let body = record.body.clone().unwrap_or_default();
        match self.dead_letters.send(body, Duration::ZERO).await {
            Ok(()) => tracing::error!(message_id = record.message_id, reason, "moved to the dead letters"),
            Err(error) => {
                tracing::error!(%error, message_id = record.message_id, "not moved to the dead letters");
                self.postpone(record, Duration::ZERO).await;
                return false;
            }
        }
        self.metrics.event(metric, None);
        true
    }

    /// Lets a record come back when its fault may have passed, and not before `least`.
    async fn postpone(&self, record: &SqsMessage, least: Duration) {
        let Some(receipt) = &record.receipt_handle else { return };
        let delay = pause(receives(record)).max(least);
        if let Err(error) = self.queue.postpone(receipt, delay).await {
            tracing::warn!(%error, "comes back when its visibility ends"); // sooner or later, not lost
        }
    }
}

fn receives(record: &SqsMessage) -> u32 {
    record.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn pause(receives: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << receives.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_attempts_outlast_six_hours() {
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(2), 2 * FIRST_PAUSE);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
        let total: Duration = (1..30).map(pause).sum();
        assert!(total > Duration::from_secs(6 * 60 * 60), "{total:?}");
    }
}
