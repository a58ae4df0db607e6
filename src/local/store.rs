//! What the caches hold: typed items that expire, within a bound on memory.
//!
//! Pure: no clock, no network. `now` is an argument, in epoch milliseconds, and so are all times here.

mod dictionary;
mod list;
mod scalar;

use std::collections::{BTreeMap, HashMap};

pub(super) use dictionary::Dictionary;
pub(super) use list::{List, Side, Span};
pub(super) use scalar::{Check, Condition, hash};

/// The largest scalar, element or field with its key, in bytes: Momento's 5 MB.
pub(super) const MAX_ITEM_BYTES: usize = 5 * 1024 * 1024;
/// The longest life of an item, in milliseconds: Momento's default limit of 24 hours.
pub(super) const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// How many caches there may be. Without a bound, names alone could fill the memory.
const MAX_CACHES: usize = 1_000;
/// What an item or element costs beside its bytes: the containers' bookkeeping, roughly, so that a million empty
/// elements do not count as nothing.
const OVERHEAD: usize = 48;

/// Why an operation on the caches was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the cache `{0}` does not exist; create it, or name it in the seed")]
    NoSuchCache(String),
    #[error("the cache `{0}` exists already")]
    CacheExists(String),
    #[error("a cache's name has 1 to 255 characters, none of them a control character or white space at an end")]
    CacheName,
    #[error("there are {MAX_CACHES} caches, and that is the limit")]
    TooManyCaches,
    #[error("the item is a {found}, and this call is for a {wanted}")]
    WrongType { found: &'static str, wanted: &'static str },
    #[error("the value is not a whole number of 64 bits, and cannot be incremented")]
    NotANumber,
    #[error("the result would not fit into 64 bits")]
    Overflow,
    #[error("the item size limit of {MAX_ITEM_BYTES} bytes is exceeded")]
    ItemTooLarge,
    #[error("the memory that this server may use for items ({0} bytes) is full; delete or flush something")]
    Full(usize),
    #[error("the time to live must be between 1 and {MAX_TTL_MS} milliseconds")]
    Ttl,
}

/// One item's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(Vec<u8>),
    Dictionary(Dictionary),
    List(List),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::Dictionary(_) => "dictionary",
            Self::List(_) => "list",
        }
    }

    /// Constant time: collections keep count.
    fn bytes(&self) -> usize {
        match self {
            Self::Scalar(value) => value.len(),
            Self::Dictionary(dictionary) => dictionary.bytes(),
            Self::List(list) => list.bytes(),
        }
    }

    /// A collection without elements does not exist.
    fn is_gone(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::Dictionary(dictionary) => dictionary.is_empty(),
            Self::List(list) => list.is_empty(),
        }
    }

    fn not_a(&self, wanted: &'static str) -> Error {
        Error::WrongType { found: self.kind(), wanted }
    }
}

struct Item {
    value: Value,
    /// `None`: never. Only what is seeded lives for ever.
    expires_at: Option<u64>,
}

/// How long a collection lives: from its first element, or, with `refresh`, from the latest write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ttl {
    pub(super) millis: u64,
    pub(super) refresh: bool,
}

/// A change of an item's remaining life, to so many milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum TtlUpdate {
    Overwrite(u64),
    /// Only if that is later than it would expire anyway.
    Increase(u64),
    /// Only if that is sooner.
    Decrease(u64),
}

/// Every cache.
pub(super) struct Store {
    caches: BTreeMap<String, HashMap<Vec<u8>, Item>>,
    bytes: usize,
    max_bytes: usize,
}

