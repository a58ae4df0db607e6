//! An event has its effect once: under duplicates, failures, crashes, and when nobody knows.

use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use lambda_runtime::Context;
use momento_webhook::config::HandlerConfig;
use momento_webhook::event::Event;
use momento_webhook::handler::Handler;
use momento_webhook::local::Config;
use momento_webhook::reaction::{Incoming, Reaction, Unprocessed};
use serde_json::value::to_raw_value;

use crate::fixture::{Fixture, account, answer, aws, comment, comments, delivery, handler, now, seed, variables};
use crate::stack::{eventually, local};

/// Delivers an event until it is answered 200, as a sender does that retries.
async fn deliver_until_done(fixture: &Fixture, event: &Event) {
    eventually(async || {
        let again = Event { publish_timestamp: now(), ..event.clone() };
        (fixture.answer(&delivery(&again)).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn eight_identical_events_at_once_have_one_effect() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let aws = aws(&local.url).await;
    let handlers = join_all((0..8).map(|_| handler(&local.url, &aws, &[]))).await;
    for round in 0..5 {
        let request = delivery(&comment("1", &format!("round {round}")));
        let answers = join_all(handlers.iter().map(|handler| answer(handler, &request))).await;
        let statuses: Vec<_> = answers.iter().map(crate::fixture::Answer::status).collect();
        assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
        assert_eq!(comments(&account(&local.url), "1").await.len(), round + 1);
        assert_eq!(answer(&handlers[0], &request).await.status(), 200); // done, whoever asks
    }
}

#[tokio::test]
async fn a_crash_between_the_effect_and_the_settling_leaves_one_entry() {
    let fixture = Fixture::new(&[("CLAIM_LEASE_SECONDS", "1")]).await;
    let event = comment("1", "x");
    let (response, aftermath) =
        fixture.handler.invoke(&to_raw_value(&delivery(&event)).unwrap(), &Context::default()).await;
    assert_eq!(response.status_code, 200);
    drop(aftermath); // as though the process had ended here
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 503); // it may still be under way
    deliver_until_done(&fixture, &event).await;
    assert_eq!(fixture.comments("1").await.len(), 1);
}

#[tokio::test]
async fn without_its_claims_an_event_is_not_processed() {
    let fixture = Fixture::new(&[("CLAIM_CACHE", "claims")]).await;
    let event = comment("1", "x");
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 503);
    assert_eq!(fixture.comments("1").await.len(), 0);
    fixture.account.create_cache("claims").await.unwrap();
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
    assert_eq!(fixture.comments("1").await.len(), 1);
}

#[tokio::test]
async fn a_claim_that_cannot_be_read_is_an_error_and_no_effect() {
    let fixture = Fixture::new(&[]).await;
    let event = comment("1", "x");
    let key = format!("claim/{}", event.id());
    fixture.account.set(crate::fixture::CACHE, key, "somebody else's").await.unwrap();
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 503);
    assert_eq!(fixture.comments("1").await.len(), 0);
}

/// Fails until told otherwise, and notes whether it takes over.
struct Noting {
    took_over: Mutex<Vec<bool>>,
}

impl Reaction for &'static Noting {
    async fn react(&self, incoming: Incoming<'_>) -> Result<(), Unprocessed> {
        let mut took_over = self.took_over.lock().unwrap();
        took_over.push(incoming.takes_over);
        if took_over.len() < 3 { Err(Unprocessed::Failed("not yet".into())) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_reaction_is_told_that_it_takes_over() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let noting: &'static Noting = Box::leak(Box::new(Noting { took_over: Mutex::default() }));
    let config = HandlerConfig::from_lookup(&variables(&local.url, &[])).unwrap();
    let handler = Handler::start(config, &aws(&local.url).await, noting).await;
    let request = to_raw_value(&delivery(&comment("1", "x"))).unwrap();
    let mut statuses = Vec::new();
    for number in 0..4 {
        let mut context = Context::default();
        context.request_id = number.to_string();
        let (response, aftermath) = handler.invoke(&request, &context).await;
        aftermath.finish().await;
        statuses.push(response.status_code);
    }
    assert_eq!(statuses, [503, 503, 200, 200]);
    assert_eq!(*noting.took_over.lock().unwrap(), [false, true, true]); // and the fourth was a duplicate
}

/// Takes as long as it is told to.
struct Slow(Duration);

impl Reaction for Slow {
    async fn react(&self, _: Incoming<'_>) -> Result<(), Unprocessed> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}

#[tokio::test]
async fn what_takes_too_long_is_given_up_while_the_sender_still_waits() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let config = HandlerConfig::from_lookup(&variables(&local.url, &[])).unwrap();
    let handler = Handler::start(config, &aws(&local.url).await, Slow(Duration::from_secs(60))).await;
    let mut request = delivery(&comment("1", "x"));
    request["requestContext"]["timeEpoch"] = (now() - 2_000).into(); // a cold start has eaten into the sender's patience
    let begun = std::time::Instant::now();
    let (response, aftermath) = handler.invoke(&to_raw_value(&request).unwrap(), &Context::default()).await;
    assert_eq!(response.status_code, 503);
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    aftermath.finish().await;
}
