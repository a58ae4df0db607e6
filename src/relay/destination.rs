//! One route's destination: what is attempted when, and what becomes of it, which the journal then remembers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::breaker::{Breaker, May};
use super::config::Mode;
use super::fate::Fate;
use super::health::Health;
use super::journal::{Journal, Letter, Pending, RouteName, Write};
use super::letterbox::Letterbox;
use super::metrics::RouteMetrics;
use super::sender::Sender;
use super::window::Window;
use crate::clock;

/// How often the journal is looked into without a sign, for what the command line has put back.
const LOOK: Duration = Duration::from_secs(1);

/// What has ended.
enum Done {
    Attempt {
        id: i64,
        fate: Fate,
        probe: bool,
        /// When it began, in epoch milliseconds.
        began: u64,
    },
    /// The letter lies in the letterbox.
    Kept { id: i64, reason: String },
}

/// Delivers a route's messages.
pub(crate) struct Destination {
    pub(crate) number: i64,
    pub(crate) sender: Arc<Sender>,
    pub(crate) journal: Journal,
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) health: Health,
    /// Where dead letters go, if the journal does not outlive the process.
    pub(crate) letterbox: Option<Letterbox>,
    /// Whether we are the relay that delivers.
    pub(crate) active: watch::Receiver<bool>,
    /// Whether to begin nothing more.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) state: State,
}

/// What changes.
#[derive(Default)]
pub(crate) struct State {
    window: Window,
    breaker: Breaker,
    under_way: JoinSet<Done>,
    /// The destination asked us to wait until then.
    hold: Option<Instant>,
    /// When the next attempt may begin, at the route's rate.
    paced: Option<Instant>,
}

impl Destination {
    /// Runs until it is told to stop and what is under way has ended. Dropped before, it abandons what is under way.
    pub(crate) async fn run(mut self) {
        let mut accepted = self.journal.accepted();
        accepted.mark_changed(); // before there was anybody to be told
        loop {
            if *self.stopping.borrow_and_update() {
                break;
            }
            if !*self.active.borrow_and_update() {
                self.abandon().await;
                accepted.mark_changed();
                tokio::select! {
                    _ = self.active.changed() => {}
                    _ = self.stopping.changed() => {}
                }
                continue;
            }
            if self.state.window.wants_more() && accepted.has_changed().unwrap_or(true) {
                accepted.mark_unchanged();
                if self.read().await {
                    accepted.mark_changed(); // there may be more
                }
            }
            let next = self.begin().await;
            let wake = next.unwrap_or_else(|| Instant::now() + LOOK).min(Instant::now() + LOOK);
            tokio::select! {
                Some(done) = self.state.under_way.join_next() => self.settle_all(done).await,
                _ = accepted.changed(), if self.state.window.wants_more() => accepted.mark_changed(),
                () = tokio::time::sleep_until(wake) => accepted.mark_changed(),
                _ = self.active.changed() => {}
                _ = self.stopping.changed() => {}
            }
        }
        while let Some(done) = self.state.under_way.join_next().await {
            self.settle_all(done).await;
        }
    }

    /// Fills the window from the journal; is it full, so that there may be more?
    async fn read(&mut self) -> bool {
        let room = self.state.window.room();
        match self.journal.pending(self.number, self.state.window.read_to(), room).await {
            Ok(found) => {
                let (now, is_full) = (Instant::now(), found.len() == room);
                for pending in found {
                    let (id, is_binary) = (pending.id, pending.binary.is_some());
                    self.state.window.add(pending, &self.sender.route, now);
                    if is_binary {
                        self.die(id, "binary: a webhook carries text only".into()).await;
                    }
                }
                is_full
            }
            Err(error) => {
                self.health.set("journal", format!("the journal cannot be read: {error}"));
                false
            }
        }
    }

