//! A rule as text: `RPCS=WHAT[*COUNT]`, in the flag and at the start.

use std::{fmt, str::FromStr};

use super::{Fault, FaultError, Rule};

pub(super) const KNOWN: &str = "drop, drop-answer, hang, hang-answer, forget, delay:TIME, delay-answer:TIME \
    (such as 250ms or 2s), stream-error:STATUS:MESSAGES, or a status: cancelled, unknown, invalid-argument, \
    deadline-exceeded, not-found, already-exists, permission-denied, resource-exhausted, failed-precondition, aborted, \
    out-of-range, unimplemented, internal, unavailable, data-loss, unauthenticated";

impl FromStr for Rule {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let wrong = || FaultError::Rule(text.to_owned());
        let (rpcs, what) = text.split_once('=').ok_or_else(wrong)?;
        let rpcs = rpcs.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>()?;
        let (what, count) = match what.split_once('*') {
            Some((what, count)) => (what, Some(count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?)),
            None => (what, None),
        };
        Ok(Self { rpcs, fault: what.parse()?, count, for_ms: None })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rpcs = self.rpcs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{rpcs}={}", self.fault)?;
        self.count.map_or(Ok(()), |count| write!(f, "*{count}"))?;
        self.for_ms.map_or(Ok(()), |ms| write!(f, ", for {ms} ms"))
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let wrong = || FaultError::Fault(text.to_owned());
        let (name, argument) = text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
        match (name, argument) {
            ("drop", None) => Ok(Self::Drop),
            ("drop-answer", None) => Ok(Self::DropAnswer),
            ("hang", None) => Ok(Self::Hang),
            ("hang-answer", None) => Ok(Self::HangAnswer),
            ("forget", None) => Ok(Self::Forget),
            ("delay", Some(time)) => millis(time).map(Self::DelayMs).ok_or_else(wrong),
            ("delay-answer", Some(time)) => millis(time).map(Self::DelayAnswerMs).ok_or_else(wrong),
            ("stream-error", Some(argument)) => {
                let (status, after) = argument.split_once(':').ok_or_else(wrong)?;
                let status = status.parse().map_err(|_| wrong())?;
                Ok(Self::StreamError { status, after: after.parse().map_err(|_| wrong())? })
            }
            (status, None) => status.parse().map(Self::Status).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::DelayMs(ms) => write!(f, "delay:{ms}ms"),
            Self::DelayAnswerMs(ms) => write!(f, "delay-answer:{ms}ms"),
            Self::Drop => f.write_str("drop"),
            Self::DropAnswer => f.write_str("drop-answer"),
            Self::Hang => f.write_str("hang"),
            Self::HangAnswer => f.write_str("hang-answer"),
            Self::Forget => f.write_str("forget"),
            Self::StreamError { status, after } => write!(f, "stream-error:{status}:{after}"),
        }
    }
}

fn millis(text: &str) -> Option<u64> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok(),
        None => text.strip_suffix('s')?.parse::<u64>().ok()?.checked_mul(1000),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::local::faults::Code;

    #[test]
    fn a_rule_reads_and_writes_the_same() {
        for text in [
            "get,set-if=unavailable*3",
            "list-push-front=delay:250ms",
            "all=delay-answer:1ms",
            "topic-publish=drop",
            "set-if=drop-answer*1",
            "momento=hang",
            "secrets-manager=hang-answer",
            "get=forget*1",
            "topic-subscribe=stream-error:internal:3*2",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        assert_eq!("delay:2s".parse(), Ok(Fault::DelayMs(2_000)));
        assert_eq!("get=deadline-exceeded".parse::<Rule>().unwrap().fault, Fault::Status(Code::DeadlineExceeded));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_known() {
        let error = |text: &str| text.parse::<Rule>().unwrap_err().to_string();
        assert!(error("gett=drop").contains("`gett`") && error("gett=drop").contains("list-push-front"));
        for text in ["get=dorp", "get=delay", "get=delay:2", "get=drop:2s", "get=", "get=stream-error:internal"] {
            assert!(error(text).contains("hang-answer") && error(text).contains("deadline-exceeded"), "{text}");
        }
        for text in ["get", "get=drop*0", "get=drop*x"] {
            assert!(error(text).contains("RPCS=WHAT*COUNT"), "{text}");
        }
    }
}
