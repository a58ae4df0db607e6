//! What was measured: as a table for people, as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::function::{Sizes, Subject, Usage};
use crate::root;
use crate::services::Throughput;
use crate::signature::Speed;
use crate::startup::Instructions;
use crate::statistics::{median, percentile};

#[derive(Default)]
pub(crate) struct Results {
    subjects: BTreeMap<&'static str, Measured>,
    /// What calls to `local` cost by themselves: a read, and all that an event asks for.
    pub(crate) read: Vec<Duration>,
    pub(crate) exchange: Vec<Duration>,
    /// How many more events `after_soak` is after, and `after_traced` after that.
    pub(crate) soak: usize,
    pub(crate) traced: usize,
    pub(crate) signature: Vec<Speed>,
    pub(crate) local: Option<Throughput>,
    pub(crate) startup: Option<Instructions>,
    /// Medians of the Criterion benches, in nanoseconds.
    pub(crate) criterion: BTreeMap<String, f64>,
}

/// One subject. Times are of single starts or events, except where they say otherwise.
#[derive(Default)]
pub(crate) struct Measured {
    /// From the start of the process to its first request for an event.
    pub(crate) init: Vec<Duration>,
    /// From the start of the process to its first answer, and the processor's time until then.
    pub(crate) cold: Vec<Duration>,
    pub(crate) cold_cpu: Vec<Duration>,
    /// From the first event to its answer.
    pub(crate) first: Vec<Duration>,
    /// From a warm event to its answer, and to the request for the next one.
    pub(crate) warm: Vec<Duration>,
    pub(crate) cycle: Vec<Duration>,
    /// Means, one for each block of events.
    pub(crate) cpu_per_event: Vec<Duration>,
    pub(crate) events: usize,
    pub(crate) usage: Usage,
    /// After many more events with one trace id, and then some with one each.
    pub(crate) after_soak: Usage,
    pub(crate) after_traced: Usage,
    pub(crate) sizes: Sizes,
}

/// A ratio, or a size, and what it should be.
struct Goal {
    what: String,
    value: f64,
    unit: &'static str,
    at_most: bool,
    goal: f64,
}

impl Goal {
    fn new(what: impl Into<String>, value: f64, unit: &'static str, at_most: bool, goal: f64) -> Self {
        Self { what: what.into(), value, unit, at_most, goal }
    }

    fn is_met(&self) -> bool {
        if self.at_most { self.value <= self.goal } else { self.value >= self.goal }
    }
}

impl Results {
    pub(crate) fn of(&mut self, subject: &Subject) -> &mut Measured {
        self.subjects.entry(subject.name).or_default()
    }

    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let _ = self.write_table(&mut table); // writing to a String does not fail
        table
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let names = [Subject::HANDLER, Subject::OVER_TLS, Subject::BARE, Subject::JAVASCRIPT];
        writeln!(out, "| | {} |\n|---|--:|--:|--:|--:|", names.join(" | "))?;
        let mut row = |what: &str, value: &dyn Fn(&Measured) -> String| {
            let values = names.map(|name| self.subjects.get(name).map_or_else(String::new, value));
            writeln!(out, "| {what} | {} |", values.join(" | "))
        };
        row("start → asks for an event, ms", &|m| ms(median(&m.init)))?;
        row("start → first answer (cold), ms", &|m| ms(median(&m.cold)))?;
        row("CPU time of a cold start, ms", &|m| ms(median(&m.cold_cpu)))?;
        row("first event → answer, ms", &|m| ms(median(&m.first)))?;
        row("warm event → answer, p50, µs", &|m| us(median(&m.warm)))?;
        row("warm event → answer, p99, µs", &|m| us(percentile(&m.warm, 0.99)))?;
        row("warm event → asks for the next, p50, µs", &|m| us(median(&m.cycle)))?;
        row("CPU time of a warm event, µs", &|m| us(median(&m.cpu_per_event)))?;
        row("resident, MB", &|m| mb(m.usage.resident_kib * 1024))?;
        row("resident at its peak, MB", &|m| mb(m.usage.peak_kib * 1024))?;
        let soaked = |m: &Measured, cell: String| if m.after_soak.resident_kib == 0 { String::new() } else { cell };
        let after = format!("resident after {} more events with one trace id, MB", self.soak);
        row(&after, &|m| soaked(m, mb(m.after_soak.resident_kib * 1024)))?;
        let each = |m: &Measured| grown(m.after_soak, m.after_traced) / self.traced as f64;
        row("growth an event with a trace id each, B", &|m| soaked(m, format!("{:.0}", each(m))))?;
        row("binary, MB", &|m| m.sizes.binary.map_or_else(String::new, mb))?;
        row("zip, MB", &|m| m.sizes.zip.map_or_else(String::new, mb))?;
        let cold = self.subjects.get(Subject::HANDLER).map_or(0, |m| m.cold.len());
        let warm = self.subjects.get(Subject::HANDLER).map_or(0, |m| m.warm.len());
        writeln!(out, "\nMedians of {cold} cold starts and {warm} warm events each, in alternation.")?;
        let (read, exchange) = (us(median(&self.read)), us(median(&self.exchange)));
        writeln!(
            out,
            "By tonic's client, p50: one read {read} µs; a claim beside a read, then a push, {exchange} µs.\n"
        )?;