    /// Begins what may be begun; returns when more may be.
    async fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if let Some(until) = self.state.hold.or(self.state.paced).filter(|until| *until > now) {
            return Some(until);
        }
        self.state.hold = None;
        let room = self.sender.route.concurrency.saturating_sub(self.state.under_way.len());
        match self.state.breaker.may(now) {
            May::Wait(until) => Some(until),
            May::Probe if self.state.under_way.is_empty() => {
                let probe = self.state.window.probe()?;
                self.start(probe, true).await;
                None
            }
            May::Probe => None,
            May::Begin => {
                let rate = self.sender.route.per_second;
                let (due, next) = self.state.window.due(now, rate.map_or(room, |_| room.min(1)));
                let paced = rate.filter(|_| !due.is_empty()).map(|rate| self.pace(now, rate));
                for id in due {
                    self.start(id, false).await;
                }
                paced.or(next)
            }
        }
    }

    /// When the next one may begin, after one that begins now. That may be past, where we are behind.
    fn pace(&mut self, now: Instant, rate: f64) -> Instant {
        let since = self.state.paced.filter(|paced| now.duration_since(*paced) < Duration::from_secs(1)).unwrap_or(now);
        *self.state.paced.insert(since + Duration::from_secs_f64(1.0 / rate))
    }

    async fn start(&mut self, id: i64, probe: bool) {
        let Some(item) = self.state.window.get_mut(id) else { return };
        let began = clock::now();
        let horizon = self.sender.route.horizon.as_millis() as u64;
        if item.pending.uncertain.is_some_and(|since| began.saturating_sub(since) > horizon) {
            let reason = "not delivered while the receiver remembers: another attempt could have its effect twice";
            return self.die(id, reason.into()).await;
        }
        item.under_way = true;
        let (sender, pending) = (Arc::clone(&self.sender), item.pending.clone());
        let number = pending.attempts + 1;
        self.metrics.attempts.add(1);
        self.state
            .under_way
            .spawn(async move { Done::Attempt { id, fate: sender.attempt(&pending, number).await, probe, began } });
        self.metrics.under_way.store(self.state.under_way.len() as u64, Ordering::Relaxed);
    }

    /// Settles one that has ended, and whatever has ended beside it.
    async fn settle_all(&mut self, first: Result<Done, JoinError>) {
        let mut done = Some(first);
        while let Some(this) = done {
            match this {
                Ok(Done::Attempt { id, fate, probe, began }) => self.settle(id, fate, probe, began).await,
                Ok(Done::Kept { id, reason }) => self.dead(id, reason).await,
                Err(_) => {} // aborted
            }
            done = self.state.under_way.try_join_next();
        }
        self.metrics.under_way.store(self.state.under_way.len() as u64, Ordering::Relaxed);
    }

    async fn settle(&mut self, id: i64, fate: Fate, probe: bool, began: u64) {
        if matches!(fate, Fate::Retry { doubtful: true, .. })
            && let Some(item) = self.state.window.get_mut(id)
        {
            item.pending.uncertain.get_or_insert(began);
        }
        match fate {
            Fate::Delivered => self.delivered(id).await,
            Fate::Dead(reason) => {
                self.recovered();
                self.die(id, reason).await;
            }
            Fate::Fault(reason) | Fate::Retry { reason, .. } if self.sender.route.mode == Mode::Retired => {
                self.die(id, format!("one attempt only: {reason}")).await;
            }
            Fate::Fault(reason) => {
                self.state.breaker.faulted(Instant::now());
                self.metrics.shut.store(true, Ordering::Relaxed);
                self.health.set(&self.part(), format!("the destination is paused: {reason}"));
                let probes = self.state.window.get_mut(id).map_or(0, |item| item.probes);
                self.again(id, self.backoff().wait(probes + 1), false).await; // it may be the message that is wrong
            }
            Fate::Retry { reason, after, for_all, .. } => {
                self.failed(&reason, after, for_all);
                let attempts = self.state.window.get_mut(id).map_or(0, |item| item.pending.attempts);
                let wait = if probe { Duration::ZERO } else { self.backoff().wait(attempts + 1) };
                let wait = after.map_or(wait, |after| after + wait.min(Duration::from_secs(1)));
                tracing::warn!(route = self.part(), id, attempts = attempts + 1, reason, "not delivered; tried again");
                self.metrics.retried.add(1);
                self.again(id, wait, !probe).await;
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff { least: Duration::from_millis(50), base: Duration::from_millis(500), most: self.sender.route.retry }
    }

    fn failed(&mut self, reason: &str, asked: Option<Duration>, for_all: bool) {
        let now = Instant::now();
        self.state.hold = self.state.hold.max(asked.filter(|_| for_all).map(|asked| now + asked));
        let was_shut = self.state.breaker.is_shut();
        self.state.breaker.failed(now, asked);
        if self.state.breaker.is_shut() && !was_shut {
            tracing::error!(route = self.part(), reason, "the destination fails and is left alone for a while");
        }
        self.metrics.shut.store(self.state.breaker.is_shut(), Ordering::Relaxed);
    }

    /// The destination answers as it should.
    fn recovered(&mut self) {
        if self.state.breaker.is_shut() {
            tracing::info!(route = self.part(), "the destination answers again");
        }
        self.state.breaker.succeeded();
        self.metrics.shut.store(false, Ordering::Relaxed);
        self.health.clear(&self.part());
    }

    async fn delivered(&mut self, id: i64) {
        self.recovered();
        if let Some(item) = self.state.window.remove(id) {
            self.metrics.took(clock::now().saturating_sub(item.pending.received));
        }
        self.journal.settle(Write::Delivered { id, route: self.number }).await;
    }

    /// No attempt can succeed, or be made. Without a disk nothing is settled before the letter is safe.
    async fn die(&mut self, id: i64, reason: String) {
        let Some(letterbox) = self.letterbox.clone() else { return self.dead(id, reason).await };
        let Some(item) = self.state.window.get_mut(id) else { return };
        item.under_way = true;
        let letter = letter(&self.sender.name, &item.pending, &reason);
        self.state.under_way.spawn(async move {
            letterbox.keep(letter).await;
            Done::Kept { id, reason }
        });
    }

    async fn dead(&mut self, id: i64, reason: String) {
        let Some(item) = self.state.window.remove(id) else { return };
        tracing::error!(
            route = self.part(),
            id,
            number = item.pending.place.number,
            reason,
            "message is a dead letter"
        );
        self.metrics.dead.add(1);
        let (attempts, uncertain, is_kept) = (made(&item.pending), item.pending.uncertain, self.letterbox.is_some());
        self.journal.settle(Write::Dead { id, attempts, uncertain, reason, is_kept }).await;
    }

    /// The message waits for another attempt.
    async fn again(&mut self, id: i64, wait: Duration, counts: bool) {
        let Some(item) = self.state.window.get_mut(id) else { return };
        item.under_way = false;
        item.due = Instant::now() + wait;
        let tried = if counts { &mut item.pending.attempts } else { &mut item.probes };
        *tried = tried.saturating_add(1);
        let Pending { attempts, uncertain, .. } = item.pending;
        self.journal.settle(Write::Tried { id, attempts, uncertain }).await;
    }

    /// Another relay delivers now. What was under way may have had its effect.
    async fn abandon(&mut self) {
        self.state.under_way.shutdown().await;
        let now = clock::now();
        for item in self.state.window.clear() {
            let Pending { id, attempts, uncertain, .. } = item.pending;
            let uncertain = uncertain.or(Some(now));
            self.journal.settle(Write::Tried { id, attempts: attempts + 1, uncertain }).await;
        }
        self.health.clear(&self.part());
    }

    fn part(&self) -> String {
        let RouteName { cache, topic, name } = &self.sender.name;
        format!("destination {cache}/{topic} ({name})")
    }
}

fn letter(route: &RouteName, pending: &Pending, reason: &str) -> Letter {
    let Pending { id, place, received, uncertain, .. } = *pending;
    Letter {
        id,
        route: route.clone(),
        place,
        received,
        died: clock::now(),
        attempts: made(pending),
        reason: reason.to_owned(),
        uncertain,
        token_id: pending.token_id.clone(),
        text: pending.binary.is_none().then(|| pending.text.clone()),
        bytes: pending.binary.as_ref().map(Letter::bytes),
    }
}

/// How many attempts were made at one that dies, the last one included.
fn made(pending: &Pending) -> u32 {
    pending.attempts + u32::from(pending.binary.is_none())
}
