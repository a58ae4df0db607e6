use std::time::Duration;

use momento::{
    MomentoErrorCode,
    cache::{
        CreateCacheResponse, DecreaseTtlResponse, GetResponse, IncreaseTtlResponse, ItemGetTtlResponse,
        ItemGetTypeResponse, ItemType, SetIfAbsentOrEqualResponse, SetIfAbsentResponse, SetIfEqualResponse,
        SetIfNotEqualResponse, SetIfPresentAndNotEqualResponse, SetIfPresentResponse, SetRequest, UpdateTtlResponse,
    },
};
use momento_protos::cache_client::{
    GetWithHashRequest, SetIfHashRequest, SetIfNotExistsRequest, get_with_hash_response, scs_client::ScsClient,
    set_if_hash_request, set_if_hash_response, set_if_not_exists_response,
};
use momento_protos::common::{AbsentOrNotHashEqual, PresentAndHashEqual};
use momento_webhook::local::Config;
use tonic::{Code, Request};

use super::{CACHE, KEY, caches, config, refusal, start};
use crate::stack::{self, Local, eventually};

async fn text(client: &momento::CacheClient, key: &str) -> Option<String> {
    match client.get(CACHE, key).await.unwrap() {
        GetResponse::Hit { value } => Some(value.try_into().unwrap()),
        GetResponse::Miss => None,
    }
}

async fn raw(local: &Local) -> ScsClient<tonic::transport::Channel> {
    ScsClient::connect(local.url.clone()).await.unwrap()
}

fn about<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("cache", CACHE.parse().unwrap());
    request
}

#[tokio::test]
async fn a_cache_is_created_listed_flushed_and_deleted() {
    let local = start().await;
    let client = caches(&local, KEY);
    assert_eq!(client.create_cache("new").await.unwrap(), CreateCacheResponse::Created);
    assert_eq!(client.create_cache("new").await.unwrap(), CreateCacheResponse::AlreadyExists);
    let names: Vec<_> = client.list_caches().await.unwrap().caches.into_iter().map(|cache| cache.name).collect();
    assert_eq!(names, [CACHE, "new"]);

    client.set("new", "key", "value").await.unwrap();
    client.flush_cache("new").await.unwrap();
    assert_eq!(client.get("new", "key").await.unwrap(), GetResponse::Miss);

    client.delete_cache("new").await.unwrap();
    assert_eq!(refusal(client.delete_cache("new").await), MomentoErrorCode::CacheNotFoundError);
    assert_eq!(refusal(client.flush_cache("new").await), MomentoErrorCode::CacheNotFoundError);
    assert_eq!(refusal(client.get("new", "key").await), MomentoErrorCode::CacheNotFoundError);
    assert_eq!(refusal(client.set("new", "key", "value").await), MomentoErrorCode::CacheNotFoundError);
}

#[tokio::test]
async fn scalars_are_set_got_and_deleted_one_by_one_and_in_batches() {
    let local = start().await;
    let client = caches(&local, KEY);
    client.set(CACHE, "a", "1").await.unwrap();
    client.set_batch(CACHE, vec![("b", "2"), ("c", "3")]).await.unwrap();
    let got = client.get_batch(CACHE, vec!["c", "missing", "a", "b"]).await.unwrap();
    let mut got: Vec<(String, GetResponse)> =
        std::collections::HashMap::<String, GetResponse>::try_from(got).unwrap().into_iter().collect();
    got.sort_by(|one, other| one.0.cmp(&other.0));
    let hit =
        |text: &str| GetResponse::Hit { value: momento::cache::messages::data::scalar::get::Value::new(text.into()) };
    assert_eq!(
        got,
        [
            ("a".to_owned(), hit("1")),
            ("b".to_owned(), hit("2")),
            ("c".to_owned(), hit("3")),
            ("missing".to_owned(), GetResponse::Miss)
        ]
    );

    assert!(client.key_exists(CACHE, "a").await.unwrap().exists());
    client.delete(CACHE, "a").await.unwrap();
    client.delete(CACHE, "a").await.unwrap();
    let exist: Vec<bool> = client.keys_exist(CACHE, vec!["a", "b"]).await.unwrap().into();
    assert_eq!(exist, [false, true]);
}

