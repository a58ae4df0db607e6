//! An event has its effect once: under duplicates, failures, crashes, and when nobody knows.

use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use lambda_runtime::Context;
use momento_webhook::config::HandlerConfig;
use momento_webhook::event::Event;
use momento_webhook::handler::Handler;
use momento_webhook::local::{Config, Faults};
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

#[tokio::test]
async fn no_attempt_outlives_its_lease() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let config = HandlerConfig::from_lookup(&variables(&local.url, &[("CLAIM_LEASE_SECONDS", "1")])).unwrap();
    let handler = Handler::start(config, &aws(&local.url).await, Slow(Duration::from_secs(60))).await;
    let begun = std::time::Instant::now();
    assert_eq!(answer(&handler, &delivery(&comment("1", "x"))).await.status(), 503);
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

/// A handler whose Momento misbehaves on request, with a lease of two seconds.
async fn faulty() -> (Fixture, Faults) {
    let faults = Faults::default();
    let local = local(Config { seed: seed(), faults: faults.clone(), ..Config::default() }).await;
    let aws = aws(&local.url).await;
    (Fixture::on(local, &aws, &[("CLAIM_LEASE_SECONDS", "2")]).await, faults)
}

fn set(faults: &Faults, rule: &str) {
    faults.set([rule.parse().unwrap()]).unwrap();
}

#[tokio::test]
async fn a_failure_of_the_settling_leaves_one_entry() {
    let (fixture, faults) = faulty().await;
    let event = comment("1", "x");
    let (response, aftermath) =
        fixture.handler.invoke(&to_raw_value(&delivery(&event)).unwrap(), &Context::default()).await;
    assert_eq!(response.status_code, 200);
    set(&faults, "set-if=unavailable");
    aftermath.finish().await;
    faults.clear();
    deliver_until_done(&fixture, &event).await;
    assert_eq!(fixture.comments("1").await.len(), 1);
}

#[tokio::test]
async fn a_write_that_was_applied_without_an_answer_leaves_one_entry() {
    // Without an answer the write may come late, so nobody takes over before the lease has ended; after a broken connection
    // what will happen has happened.
    for (fault, at_once) in [("list-push-front=hang-answer*1", 503), ("list-push-front=drop-answer*1", 200)] {
        let (fixture, faults) = faulty().await;
        let event = comment("1", "x");
        set(&faults, fault);
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), 503, "{fault}");
        assert_eq!(fixture.comments("1").await.len(), 1, "{fault}: it was applied");
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), at_once, "{fault}");
        deliver_until_done(&fixture, &event).await;
        assert_eq!(fixture.comments("1").await.len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn a_broken_connection_costs_the_sender_nothing_where_a_call_may_be_sent_again() {
    for fault in ["get=drop*1", "set-if=drop*1", "set-if=drop-answer*1"] {
        let (fixture, faults) = faulty().await;
        set(&faults, fault);
        let event = comment("1", "x");
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200, "{fault}");
        assert_eq!(faults.active()[0].hits, 1, "{fault}");
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
        assert_eq!(fixture.comments("1").await.len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn a_stalled_momento_is_given_up_in_time_and_does_not_stop_the_next_event() {
    let (fixture, faults) = faulty().await;
    set(&faults, "momento=hang");
    let begun = std::time::Instant::now();
    assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 503);
    assert!(begun.elapsed() < Duration::from_millis(3_000), "{:?}", begun.elapsed());
    faults.clear();
    assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 200);
}

/// Passes connections on to `local`. Once told so, those that are there fall silent without being closed, as a NAT gateway
/// leaves what a frozen function had not used for long.
async fn falling_silent(target: &str) -> (String, tokio::sync::watch::Sender<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (silence, _) = tokio::sync::watch::channel(());
    let (silent, target) = (silence.clone(), target.trim_start_matches("http://").to_owned());
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let (mut silent, target) = (silent.subscribe(), target.clone());
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                    _ = silent.changed() => std::future::pending().await,
                }
            });
        }
    });
    (url, silence)
}

