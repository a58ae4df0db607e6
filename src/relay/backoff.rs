//! Waiting before another try: full jitter, so that those who failed together do not come back together.

use std::time::Duration;

/// A schedule of waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Before the first of the jitter: no wait is shorter.
    pub(crate) least: Duration,
    /// What the first wait is drawn from; doubled for each further one.
    pub(crate) base: Duration,
    /// What no wait exceeds.
    pub(crate) most: Duration,
}

impl Backoff {
    /// The wait after `failures` of them, at least one.
    pub(crate) fn wait(&self, failures: u32) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.most).mul_f64(fastrand::f64()).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_bounded_and_differ() {
        let backoff = Backoff {
            least: Duration::from_millis(10),
            base: Duration::from_millis(100),
            most: Duration::from_secs(10),
        };
        let longest = |failures| (0..200).map(|_| backoff.wait(failures)).max().unwrap();
        assert!(longest(1) <= Duration::from_millis(100));
        assert!(longest(4) <= Duration::from_millis(800) && longest(4) > Duration::from_millis(400));
        for failures in [20, 31, 32, 33, u32::MAX] {
            let longest = longest(failures);
            assert!(longest <= Duration::from_secs(10) && longest > Duration::from_secs(5), "{failures}: {longest:?}");
        }
        assert!((0..200).all(|_| backoff.wait(1) >= backoff.least));
    }
}