#[tokio::test]
async fn a_number_is_incremented_and_anything_else_is_not() {
    let local = start().await;
    let client = caches(&local, KEY);
    assert_eq!(client.increment(CACHE, "n", 5).await.unwrap().value(), 5);
    assert_eq!(client.increment(CACHE, "n", -7).await.unwrap().value(), -2);
    assert_eq!(text(&client, "n").await.as_deref(), Some("-2"));
    client.set(CACHE, "word", "five").await.unwrap();
    assert_eq!(refusal(client.increment(CACHE, "word", 1).await), MomentoErrorCode::FailedPreconditionError);
}

#[tokio::test]
async fn a_conditional_set_writes_only_when_its_condition_holds() {
    let local = start().await;
    let client = caches(&local, KEY);

    assert_eq!(client.set_if_present(CACHE, "k", "0").await.unwrap(), SetIfPresentResponse::NotStored);
    assert_eq!(client.set_if_equal(CACHE, "k", "0", "x").await.unwrap(), SetIfEqualResponse::NotStored);
    let not_equal = client.set_if_present_and_not_equal(CACHE, "k", "0", "x").await.unwrap();
    assert_eq!(not_equal, SetIfPresentAndNotEqualResponse::NotStored);
    assert_eq!(text(&client, "k").await, None);

    assert_eq!(client.set_if_absent(CACHE, "k", "1").await.unwrap(), SetIfAbsentResponse::Stored);
    assert_eq!(client.set_if_absent(CACHE, "k", "2").await.unwrap(), SetIfAbsentResponse::NotStored);
    assert_eq!(text(&client, "k").await.as_deref(), Some("1"));

    assert_eq!(client.set_if_equal(CACHE, "k", "2", "1").await.unwrap(), SetIfEqualResponse::Stored);
    assert_eq!(client.set_if_equal(CACHE, "k", "3", "1").await.unwrap(), SetIfEqualResponse::NotStored);
    assert_eq!(client.set_if_not_equal(CACHE, "k", "3", "2").await.unwrap(), SetIfNotEqualResponse::NotStored);
    assert_eq!(client.set_if_not_equal(CACHE, "k", "3", "1").await.unwrap(), SetIfNotEqualResponse::Stored);
    assert_eq!(client.set_if_not_equal(CACHE, "new", "3", "1").await.unwrap(), SetIfNotEqualResponse::Stored);
    assert_eq!(client.set_if_present(CACHE, "k", "4").await.unwrap(), SetIfPresentResponse::Stored);
    let not_equal = client.set_if_present_and_not_equal(CACHE, "k", "5", "4").await.unwrap();
    assert_eq!(not_equal, SetIfPresentAndNotEqualResponse::NotStored);
    let not_equal = client.set_if_present_and_not_equal(CACHE, "k", "5", "x").await.unwrap();
    assert_eq!(not_equal, SetIfPresentAndNotEqualResponse::Stored);
    let absent_or_equal = client.set_if_absent_or_equal(CACHE, "k", "6", "x").await.unwrap();
    assert_eq!(absent_or_equal, SetIfAbsentOrEqualResponse::NotStored);
    let absent_or_equal = client.set_if_absent_or_equal(CACHE, "k", "6", "5").await.unwrap();
    assert_eq!(absent_or_equal, SetIfAbsentOrEqualResponse::Stored);
    let absent_or_equal = client.set_if_absent_or_equal(CACHE, "newer", "6", "5").await.unwrap();
    assert_eq!(absent_or_equal, SetIfAbsentOrEqualResponse::Stored);
    assert_eq!(text(&client, "k").await.as_deref(), Some("6"));
}

