//! Faults on purpose: what happens to a program when Momento, or Secrets Manager, misbehaves.
//!
//! A call meets the faults that its own metadata asks for (`metadata`), as the official SDKs' test suites do, or else the
//! first rule that covers it and is not used up. `inject` makes them happen, at the gate; `endpoint` switches the rules
//! while the server runs, and [`Faults`] does so within a program. The rules themselves are pure: `now` is an argument, in
//! epoch milliseconds.

mod endpoint;
mod inject;
mod metadata;
mod names;
mod syntax;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{cache::Caches, now, topics::Topics};

pub use names::{Code, Rpc};

pub(super) use endpoint::{PATH, routes};
pub(super) use inject::{Injector, StreamEnd};
use metadata::Sessions;

/// How many rules there may be.
const MAX_RULES: usize = 100;

/// What a call meets. What ends in `Answer` comes after the call has taken effect; everything else before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The call is refused with this status. Secrets Manager says `InternalServiceError`, or what fits the status.
    Status(Code),
    /// The call waits for so many milliseconds, and is then served. A client that gives up meanwhile was not served.
    DelayMs(u64),
    /// The call is served at once, and its answer waits for so many milliseconds.
    DelayAnswerMs(u64),
    /// The connection is closed, with everything else that is under way on it. The call is not served.
    Drop,
    /// The call is served, and then the connection is closed: the answer is lost, the effect is there.
    DropAnswer,
    /// The call is neither served nor answered, for as long as the client waits.
    Hang,
    /// The call is served, and never answered.
    HangAnswer,
    /// The cache that the call is about forgets all its items, and then the call is served.
    Forget,
    /// The call is served, and its subscription fails with `status` behind `after` published messages.
    StreamError {
        /// How it fails.
        status: Code,
        /// How many messages it carries before. Heartbeats and discontinuities do not count.
        after: u32,
    },
}

/// Which calls meet which fault, and how often.
///
/// As text, in the `--fault` flag's form, it is `RPCS=WHAT[*COUNT]`:
///
/// ```
/// use momento_webhook::local::{Code, Fault, Rule};
///
/// let rule: Rule = "get,set-if=unavailable*3".parse()?;
/// assert_eq!(rule.rpcs, ["get".parse()?, "set-if".parse()?]);
/// assert_eq!((rule.fault, rule.count), (Fault::Status(Code::Unavailable), Some(3)));
/// # Ok::<(), momento_webhook::local::FaultError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The calls.
    pub rpcs: Vec<Rpc>,
    /// What they meet.
    pub fault: Fault,
    /// How often; always, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// For how long from when the rule is set, in milliseconds; for ever, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// A rule that is set, and how often it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Active {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How many calls met it. A rule that is used up has met its `count`.
    pub hits: u64,
    #[serde(skip)]
    ends_at: Option<u64>,
}

/// What happens to a topic, and to the subscriptions that are open on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicFault {
    /// One number is skipped, and what subscribers have not read yet is lost: they meet a discontinuity on the same page.
    Discontinuity,
    /// The topic starts again at 1 on a larger page; what subscribers have not read yet is lost.
    ResetPage,
    /// The open subscriptions fall silent, without so much as a heartbeat. Later ones are served.
    Stall,
    /// The open subscriptions fail with this status. Later ones are served.
    Error(Code),
}

/// Why a fault was not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no such call.
    #[error("there is no call `{0}`; give `all`, `momento`, `secrets-manager`, or some of {known}", known = names::known())]
    Rpc(String),
    /// There is no such fault.
    #[error("there is no fault `{0}`; give {known}", known = syntax::KNOWN)]
    Fault(String),
    /// A rule is not in the flag's form.
    #[error("`{0}` is not a fault; give RPCS=WHAT or RPCS=WHAT*COUNT, such as get,set-if=unavailable*3")]
    Rule(String),
    /// A rule would never do anything.
    #[error("a rule names at least one call, and its count and time, if given, are not 0")]
    Empty,
    /// There are too many rules.
    #[error("there may be {MAX_RULES} rules at most")]
    TooMany,
    /// Shares are in percent.
    #[error("a share is 1 to 100 percent")]
    Share,
    /// The server does not run, or has no such cache.
    #[error("there is no cache `{0}`")]
    NoSuchCache(String),
    /// The server does not run, or nobody has used the topic.
    #[error("nobody has published to or subscribed to the topic `{0}`")]
    NoSuchTopic(String),
}

/// Switches faults on and off while the server runs.
///
/// Clones share the rules; give one to [`Config`](super::Config) and keep another. One configuration that runs two servers
/// at a time has the rules act on both, and the commands on the one that started last.
#[derive(Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    rules: Mutex<Rules>,
    server: Mutex<Option<(Caches, Topics)>>,
}

impl Faults {
    /// Has these rules replace whatever was set; each starts counting anew. A call meets the first that covers it.
    ///
    /// # Errors
    /// [`FaultError::Empty`] or [`FaultError::TooMany`]; then nothing changes.
    pub fn set(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), FaultError> {
        let rules: Vec<_> = rules.into_iter().collect();
        if rules.len() > MAX_RULES {
            return Err(FaultError::TooMany);
        }
        if rules.iter().any(|rule| rule.rpcs.is_empty() || rule.count == Some(0) || rule.for_ms == Some(0)) {
            return Err(FaultError::Empty);
        }
        self.rules().set(rules, now());
        Ok(())
    }

