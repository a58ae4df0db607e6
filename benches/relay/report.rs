//! What was measured: as a table for people, as JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::process::Usage;

#[derive(Default)]
pub(crate) struct Results {
    pub(crate) rounds: Vec<Round>,
    /// From before a message is published to its arrival.
    pub(crate) through_relay: Vec<Duration>,
    /// The same through a subscriber that posts what comes.
    pub(crate) least: Vec<Duration>,
    pub(crate) soak: Vec<Sample>,
}

/// Messages a second.
#[derive(Serialize)]
pub(crate) struct Round {
    pub(crate) topic_alone: f64,
    pub(crate) client_alone: f64,
    pub(crate) relay: f64,
}

/// After so many messages of the soak.
pub(crate) struct Sample {
    pub(crate) messages: usize,
    pub(crate) after: Duration,
    pub(crate) relay: Usage,
    pub(crate) local: Usage,
}

impl Results {
    /// The median over the rounds.
    fn middle(&self, of: impl Fn(&Round) -> f64) -> f64 {
        percentile(self.rounds.iter().map(of), 0.5)
    }

    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let _ = self.write_table(&mut table); // writing to a String does not fail
        table
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "| messages a second, medians of {} rounds | |\n|---|--:|", self.rounds.len())?;
        writeln!(out, "| topic → subscriber, no relay | {:.0} |", self.middle(|round| round.topic_alone))?;
        writeln!(out, "| bare HTTP client → receiver | {:.0} |", self.middle(|round| round.client_alone))?;
        writeln!(out, "| topic → relay → receiver | {:.0} |", self.middle(|round| round.relay))?;
        writeln!(out, "| relay / bare client | {:.2} × |", self.middle(|round| round.relay / round.client_alone))?;

        let count = self.through_relay.len();
        writeln!(out, "\n| latency of {count} messages, one at a time, ms | p50 | p99 |\n|---|--:|--:|")?;
        let at = |times: &[Duration], part| percentile(times.iter().map(Duration::as_secs_f64), part) * 1e3;
        let mut row =
            |what: &str, of: &dyn Fn(f64) -> f64| writeln!(out, "| {what} | {:.2} | {:.2} |", of(0.5), of(0.99));
        row("publish → relay → received", &|part| at(&self.through_relay, part))?;
        row("publish → subscriber → post → received, no relay", &|part| at(&self.least, part))?;
        row("what the relay adds", &|part| at(&self.through_relay, part) - at(&self.least, part))?;

        let Some(last) = self.soak.last() else { return Ok(()) };
        let middle = &self.soak[self.soak.len() / 2];
        writeln!(
            out,
            "\n| resident, MB, after messages | 0 | {} | {} | peak |\n|---|--:|--:|--:|--:|",
            middle.messages, last.messages
        )?;
        for (name, of) in
            [("relay", (|sample| sample.relay) as fn(&Sample) -> Usage), ("`local`", |sample| sample.local)]
        {
            let resident = [&self.soak[0], middle, last].map(|sample| mb(of(sample).resident_kib));
            writeln!(out, "| {name} | {} | {} |", resident.join(" | "), mb(of(last).peak_kib))?;
        }
        let (seconds, messages) = (last.after.as_secs_f64(), last.messages as f64);
        let cpu = (last.relay.cpu - self.soak[0].relay.cpu) / messages * 1e6;
        let rate = messages / seconds;
        writeln!(
            out,
            "\nThese {messages} took {seconds:.0} s, {rate:.0} a second; each cost the relay {cpu:.0} µs of CPU time."
        )
    }
}

impl Serialize for Results {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let soak = |sample: &Sample| {
            let Sample { messages, after, relay, local } = sample;
            json!({ "messages": messages, "seconds": after.as_secs_f64(), "relay": relay, "local": local })
        };
        json!({
            "messages_per_second": self.rounds,
            "latency_us": { "through_relay": times(&self.through_relay), "without_relay": times(&self.least) },
            "soak": self.soak.iter().map(soak).collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

fn times(times: &[Duration]) -> Value {
    let at = |part| percentile(times.iter().map(Duration::as_secs_f64), part) * 1e6;
    json!({ "count": times.len(), "min": at(0.0), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

/// The value below which `part` of the others lie; zero where there are none.
fn percentile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn mb(kib: u64) -> String {
    format!("{:.1}", kib as f64 * 1024.0 / 1e6)
}
