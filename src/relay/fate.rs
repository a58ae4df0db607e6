//! What an attempt's outcome means for the message and for the destination. Pure.

use std::time::Duration;

use crate::delivery::Outcome;

/// What becomes of the message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    /// It is tried again, not before `after`.
    Retry {
        reason: String,
        after: Option<Duration>,
        /// The receiver asked the sender, not this message, to wait.
        for_all: bool,
        /// The attempt may have had its effect, now or later.
        doubtful: bool,
    },
    /// The destination is wrong, and the message waits until somebody has mended it.
    Fault(String),
    /// No attempt can succeed.
    Dead(String),
}

impl Fate {
    /// It could not be sent yet.
    pub(crate) fn not_sent(reason: String) -> Self {
        Self::Retry { reason, after: None, for_all: false, doubtful: false }
    }

    pub(crate) fn of(outcome: Outcome) -> Self {
        let retry = |reason: String| Self::Retry { reason, after: None, for_all: false, doubtful: true };
        match outcome {
            Outcome::Delivered => Self::Delivered,
            Outcome::TimedOut => retry("no answer in time".into()),
            Outcome::Broken(error) => retry(error),
            Outcome::Forbidden => Self::Fault("its name leads to no address that may be used".into()),
            Outcome::Refused { status, retry_after } => refused(status, retry_after),
        }
    }
}

fn refused(status: u16, after: Option<Duration>) -> Fate {
    let reason = format!("answered {status}");
    match status {
        400 | 413 | 422 => Fate::Dead(reason),
        429 => Fate::Retry { reason, after, for_all: true, doubtful: false },
        408 | 409 | 425 | 500.. => Fate::Retry { reason, after, for_all: false, doubtful: true },
        401 | 403 => Fate::Fault(format!("{reason}: is the signing secret the receiver's, and is the clock right?")),
        404 | 405 | 410 => Fate::Fault(format!("{reason}: is the URL right?")),
        300..=399 => Fate::Fault(format!("{reason}: redirects are not followed; configure the URL that it leads to")),
        _ => Fate::Fault(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_fate() {
        let fate = |status| Fate::of(Outcome::Refused { status, retry_after: Some(Duration::from_secs(7)) });
        for status in [400, 413, 422] {
            assert!(matches!(fate(status), Fate::Dead(_)), "{status}");
        }
        for status in [301, 302, 307, 308, 401, 402, 403, 404, 405, 406, 410, 411, 415, 418, 451] {
            assert!(matches!(fate(status), Fate::Fault(_)), "{status}");
        }
        for status in [408, 409, 425, 500, 502, 503, 504, 599] {
            let Fate::Retry { after, for_all, doubtful, .. } = fate(status) else { panic!("{status}") };
            assert_eq!((after, for_all, doubtful), (Some(Duration::from_secs(7)), false, true), "{status}");
        }
        assert!(matches!(fate(429), Fate::Retry { for_all: true, doubtful: false, .. }));
        assert_eq!(Fate::of(Outcome::Delivered), Fate::Delivered);
    }
}