impl Store {
    /// `max_bytes` bounds what all items together may take.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { caches: BTreeMap::new(), bytes: 0, max_bytes }
    }

    pub(super) fn create_cache(&mut self, name: &str) -> Result<(), Error> {
        check_cache_name(name)?;
        if self.caches.contains_key(name) {
            return Err(Error::CacheExists(name.to_owned()));
        }
        if self.caches.len() >= MAX_CACHES {
            return Err(Error::TooManyCaches);
        }
        self.caches.insert(name.to_owned(), HashMap::new());
        Ok(())
    }

    pub(super) fn delete_cache(&mut self, name: &str) -> Result<(), Error> {
        self.flush_cache(name)?;
        self.caches.remove(name);
        Ok(())
    }

    pub(super) fn flush_cache(&mut self, name: &str) -> Result<(), Error> {
        let items = self.caches.get_mut(name).ok_or_else(|| Error::NoSuchCache(name.to_owned()))?;
        self.bytes -= items.drain().map(|(key, item)| cost(&key, &item)).sum::<usize>();
        Ok(())
    }

    pub(super) fn caches(&self) -> impl Iterator<Item = &str> {
        self.caches.keys().map(String::as_str)
    }

    pub(super) fn has_cache(&self, name: &str) -> Result<(), Error> {
        if self.caches.contains_key(name) { Ok(()) } else { Err(Error::NoSuchCache(name.to_owned())) }
    }

    /// The items of one cache, as they are `now`.
    pub(super) fn items<'a>(&'a mut self, cache: &'a str, now: u64) -> Result<Items<'a>, Error> {
        self.has_cache(cache)?;
        Ok(Items { store: self, cache, now })
    }

    /// Drops whatever has expired. Items that are asked for are looked at anyway; this is for those that never are.
    fn sweep(&mut self, now: u64) {
        for items in self.caches.values_mut() {
            items.retain(|key, item| {
                let lives = item.lives(now);
                if !lives {
                    self.bytes -= cost(key, item);
                }
                lives
            });
        }
    }
}

/// Is this a name that a cache can have?
pub(super) fn check_cache_name(name: &str) -> Result<(), Error> {
    let length = name.chars().count();
    let is_fit = (1..=255).contains(&length) && name.trim() == name && !name.contains(char::is_control);
    if is_fit { Ok(()) } else { Err(Error::CacheName) }
}

impl Item {
    fn lives(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

fn cost(key: &[u8], item: &Item) -> usize {
    key.len() + OVERHEAD + item.value.bytes()
}

/// A view of one cache. The cache exists for as long as the view does.
pub(super) struct Items<'a> {
    store: &'a mut Store,
    cache: &'a str,
    now: u64,
}

impl Items<'_> {
    /// Drops `percent` of the items whose keys start with `prefix`, rounded up: the same ones whenever the keys are.
    pub(super) fn forget(&mut self, prefix: &[u8], percent: u8) -> usize {
        self.store.sweep(self.now);
        let mut keys: Vec<_> = self
            .map()
            .into_iter()
            .flat_map(|items| items.keys())
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        keys.sort_by_cached_key(|key| hash(key));
        keys.truncate((keys.len() * usize::from(percent)).div_ceil(100));
        keys.iter().for_each(|key| self.delete(key));
        keys.len()
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        if let Some((key, item)) = self.map().and_then(|items| items.remove_entry(key)) {
            self.store.bytes -= cost(&key, &item);
        }
    }

    /// The value at `key`, whatever its type.
    pub(super) fn value(&mut self, key: &[u8]) -> Option<&Value> {
        self.find(key).map(|item| &item.value)
    }

    /// The remaining life in milliseconds; of what never expires, the longest that there is.
    pub(super) fn ttl(&mut self, key: &[u8]) -> Option<u64> {
        let now = self.now;
        self.find(key).map(|item| item.expires_at.map_or(MAX_TTL_MS, |at| at - now))
    }

    /// Changes an item's remaining life. `None`: there is no item; `Some(false)`: its life stays as it was.
    pub(super) fn update_ttl(&mut self, key: &[u8], update: TtlUpdate) -> Result<Option<bool>, Error> {
        let (TtlUpdate::Overwrite(millis) | TtlUpdate::Increase(millis) | TtlUpdate::Decrease(millis)) = update;
        let to = self.expiry(millis)?;
        let Some(item) = self.find(key) else { return Ok(None) };
        let from = item.expires_at.unwrap_or(u64::MAX);
        let changes = match update {
            TtlUpdate::Overwrite(_) => true,
            TtlUpdate::Increase(_) => to > from,
            TtlUpdate::Decrease(_) => to < from,
        };
        if changes {
            item.expires_at = Some(to);
        }
        Ok(Some(changes))
    }

    fn map(&mut self) -> Option<&mut HashMap<Vec<u8>, Item>> {
        self.store.caches.get_mut(self.cache)
    }

    fn find(&mut self, key: &[u8]) -> Option<&mut Item> {
        let now = self.now;
        if self.map()?.get(key).is_some_and(|item| !item.lives(now)) {
            self.delete(key);
        }
        self.map()?.get_mut(key)
    }

    fn expiry(&self, ttl_ms: u64) -> Result<u64, Error> {
        if (1..=MAX_TTL_MS).contains(&ttl_ms) { Ok(self.now + ttl_ms) } else { Err(Error::Ttl) }
    }

