//! A fetched value that serves for a while.
//!
//! AWS's own `aws_secretsmanager_caching` was weighed and left: it keeps strings, not what is made of them; it does not
//! give a last good value while the service is down, nor let a wrong signature ask for a refresh within bounds; and it
//! brings a second TLS stack, which doubles the binary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SecretsError;

/// How long after an attempt the next one waits, where nothing is at hand: so that a stream of events cannot become a
/// stream of failing calls.
const PAUSE_MS: u64 = 1_000;
/// How long after a renewal that a wrong signature asked for the next such one waits. The first one is not held back: a
/// start fetches the current version alone, and a sender may still sign with the previous one.
const RENEW_PAUSE_MS: u64 = 10_000;
/// How long the last good value serves while the service is down.
const MAX_STALE_MS: u64 = 60 * 60 * 1_000;

pub(super) struct Kept<T> {
    ttl_ms: u64,
    slot: Mutex<Slot<T>>,
    fetches: AtomicU64,
    /// Held while fetching: whoever else needs the value then waits for that one fetch.
    fetching: tokio::sync::Mutex<()>,
}

struct Slot<T> {
    value: Option<Arc<T>>,
    /// When, in epoch milliseconds, the value was fetched, that was last tried, and a renewal was last tried.
    fetched: u64,
    tried: u64,
    renewed: u64,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

impl<T> Slot<T> {
    fn within(&self, age_ms: u64, now: u64) -> Option<Arc<T>> {
        self.value.clone().filter(|_| now.saturating_sub(self.fetched) < age_ms)
    }
}

impl<T> Kept<T> {
    pub(super) fn new(ttl: Duration) -> Self {
        let slot = Slot { value: None, fetched: 0, tried: 0, renewed: 0 };
        Self {
            ttl_ms: ttl.as_millis() as u64,
            slot: Mutex::new(slot),
            fetches: AtomicU64::new(0),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The value, fetched when there is none or it has aged. While the service is down the last good one serves.
    pub(super) async fn get<F>(
        &self,
        now: u64,
        fetch: impl FnOnce(Option<Arc<T>>) -> F,
    ) -> Result<Arc<T>, Arc<SecretsError>>
    where
        F: Future<Output = Result<T, SecretsError>>,
    {
        if let Some(value) = self.slot().within(self.ttl_ms, now) {
            return Ok(value);
        }
        let _turn = self.fetching.lock().await;
        let slot = self.slot();
        if let Some(value) = slot.within(self.ttl_ms, now) {
            return Ok(value); // fetched while we waited
        }
        let error = if now.saturating_sub(slot.tried) < PAUSE_MS {
            SecretsError::Paused
        } else {
            match self.fetch(now, fetch(slot.value.clone())).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            }
        };
        slot.within(MAX_STALE_MS, now).ok_or_else(|| Arc::new(error))
    }

    /// A value newer than `held`, which did not serve, or `None` where there is none and one was sought too recently.
    pub(super) async fn renew<F>(&self, held: &Arc<T>, now: u64, fetch: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = Result<T, SecretsError>>,
    {
        let _turn = self.fetching.lock().await;
        let slot = self.slot();
        if slot.value.as_ref().is_some_and(|value| !Arc::ptr_eq(value, held)) {
            return slot.value; // renewed meanwhile
        }
        if now.saturating_sub(slot.renewed) < RENEW_PAUSE_MS {
            return None;
        }
        self.lock().renewed = now;
        self.fetch(now, fetch()).await.ok()
    }

    /// Makes the next [`Kept::get`] fetch, unless the last attempt is too recent; meanwhile the value serves on.
    pub(super) fn expire(&self) {
        let mut slot = self.lock();
        slot.fetched = slot.fetched.saturating_sub(self.ttl_ms);
    }

    async fn fetch(
        &self,
        now: u64,
        fetch: impl Future<Output = Result<T, SecretsError>>,
    ) -> Result<Arc<T>, SecretsError> {
        self.lock().tried = now;
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let fetched = fetch.await.inspect_err(|error| tracing::warn!(%error, "secret not refreshed"))?;
        let value = Arc::new(fetched);
        let mut slot = self.lock();
        slot.value = Some(Arc::clone(&value));
        slot.fetched = now;
        Ok(value)
    }

    /// How often a value has been fetched since this was last asked.
    pub(super) fn take_fetches(&self) -> u64 {
        self.fetches.swap(0, Ordering::Relaxed)
    }

    fn slot(&self) -> Slot<T> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const TTL: u64 = 60_000;
    const START: u64 = 1_700_000_000_000;

    /// A service that counts its calls and can be down.
    #[derive(Default)]
    struct Service {
        calls: Cell<u32>,
        down: Cell<bool>,
    }

    impl Service {
        async fn fetch(&self) -> Result<u32, SecretsError> {
            self.calls.set(self.calls.get() + 1);
            tokio::task::yield_now().await;
            if self.down.get() { Err(SecretsError::Paused) } else { Ok(self.calls.get()) }
        }
    }

    fn kept() -> Kept<u32> {
        Kept::new(Duration::from_millis(TTL))
    }

    #[tokio::test]
    async fn a_value_serves_until_it_has_aged() {
        let (kept, service) = (kept(), Service::default());
        for (now, value) in [(START, 1), (START + TTL - 1, 1), (START + TTL, 2), (START + 2 * TTL - 1, 2)] {
            assert_eq!(*kept.get(now, |_| service.fetch()).await.unwrap(), value);
        }
    }

    #[tokio::test]
    async fn whoever_asks_at_once_waits_for_one_fetch() {
        let (kept, service) = (kept(), Service::default());
        let (a, b, c) = tokio::join!(
            kept.get(START, |_| service.fetch()),
            kept.get(START, |_| service.fetch()),
            kept.get(START, |_| service.fetch())
        );
        assert_eq!((*a.unwrap(), *b.unwrap(), *c.unwrap()), (1, 1, 1));
        let held = kept.get(START, |_| service.fetch()).await.unwrap();
        let (a, b) =
            tokio::join!(kept.renew(&held, START, || service.fetch()), kept.renew(&held, START, || service.fetch()));
        assert_eq!((*a.unwrap(), *b.unwrap()), (2, 2));
    }

    #[tokio::test]
    async fn the_last_good_value_serves_while_the_service_is_down_but_not_for_ever() {
        let (kept, service) = (kept(), Service::default());
        kept.get(START, |_| service.fetch()).await.unwrap();
        service.down.set(true);
        assert_eq!(*kept.get(START + MAX_STALE_MS - 1, |_| service.fetch()).await.unwrap(), 1);
        assert!(kept.get(START + MAX_STALE_MS + PAUSE_MS, |_| service.fetch()).await.is_err());
        service.down.set(false);
        assert_eq!(*kept.get(START + MAX_STALE_MS + 2 * PAUSE_MS, |_| service.fetch()).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn neither_an_outage_nor_forgeries_become_a_stream_of_calls() {
        let (kept, service) = (kept(), Service::default());
        service.down.set(true);
        for now in START..START + PAUSE_MS {
            assert!(kept.get(now, |_| service.fetch()).await.is_err());
        }
        assert_eq!(service.calls.get(), 1);
        service.down.set(false);
        let mut held = kept.get(START + PAUSE_MS, |_| service.fetch()).await.unwrap();
        for now in START..START + 3 * RENEW_PAUSE_MS {
            held = kept.renew(&held, now, || service.fetch()).await.unwrap_or(held);
        }
        assert_eq!(service.calls.get(), 2 + 3);
    }

    #[tokio::test]
    async fn a_doubted_value_is_fetched_again_and_serves_meanwhile() {
        let (kept, service) = (kept(), Service::default());
        kept.get(START, |_| service.fetch()).await.unwrap();
        kept.expire();
        assert_eq!(*kept.get(START, |_| service.fetch()).await.unwrap(), 1);
        assert_eq!(*kept.get(START + PAUSE_MS, |_| service.fetch()).await.unwrap(), 2);
    }
}