#[tokio::test]
async fn the_forms_that_the_sdk_lacks_work_too() {
    use set_if_hash_request::Condition;

    let local = start().await;
    let mut client = raw(&local).await;
    let mut set_if_not_exists = async || {
        let request =
            SetIfNotExistsRequest { cache_key: b"k".into(), cache_body: b"1".into(), ttl_milliseconds: 60_000 };
        #[allow(deprecated, reason = "older SDKs still call it")]
        client.set_if_not_exists(about(request)).await.unwrap().into_inner().result.unwrap()
    };
    assert!(matches!(set_if_not_exists().await, set_if_not_exists_response::Result::Stored(_)));
    assert!(matches!(set_if_not_exists().await, set_if_not_exists_response::Result::NotStored(_)));

    let get = about(GetWithHashRequest { cache_key: b"k".into() });
    let Some(get_with_hash_response::Result::Found(found)) =
        client.get_with_hash(get).await.unwrap().into_inner().result
    else {
        panic!("not found");
    };
    assert_eq!(found.value, b"1");
    let mut set_if_hash = async |condition| {
        let request = SetIfHashRequest {
            cache_key: b"k".into(),
            cache_body: b"2".into(),
            ttl_milliseconds: 60_000,
            condition: Some(condition),
        };
        client.set_if_hash(about(request)).await.unwrap().into_inner().result.unwrap()
    };
    let unlike = Condition::AbsentOrNotHashEqual(AbsentOrNotHashEqual { hash_to_check: found.hash.clone() });
    assert!(matches!(set_if_hash(unlike).await, set_if_hash_response::Result::NotStored(_)));
    let like = Condition::PresentAndHashEqual(PresentAndHashEqual { hash_to_check: found.hash });
    assert!(matches!(set_if_hash(like.clone()).await, set_if_hash_response::Result::Stored(_)));
    assert!(matches!(set_if_hash(like).await, set_if_hash_response::Result::NotStored(_)));
}

#[tokio::test]
async fn the_time_to_live_is_read_and_changed() {
    let local = start().await;
    let client = caches(&local, KEY);
    let ttl = async || match client.item_get_ttl(CACHE, "k").await.unwrap() {
        ItemGetTtlResponse::Hit { remaining_ttl } => Some(remaining_ttl.as_secs_f64()),
        ItemGetTtlResponse::Miss => None,
    };
    let seconds = Duration::from_secs;
    assert_eq!(ttl().await, None);
    assert_eq!(client.update_ttl(CACHE, "k", seconds(9)).await.unwrap(), UpdateTtlResponse::Miss);

    client.set(CACHE, "k", "v").await.unwrap();
    assert!((50.0..=60.0).contains(&ttl().await.unwrap()));
    assert_eq!(client.increase_ttl(CACHE, "k", seconds(30)).await.unwrap(), IncreaseTtlResponse::NotSet);
    assert_eq!(client.increase_ttl(CACHE, "k", seconds(120)).await.unwrap(), IncreaseTtlResponse::Set);
    assert!((110.0..=120.0).contains(&ttl().await.unwrap()));
    assert_eq!(client.decrease_ttl(CACHE, "k", seconds(600)).await.unwrap(), DecreaseTtlResponse::NotSet);
    assert_eq!(client.decrease_ttl(CACHE, "k", seconds(20)).await.unwrap(), DecreaseTtlResponse::Set);
    assert!((10.0..=20.0).contains(&ttl().await.unwrap()));
    assert_eq!(client.update_ttl(CACHE, "k", seconds(300)).await.unwrap(), UpdateTtlResponse::Set);
    assert!((290.0..=300.0).contains(&ttl().await.unwrap()));
}

#[tokio::test]
async fn an_item_expires() {
    let local = start().await;
    let client = caches(&local, KEY);
    client.send_request(SetRequest::new(CACHE, "k", "v").ttl(Duration::from_millis(500))).await.unwrap();
    assert_eq!(text(&client, "k").await.as_deref(), Some("v"));
    eventually(async || text(&client, "k").await.is_none().then_some(())).await;
}

