use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use axum::http::{Method, StatusCode};
use momento::{MomentoErrorCode, cache::ListFetchResponse};
use momento_protos::cache_client::{
    ECacheResult, GetRequest, SetRequest,
    pubsub::{
        Discontinuity, SubscriptionItem, SubscriptionRequest, pubsub_client::PubsubClient, subscription_item::Kind,
    },
    scs_client::ScsClient,
};
use momento_webhook::local::{Code, Config, Fault, FaultError, Faults, Rule, TopicFault};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Request, Status, Streaming, transport::Channel};

use super::{CACHE, KEY, caches, config, mint, refusal, secrets, topics};
use crate::stack::{self, Local};

const TEN_SECONDS: Duration = Duration::from_secs(10);

async fn start(rules: &[&str]) -> (Local, Faults) {
    let faults = Faults::default();
    set(&faults, rules);
    (stack::local(Config { faults: faults.clone(), ..config() }).await, faults)
}

fn set(faults: &Faults, rules: &[&str]) {
    faults.set(rules.iter().map(|rule| rule.parse().unwrap())).unwrap();
}

fn hits(faults: &Faults) -> Vec<u64> {
    faults.active().iter().map(|active| active.hits).collect()
}

async fn raw(local: &Local) -> ScsClient<Channel> {
    ScsClient::connect(local.url.clone()).await.unwrap()
}

