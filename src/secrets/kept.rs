//! A fetched value that serves for a while.
//!
//! AWS's own `aws_secretsmanager_caching` was weighed and left: it keeps strings, not what is made of them; it does not
//! give a last good value while the service is down, nor let a wrong signature ask for a refresh within bounds; and it
//! brings a second TLS stack, which doubles the binary.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SecretsError;
use crate::clock;

/// How long after a failed attempt the next one waits, where nothing is at hand, ...
const PAUSE_MS: u64 = 1_000;
/// ... and where an old value serves meanwhile: an outage must neither become a stream of calls nor slow every event.
const STALE_PAUSE_MS: u64 = 10_000;
/// How long after a renewal that a wrong signature asked for the next such one waits. The first one is not held back: a
/// start fetches the current version alone, and a sender may still sign with the previous one.
const RENEW_PAUSE_MS: u64 = 10_000;
/// How long the last good value serves beyond its time while the service is down.
const MAX_STALE_MS: u64 = 60 * 60 * 1_000;
/// How long an event waits for a fresh value where an old one could serve. An answer takes a few milliseconds.
const STALE_WAIT: Duration = Duration::from_millis(700);

pub(super) struct Kept<T> {
    ttl_ms: u64,
    slot: Mutex<Slot<T>>,
    /// Held while fetching: whoever else needs the value then waits for that one fetch.
    fetching: tokio::sync::Mutex<()>,
}

struct Slot<T> {
    value: Option<Arc<T>>,
    /// When the value was fetched, an attempt last failed, and a renewal was last tried, in epoch milliseconds.
    fetched: u64,
    failed: u64,
    renewed: u64,
    /// The value did not serve, and a newer one is wanted.
    doubted: bool,
    /// The last attempt at a renewal failed: what does not verify may still be genuine.
    renewal_failed: bool,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

impl<T> Kept<T> {
    pub(super) fn new(ttl: Duration) -> Self {
        let slot = Slot { value: None, fetched: 0, failed: 0, renewed: 0, doubted: false, renewal_failed: false };
        Self { ttl_ms: ttl.as_millis() as u64, slot: Mutex::new(slot), fetching: tokio::sync::Mutex::new(()) }
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
        if let Some(value) = self.fresh(now) {
            return Ok(value);
        }
        let _turn = self.fetching.lock().await;
        if let Some(value) = self.fresh(now) {
            return Ok(value); // fetched while we waited
        }
        let slot = self.slot();
        let stale = slot.value.clone().filter(|_| now.saturating_sub(slot.fetched) < self.ttl_ms + MAX_STALE_MS);
        let pause = if stale.is_some() { STALE_PAUSE_MS } else { PAUSE_MS };
        if now.saturating_sub(slot.failed) < pause {
            return stale.ok_or_else(|| Arc::new(SecretsError::Paused));
        }
        // In a box, here and below: what is rare and large would be moved with every event that might come here.
        let fetching = Box::pin(self.fetch(now, fetch(slot.value)));
        let Some(stale) = stale else { return fetching.await.map_err(Arc::new) };
        match tokio::time::timeout(STALE_WAIT, fetching).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Ok(stale),
            Err(_) => {
                self.note_failure(&SecretsError::Late);
                Ok(stale)
            }
        }
    }

