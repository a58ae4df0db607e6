//! The Scs service: every call on items that this server offers, one after the other.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, stream};
use momento_protos::{cache_client::*, common::Unbounded};
use tonic::{Request, Response, Status, metadata::MetadataValue};

use super::{
    access::{Caller, Gate},
    now,
    store::{self, Check, Condition, Items, Side, Span, Store, Ttl, TtlUpdate, Value, hash},
    tokens::Access::{self, Read, ReadWrite, Write},
};

/// The caches, shared between the services.
#[derive(Clone)]
pub(super) struct Caches(Arc<Mutex<Store>>);

impl Caches {
    pub(super) fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the calls on items.
pub(super) struct Cache {
    gate: Arc<Gate>,
    caches: Caches,
}

type Answer<T> = Result<Response<T>, Status>;
type Batch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The key that a call is about, by which its permission is checked.
trait Keyed {
    fn key(&self) -> &[u8];
}

macro_rules! keyed {
    ($($key:ident: $($request:ident)*;)*) => { $($(
        impl Keyed for $request {
            fn key(&self) -> &[u8] {
                &self.$key
            }
        }
    )*)* };
}

keyed! {
    cache_key: GetRequest GetWithHashRequest SetRequest SetIfRequest SetIfHashRequest SetIfNotExistsRequest DeleteRequest
        IncrementRequest UpdateTtlRequest ItemGetTtlRequest ItemGetTypeRequest;
    dictionary_name: DictionaryGetRequest DictionaryFetchRequest DictionarySetRequest DictionaryIncrementRequest
        DictionaryDeleteRequest DictionaryLengthRequest;
    list_name: ListPushFrontRequest ListPushBackRequest ListPopFrontRequest ListPopBackRequest ListEraseRequest
        ListRemoveRequest ListFetchRequest ListLengthRequest ListConcatenateFrontRequest ListConcatenateBackRequest
        ListRetainRequest;
}

impl Cache {
    pub(super) fn new(gate: Arc<Gate>, caches: Caches) -> Self {
        Self { gate, caches }
    }

