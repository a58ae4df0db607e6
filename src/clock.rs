//! The clock. Only the edges ask it; everything within is told the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time, in epoch milliseconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
