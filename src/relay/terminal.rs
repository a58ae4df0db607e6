//! One line that shows how it goes, when a person is watching.
#![allow(clippy::print_stderr, reason = "it is for the person at the terminal")]

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::time::Duration;

use super::http::Status;

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);

/// Shows the line on standard error if that is a terminal; until it is dropped.
pub(crate) async fn show(status: Arc<Status>) {
    if !stderr().is_terminal() {
        return;
    }
    let mut last = None::<u64>;
    let mut ticks = tokio::time::interval(PACE);
    loop {
        ticks.tick().await;
        let Ok(ledgers) = status.journal.ledgers().await else { continue };
        let sum = |count: fn(&super::journal::Ledger) -> u64| ledgers.iter().map(|(.., l)| count(l)).sum::<u64>();
        let (delivered, pending, dead) = (sum(|l| l.delivered), sum(|l| l.pending), sum(|l| l.dead));
        let rate = last.map_or(0, |last| delivered.saturating_sub(last));
        last = Some(delivered);
        let problems = status.health.problems();
        let state = match (problems.keys().next(), *status.active.borrow()) {
            (Some(part), _) => format!("NOT READY: {part}"),
            (None, true) => "ready".into(),
            (None, false) => "standing by".into(),
        };
        eprint!("\r\x1b[2K{rate}/s  delivered {delivered}  pending {pending}  dead {dead}  {state}\r");
    }
}
