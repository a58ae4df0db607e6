//! The clock. Only the edges ask it; everything within is told the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time, in epoch milliseconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// When Lambda ends the invocation that began at `now`, in epoch milliseconds; never, where what we were told cannot be:
/// emulators say something, as long as it is a number.
#[cfg(feature = "processing")]
pub(crate) fn plausible_deadline(told: u64, now: u64) -> u64 {
    if told > now { told } else { u64::MAX }
}
