//! The faults that a call asks for itself, in the words of the official SDKs' test suites.
//!
//! `return-error`, `error-rpcs` and `error-count`; `delay-ms`, `delay-rpcs` and `delay-count`; `stream-error`,
//! `stream-error-rpcs` and `stream-error-message-limit`. Lists are separated by spaces. A count is of the first calls that
//! it applies to within one `request-id`, which, in spite of its name, stands for a whole test; without a count, the fault
//! is met every time. The message limit counts whatever a stream carries, heartbeats included: the suites wait for the
//! error without publishing anything.

use std::{
    collections::{HashMap, VecDeque},
    str::FromStr,
};

use axum::http::HeaderMap;

use super::{Code, Fault, Rpc, Rules, StreamEnd};

/// How many request ids are remembered.
const MAX_SESSIONS: usize = 1_000;
/// The longest request id, in bytes. The suites send UUIDs.
const MAX_ID: usize = 128;

/// What a call asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// From first to last.
    pub(super) faults: Vec<Fault>,
    pub(super) stream: Option<StreamEnd>,
}

/// How often each request id has met its error and its delay.
#[derive(Default)]
pub(super) struct Sessions {
    met: HashMap<String, [u64; 2]>,
    order: VecDeque<String>,
}

#[derive(Clone, Copy)]
enum Kind {
    Error,
    Delay,
}

impl Sessions {
    fn is_among_first(&mut self, id: &str, kind: Kind, count: u64) -> bool {
        if !self.met.contains_key(id) {
            if self.order.len() >= MAX_SESSIONS {
                self.order.pop_front().map(|oldest| self.met.remove(&oldest));
            }
            self.order.push_back(id.to_owned());
        }
        let met = &mut self.met.entry(id.to_owned()).or_default()[kind as usize];
        let is_among_first = *met < count;
        *met += u64::from(is_among_first);
        is_among_first
    }
}

impl Rules {
    /// The error says what is wrong with the metadata.
    pub(super) fn asked(&mut self, rpc: Rpc, headers: &HeaderMap) -> Result<Asked, String> {
        let mut asked = Asked::default();
        if let Some(ms) = value(headers, "delay-ms")?
            && names(headers, "delay-rpcs", rpc)
            && self.is_due(headers, Kind::Delay, "delay-count")?
        {
            asked.faults.push(Fault::DelayMs(ms));
        }
        if let Some(status) = value(headers, "return-error")?
            && names(headers, "error-rpcs", rpc)
            && self.is_due(headers, Kind::Error, "error-count")?
        {
            asked.faults.push(Fault::Status(status));
        }
        if let Some(status) = value::<Code>(headers, "stream-error")?
            && names(headers, "stream-error-rpcs", rpc)
        {
            let after = value(headers, "stream-error-message-limit")?.unwrap_or(0);
            asked.stream = Some(StreamEnd { status, after, counts_everything: true });
        }
        Ok(asked)
    }

    fn is_due(&mut self, headers: &HeaderMap, kind: Kind, count: &str) -> Result<bool, String> {
        let Some(count) = value(headers, count)? else { return Ok(true) };
        let id: String = value(headers, "request-id")?.unwrap_or_default();
        if id.is_empty() || id.len() > MAX_ID {
            return Err(format!("a count needs a `request-id` of 1 to {MAX_ID} bytes, the same for a whole test"));
        }
        Ok(self.sessions.is_among_first(&id, kind, count))
    }
}

fn value<T: FromStr<Err: std::fmt::Display>>(headers: &HeaderMap, name: &str) -> Result<Option<T>, String> {
    let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    value.parse().map(Some).map_err(|error| format!("the metadata `{name}`: {error}"))
}

/// Names that are not known are of calls that this server does not offer.
fn names(headers: &HeaderMap, list: &str, rpc: Rpc) -> bool {
    let lists = headers.get_all(list).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(str::split_whitespace).any(|name| name.parse::<Rpc>().is_ok_and(|named| named.covers(rpc)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn ask(rules: &mut Rules, rpc: &str, metadata: &[(&'static str, &str)]) -> Result<Asked, String> {
        let headers = metadata.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        rules.asked(rpc.parse().unwrap(), &headers)
    }

    #[test]
    fn a_count_is_of_the_first_calls_of_one_request_id() {
        let mut rules = Rules::default();
        let mut errors = |rpc, id| {
            let metadata = [("return-error", "unavailable"), ("error-rpcs", "get set"), ("error-count", "2")];
            ask(&mut rules, rpc, &[&metadata[..], &[("request-id", id)]].concat()).unwrap().faults.len()
        };
        assert_eq!([errors("get", "a"), errors("delete", "a"), errors("set", "a"), errors("get", "a")], [1, 0, 1, 0]);
        assert_eq!(errors("get", "b"), 1);
    }

    #[test]
    fn a_delay_comes_before_an_error_and_each_has_its_count() {
        let mut rules = Rules::default();
        let mut faults = || {
            let error = [("return-error", "internal"), ("error-rpcs", "get"), ("request-id", "a")];
            let delay = [("delay-ms", "5"), ("delay-rpcs", "get"), ("delay-count", "1")];
            ask(&mut rules, "get", &[error, delay].concat()).unwrap().faults
        };
        assert_eq!(faults(), [Fault::DelayMs(5), Fault::Status(Code::Internal)]);
        assert_eq!(faults(), [Fault::Status(Code::Internal)]);
    }

    #[test]
    fn only_what_is_complete_and_names_the_call_is_a_fault() {
        let mut rules = Rules::default();
        let nothing = Ok(Asked::default());
        assert_eq!(ask(&mut rules, "get", &[("return-error", "internal"), ("error-rpcs", "")]), nothing);
        assert_eq!(ask(&mut rules, "get", &[("error-rpcs", "get"), ("request-id", "a")]), nothing);
        let other = [("return-error", "internal"), ("error-rpcs", "sorted-set-put")];
        assert_eq!(ask(&mut rules, "get", &other), nothing);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut rules = Rules::default();
        let mut error = |metadata: &[_]| ask(&mut rules, "get", metadata).unwrap_err();
        assert!(error(&[("return-error", "gone")]).contains("`deadline-exceeded`"));
        assert!(error(&[("delay-ms", "x")]).contains("delay-ms"));
        let no_id = [("return-error", "internal"), ("error-rpcs", "get"), ("error-count", "1")];
        assert!(error(&no_id).contains("request-id"));
    }

    #[test]
    fn only_so_many_request_ids_are_remembered() {
        let mut sessions = Sessions::default();
        for id in 0..=MAX_SESSIONS {
            assert!(sessions.is_among_first(&id.to_string(), Kind::Error, 1));
        }
        assert_eq!(sessions.met.len(), MAX_SESSIONS);
        assert!(sessions.is_among_first("0", Kind::Error, 1), "the oldest is forgotten");
        assert!(!sessions.is_among_first(&MAX_SESSIONS.to_string(), Kind::Error, 1));
    }
}