#[tokio::test]
async fn a_connection_that_fell_silent_costs_one_event_its_time() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let (url, silence) = falling_silent(&local.url).await;
    let handler = handler(&url, &aws(&local.url).await, &[]).await;
    let mut statuses = Vec::new();
    for number in 0..3 {
        if number == 1 {
            silence.send_replace(());
        }
        statuses.push(answer(&handler, &delivery(&comment("1", &number.to_string()))).await.status());
    }
    assert_eq!(statuses, [200, 503, 200]);
}

#[tokio::test]
async fn secrets_outlive_an_outage_of_secrets_manager() {
    for fault in ["secrets-manager=unavailable", "secrets-manager=hang"] {
        let faults = Faults::default();
        let local = local(Config { seed: seed(), faults: faults.clone(), ..Config::default() }).await;
        let aws = aws(&local.url).await;
        let fixture = Fixture::on(local, &aws, &[("SECRET_TTL_SECONDS", "1")]).await;
        set(&faults, fault);
        eventually(async || {
            assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 200, "{fault}");
            (faults.active()[0].hits > 0).then_some(()) // until the secrets have aged and their refresh has failed
        })
        .await;
        let begun = std::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 200, "{fault}");
        }
        assert!(begun.elapsed() < Duration::from_millis(2_000), "{fault}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_signature_that_cannot_be_judged_is_not_denied() {
    let (fixture, faults) = faulty().await;
    let body = String::from_utf8(comment("1", "x").to_body()).unwrap();
    let mut request = crate::fixture::unsigned(&body);
    let secret = momento_webhook::signature::Secret::new("perhaps a new version").unwrap();
    request["headers"]["momento-signature"] = momento_webhook::signature::sign(&secret, body.as_bytes()).into();
    set(&faults, "secrets-manager=unavailable");
    for _ in 0..3 {
        assert_eq!(fixture.answer(&request).await.status(), 503);
    }
}

struct Panicking;

impl Reaction for Panicking {
    #[allow(clippy::manual_async_fn, reason = "this panics before there is a future")]
    fn react(&self, incoming: Incoming<'_>) -> impl Future<Output = Result<(), Unprocessed>> + Send {
        let _: u64 = incoming.event.text.parse().expect("as applications do");
        async { Ok(()) }
    }
}

#[tokio::test]
async fn a_reaction_that_panics_does_not_take_the_event_with_it() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let config = HandlerConfig::from_lookup(&variables(&local.url, &[])).unwrap();
    let handler = Handler::start(config, &aws(&local.url).await, Panicking).await;
    let request = to_raw_value(&delivery(&comment("1", "x"))).unwrap();
    let (response, aftermath) = handler.invoke(&request, &Context::default()).await;
    assert_eq!(response.status_code, 503);
    aftermath.finish().await;
}

/// What the claims do not give: they live in a cache.
#[tokio::test]
async fn a_cache_that_forgets_its_claims_lets_an_event_happen_again() {
    let (fixture, faults) = faulty().await;
    let event = comment("1", "x");
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
    assert_eq!(faults.forget(crate::fixture::CACHE, b"claim/", 100).unwrap(), 1);
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
    assert_eq!(fixture.comments("1").await.len(), 2);
}

#[tokio::test]
async fn an_entry_is_found_beneath_many_newer_ones() {
    let fixture = Fixture::new(&[("CLAIM_LEASE_SECONDS", "1"), ("COMMENTS_KEPT", "1000")]).await;
    let event = comment("1", "x");
    let (_, aftermath) = fixture.handler.invoke(&to_raw_value(&delivery(&event)).unwrap(), &Context::default()).await;
    drop(aftermath); // as though the process had ended here
    for _ in 0..150 {
        fixture.account.list_push_front(crate::fixture::CACHE, "1", r#"{"id":"another"}"#).await.unwrap();
    }
    deliver_until_done(&fixture, &event).await;
    let id = event.id().to_string();
    let times = fixture.comments("1").await.iter().filter(|entry| entry["id"] == *id).count();
    assert_eq!(times, 1);
}