fn request<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [("cache", CACHE)].iter().chain(metadata) {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

fn get() -> GetRequest {
    GetRequest { cache_key: b"k".into() }
}

fn set_k() -> SetRequest {
    SetRequest { cache_key: b"k".into(), cache_body: b"v".into(), ttl_milliseconds: 60_000 }
}

async fn has_k(local: &Local) -> bool {
    let response = raw(local).await.get(request(get(), &[])).await.unwrap();
    response.into_inner().result() == ECacheResult::Hit
}

async fn http(local: &Local, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
    let url = format!("{}{path}", local.url);
    let response = reqwest::Client::new().request(method, url).body(body.to_owned()).send().await.unwrap();
    (response.status(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn codes<T>(results: &[Result<T, Status>]) -> Vec<tonic::Code> {
    results.iter().map(|result| result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok)).collect()
}

#[tokio::test]
async fn a_call_asks_for_its_error_as_the_sdks_suites_do() {
    let (local, _) = start(&[]).await;
    let mut client = raw(&local).await;
    let error = [("return-error", "unavailable"), ("error-rpcs", "get topic-publish"), ("error-count", "2")];
    let metadata = [&error[..], &[("request-id", "one")]].concat();
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(client.get(request(get(), &metadata)).await);
    }
    use tonic::Code::{Ok, Unavailable};
    assert_eq!(codes(&results), [Unavailable, Unavailable, Ok, Ok]);
    client.set(request(set_k(), &metadata)).await.unwrap();
    client.get(request(get(), &[])).await.unwrap();
    let metadata = [&error[..], &[("request-id", "another")]].concat();
    assert_eq!(client.get(request(get(), &metadata)).await.unwrap_err().code(), Unavailable);
    let wrong = [("return-error", "gone"), ("error-rpcs", "get")];
    let status = client.get(request(get(), &wrong)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("deadline-exceeded"), "{status}");
}

#[tokio::test]
async fn a_call_asks_for_its_delay_as_the_sdks_suites_do() {
    let (local, _) = start(&[]).await;
    let mut client = raw(&local).await;
    let delay = |ms| [("delay-ms", ms), ("delay-rpcs", "get"), ("delay-count", "1"), ("request-id", "one")];
    let started = Instant::now();
    client.get(request(get(), &delay("50"))).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(50));
    let second = client.get(request(get(), &delay("600000")));
    timeout(TEN_SECONDS, second).await.expect("the count was 1").unwrap();
}

#[tokio::test]
async fn a_stream_fails_behind_as_many_items_as_its_metadata_says() {
    let faults = Faults::default();
    let local = stack::local(Config { heartbeat: Duration::from_millis(10), faults, ..config() }).await;
    let limit = [("stream-error", "not-found"), ("stream-error-message-limit", "3")];
    let metadata = [&limit[..], &[("stream-error-rpcs", "topic-subscribe")]].concat();
    for _ in 0..2 {
        let mut stream = subscribe(&local, &metadata, 0, 0).await;
        for _ in 0..3 {
            assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
        }
        assert_eq!(next(&mut stream).await.unwrap_err().code(), tonic::Code::NotFound);
    }
}

#[tokio::test]
async fn rules_are_switched_over_http() {
    let (local, faults) = start(&[]).await;
    let client = caches(&local, KEY);
    let rules = json!([
        { "rpcs": ["get", "set-if"], "fault": { "status": "unavailable" }, "count": 2 },
        { "rpcs": ["delete"], "fault": "drop", "for-ms": 60_000 },
    ]);
    let (status, shown) = http(&local, Method::PUT, "/faults", &rules.to_string()).await;
    assert_eq!((status, &shown[0]["hits"]), (StatusCode::OK, &json!(0)));
    for _ in 0..2 {
        assert_eq!(refusal(client.get(CACHE, "k").await), MomentoErrorCode::ServerUnavailable);
    }
    client.get(CACHE, "k").await.unwrap();
    let (_, shown) = http(&local, Method::GET, "/faults", "").await;
    let mut expected = rules;
    (expected[0]["hits"], expected[1]["hits"]) = (json!(2), json!(0));
    assert_eq!(shown, expected);
    assert_eq!(hits(&faults), [2, 0]);

    assert_eq!(http(&local, Method::DELETE, "/faults", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(http(&local, Method::GET, "/faults", "").await.1, json!([]));
    client.delete(CACHE, "k").await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_over_http_is_named_with_what_is_known_and_changes_nothing() {
    let (local, faults) = start(&["get=drop"]).await;
    for (rules, known) in [
        (r#"[{"rpcs":["gett"],"fault":"drop"}]"#, "set-if-not-exists"),
        (r#"[{"rpcs":["get"],"fault":"dorp"}]"#, "`hang-answer`"),
        (r#"[{"rpcs":["get"],"fault":{"status":"gone"}}]"#, "`deadline-exceeded`"),
        (r#"[{"rpcs":["get"],"fault":"drop","often":3}]"#, "`count`"),
        (r#"[{"rpcs":["get"],"fault":"drop","count":0}]"#, "not 0"),
        (r#"[{"rpcs":[],"fault":"drop"}]"#, "at least one"),
        ("{}", "sequence"),
    ] {
        let (status, answer) = http(&local, Method::PUT, "/faults", rules).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{rules}");
        assert!(answer["error"].as_str().unwrap().contains(known), "{rules}: {answer}");
    }
    let (status, answer) = http(&local, Method::POST, "/faults/forget", r#"{"cache":"unknown"}"#).await;
    assert_eq!((status, answer["error"].as_str().unwrap().contains("unknown")), (StatusCode::NOT_FOUND, true));
    let nothing = r#"{"cache":"c","topic":"t","do":"nothing"}"#;
    let (status, answer) = http(&local, Method::POST, "/faults/topics", nothing).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().unwrap().contains("`reset-page`"), "{answer}");
    assert_eq!(faults.active().len(), 1);
}

#[tokio::test]
async fn another_sites_page_switches_nothing() {
    let (local, faults) = start(&["get=drop"]).await;
    for (name, value) in [("origin", "https://evil.test"), ("origin", "null"), ("host", "evil.test")] {
        for (method, path) in [(Method::DELETE, "/faults"), (Method::POST, "/faults/forget"), (Method::GET, "/faults")]
        {
            let url = format!("{}{path}", local.url);
            let asked = reqwest::Client::new().request(method, url).header(name, value).body(r#"{"cache":"c"}"#);
            assert_eq!(asked.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{name}: {value}, {path}");
        }
    }
    assert_eq!(faults.active().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_has_its_effect_and_the_next_call_works() {
    let (local, faults) = start(&["list-push-front=drop-answer*1"]).await;
    let client = caches(&local, KEY);
    client.get(CACHE, "k").await.unwrap();
    client.list_push_front(CACHE, "l", "one").await.unwrap_err();
    client.list_push_front(CACHE, "l", "two").await.unwrap();
    let ListFetchResponse::Hit { values } = client.list_fetch(CACHE, "l").await.unwrap() else { panic!("no list") };
    let values: Vec<String> = values.try_into().unwrap();
    assert_eq!(values, ["two", "one"]);
    assert_eq!(hits(&faults), [1]);
}

#[tokio::test]
async fn a_dropped_call_has_no_effect_and_the_next_one_works() {
    let (local, faults) = start(&["set=drop*2"]).await;
    let client = caches(&local, KEY);
    for _ in 0..2 {
        client.set(CACHE, "k", "v").await.unwrap_err();
        assert!(!has_k(&local).await);
    }
    client.set(CACHE, "k", "v").await.unwrap();
    assert!(has_k(&local).await);
    assert_eq!(hits(&faults), [2]);
}

#[tokio::test]
async fn a_drop_closes_the_connection_with_everything_on_it() {
    let (local, _) = start(&["get=drop*1"]).await;
    let channel = Channel::from_shared(local.url.clone()).unwrap().connect().await.unwrap();
    let asked = SubscriptionRequest { cache_name: CACHE.into(), topic: "t".into(), ..Default::default() };
    let mut stream = PubsubClient::new(channel.clone()).subscribe(asked).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
    let mut elsewhere = subscribe(&local, &[], 0, 0).await;
    assert_eq!(next(&mut elsewhere).await.unwrap(), Item::Heartbeat);

    let mut client = ScsClient::new(channel);
    client.get(request(get(), &[])).await.unwrap_err();
    next(&mut stream).await.unwrap_err();
    client.get(request(get(), &[])).await.unwrap();
    topics(&local, KEY).publish(CACHE, "t", "text").await.unwrap();
    assert_eq!(next(&mut elsewhere).await.unwrap(), Item::Message(1), "other connections are left alone");
}

#[tokio::test]
async fn a_drop_sends_nothing_over_http_1_either() {
    let (local, _) = start(&["get-secret-value=drop-answer"]).await;
    let mut connection = TcpStream::connect(local.url.strip_prefix("http://").unwrap()).await.unwrap();
    let asked = "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: secretsmanager.GetSecretValue\r\n\
        content-length: 30\r\n\r\n{\"SecretId\":\"momento-api-key\"}";
    connection.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(TEN_SECONDS, connection.read_to_end(&mut answer)).await.expect("it stays open"); // or a reset
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_call_waits_before_its_effect_or_after_it() {
    for (rule, is_served) in
        [("set=hang", false), ("set=delay:600s", false), ("set=hang-answer", true), ("set=delay-answer:600s", true)]
    {
        let (local, faults) = start(&[rule]).await;
        let mut client = raw(&local).await;
        let call = tokio::spawn(async move { client.set(request(set_k(), &[])).await });
        stack::eventually(async || (hits(&faults) == [1]).then_some(())).await;
        if is_served {
            stack::eventually(async || has_k(&local).await.then_some(())).await;
        }
        assert!(!call.is_finished());
        call.abort(); // as a client does that has waited long enough
        assert_eq!(has_k(&local).await, is_served, "{rule}");
    }
}

#[tokio::test]
async fn stopping_does_not_wait_for_what_hangs() {
    let (local, faults) = start(&["set=hang"]).await;
    let mut client = raw(&local).await;
    let call = tokio::spawn(async move { client.set(request(set_k(), &[])).await });
    stack::eventually(async || (hits(&faults) == [1]).then_some(())).await;
    let stopping = timeout(Duration::from_millis(1_500), local.stop()); // less than the server's own deadline
    stopping.await.expect("it waits").unwrap();
    call.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_delayed_call_is_answered_in_the_end() {
    for rule in ["set=delay:50ms", "set=delay-answer:50ms"] {
        let (local, _) = start(&[rule]).await;
        let started = Instant::now();
        caches(&local, KEY).set(CACHE, "k", "v").await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(50), "{rule}");
        assert!(has_k(&local).await, "{rule}");
    }
}

#[tokio::test]
async fn a_cache_forgets_when_a_call_meets_the_rule() {
    let (local, _) = start(&["get=forget*1"]).await;
    let client = caches(&local, KEY);
    client.set(CACHE, "k", "v").await.unwrap();
    assert!(!has_k(&local).await);
    client.set(CACHE, "k", "v").await.unwrap();
    assert!(has_k(&local).await);
}

#[tokio::test]
async fn a_cache_forgets_a_share_of_what_starts_with_a_prefix() {
    let (local, faults) = start(&[]).await;
    let client = caches(&local, KEY);
    for key in ["event/1", "event/2", "event/3", "k"] {
        client.set(CACHE, key, "v").await.unwrap();
    }
    let half = json!({ "cache": CACHE, "prefix": "event/", "percent": 50 }).to_string();
    assert_eq!(http(&local, Method::POST, "/faults/forget", &half).await.1, json!({ "forgotten": 2 }));
    assert_eq!(faults.forget(CACHE, b"event/", 100), Ok(1));
    assert_eq!(faults.forget(CACHE, b"event/", 100), Ok(0));
    assert!(has_k(&local).await);
    assert_eq!(http(&local, Method::POST, "/faults/forget", &json!({ "cache": CACHE }).to_string()).await.0, 200);
    assert!(!has_k(&local).await);
    assert_eq!(faults.forget(CACHE, b"", 0), Err(FaultError::Share));
    assert_eq!(faults.forget("unknown", b"", 1), Err(FaultError::NoSuchCache("unknown".into())));
}

#[tokio::test]
async fn secrets_manager_is_down() {
    let (local, faults) = start(&["secrets-manager=unavailable*1"]).await;
    let client = secrets::client(&local);
    let get = async || client.get_secret_value().secret_id("momento-api-key").send().await;
    let error = get().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 500);
    assert!(error.as_service_error().unwrap().is_internal_service_error());
    get().await.unwrap();

    set(&faults, &["get-secret-value=resource-exhausted*1", "get-secret-value=drop*1", "momento=drop"]);
    assert_eq!(get().await.unwrap_err().code(), Some("ThrottlingException"));
    assert!(get().await.unwrap_err().raw_response().is_none());
    get().await.unwrap();
    assert_eq!(hits(&faults), [1, 1, 0]);
}

#[tokio::test]
async fn a_fault_lets_nobody_in_and_is_not_met_by_who_stays_out() {
    let (local, faults) = start(&["all=drop-answer"]).await;
    let wrong = [("authorization", "not-the-key"), ("return-error", "internal"), ("error-rpcs", "set")];
    let status = raw(&local).await.set(request(set_k(), &wrong)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert_eq!(hits(&faults), [0]);
    faults.clear();
    assert!(!has_k(&local).await);

    let read_only = momento::auth::PermissionScopes::cache_read_only(momento::auth::CacheSelector::AllCaches);
    let token = mint(&local, read_only, "taylor", momento::auth::ExpiresIn::minutes(1)).await.unwrap();
    set(&faults, &["set=drop-answer*1", "set=delay:1ms"]);
    for _ in 0..2 {
        raw(&local).await.set(request(set_k(), &[("authorization", &token)])).await.unwrap_err();
    }
    assert_eq!(hits(&faults), [1, 1]);
    faults.clear();
    assert!(!has_k(&local).await);
}

#[derive(Debug, PartialEq, Eq)]
enum Item {
    Heartbeat,
    Message(u64),
    Gap { last: u64, new: u64, page: u64 },
}

async fn subscribe(
    local: &Local,
    metadata: &[(&'static str, &str)],
    resume_at_topic_sequence_number: u64,
    sequence_page: u64,
) -> Streaming<SubscriptionItem> {
    let asked = SubscriptionRequest {
        cache_name: CACHE.into(),
        topic: "t".into(),
        resume_at_topic_sequence_number,
        sequence_page,
    };
    let mut client = PubsubClient::connect(local.url.clone()).await.unwrap();
    client.subscribe(request(asked, metadata)).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<SubscriptionItem>) -> Result<Item, Status> {
    let item = timeout(TEN_SECONDS, stream.message()).await.expect("nothing comes")?;
    Ok(match item.unwrap().kind.unwrap() {
        Kind::Heartbeat(_) => Item::Heartbeat,
        Kind::Item(item) => Item::Message(item.topic_sequence_number),
        Kind::Discontinuity(Discontinuity { last_topic_sequence, new_topic_sequence, new_sequence_page }) => {
            Item::Gap { last: last_topic_sequence, new: new_topic_sequence, page: new_sequence_page }
        }
    })
}

#[tokio::test]
async fn a_topic_skips_a_number_and_then_starts_a_new_page() {
    let (local, faults) = start(&[]).await;
    assert_eq!(faults.topic(CACHE, "t", TopicFault::Stall), Err(FaultError::NoSuchTopic(format!("{CACHE}/t"))));
    let publisher = topics(&local, KEY);
    let mut stream = subscribe(&local, &[], 0, 0).await;
    assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
    publisher.publish(CACHE, "t", "one").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(1));

    assert_eq!(faults.topic(CACHE, "t", TopicFault::Discontinuity), Ok(1));
    let Item::Gap { last: 1, new: 3, page } = next(&mut stream).await.unwrap() else { panic!("no gap") };
    publisher.publish(CACHE, "t", "three").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(3));

    let asked = json!({ "cache": CACHE, "topic": "t", "do": "reset-page" }).to_string();
    let (status, answer) = http(&local, Method::POST, "/faults/topics", &asked).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "subscriptions": 1 })));
    let Item::Gap { last: 3, new: 1, page: larger } = next(&mut stream).await.unwrap() else { panic!("no gap") };
    assert!(larger > page);
    publisher.publish(CACHE, "t", "one").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(1));
}

#[tokio::test]
async fn a_stalled_subscription_is_silent_until_it_is_made_anew() {
    let faults = Faults::default();
    let heartbeat = Duration::from_millis(10);
    let local = stack::local(Config { heartbeat, faults: faults.clone(), ..config() }).await;
    let mut stalled = subscribe(&local, &[], 0, 0).await;
    assert_eq!(next(&mut stalled).await.unwrap(), Item::Heartbeat);
    faults.topic(CACHE, "t", TopicFault::Stall).unwrap();
    topics(&local, KEY).publish(CACHE, "t", "one").await.unwrap();
    let mut fresh = subscribe(&local, &[], 1, 0).await;
    assert_eq!(next(&mut fresh).await.unwrap(), Item::Heartbeat);
    assert_eq!(next(&mut fresh).await.unwrap(), Item::Message(1));
    // What was sent before the stall may still be on its way; nothing published since is.
    let silence = async {
        while timeout(20 * heartbeat, stalled.message()).await.is_ok_and(|item| {
            assert!(matches!(item.unwrap().unwrap().kind, Some(Kind::Heartbeat(_))));
            true
        }) {}
    };
    timeout(TEN_SECONDS, silence).await.expect("it goes on");
}

#[tokio::test]
async fn open_subscriptions_fail_and_resume_where_they_were() {
    let (local, faults) = start(&[]).await;
    let publisher = topics(&local, KEY);
    let mut stream = subscribe(&local, &[], 0, 0).await;
    assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
    assert_eq!(faults.topic(CACHE, "t", TopicFault::Error(Code::Internal)), Ok(1));
    publisher.publish(CACHE, "t", "one").await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), tonic::Code::Internal);
    let mut stream = subscribe(&local, &[], 1, 0).await;
    assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(1));
}

#[tokio::test]
async fn a_rule_fails_a_stream_behind_so_many_messages() {
    let faults = Faults::default();
    let rpcs = ["topic-subscribe".parse().unwrap()];
    faults.set([Rule::new(rpcs, Fault::StreamError { status: Code::Unavailable, after: 2 }).times(1)]).unwrap();
    let local = stack::local(Config { faults: faults.clone(), ..config() }).await;
    let publisher = topics(&local, KEY);
    let mut stream = subscribe(&local, &[], 0, 0).await;
    assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
    for text in ["one", "two", "three"] {
        publisher.publish(CACHE, "t", text).await.unwrap();
    }
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(1));
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(2));
    assert_eq!(next(&mut stream).await.unwrap_err().code(), tonic::Code::Unavailable);
    let mut stream = subscribe(&local, &[], 3, 0).await;
    assert_eq!(next(&mut stream).await.unwrap(), Item::Heartbeat);
    assert_eq!(next(&mut stream).await.unwrap(), Item::Message(3), "the rule was for one subscription");
    assert_eq!(hits(&faults), [1]);
}
