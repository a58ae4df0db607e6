//! What the handler costs, side by side with a bare Lambda function and with the original JavaScript: each is started and
//! fed as Lambda would do it, in alternation, on one `local`. Only ratios within one run mean anything; absolute times
//! depend on the machine and on what else it does.
//!
//! Standard output is the table, in Markdown; `target/bench/results.json` holds the same for programs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

mod event;
mod function;
mod report;
mod runtime_api;
mod services;
mod signature;
mod startup;
mod statistics;
mod tls;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use event::Events;
use function::{Function, Subject};
use report::Results;
use services::Local;
use tls::Tls;

#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// A minute instead of five.
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`; changes nothing.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Counts the instructions from the start of a process to its first request for an event, under valgrind.
    Startup {
        /// How many the handler may take, in millions. More is a failure.
        #[arg(long, value_name = "MILLIONS")]
        budget: Option<f64>,
        /// Feed it this many events first, for a profile of the warm path in target/bench/.
        #[arg(long, value_name = "COUNT", default_value_t = 0, conflicts_with = "budget")]
        events: usize,
    },
}

/// How much of everything.
struct Plan {
    cold_starts: usize,
    /// Blocks of warm events for each subject, and events in a block. The first block warms up and is not counted.
    blocks: usize,
    block: usize,
    /// Events that the handler must survive without growing ...
    soak: usize,
    /// ... and more, with a trace id each: the runtime client sets a variable to it, and glibc keeps every value that a
    /// variable ever had. What the bare function grows by is no doing of ours.
    traced: usize,
    throughput: Duration,
    signature_rounds: usize,
}

impl Plan {
    const FULL: Self = Self {
        cold_starts: 21,
        blocks: 10,
        block: 500,
        soak: 100_000,
        traced: 20_000,
        throughput: Duration::from_secs(3),
        signature_rounds: 3,
    };
    const QUICK: Self = Self {
        cold_starts: 7,
        blocks: 4,
        block: 250,
        soak: 10_000,
        traced: 5_000,
        throughput: Duration::from_secs(1),
        signature_rounds: 1,
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Some(Command::Startup { budget, events }) => startup::check(budget, events).await,
        None => bench(if args.quick { Plan::QUICK } else { Plan::FULL }).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(plan: Plan) -> Result<()> {
    let mut local = Local::start().await?;
    let subjects = Subject::all(Tls::before(local.url())?)?;
    let mut results = Results::default();
    let mut events = Events::new()?;

    eprintln!("{} cold starts of each ...", plan.cold_starts);
    cold(&plan, &subjects, &local, &mut events, &mut results).await?;
    eprintln!("{} warm events for each ...", (plan.blocks - 1) * plan.block);
    warm(&plan, &subjects, &mut local, &mut events, &mut results).await?;
    eprintln!("signatures ...");
    results.signature = signature::compare(plan.signature_rounds)?;
    eprintln!("the throughput of `local` ...");
    results.local = services::throughput(&local, plan.throughput).await?;
    eprintln!("start-up instructions ...");
    results.startup = startup::measure(0).await?;
    results.criterion = report::criterion();

    print!("{}", results.table());
    let path = output("results.json")?;
    std::fs::write(&path, serde_json::to_string_pretty(&results)?)?;
    eprintln!("the same for programs: {}", path.display());
    Ok(())
}

async fn cold(
    plan: &Plan,
    subjects: &[Subject],
    local: &Local,
    events: &mut Events,
    results: &mut Results,
) -> Result<()> {
    for _ in 0..plan.cold_starts {
        for subject in subjects {
            let mut function = Function::start(subject, local.url()).await?;
            let (start, exchange) = function.first(events).await?;
            let measured = results.of(subject);
            measured.init.push(function.init());
            measured.cold.push(exchange.answered - start);
            measured.first.push(exchange.answered - exchange.handed);
            measured.cold_cpu.push(function.usage()?.cpu);
        }
    }
    for subject in subjects {
        results.of(subject).sizes = subject.sizes()?;
    }
    Ok(())
}

async fn warm(
    plan: &Plan,
    subjects: &[Subject],
    local: &mut Local,
    events: &mut Events,
    results: &mut Results,
) -> Result<()> {
    let mut functions = Vec::new();
    for subject in subjects {
        let mut function = Function::start(subject, local.url()).await?;
        function.first(events).await?;
        functions.push((subject, function));
    }
    for block in 0..plan.blocks {
        let counts = block > 0;
        let (reads, exchanges) = (local.reads(plan.block).await?, local.exchanges(plan.block).await?);
        if counts {
            results.read.extend(reads);
            results.exchange.extend(exchanges);
        }
        for (subject, function) in &mut functions {
            let before = function.usage()?;
            for _ in 0..plan.block {
                let exchange = function.invoke(events.delivery()).await?;
                if counts {
                    let measured = results.of(subject);
                    measured.warm.push(exchange.answered - exchange.handed);
                    measured.cycle.push(exchange.asked_again - exchange.handed);
                }
            }
            let (after, measured) = (function.usage()?, results.of(subject));
            if counts {
                measured.cpu_per_event.push((after.cpu - before.cpu) / plan.block as u32);
            }
            measured.usage = after;
            measured.events = (block + 1) * plan.block;
        }
    }
    eprintln!("{} events for the handler and the bare function each ...", plan.soak + plan.traced);
    for (subject, function) in &mut functions {
        if ![Subject::HANDLER, Subject::BARE].contains(&subject.name) {
            continue;
        }
        let measured = results.of(subject);
        measured.after_soak = function.soak(events, plan.soak, false).await?;
        measured.after_traced = function.soak(events, plan.traced, true).await?;
    }
    results.traced = plan.traced;
    results.soak = plan.soak;
    Ok(())
}

/// The project's directory.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file among what the benchmarks leave behind.
fn output(name: &str) -> Result<PathBuf> {
    let directory = root().join("target/bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.join(name))
}