    /// A call about one item: may the caller, and then what is it?
    fn call<Q: Keyed, R>(
        &self,
        access: Access,
        request: Request<Q>,
        work: impl FnOnce(&mut Items<'_>, Q) -> Result<R, Status>,
    ) -> Answer<R> {
        let (caller, cache, request) = self.open(request)?;
        caller.may_use_item(access, &cache, request.key())?;
        let mut store = self.caches.lock();
        work(&mut store.items(&cache, now())?, request).map(Response::new)
    }

    /// A call about many, of which each must be allowed.
    fn calls<Q: Keyed, R>(
        &self,
        access: Access,
        request: Request<Vec<Q>>,
        work: impl FnMut(&mut Items<'_>, Q) -> Result<R, Status>,
    ) -> Result<Vec<R>, Status> {
        let (caller, cache, requests) = self.open(request)?;
        requests.iter().try_for_each(|request| caller.may_use_item(access, &cache, request.key()))?;
        let mut store = self.caches.lock();
        let mut items = store.items(&cache, now())?;
        let mut work = work;
        requests.into_iter().map(|request| work(&mut items, request)).collect()
    }

    fn open<Q>(&self, request: Request<Q>) -> Result<(Caller, String, Q), Status> {
        let caller = self.gate.caller(&request);
        let cache = request.metadata().get("cache").and_then(|cache| cache.to_str().ok()).unwrap_or_default();
        let cache = cache.to_owned();
        if cache.is_empty() {
            return Err(Status::invalid_argument("the metadata `cache` must name the cache"));
        }
        Ok((caller, cache, request.into_inner()))
    }
}

impl Keyed for Vec<u8> {
    fn key(&self) -> &[u8] {
        self
    }
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        use store::Error::*;

        let message = error.to_string();
        match error {
            NoSuchCache(_) => Self::not_found(message),
            CacheExists(_) => Self::already_exists(message),
            CacheName | Ttl => Self::invalid_argument(message),
            WrongType { .. } | NotANumber | Overflow => Self::failed_precondition(message),
            TooManyCaches | Full(_) => Self::resource_exhausted(message),
            ItemTooLarge => {
                let mut status = Self::resource_exhausted(message);
                status.metadata_mut().insert("err", MetadataValue::from_static("item_size_limit_exceeded"));
                status
            }
        }
    }
}

/// Answers a call that is not offered, and says which.
macro_rules! absent {
    ($($name:ident($request:ty) -> $response:ty;)*) => { $(
        fn $name<'a, 'async_trait>(
            &'a self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'async_trait>>
        where
            'a: 'async_trait,
        {
            Box::pin(std::future::ready(Err(Status::unimplemented(concat!(
                "the local server offers scalars, lists and dictionaries, not `", stringify!($name), "`"
            )))))
        }
    )* };
}

#[tonic::async_trait]
impl scs_server::Scs for Cache {
    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        self.call(Read, request, get)
    }

    type GetBatchStream = Batch<GetResponse>;

    async fn get_batch(&self, request: Request<GetBatchRequest>) -> Answer<Self::GetBatchStream> {
        batch(self.calls(Read, request.map(|request| request.items), get)?)
    }

    async fn get_with_hash(&self, request: Request<GetWithHashRequest>) -> Answer<GetWithHashResponse> {
        use get_with_hash_response::{Found, Missing, Result::*};

        self.call(Read, request, |items, request| {
            let result = match items.get(&request.cache_key)? {
                Some(value) => Found(Found { hash: hash(value), value: value.to_vec() }),
                None => Missing(Missing {}),
            };
            Ok(GetWithHashResponse { result: Some(result) })
        })
    }

    async fn set(&self, request: Request<SetRequest>) -> Answer<SetResponse> {
        self.call(Write, request, set)
    }

    type SetBatchStream = Batch<SetResponse>;

    async fn set_batch(&self, request: Request<SetBatchRequest>) -> Answer<Self::SetBatchStream> {
        batch(self.calls(Write, request.map(|request| request.items), set)?)
    }

    async fn set_if(&self, request: Request<SetIfRequest>) -> Answer<SetIfResponse> {
        use set_if_request::Condition::*;
        use set_if_response::{NotStored, Result, Stored};

        self.call(ReadWrite, request, |items, request| {
            let (if_absent, if_present) = match request.condition {
                Some(Present(_)) => (false, Check::Always),
                Some(Absent(_)) => (true, Check::Never),
                Some(Equal(wanted)) => (false, Check::Equal(wanted.value_to_check)),
                Some(NotEqual(unwanted)) => (true, Check::NotEqual(unwanted.value_to_check)),
                Some(PresentAndNotEqual(unwanted)) => (false, Check::NotEqual(unwanted.value_to_check)),
                Some(AbsentOrEqual(wanted)) => (true, Check::Equal(wanted.value_to_check)),
                None => return Err(missing("condition")),
            };
            let condition = self::Condition { if_absent, if_present };
            let is_stored =
                items.set_if(request.cache_key, request.cache_body, request.ttl_milliseconds, &condition)?;
            let result = if is_stored { Result::Stored(Stored {}) } else { Result::NotStored(NotStored {}) };
            Ok(SetIfResponse { result: Some(result) })
        })
    }

    async fn set_if_hash(&self, request: Request<SetIfHashRequest>) -> Answer<SetIfHashResponse> {
        use set_if_hash_request::Condition::*;
        use set_if_hash_response::{NotStored, Result, Stored};

        self.call(ReadWrite, request, |items, request| {
            let (if_absent, if_present) = match request.condition {
                Some(PresentAndHashEqual(wanted)) => (false, Check::HashEqual(wanted.hash_to_check)),
                Some(PresentAndNotHashEqual(unwanted)) => (false, Check::HashNotEqual(unwanted.hash_to_check)),
                Some(AbsentOrHashEqual(wanted)) => (true, Check::HashEqual(wanted.hash_to_check)),
                Some(AbsentOrNotHashEqual(unwanted)) => (true, Check::HashNotEqual(unwanted.hash_to_check)),
                Some(Unconditional(_)) => (true, Check::Always),
                None => return Err(missing("condition")),
            };
            let condition = self::Condition { if_absent, if_present };
            let new_hash = hash(&request.cache_body);
            let is_stored =
                items.set_if(request.cache_key, request.cache_body, request.ttl_milliseconds, &condition)?;
            let result = if is_stored { Result::Stored(Stored { new_hash }) } else { Result::NotStored(NotStored {}) };
            Ok(SetIfHashResponse { result: Some(result) })
        })
    }

    async fn set_if_not_exists(&self, request: Request<SetIfNotExistsRequest>) -> Answer<SetIfNotExistsResponse> {
        use set_if_not_exists_response::{NotStored, Result, Stored};

        self.call(ReadWrite, request, |items, request| {
            let absent = Condition { if_absent: true, if_present: Check::Never };
            let is_stored = items.set_if(request.cache_key, request.cache_body, request.ttl_milliseconds, &absent)?;
            let result = if is_stored { Result::Stored(Stored {}) } else { Result::NotStored(NotStored {}) };
            Ok(SetIfNotExistsResponse { result: Some(result) })
        })
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        self.call(Write, request, |items, request| {
            items.delete(&request.cache_key);
            Ok(DeleteResponse {})
        })
    }

    async fn keys_exist(&self, request: Request<KeysExistRequest>) -> Answer<KeysExistResponse> {
        let keys = request.map(|request| request.cache_keys);
        let exists = self.calls(Read, keys, |items, key| Ok(items.value(&key).is_some()))?;
        Ok(Response::new(KeysExistResponse { exists }))
    }

    async fn increment(&self, request: Request<IncrementRequest>) -> Answer<IncrementResponse> {
        self.call(ReadWrite, request, |items, request| {
            let value = items.increment(&request.cache_key, request.amount, request.ttl_milliseconds)?;
            Ok(IncrementResponse { value })
        })
    }

    async fn update_ttl(&self, request: Request<UpdateTtlRequest>) -> Answer<UpdateTtlResponse> {
        use update_ttl_request::UpdateTtl::*;
        use update_ttl_response::{Missing, NotSet, Result, Set};

        self.call(ReadWrite, request, |items, request| {
            let update = match request.update_ttl {
                Some(IncreaseToMilliseconds(to)) => TtlUpdate::Increase(to),
                Some(DecreaseToMilliseconds(to)) => TtlUpdate::Decrease(to),
                Some(OverwriteToMilliseconds(to)) => TtlUpdate::Overwrite(to),
                None => return Err(missing("update_ttl")),
            };
            let result = match items.update_ttl(&request.cache_key, update)? {
                Some(true) => Result::Set(Set {}),
                Some(false) => Result::NotSet(NotSet {}),
                None => Result::Missing(Missing {}),
            };
            Ok(UpdateTtlResponse { result: Some(result) })
        })
    }

    async fn item_get_ttl(&self, request: Request<ItemGetTtlRequest>) -> Answer<ItemGetTtlResponse> {
        use item_get_ttl_response::{Found, Missing, Result};

        self.call(Read, request, |items, request| {
            let result = match items.ttl(&request.cache_key) {
                Some(remaining_ttl_millis) => Result::Found(Found { remaining_ttl_millis }),
                None => Result::Missing(Missing {}),
            };
            Ok(ItemGetTtlResponse { result: Some(result) })
        })
    }

    async fn item_get_type(&self, request: Request<ItemGetTypeRequest>) -> Answer<ItemGetTypeResponse> {
        use item_get_type_response::{Found, ItemType, Missing, Result};

        self.call(Read, request, |items, request| {
            let found = |item_type: ItemType| Result::Found(Found { item_type: item_type.into() });
            let result = match items.value(&request.cache_key) {
                Some(Value::Scalar(_)) => found(ItemType::Scalar),
                Some(Value::Dictionary(_)) => found(ItemType::Dictionary),
                Some(Value::List(_)) => found(ItemType::List),
                None => Result::Missing(Missing {}),
            };
            Ok(ItemGetTypeResponse { result: Some(result) })
        })
    }

    async fn dictionary_get(&self, request: Request<DictionaryGetRequest>) -> Answer<DictionaryGetResponse> {
        use dictionary_get_response::{Dictionary, DictionaryGetResponsePart, Found, Missing};

        self.call(Read, request, |items, request| {
            let Some(found) = items.dictionary(&request.dictionary_name)? else {
                return Ok(DictionaryGetResponse { dictionary: Some(Dictionary::Missing(Missing {})) });
            };
            let part = |field: &Vec<u8>| match found.get(field) {
                Some(value) => {
                    DictionaryGetResponsePart { result: ECacheResult::Hit.into(), cache_body: value.clone() }
                }
                None => DictionaryGetResponsePart { result: ECacheResult::Miss.into(), cache_body: Vec::new() },
            };
            let items = request.fields.iter().map(part).collect();
            Ok(DictionaryGetResponse { dictionary: Some(Dictionary::Found(Found { items })) })
        })
    }

    async fn dictionary_fetch(&self, request: Request<DictionaryFetchRequest>) -> Answer<DictionaryFetchResponse> {
        use dictionary_fetch_response::{Dictionary, Found, Missing};

        self.call(Read, request, |items, request| {
            let pair = |(field, value): (&Vec<u8>, &Vec<u8>)| DictionaryFieldValuePair {
                field: field.clone(),
                value: value.clone(),
            };
            let dictionary = match items.dictionary(&request.dictionary_name)? {
                Some(found) => Dictionary::Found(Found { items: found.iter().map(pair).collect() }),
                None => Dictionary::Missing(Missing {}),
            };
            Ok(DictionaryFetchResponse { dictionary: Some(dictionary) })
        })
    }

    async fn dictionary_set(&self, request: Request<DictionarySetRequest>) -> Answer<DictionarySetResponse> {
        self.call(Write, request, |items, request| {
            let pairs = request.items.into_iter().map(|pair| (pair.field, pair.value)).collect();
            items.dictionary_set(
                &request.dictionary_name,
                pairs,
                ttl(request.ttl_milliseconds, request.refresh_ttl),
            )?;
            Ok(DictionarySetResponse {})
        })
    }

    async fn dictionary_increment(
        &self,
        request: Request<DictionaryIncrementRequest>,
    ) -> Answer<DictionaryIncrementResponse> {
        self.call(ReadWrite, request, |items, request| {
            let ttl = ttl(request.ttl_milliseconds, request.refresh_ttl);
            let value = items.dictionary_increment(&request.dictionary_name, request.field, request.amount, ttl)?;
            Ok(DictionaryIncrementResponse { value })
        })
    }

    async fn dictionary_delete(&self, request: Request<DictionaryDeleteRequest>) -> Answer<DictionaryDeleteResponse> {
        use dictionary_delete_request::Delete;

        self.call(Write, request, |items, request| {
            match request.delete {
                Some(Delete::Some(some)) => items.dictionary_remove(&request.dictionary_name, &some.fields)?,
                Some(Delete::All(_)) => {
                    items.dictionary(&request.dictionary_name)?;
                    items.delete(&request.dictionary_name);
                }
                None => return Err(missing("delete")),
            }
            Ok(DictionaryDeleteResponse {})
        })
    }

    async fn dictionary_length(&self, request: Request<DictionaryLengthRequest>) -> Answer<DictionaryLengthResponse> {
        use dictionary_length_response::{Dictionary, Found, Missing};

        self.call(Read, request, |items, request| {
            let dictionary = match items.dictionary(&request.dictionary_name)? {
                Some(found) => Dictionary::Found(Found { length: count(found.len()) }),
                None => Dictionary::Missing(Missing {}),
            };
            Ok(DictionaryLengthResponse { dictionary: Some(dictionary) })
        })
    }

    async fn list_push_front(&self, request: Request<ListPushFrontRequest>) -> Answer<ListPushFrontResponse> {
        self.call(Write, request, |items, request| {
            let (ttl, limit) = (ttl(request.ttl_milliseconds, request.refresh_ttl), request.truncate_back_to_size);
            let length = items.list_push(&request.list_name, vec![request.value], Side::Front, limit, ttl)?;
            Ok(ListPushFrontResponse { list_length: count(length) })
        })
    }

    async fn list_push_back(&self, request: Request<ListPushBackRequest>) -> Answer<ListPushBackResponse> {
        self.call(Write, request, |items, request| {
            let (ttl, limit) = (ttl(request.ttl_milliseconds, request.refresh_ttl), request.truncate_front_to_size);
            let length = items.list_push(&request.list_name, vec![request.value], Side::Back, limit, ttl)?;
            Ok(ListPushBackResponse { list_length: count(length) })
        })
    }

    async fn list_concatenate_front(
        &self,
        request: Request<ListConcatenateFrontRequest>,
    ) -> Answer<ListConcatenateFrontResponse> {
        self.call(Write, request, |items, request| {
            let (ttl, limit) = (ttl(request.ttl_milliseconds, request.refresh_ttl), request.truncate_back_to_size);
            let length = items.list_push(&request.list_name, request.values, Side::Front, limit, ttl)?;
            Ok(ListConcatenateFrontResponse { list_length: count(length) })
        })
    }

    async fn list_concatenate_back(
        &self,
        request: Request<ListConcatenateBackRequest>,
    ) -> Answer<ListConcatenateBackResponse> {
        self.call(Write, request, |items, request| {
            let (ttl, limit) = (ttl(request.ttl_milliseconds, request.refresh_ttl), request.truncate_front_to_size);
            let length = items.list_push(&request.list_name, request.values, Side::Back, limit, ttl)?;
            Ok(ListConcatenateBackResponse { list_length: count(length) })
        })
    }

    async fn list_pop_front(&self, request: Request<ListPopFrontRequest>) -> Answer<ListPopFrontResponse> {
        use list_pop_front_response::{Found, List, Missing};

        self.call(ReadWrite, request, |items, request| {
            let list = match items.list_pop(&request.list_name, Side::Front)? {
                Some((front, left)) => List::Found(Found { front, list_length: count(left) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListPopFrontResponse { list: Some(list) })
        })
    }

    async fn list_pop_back(&self, request: Request<ListPopBackRequest>) -> Answer<ListPopBackResponse> {
        use list_pop_back_response::{Found, List, Missing};

        self.call(ReadWrite, request, |items, request| {
            let list = match items.list_pop(&request.list_name, Side::Back)? {
                Some((back, left)) => List::Found(Found { back, list_length: count(left) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListPopBackResponse { list: Some(list) })
        })
    }

    async fn list_erase(&self, request: Request<ListEraseRequest>) -> Answer<ListEraseResponse> {
        use list_erase_request::Erase;
        use list_erase_response::{Found, List, Missing};

        self.call(Write, request, |items, request| {
            let ranges = match request.erase {
                Some(Erase::Some(some)) => some.ranges.iter().map(|range| (range.begin_index, range.count)).collect(),
                Some(Erase::All(_)) => vec![(0, u32::MAX)],
                None => return Err(missing("erase")),
            };
            let list = match items.list_erase(&request.list_name, &ranges)? {
                Some(left) => List::Found(Found { list_length: count(left) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListEraseResponse { list: Some(list) })
        })
    }

    async fn list_remove(&self, request: Request<ListRemoveRequest>) -> Answer<ListRemoveResponse> {
        use list_remove_request::Remove;
        use list_remove_response::{Found, List, Missing};

        self.call(Write, request, |items, request| {
            let Some(Remove::AllElementsWithValue(value)) = request.remove else { return Err(missing("remove")) };
            let list = match items.list_remove(&request.list_name, &value)? {
                Some(left) => List::Found(Found { list_length: count(left) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListRemoveResponse { list: Some(list) })
        })
    }

    async fn list_fetch(&self, request: Request<ListFetchRequest>) -> Answer<ListFetchResponse> {
        use list_fetch_request::{EndIndex, StartIndex};
        use list_fetch_response::{Found, List, Missing};

        self.call(Read, request, |items, request| {
            let span = Span {
                start: match request.start_index {
                    Some(StartIndex::InclusiveStart(start)) => Some(start),
                    Some(StartIndex::UnboundedStart(Unbounded {})) | None => None,
                },
                end: match request.end_index {
                    Some(EndIndex::ExclusiveEnd(end)) => Some(end),
                    Some(EndIndex::UnboundedEnd(Unbounded {})) | None => None,
                },
            };
            let list = match items.list(&request.list_name)? {
                Some(list) => List::Found(Found { values: list.span(span) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListFetchResponse { list: Some(list) })
        })
    }

    async fn list_retain(&self, request: Request<ListRetainRequest>) -> Answer<ListRetainResponse> {
        use list_retain_request::{EndIndex, StartIndex};
        use list_retain_response::{Found, List, Missing};

        self.call(Write, request, |items, request| {
            let span = Span {
                start: match request.start_index {
                    Some(StartIndex::InclusiveStart(start)) => Some(start),
                    Some(StartIndex::UnboundedStart(Unbounded {})) | None => None,
                },
                end: match request.end_index {
                    Some(EndIndex::ExclusiveEnd(end)) => Some(end),
                    Some(EndIndex::UnboundedEnd(Unbounded {})) | None => None,
                },
            };
            let ttl = ttl(request.ttl_milliseconds, request.refresh_ttl);
            let list = match items.list_retain(&request.list_name, span, ttl)? {
                Some(left) => List::Found(Found { list_length: count(left) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListRetainResponse { list: Some(list) })
        })
    }

    async fn list_length(&self, request: Request<ListLengthRequest>) -> Answer<ListLengthResponse> {
        use list_length_response::{Found, List, Missing};

        self.call(Read, request, |items, request| {
            let list = match items.list(&request.list_name)? {
                Some(list) => List::Found(Found { length: count(list.len()) }),
                None => List::Missing(Missing {}),
            };
            Ok(ListLengthResponse { list: Some(list) })
        })
    }

    absent! {
        set_fetch(SetFetchRequest) -> SetFetchResponse;
        set_sample(SetSampleRequest) -> SetSampleResponse;
        set_union(SetUnionRequest) -> SetUnionResponse;
        set_difference(SetDifferenceRequest) -> SetDifferenceResponse;
        set_contains(SetContainsRequest) -> SetContainsResponse;
        set_length(SetLengthRequest) -> SetLengthResponse;
        set_pop(SetPopRequest) -> SetPopResponse;
        sorted_set_put(SortedSetPutRequest) -> SortedSetPutResponse;
        sorted_set_fetch(SortedSetFetchRequest) -> SortedSetFetchResponse;
        sorted_set_get_score(SortedSetGetScoreRequest) -> SortedSetGetScoreResponse;
        sorted_set_remove(SortedSetRemoveRequest) -> SortedSetRemoveResponse;
        sorted_set_increment(SortedSetIncrementRequest) -> SortedSetIncrementResponse;
        sorted_set_get_rank(SortedSetGetRankRequest) -> SortedSetGetRankResponse;
        sorted_set_length(SortedSetLengthRequest) -> SortedSetLengthResponse;
        sorted_set_length_by_score(SortedSetLengthByScoreRequest) -> SortedSetLengthByScoreResponse;
        sorted_set_union_store(SortedSetUnionStoreRequest) -> SortedSetUnionStoreResponse;
    }
}

fn get(items: &mut Items<'_>, request: GetRequest) -> Result<GetResponse, Status> {
    let (result, cache_body) = match items.get(&request.cache_key)? {
        Some(value) => (ECacheResult::Hit, value.to_vec()),
        None => (ECacheResult::Miss, Vec::new()),
    };
    Ok(GetResponse { result: result.into(), cache_body, message: String::new() })
}

fn set(items: &mut Items<'_>, request: SetRequest) -> Result<SetResponse, Status> {
    items.set(request.cache_key, request.cache_body, request.ttl_milliseconds)?;
    Ok(SetResponse { result: ECacheResult::Ok.into(), message: String::new() })
}

fn batch<T: Send + 'static>(answers: Vec<T>) -> Answer<Batch<T>> {
    Ok(Response::new(Box::pin(stream::iter(answers.into_iter().map(Ok)))))
}

fn ttl(millis: u64, refresh: bool) -> Ttl {
    Ttl { millis, refresh }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("`{field}` is missing"))
}
