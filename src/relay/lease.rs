//! Which of two relays delivers: a lease in a Momento cache. The other one is subscribed and ready.
//!
//! The holder counts its lease from before the call that renewed it, and the service from after it: so the holder stops
//! first, by its own clock, whatever became of the answer.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::account::{Account, Accounts};
use super::config::Config;
use super::health::Health;
use super::journal::RouteName;
use super::marks::Marks;
use super::receipts::key;
use crate::momento::Error;

/// How often it is tried to get, or to renew, the lease: so many times in its length.
const TRIES: u32 = 5;
/// How long a released lease stays in the way.
const RELEASED: Duration = Duration::from_millis(100);

/// The lease.
pub(crate) struct Lease {
    accounts: Accounts,
    cache: String,
    key: String,
    /// Names this process, and no other.
    owner: String,
    length: Duration,
    health: Health,
}

impl Lease {
    /// The lease on these routes.
    pub(crate) fn new<'a>(
        accounts: Accounts,
        config: &Config,
        routes: impl Iterator<Item = &'a RouteName>,
        owner: String,
        health: Health,
    ) -> Self {
        let mut names: Vec<[&[u8]; 3]> =
            routes.map(|name| [name.cache.as_bytes(), name.topic.as_bytes(), name.name.as_bytes()]).collect();
        names.sort_unstable(); // the other relay may have them in another order
        let first = config.routes.first().map(|route| route.cache.clone()).unwrap_or_default();
        Self {
            accounts,
            cache: config.standby.cache.clone().or(config.position.cache.clone()).unwrap_or(first),
            key: key("lease", names.as_flattened()),
            owner,
            length: config.standby.lease,
            health,
        }
    }

    /// Gets and renews the lease, and says in `active` whether we hold it. Before that is said, what the other one has
    /// settled is let go of. Until it is dropped.
    pub(crate) async fn run(&mut self, active: &watch::Sender<bool>, marks: &tokio::sync::Mutex<Marks>) {
        let pace = self.length / TRIES;
        let mut held_until = None::<Instant>;
        loop {
            let before = Instant::now();
            // No call may outlast the pace, or the lease could run out in the middle of one.
            match tokio::time::timeout(pace, self.hold(held_until.is_some())).await.unwrap_or(Err(None)) {
                Ok(true) => {
                    self.health.clear("lease");
                    if held_until.replace(before + self.length - pace).is_none() {
                        self.take_over(marks).await;
                        tracing::info!("this relay delivers");
                        active.send_replace(true);
                    }
                }
                Ok(false) => {
                    self.health.clear("lease");
                    if held_until.take().is_some() {
                        tracing::warn!("another relay has taken over");
                        active.send_replace(false);
                    }
                }
                Err(error) => {
                    let reason = error.map_or_else(|| "no answer in time".into(), |error| error.to_string());
                    self.health.set("lease", format!("the lease cannot be had or renewed: {reason}"));
                }
            }
            let next = before + pace;
            tokio::time::sleep_until(held_until.map_or(next, |until| until.min(next))).await;
            if held_until.is_some_and(|until| until <= Instant::now()) {
                held_until = None;
                tracing::warn!("the lease has run out; another relay may deliver now");
                active.send_replace(false);
            }
        }
    }

    async fn take_over(&self, marks: &tokio::sync::Mutex<Marks>) {
        // Not known means that more is repeated, and that is what the handlers' claims are for.
        let mut marks = marks.lock().await;
        if let Err(error) = marks.cede().await {
            tracing::warn!(error = &*error as &dyn std::error::Error, "taking over without knowing what was settled");
        }
        marks.doubt().await;
    }

    /// Do we hold the lease now? `None` is a call that did not come to an end.
    async fn hold(&mut self, held: bool) -> Result<bool, Option<Error>> {
        let account = self.accounts.get().await;
        self.try_hold(&account, held).await.map_err(Some)
    }

    async fn try_hold(&self, account: &Account, held: bool) -> Result<bool, Error> {
        let (cache, key, owner) = (self.cache.as_str(), self.key.as_str(), self.owner.as_str());
        if held {
            return account.momento.set_if_equal(cache, key, owner, owner.as_bytes(), self.length).await;
        }
        if account.momento.set_if_absent(cache, key, owner, self.length).await? {
            return Ok(true);
        }
        // Ours, if the answer to an earlier call was lost; then it is renewed, since we do not know from when it counts.
        account.momento.set_if_equal(cache, key, owner, owner.as_bytes(), self.length).await
    }

    /// Lets the other relay have it at once.
    pub(crate) async fn release(mut self) {
        let Ok(account) = tokio::time::timeout(RELEASED, self.accounts.get()).await else { return };
        let (key, owner) = (self.key.as_str(), self.owner.as_bytes());
        let _ = account.momento.set_if_equal(&self.cache, key, "released", owner, RELEASED).await;
    }
}
