//! Dead letters of a relay without a disk: written to a Momento cache, where they are kept for a day.

use std::collections::HashSet;
use std::time::Duration;

use momento_protos::cache_client::ListRemoveRequest;
use momento_protos::cache_client::list_remove_request::Remove;
use momento_protos::cache_client::scs_client::ScsClient;
use tonic::Status;

use super::account::{Account, Accounts, CALL};
use super::backoff::Backoff;
use super::health::Health;
use super::journal::{Letter, RouteName};
use super::receipts::key;
use crate::momento::{Error, ListBounds};

/// Momento keeps nothing longer; and how many letters of a route it keeps at most.
const BOUNDS: ListBounds = ListBounds { ttl: Duration::from_secs(24 * 60 * 60), newest: 1_000 };
const RETRY: Backoff =
    Backoff { least: Duration::from_millis(100), base: Duration::from_secs(1), most: Duration::from_secs(30) };
/// The largest letter that Momento takes for certain.
const MAX_BYTES: usize = 4_000_000;
/// Letters' numbers are below this, so that every program that reads JSON gets them whole.
const NUMBERS: i64 = 1 << 53;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Letterbox {
    pub(crate) accounts: Accounts,
    /// The topic's own cache where it is not set.
    pub(crate) cache: Option<String>,
    pub(crate) health: Health,
}

impl Letterbox {
    /// Writes a letter, however long it takes.
    pub(crate) async fn keep(mut self, mut letter: Letter) {
        letter.id = fastrand::i64(1..NUMBERS); // each process counts its messages anew
        let (cache, list) = (cache(self.cache.as_deref(), &letter.route), list(&letter.route));
        let mut entry = serde_json::to_vec(&letter).unwrap_or_default(); // texts and numbers
        if entry.len() > MAX_BYTES {
            tracing::error!(
                number = letter.place.number,
                "too large for Momento: the letter is kept, not what it says"
            );
            (letter.text, letter.bytes) = (None, None);
            entry = serde_json::to_vec(&letter).unwrap_or_default();
        }
        let mut failures = 0;
        loop {
            let momento = self.accounts.get().await.momento;
            let Err(error) = momento.list_push_front(cache, &list, &entry, BOUNDS).await else { break };
            failures += 1;
            self.health.set("letterbox", format!("a dead letter cannot be written: {error}"));
            tokio::time::sleep(RETRY.wait(failures)).await;
        }
        self.health.clear("letterbox");
    }
}

/// A letter, and the entry that it was read from.
pub(crate) struct Kept {
    pub(crate) letter: Letter,
    entry: Vec<u8>,
}

/// A route's letters, the oldest first.
///
/// # Errors
/// [`Error`].
pub(crate) async fn read(account: &Account, in_cache: Option<&str>, route: &RouteName) -> Result<Vec<Kept>, Error> {
    let entries = account.momento.list_range(cache(in_cache, route), &list(route), 0, BOUNDS.newest).await?;
    let mut seen = HashSet::new(); // one is there twice where an answer to its writing was lost
    let kept = |entry: Vec<u8>| Some(Kept { letter: serde_json::from_slice(&entry).ok()?, entry });
    Ok(entries.into_iter().rev().filter_map(kept).filter(|kept| seen.insert(kept.letter.id)).collect())
}

/// Removes a letter.
///
/// # Errors
/// What the service says.
pub(crate) async fn remove(account: &Account, in_cache: Option<&str>, kept: &Kept) -> Result<(), Status> {
    let route = &kept.letter.route;
    let remove = Some(Remove::AllElementsWithValue(kept.entry.clone()));
    let message = ListRemoveRequest { list_name: list(route).into(), remove };
    let mut request = account.request(cache(in_cache, route), message)?;
    request.set_timeout(CALL);
    ScsClient::new(account.channel(0)).list_remove(request).await.map(drop)
}

fn cache<'a>(configured: Option<&'a str>, route: &'a RouteName) -> &'a str {
    configured.unwrap_or(&route.cache)
}

fn list(route: &RouteName) -> String {
    key("dead", &[route.cache.as_bytes(), route.topic.as_bytes(), route.name.as_bytes()])
}