    fn put(&mut self, key: Vec<u8>, value: Value, expires_at: Option<u64>) -> Result<(), Error> {
        check_size(key.len() + value.bytes())?;
        let item = Item { value, expires_at };
        let freed = self.find(&key).map_or(0, |old| cost(&key, old));
        self.make_room((cost(&key, &item)).saturating_sub(freed))?;
        self.store.bytes = self.store.bytes - freed + cost(&key, &item);
        self.map().and_then(|items| items.insert(key, item));
        Ok(())
    }

    /// Refuses what would not fit. Nothing that still lives is dropped for it: a developer should meet a full server as
    /// an error, not as a lost item.
    fn make_room(&mut self, added: usize) -> Result<(), Error> {
        let max = self.store.max_bytes;
        if self.store.bytes + added > max {
            self.store.sweep(self.now);
        }
        if self.store.bytes + added > max { Err(Error::Full(max)) } else { Ok(()) }
    }

    /// Changes an item in place and keeps the count of bytes right; a collection left empty is dropped.
    fn change<R>(&mut self, key: &[u8], work: impl FnOnce(&mut Item) -> R) -> Option<R> {
        let item = self.find(key)?;
        let before = item.value.bytes();
        let result = work(item);
        let (after, is_gone) = (item.value.bytes(), item.value.is_gone());
        self.store.bytes = self.store.bytes - before + after;
        if is_gone {
            self.delete(key);
        }
        Some(result)
    }

