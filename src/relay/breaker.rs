//! When a destination is left alone. Pure but for the jitter; `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;

/// The longest that a single answer can have a destination left alone.
const MOST_ASKED: Duration = Duration::from_secs(300);
/// How many failures in a row, of whichever messages, mean the destination rather than a message.
const FAILURES: u32 = 5;
/// Between two probes of a destination that fails.
const BROKEN: Backoff =
    Backoff { least: Duration::from_millis(200), base: Duration::from_secs(1), most: Duration::from_secs(60) };
/// Between two probes of a destination that is wrong: its URL, its secret, a permission. Somebody has to mend it.
const PAUSED: Backoff =
    Backoff { least: Duration::from_secs(2), base: Duration::from_secs(4), most: Duration::from_secs(300) };

/// One destination's breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    shut: Option<Shut>,
}

#[derive(Debug)]
struct Shut {
    /// How many probes have failed.
    probes: u32,
    until: Instant,
}

/// What may be begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum May {
    Begin,
    /// One attempt, to find out; it does not count as one of the message's.
    Probe,
    /// Nothing before then.
    Wait(Instant),
}

impl Breaker {
    pub(crate) fn may(&self, now: Instant) -> May {
        match &self.shut {
            None => May::Begin,
            Some(shut) if shut.until <= now => May::Probe,
            Some(shut) => May::Wait(shut.until),
        }
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The destination failed, and may recover by itself; it may have asked to be left alone for so long.
    pub(crate) fn failed(&mut self, now: Instant, asked: Option<Duration>) {
        self.failures += 1;
        if self.failures >= FAILURES || self.shut.is_some() {
            self.shut(BROKEN, now);
        }
        if let Some(shut) = &mut self.shut {
            shut.until = shut.until.max(now + asked.unwrap_or_default().min(MOST_ASKED));
        }
    }

    /// The destination is wrong.
    pub(crate) fn faulted(&mut self, now: Instant) {
        self.shut(PAUSED, now);
    }

    fn shut(&mut self, backoff: Backoff, now: Instant) {
        let probes = match &self.shut {
            Some(shut) if now < shut.until => return, // of an attempt that was under way when it was shut
            Some(shut) => shut.probes + 1,
            None => 1,
        };
        self.shut = Some(Shut { probes, until: now + backoff.wait(probes) });
    }

    #[cfg(test)]
    fn until(&self) -> Instant {
        self.shut.as_ref().map(|shut| shut.until).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_destination_that_fails_again_and_again_is_left_alone_and_probed() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            breaker.failed(now, None);
            assert_eq!(breaker.may(now), May::Begin);
        }
        breaker.failed(now, None);
        let until = breaker.until();
        assert_eq!(breaker.may(now), May::Wait(until));
        breaker.failed(now, None);
        assert_eq!(breaker.until(), until, "attempts that were under way change nothing");
        assert_eq!(breaker.may(until), May::Probe);
        breaker.failed(until, None);
        assert!(breaker.until() > until);
        breaker.succeeded();
        assert_eq!(breaker.may(now), May::Begin);
    }

    #[tokio::test]
    async fn a_destination_that_asks_for_time_is_given_it_within_bounds() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.failed(now, Some(Duration::from_secs(120)));
        }
        assert!(breaker.until() >= now + Duration::from_secs(120));
        breaker.failed(now, Some(Duration::from_secs(3_600)));
        assert_eq!(breaker.until(), now + MOST_ASKED);
    }

    #[tokio::test]
    async fn one_success_forgets_the_failures() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now, None);
            breaker.succeeded();
        }
        assert_eq!(breaker.may(now), May::Begin);
    }

    #[tokio::test]
    async fn a_destination_that_is_wrong_is_left_alone_at_once_and_for_longer() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.faulted(now);
        assert!(breaker.until() >= now + PAUSED.least && breaker.is_shut());
    }
}