    /// Takes every rule away. Calls that already wait go on waiting.
    pub fn clear(&self) {
        self.rules().active.clear();
    }

    /// The rules that are set, in their order.
    pub fn active(&self) -> Vec<Active> {
        self.rules().active.clone()
    }

    /// Has a cache forget `percent` of the items whose keys start with `prefix`, rounded up, and says how many that are.
    /// Which ones depends on the keys alone.
    ///
    /// # Errors
    /// [`FaultError::NoSuchCache`] or [`FaultError::Share`].
    pub fn forget(&self, cache: &str, prefix: &[u8], percent: u8) -> Result<usize, FaultError> {
        if !(1..=100).contains(&percent) {
            return Err(FaultError::Share);
        }
        let missing = || FaultError::NoSuchCache(cache.to_owned());
        let (caches, _) = self.server().clone().ok_or_else(missing)?;
        caches.lock().items(cache, now()).map(|mut items| items.forget(prefix, percent)).map_err(|_| missing())
    }

    /// Has this happen to a topic now, and says how many subscriptions are open on it.
    ///
    /// # Errors
    /// [`FaultError::NoSuchTopic`], if nobody has used it.
    pub fn topic(&self, cache: &str, topic: &str, fault: TopicFault) -> Result<usize, FaultError> {
        let missing = || FaultError::NoSuchTopic(format!("{cache}/{topic}"));
        let (_, topics) = self.server().clone().ok_or_else(missing)?;
        topics.fault(cache, topic, fault).ok_or_else(missing)
    }

    /// Has the commands act on this server.
    pub(super) fn attach(&self, caches: Caches, topics: Topics) {
        *self.server() = Some((caches, topics));
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> MutexGuard<'_, Option<(Caches, Topics)>> {
        self.0.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted.
#[derive(Default)]
struct Rules {
    active: Vec<Active>,
    sessions: Sessions,
}

impl Rules {
    fn set(&mut self, rules: Vec<Rule>, now: u64) {
        let active = |rule: Rule| Active { ends_at: rule.for_ms.map(|ms| now.saturating_add(ms)), rule, hits: 0 };
        self.active = rules.into_iter().map(active).collect();
    }

    /// What this call meets, which counts as a hit.
    fn meet(&mut self, rpc: Rpc, now: u64) -> Option<Fault> {
        let meets = |active: &&mut Active| {
            active.rule.count.is_none_or(|count| active.hits < count)
                && active.ends_at.is_none_or(|at| now < at)
                && active.rule.rpcs.iter().any(|named| named.covers(rpc))
        };
        let met = self.active.iter_mut().find(meets)?;
        met.hits += 1;
        Some(met.rule.fault.clone())
    }
}

impl Rule {
    /// These calls always meet this.
    pub fn new(rpcs: impl Into<Vec<Rpc>>, fault: Fault) -> Self {
        Self { rpcs: rpcs.into(), fault, count: None, for_ms: None }
    }

    /// So often only.
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// For so long only, from when it is set.
    pub fn lasting(self, time: Duration) -> Self {
        Self { for_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn rules(texts: &[&str]) -> Rules {
        let mut rules = Rules::default();
        rules.set(texts.iter().map(|text| text.parse().unwrap()).collect(), NOW);
        rules
    }

    #[test]
    fn a_call_meets_the_first_rule_that_covers_it_and_is_not_used_up() {
        let mut rules = rules(&["get=unavailable*2", "all=drop*1", "get,set=hang"]);
        let (get, delete) = ("get".parse().unwrap(), "delete".parse().unwrap());
        let met: Vec<_> = (0..4).map(|_| rules.meet(get, NOW).unwrap()).collect();
        let unavailable = || Fault::Status(Code::Unavailable);
        assert_eq!(met, [unavailable(), unavailable(), Fault::Drop, Fault::Hang]);
        assert_eq!(rules.meet(delete, NOW), None);
        assert_eq!(rules.active.iter().map(|active| active.hits).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn a_rule_for_a_while_ends_with_it() {
        let mut rules = Rules::default();
        let get = "get".parse().unwrap();
        rules.set(vec![Rule::new([get], Fault::Drop).lasting(Duration::from_millis(10))], NOW);
        assert_eq!(rules.meet(get, NOW + 9), Some(Fault::Drop));
        assert_eq!(rules.meet(get, NOW + 10), None);
    }

    #[test]
    fn rules_that_would_do_nothing_and_too_many_are_refused_and_change_nothing() {
        let faults = Faults::default();
        let rule = Rule::new(["get".parse().unwrap()], Fault::Drop);
        faults.set([rule.clone()]).unwrap();
        assert_eq!(faults.set([Rule::new([], Fault::Drop)]), Err(FaultError::Empty));
        assert_eq!(faults.set([rule.clone().times(0)]), Err(FaultError::Empty));
        assert_eq!(faults.set(vec![rule.clone(); MAX_RULES + 1]), Err(FaultError::TooMany));
        assert_eq!(faults.active().len(), 1);
        faults.set(vec![rule; MAX_RULES]).unwrap();
        faults.clear();
        assert_eq!(faults.active(), []);
    }
}