        writeln!(out, "| in this run | | goal | |\n|---|--:|--:|---|")?;
        for goal in self.goals() {
            let (sign, met) = (if goal.at_most { "≤" } else { "≥" }, if goal.is_met() { "met" } else { "**missed**" });
            writeln!(
                out,
                "| {} | {:.2}{} | {sign} {}{} | {met} |",
                goal.what, goal.value, goal.unit, goal.goal, goal.unit
            )?;
        }
        if let Some(counted) = self.startup {
            let millions = |n| n as f64 / 1e6;
            let (handler, bare) = (millions(counted.handler), millions(counted.bare));
            writeln!(out, "\nStart-up: {handler:.2} million instructions; a bare function: {bare:.2} million.")?;
        }
        if let Some(local) = &self.local {
            let (gets, publishes) = (local.gets_per_second, local.publishes_per_second);
            writeln!(out, "\n`local`, with {} clients: {gets:.0} gets/s, {publishes:.0} publishes/s.", local.clients)?;
        }
        if !self.criterion.is_empty() {
            writeln!(out, "\n| Criterion | µs |\n|---|--:|")?;
        }
        for (name, nanoseconds) in &self.criterion {
            writeln!(out, "| {name} | {:.2} |", nanoseconds / 1e3)?;
        }
        Ok(())
    }

    fn goals(&self) -> Vec<Goal> {
        let [Some(handler), Some(bare), Some(javascript)] =
            [Subject::HANDLER, Subject::BARE, Subject::JAVASCRIPT].map(|name| self.subjects.get(name))
        else {
            return Vec::new();
        };
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        let (cold, warm) = (median(&handler.cold), median(&handler.warm));
        // Two round trips: what they would take if each asked for one thing, and with all that an event asks for.
        let floor = |trips: Duration| median(&bare.warm) + trips;
        let [reads, calls] = [floor(2 * median(&self.read)), floor(median(&self.exchange))];
        let cpu = ratio(median(&javascript.cpu_per_event), median(&handler.cpu_per_event));
        let mut goals = vec![
            Goal::new("cold: handler / bare", ratio(cold, median(&bare.cold)), " ×", true, 3.0),
            Goal::new("cold: JavaScript / handler", ratio(median(&javascript.cold), cold), " ×", false, 35.0),
            Goal::new("warm: handler / (bare + 2 reads)", ratio(warm, reads), " ×", true, 1.1),
            Goal::new("warm: handler / (bare + the same 3 calls)", ratio(warm, calls), " ×", true, 1.1),
            Goal::new("warm: JavaScript / handler", ratio(median(&javascript.warm), warm), " ×", false, 4.0),
            Goal::new("CPU of a warm event: JavaScript / handler", cpu, " ×", false, 8.0),
        ];
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        goals.push(Goal::new("resident", megabytes(handler.usage.resident_kib * 1024), " MB", true, 8.0));
        let what = format!("growth in {} events with one trace id", self.soak);
        goals.push(Goal::new(what, grown(handler.usage, handler.after_soak) / 1e6, " MB", true, 0.5));
        if let Sizes { binary: Some(binary), zip: Some(zip) } = handler.sizes {
            goals.push(Goal::new("binary", megabytes(binary), " MB", true, 4.0));
            goals.push(Goal::new("zip", megabytes(zip), " MB", true, 1.8));
        }
        for speed in &self.signature {
            if let Some(openssl) = speed.openssl {
                let what = format!("verifying {} KiB: speed / OpenSSL's", speed.bytes / 1024);
                goals.push(Goal::new(what, speed.verify / openssl, " ×", false, 1.0));
            }
        }
        goals
    }
}

impl Serialize for Results {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let subjects: BTreeMap<_, _> = self.subjects.iter().map(|(name, measured)| (name, measured.json())).collect();
        let goals: Vec<_> = self.goals().iter().map(|goal| {
            let bound = if goal.at_most { "at_most" } else { "at_least" };
            json!({ "what": goal.what, "value": goal.value, "unit": goal.unit.trim(), bound: goal.goal, "met": goal.is_met() })
        }).collect();
        json!({
            "subjects": subjects,
            "read_us": times(&self.read),
            "exchange_us": times(&self.exchange),
            "goals": goals,
            "soak_events": self.soak,
            "traced_events": self.traced,
            "signature_bytes_per_second": self.signature,
            "startup_instructions": self.startup,
            "local": self.local,
            "criterion_ns": self.criterion,
        })
        .serialize(serializer)
    }
}

impl Measured {
    fn json(&self) -> Value {
        json!({
            "init_us": times(&self.init),
            "cold_us": times(&self.cold),
            "cold_cpu_us": times(&self.cold_cpu),
            "first_us": times(&self.first),
            "warm_us": times(&self.warm),
            "cycle_us": times(&self.cycle),
            "cpu_per_event_us": times(&self.cpu_per_event),
            "after_events": self.events,
            "usage": self.usage,
            "usage_after_soak": self.after_soak,
            "usage_after_traced": self.after_traced,
            "bytes": self.sizes,
        })
    }
}

fn times(times: &[Duration]) -> Value {
    let at = |part| percentile(times, part).as_secs_f64() * 1e6;
    json!({ "count": times.len(), "min": at(0.0), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

/// For serde.
pub(crate) fn microseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1e6)
}

/// By how much resident memory has grown, in bytes.
fn grown(before: Usage, after: Usage) -> f64 {
    after.resident_kib.saturating_sub(before.resident_kib) as f64 * 1024.0
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn us(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e6)
}

fn mb(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}

/// What Criterion left behind the last time it ran.
pub(crate) fn criterion() -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root().join("target/criterion")];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        directories.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        if !directory.ends_with("new") {
            continue;
        }
        let read = |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(directory.join(name)).ok()?).ok() };
        if let (Some(bench), Some(estimates)) = (read("benchmark.json"), read("estimates.json"))
            && let (Some(name), Some(median)) =
                (bench["full_id"].as_str(), estimates["median"]["point_estimate"].as_f64())
        {
            found.insert(name.to_owned(), median);
        }
    }
    found
}
