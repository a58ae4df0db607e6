use std::{collections::HashMap, time::Duration};

use momento::{
    CacheClient, MomentoErrorCode,
    cache::{
        CollectionTtl, DictionaryGetFieldResponse, DictionaryGetFieldsResponse, ListConcatenateBackRequest,
        ListConcatenateFrontRequest, ListFetchRequest, ListFetchResponse, ListLengthResponse, ListPopBackResponse,
        ListPopFrontResponse, ListPushBackRequest, ListPushFrontRequest, ListRetainResponse,
    },
};
use momento_protos::cache_client::{
    ListEraseRequest, ListRange, list_erase_request, list_erase_response, scs_client::ScsClient,
};
use tonic::Request;

use super::{CACHE, KEY, caches, refusal, start};
use crate::stack::eventually;

async fn list(client: &CacheClient) -> Option<Vec<String>> {
    match client.list_fetch(CACHE, "l").await.unwrap() {
        ListFetchResponse::Hit { values } => Some(values.try_into().unwrap()),
        ListFetchResponse::Miss => None,
    }
}

#[tokio::test]
async fn a_list_grows_and_shrinks_at_both_ends() {
    let local = start().await;
    let client = caches(&local, KEY);
    assert_eq!(list(&client).await, None);
    client.list_push_back(CACHE, "l", "c").await.unwrap();
    client.list_push_front(CACHE, "l", "b").await.unwrap();
    client.list_concatenate_front(CACHE, "l", vec!["y", "z", "a"]).await.unwrap();
    client.list_concatenate_back(CACHE, "l", vec!["d", "e"]).await.unwrap();
    assert_eq!(list(&client).await.unwrap(), ["y", "z", "a", "b", "c", "d", "e"]);
    assert_eq!(client.list_length(CACHE, "l").await.unwrap(), ListLengthResponse::Hit { length: 7 });

    let front: String = client.list_pop_front(CACHE, "l").await.unwrap().try_into().unwrap();
    let back: String = client.list_pop_back(CACHE, "l").await.unwrap().try_into().unwrap();
    assert_eq!((front.as_str(), back.as_str()), ("y", "e"));

    client.list_push_back(CACHE, "l", "z").await.unwrap();
    client.list_remove_value(CACHE, "l", "z").await.unwrap();
    assert_eq!(list(&client).await.unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(client.list_retain(CACHE, "l", 1, 3).await.unwrap(), ListRetainResponse::Hit { length: 2 });
    assert_eq!(list(&client).await.unwrap(), ["b", "c"]);

    client.list_remove_value(CACHE, "l", "b").await.unwrap();
    client.list_remove_value(CACHE, "l", "c").await.unwrap();
    assert_eq!(client.list_length(CACHE, "l").await.unwrap(), ListLengthResponse::Miss, "an empty list does not exist");
    assert_eq!(client.list_pop_front(CACHE, "l").await.unwrap(), ListPopFrontResponse::Miss);
    assert_eq!(client.list_pop_back(CACHE, "l").await.unwrap(), ListPopBackResponse::Miss);
}

#[tokio::test]
async fn a_part_of_a_list_is_fetched() {
    let local = start().await;
    let client = caches(&local, KEY);
    client.list_concatenate_back(CACHE, "l", vec!["a", "b", "c", "d"]).await.unwrap();
    for (start, end, expected) in [
        (Some(1), Some(3), vec!["b", "c"]),
        (Some(-2), None, vec!["c", "d"]),
        (None, Some(-3), vec!["a"]),
        (Some(9), None, vec![]),
    ] {
        let request = ListFetchRequest::new(CACHE, "l").start_index(start).end_index(end);
        let part: Vec<String> = client.send_request(request).await.unwrap().try_into().unwrap();
        assert_eq!(part, expected, "{start:?} to {end:?}");
    }
}

#[tokio::test]
async fn a_list_is_cut_at_the_end_that_was_not_written_to() {
    let local = start().await;
    let client = caches(&local, KEY);
    client.list_concatenate_back(CACHE, "l", vec!["a", "b", "c"]).await.unwrap();
    client.send_request(ListPushFrontRequest::new(CACHE, "l", "x").truncate_back_to_size(3)).await.unwrap();
    assert_eq!(list(&client).await.unwrap(), ["x", "a", "b"]);
    client.send_request(ListPushBackRequest::new(CACHE, "l", "y").truncate_front_to_size(3)).await.unwrap();
    assert_eq!(list(&client).await.unwrap(), ["a", "b", "y"]);
    let front = ListConcatenateFrontRequest::new(CACHE, "l", vec!["1", "2"]).truncate_back_to_size(3);
    client.send_request(front).await.unwrap();
    assert_eq!(list(&client).await.unwrap(), ["1", "2", "a"]);
    let back = ListConcatenateBackRequest::new(CACHE, "l", vec!["8", "9"]).truncate_front_to_size(3);
    client.send_request(back).await.unwrap();
    assert_eq!(list(&client).await.unwrap(), ["a", "8", "9"]);
}

#[tokio::test]
async fn ranges_of_a_list_are_erased_by_the_places_they_had() {
    use list_erase_request::{All, Erase, ListRanges};

    let local = start().await;
    let client = caches(&local, KEY);
    client.list_concatenate_back(CACHE, "l", vec!["a", "b", "c", "d", "e"]).await.unwrap();
    let mut raw = ScsClient::connect(local.url.clone()).await.unwrap();
    let mut erase = async |erase| {
        let mut request = Request::new(ListEraseRequest { list_name: b"l".into(), erase: Some(erase) });
        request.metadata_mut().insert("cache", CACHE.parse().unwrap());
        match raw.list_erase(request).await.unwrap().into_inner().list.unwrap() {
            list_erase_response::List::Found(found) => Some(found.list_length),
            list_erase_response::List::Missing(_) => None,
        }
    };
    let range = |begin_index, count| ListRange { begin_index, count };
    assert_eq!(erase(Erase::Some(ListRanges { ranges: vec![range(0, 1), range(2, 2)] })).await, Some(2));
    assert_eq!(list(&client).await.unwrap(), ["b", "e"]);
    assert_eq!(erase(Erase::All(All {})).await, Some(0));
    assert_eq!(erase(Erase::All(All {})).await, None);
}

#[tokio::test]
async fn a_collection_lives_from_its_first_write_unless_refreshed() {
    let local = start().await;
    let client = caches(&local, KEY);
    let short = Duration::from_millis(700);
    let keep = CollectionTtl::initialize_only(short);
    client.send_request(ListPushBackRequest::new(CACHE, "l", "a").ttl(keep)).await.unwrap();
    let long = CollectionTtl::initialize_only(Duration::from_secs(60));
    client.send_request(ListPushBackRequest::new(CACHE, "l", "b").ttl(long)).await.unwrap();
    client.send_request(ListPushBackRequest::new(CACHE, "refreshed", "a").ttl(keep)).await.unwrap();
    let refresh = CollectionTtl::refresh_on_update(Duration::from_secs(60));
    client.send_request(ListPushBackRequest::new(CACHE, "refreshed", "b").ttl(refresh)).await.unwrap();

    eventually(async || list(&client).await.is_none().then_some(())).await;
    assert_eq!(client.list_length(CACHE, "refreshed").await.unwrap(), ListLengthResponse::Hit { length: 2 });
}

#[tokio::test]
async fn a_dictionary_is_written_read_and_cleared() {
    let local = start().await;
    let client = caches(&local, KEY);
    client.dictionary_set_field(CACHE, "d", "a", "1").await.unwrap();
    client.dictionary_set_fields(CACHE, "d", vec![("b", "2"), ("a", "one")]).await.unwrap();
    let all: HashMap<String, String> = client.dictionary_fetch(CACHE, "d").await.unwrap().try_into().unwrap();
    assert_eq!(all, HashMap::from([("a".into(), "one".into()), ("b".into(), "2".into())]));

    let field: String = client.dictionary_get_field(CACHE, "d", "b").await.unwrap().try_into().unwrap();
    assert_eq!(field, "2");
    let missing = client.dictionary_get_field(CACHE, "d", "x").await.unwrap();
    assert_eq!(missing, DictionaryGetFieldResponse::Miss);
    let some = client.dictionary_get_fields(CACHE, "d", vec!["b", "x"]).await.unwrap();
    let DictionaryGetFieldsResponse::Hit { responses, .. } = some else { panic!("a miss") };
    assert!(matches!(responses[..], [DictionaryGetFieldResponse::Hit { .. }, DictionaryGetFieldResponse::Miss]));

    assert_eq!(client.dictionary_increment(CACHE, "d", "b", 3).await.unwrap().value(), 5);
    assert_eq!(client.dictionary_increment(CACHE, "d", "n", -1).await.unwrap().value(), -1);
    let increment = client.dictionary_increment(CACHE, "d", "a", 1).await;
    assert_eq!(refusal(increment), MomentoErrorCode::FailedPreconditionError);

    assert_eq!(u32::try_from(client.dictionary_length(CACHE, "d").await.unwrap()).unwrap(), 3);
    client.dictionary_remove_field(CACHE, "d", "a").await.unwrap();
    client.dictionary_remove_fields(CACHE, "d", vec!["b", "n", "x"]).await.unwrap();
    assert!(u32::try_from(client.dictionary_length(CACHE, "d").await.unwrap()).is_err(), "an empty one does not exist");
    client.dictionary_remove_field(CACHE, "d", "a").await.unwrap();
}