#[tokio::test]
async fn more_than_a_day_to_live_is_refused() {
    let local = start().await;
    let client = caches(&local, KEY);
    let day = Duration::from_secs(24 * 60 * 60);
    client.send_request(SetRequest::new(CACHE, "k", "v").ttl(day)).await.unwrap();
    let set = client.send_request(SetRequest::new(CACHE, "k", "v").ttl(day + Duration::from_millis(1))).await;
    assert_eq!(refusal(set), MomentoErrorCode::InvalidArgumentError);
}

#[tokio::test]
async fn an_items_type_is_told_and_a_call_for_another_type_refused() {
    let local = start().await;
    let client = caches(&local, KEY);
    let kind = async |key: &str| match client.item_get_type(CACHE, key).await.unwrap() {
        ItemGetTypeResponse::Hit { key_type } => Some(key_type),
        ItemGetTypeResponse::Miss => None,
    };
    client.set(CACHE, "scalar", "v").await.unwrap();
    client.list_push_back(CACHE, "list", "v").await.unwrap();
    client.dictionary_set_field(CACHE, "dictionary", "f", "v").await.unwrap();
    assert_eq!(kind("scalar").await, Some(ItemType::Scalar));
    assert_eq!(kind("list").await, Some(ItemType::List));
    assert_eq!(kind("dictionary").await, Some(ItemType::Dictionary));
    assert_eq!(kind("missing").await, None);

    assert_eq!(refusal(client.get(CACHE, "list").await), MomentoErrorCode::FailedPreconditionError);
    let push = client.list_push_back(CACHE, "dictionary", "v").await;
    assert_eq!(refusal(push), MomentoErrorCode::FailedPreconditionError);
    let fetch = client.dictionary_fetch(CACHE, "scalar").await;
    assert_eq!(refusal(fetch), MomentoErrorCode::FailedPreconditionError);
}

#[tokio::test]
async fn five_megabytes_are_stored_and_more_are_not() {
    let local = start().await;
    let client = caches(&local, KEY);
    let most = vec![7; 5 * 1024 * 1024 - 1];
    client.set(CACHE, "k", most.clone()).await.unwrap();
    let GetResponse::Hit { value } = client.get(CACHE, "k").await.unwrap() else { panic!("a miss") };
    assert_eq!(Vec::<u8>::from(value), most);

    let error = client.set(CACHE, "k", [most, vec![7]].concat()).await.unwrap_err();
    assert_eq!(error.error_code, MomentoErrorCode::LimitExceededError);
    let Some(momento::ErrorSource::TonicStatus(status)) = error.inner_error else { panic!("no status") };
    assert_eq!(status.metadata().get("err").unwrap(), "item_size_limit_exceeded");
    assert!(status.message().contains("item size"), "the JavaScript SDK reads the words");
}

#[tokio::test]
async fn memory_is_bounded_and_deleting_frees_it() {
    let local = stack::local(Config { max_bytes: 10_000, ..config() }).await;
    let client = caches(&local, KEY);
    client.set(CACHE, "a", vec![0; 8_000]).await.unwrap();
    assert_eq!(refusal(client.set(CACHE, "b", vec![0; 8_000]).await), MomentoErrorCode::LimitExceededError);
    assert!(text(&client, "user/taylor").await.is_some(), "nothing is lost for it");
    client.delete(CACHE, "a").await.unwrap();
    client.set(CACHE, "b", vec![0; 8_000]).await.unwrap();
}

#[tokio::test]
async fn what_is_not_offered_says_what_it_is() {
    let local = start().await;
    let client = caches(&local, KEY);
    let message = client.set_add_elements(CACHE, "s", vec!["v"]).await.unwrap_err();
    let Some(momento::ErrorSource::TonicStatus(status)) = message.inner_error else { panic!("no status") };
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("set_union"), "{}", status.message());

    let channel = tonic::transport::Endpoint::new(local.url.clone()).unwrap().connect().await.unwrap();
    let mut leaderboards = momento_protos::leaderboard::leaderboard_client::LeaderboardClient::new(channel);
    let status = leaderboards.delete_leaderboard(Request::new(Default::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("leaderboard.Leaderboard/DeleteLeaderboard"), "{}", status.message());
}