    /// The value after another look at the service, for `held` did not serve; or `held` itself where the last such look is
    /// too recent. Fails where the service could not be asked, and `held` may be out of date.
    pub(super) async fn renew<F>(
        &self,
        held: &Arc<T>,
        now: u64,
        fetch: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Arc<SecretsError>>
    where
        F: Future<Output = Result<T, SecretsError>>,
    {
        let _turn = self.fetching.lock().await;
        let slot = self.slot();
        if let Some(value) = slot.value.filter(|value| !Arc::ptr_eq(value, held)) {
            return Ok(value); // renewed meanwhile
        }
        if now.saturating_sub(slot.renewed) < RENEW_PAUSE_MS {
            return if slot.renewal_failed { Err(Arc::new(SecretsError::Paused)) } else { Ok(Arc::clone(held)) };
        }
        self.lock().renewed = now;
        let renewed = tokio::time::timeout(STALE_WAIT, Box::pin(self.fetch(now, fetch()))).await;
        let renewed = renewed.unwrap_or_else(|_| {
            self.note_failure(&SecretsError::Late);
            Err(SecretsError::Late)
        });
        self.lock().renewal_failed = renewed.is_err();
        renewed.map_err(Arc::new)
    }

    /// Makes the next [`Kept::get`] fetch, unless an attempt has failed too recently; meanwhile the value serves on.
    pub(super) fn doubt(&self) {
        self.lock().doubted = true;
    }

    /// A value that is neither aged nor doubted. One that was fetched just now is not doubted: it would be the same.
    fn fresh(&self, now: u64) -> Option<Arc<T>> {
        let slot = self.slot();
        let age = now.saturating_sub(slot.fetched);
        slot.value.filter(|_| age < self.ttl_ms && (!slot.doubted || age < PAUSE_MS))
    }

    async fn fetch(
        &self,
        now: u64,
        fetch: impl Future<Output = Result<T, SecretsError>>,
    ) -> Result<Arc<T>, SecretsError> {
        metrics::counter!("SecretRefresh").increment(1);
        let value = Arc::new(fetch.await.inspect_err(|error| self.note_failure(error))?);
        let mut slot = self.lock();
        slot.value = Some(Arc::clone(&value));
        slot.fetched = now;
        slot.doubted = false;
        slot.renewal_failed = false;
        Ok(value)
    }

    /// Notes when the attempt ended, for it may have taken longer than the pause.
    fn note_failure(&self, error: &SecretsError) {
        tracing::warn!(%error, "secret not refreshed");
        self.lock().failed = clock::now();
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

    /// A service that counts its calls, and can be down or hang.
    #[derive(Default)]
    struct Service {
        calls: Cell<u32>,
        down: Cell<bool>,
        hangs: Cell<bool>,
    }

    impl Service {
        async fn fetch(&self) -> Result<u32, SecretsError> {
            self.calls.set(self.calls.get() + 1);
            tokio::task::yield_now().await;
            if self.hangs.get() {
                std::future::pending::<()>().await;
            }
            if self.down.get() { Err(SecretsError::Paused) } else { Ok(self.calls.get()) }
        }
    }

    fn kept() -> Kept<u32> {
        Kept::new(Duration::from_millis(TTL))
    }

    #[tokio::test]
    async fn a_value_serves_until_it_has_aged() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        for (now, value) in [(start, 1), (start + TTL - 1, 1), (start + TTL, 2), (start + 2 * TTL - 1, 2)] {
            assert_eq!(*kept.get(now, |_| service.fetch()).await.unwrap(), value);
        }
    }

    #[tokio::test]
    async fn whoever_asks_at_once_waits_for_one_fetch() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        let (a, b, c) = tokio::join!(
            kept.get(start, |_| service.fetch()),
            kept.get(start, |_| service.fetch()),
            kept.get(start, |_| service.fetch())
        );
        assert_eq!((*a.unwrap(), *b.unwrap(), *c.unwrap()), (1, 1, 1));
        let held = kept.get(start, |_| service.fetch()).await.unwrap();
        let (a, b) =
            tokio::join!(kept.renew(&held, start, || service.fetch()), kept.renew(&held, start, || service.fetch()));
        assert_eq!((*a.unwrap(), *b.unwrap()), (2, 2));
    }

    #[tokio::test]
    async fn the_last_good_value_serves_while_the_service_is_down_but_not_for_ever() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        kept.get(start, |_| service.fetch()).await.unwrap();
        service.down.set(true);
        let end = start + TTL + MAX_STALE_MS;
        assert_eq!(*kept.get(end - 1, |_| service.fetch()).await.unwrap(), 1);
        assert!(kept.get(end, |_| service.fetch()).await.is_err());
        service.down.set(false);
        assert_eq!(*kept.get(end + 1, |_| service.fetch()).await.unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_slows_one_event_in_a_while_and_no_more() {
        let (kept, service) = (Kept::new(Duration::ZERO), Service::default()); // it ages at once
        kept.get(clock::now(), |_| service.fetch()).await.unwrap();
        service.hangs.set(true);
        let begun = tokio::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(*kept.get(clock::now(), |_| service.fetch()).await.unwrap(), 1);
        }
        assert!(begun.elapsed() < 2 * STALE_WAIT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn an_outage_does_not_become_a_stream_of_calls() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        service.down.set(true);
        for now in start..start + PAUSE_MS {
            assert!(kept.get(now, |_| service.fetch()).await.is_err());
        }
        assert!(service.calls.get() <= 2, "{}", service.calls.get());
    }

    #[tokio::test]
    async fn forgeries_do_not_become_a_stream_of_calls() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        let mut held = kept.get(start, |_| service.fetch()).await.unwrap();
        for now in start..start + 3 * RENEW_PAUSE_MS {
            held = kept.renew(&held, now, || service.fetch()).await.unwrap();
        }
        assert_eq!(service.calls.get(), 1 + 3);
    }

    #[tokio::test]
    async fn a_renewal_that_failed_refuses_to_judge_until_one_succeeds() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        let held = kept.get(start, |_| service.fetch()).await.unwrap();
        service.down.set(true);
        assert!(kept.renew(&held, start, || service.fetch()).await.is_err());
        service.down.set(false);
        assert!(kept.renew(&held, start + RENEW_PAUSE_MS - 1, || service.fetch()).await.is_err());
        assert_eq!(*kept.renew(&held, start + RENEW_PAUSE_MS, || service.fetch()).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_doubted_value_is_fetched_again_and_serves_meanwhile() {
        let (kept, service, start) = (kept(), Service::default(), clock::now());
        kept.get(start, |_| service.fetch()).await.unwrap();
        kept.doubt();
        assert_eq!(*kept.get(start, |_| service.fetch()).await.unwrap(), 1); // fetched just now
        service.down.set(true);
        for _ in 0..50 {
            assert_eq!(*kept.get(start + PAUSE_MS, |_| service.fetch()).await.unwrap(), 1);
            kept.doubt(); // however often
        }
        service.down.set(false);
        assert!(*kept.get(start + PAUSE_MS + 2 * STALE_PAUSE_MS, |_| service.fetch()).await.unwrap() > 1);
    }
}