    /// Writes into the collection at `key`, which is `new` if there is none. `added` is the most that it can grow by.
    fn write<R>(
        &mut self,
        key: &[u8],
        new: Value,
        ttl: Ttl,
        added: usize,
        work: impl FnOnce(&mut Value) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let expires_at = Some(self.expiry(ttl.millis)?);
        self.make_room(added)?;
        if self.find(key).is_none() {
            self.put(key.to_vec(), new, expires_at)?;
        }
        let written = self.change(key, |item| {
            let result = work(&mut item.value)?;
            if ttl.refresh {
                item.expires_at = expires_at;
            }
            Ok(result)
        });
        written.unwrap_or_else(|| Err(Error::NoSuchCache(self.cache.to_owned())))
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_ITEM_BYTES { Err(Error::ItemTooLarge) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn store(max_bytes: usize) -> Store {
        let mut store = Store::new(max_bytes);
        store.create_cache("c").unwrap();
        store
    }

    fn recount(store: &Store) -> usize {
        store.caches.values().flatten().map(|(key, item)| cost(key, item)).sum()
    }

    #[test]
    fn an_item_lives_until_its_last_millisecond() {
        let mut store = store(1 << 20);
        store.items("c", NOW).unwrap().set(b"k".to_vec(), b"v".to_vec(), 10).unwrap();
        assert_eq!(store.items("c", NOW + 9).unwrap().get(b"k"), Ok(Some(b"v".as_slice())));
        assert_eq!(store.items("c", NOW + 9).unwrap().ttl(b"k"), Some(1));
        assert_eq!(store.items("c", NOW + 10).unwrap().get(b"k"), Ok(None));
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn a_seeded_item_outlives_everything() {
        let mut store = store(1 << 20);
        store.items("c", NOW).unwrap().seed(b"k".to_vec(), b"v".to_vec()).unwrap();
        assert_eq!(store.items("c", u64::MAX).unwrap().get(b"k"), Ok(Some(b"v".as_slice())));
    }

    #[test]
    fn a_full_store_refuses_until_something_expires() {
        let mut store = store(300);
        store.items("c", NOW).unwrap().set(b"a".to_vec(), vec![0; 200], 10).unwrap();
        assert_eq!(store.items("c", NOW).unwrap().set(b"b".to_vec(), vec![0; 200], 10), Err(Error::Full(300)));
        let ttl = Ttl { millis: 10, refresh: false };
        let pushed = store.items("c", NOW).unwrap().list_push(b"l", vec![vec![0; 200]], Side::Front, 0, ttl);
        assert_eq!(pushed, Err(Error::Full(300)));
        assert_eq!(store.items("c", NOW).unwrap().set(b"a".to_vec(), vec![1; 201], 10), Ok(()), "in its own place");
        assert_eq!(store.items("c", NOW + 10).unwrap().set(b"b".to_vec(), vec![0; 200], 10), Ok(()));
        assert_eq!(store.bytes, recount(&store));
    }

    #[test]
    fn a_time_to_live_out_of_bounds_is_refused() {
        let mut store = store(1 << 20);
        for ttl in [0, MAX_TTL_MS + 1, u64::MAX] {
            assert_eq!(store.items("c", NOW).unwrap().set(b"k".to_vec(), vec![], ttl), Err(Error::Ttl), "{ttl}");
        }
    }

    #[test]
    fn an_item_over_the_limit_is_refused() {
        let mut store = store(usize::MAX);
        let mut items = store.items("c", NOW).unwrap();
        assert_eq!(items.set(b"k".to_vec(), vec![0; MAX_ITEM_BYTES - 1], 1), Ok(()));
        assert_eq!(items.set(b"k".to_vec(), vec![0; MAX_ITEM_BYTES], 1), Err(Error::ItemTooLarge));
    }

    #[test]
    fn a_number_does_not_wrap_around() {
        let mut store = store(1 << 20);
        let mut items = store.items("c", NOW).unwrap();
        assert_eq!(items.increment(b"n", i64::MAX, 1), Ok(i64::MAX));
        assert_eq!(items.increment(b"n", 1, 1), Err(Error::Overflow));
        assert_eq!(items.increment(b"n", -1, 1), Ok(i64::MAX - 1));
    }

    #[derive(Debug, Clone)]
    enum Op {
        Set(u8, Vec<u8>),
        Increment(u8),
        Delete(u8),
        Push(u8, Vec<Vec<u8>>, bool, u32),
        Pop(u8, bool),
        Fields(u8, Vec<(Vec<u8>, Vec<u8>)>),
        Remove(u8, Vec<Vec<u8>>),
        Retain(u8, i32, i32),
        Tick(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = || proptest::collection::vec(0..3u8, 0..4);
        let many = || proptest::collection::vec(proptest::collection::vec(0..3u8, 0..4), 0..5);
        let pairs = proptest::collection::vec((bytes(), bytes()), 0..4);
        prop_oneof![
            (0..4u8, bytes()).prop_map(|(k, v)| Op::Set(k, v)),
            (0..4u8).prop_map(Op::Increment),
            (0..4u8).prop_map(Op::Delete),
            (0..4u8, many(), any::<bool>(), 0..4u32).prop_map(|(k, v, f, t)| Op::Push(k, v, f, t)),
            (0..4u8, any::<bool>()).prop_map(|(k, f)| Op::Pop(k, f)),
            (0..4u8, pairs).prop_map(|(k, p)| Op::Fields(k, p)),
            (0..4u8, many()).prop_map(|(k, f)| Op::Remove(k, f)),
            (0..4u8, -3..3i32, -3..3i32).prop_map(|(k, s, e)| Op::Retain(k, s, e)),
            (0..20u8).prop_map(Op::Tick),
        ]
    }

    proptest! {
        /// The bound on memory is worth as much as the count of bytes is right.
        #[test]
        fn the_count_of_bytes_never_drifts(ops in proptest::collection::vec(op(), 0..60), max in 0..2_000usize) {
            let mut store = store(max);
            let mut now = NOW;
            let ttl = Ttl { millis: 30, refresh: true };
            for op in ops {
                let mut items = store.items("c", now).unwrap();
                let side = |front| if front { Side::Front } else { Side::Back };
                match op {
                    Op::Set(k, v) => drop(items.set(vec![k], v, 30)),
                    Op::Increment(k) => drop(items.increment(&[k], 1, 30)),
                    Op::Delete(k) => items.delete(&[k]),
                    Op::Push(k, v, f, t) => drop(items.list_push(&[k], v, side(f), t, ttl)),
                    Op::Pop(k, f) => drop(items.list_pop(&[k], side(f))),
                    Op::Fields(k, p) => drop(items.dictionary_set(&[k], p, ttl)),
                    Op::Remove(k, f) => {
                        drop(items.dictionary_remove(&[k], &f));
                        drop(items.list_remove(&[k], &f.concat()));
                    }
                    Op::Retain(k, s, e) => drop(items.list_retain(&[k], Span { start: Some(s), end: Some(e) }, ttl)),
                    Op::Tick(ms) => now += u64::from(ms),
                }
                prop_assert_eq!(store.bytes, recount(&store));
                prop_assert!(store.bytes <= max);
                prop_assert!(!store.caches["c"].values().any(|item| item.value.is_gone()));
            }
        }
    }
}
