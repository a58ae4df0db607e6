//! What the relay costs: messages through topic → relay → receiver, next to a bare HTTP client that posts the same bytes to
//! the same receiver, in alternation; what it adds to the latency; and its memory over a great many messages. Everything
//! is on this machine and shares its processors, the receiver too, so only ratios within one run mean anything: the client
//! alone has them to itself, while with the relay there are a topic, its publishers and a journal that is synced to disk.
//!
//! Standard output is the table, in Markdown; `target/bench/relay.json` holds the same for programs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command line")]

mod client;
mod process;
mod receiver;
mod report;
mod topic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use process::Stack;
use receiver::Receiver;
use report::{Results, Round, Sample};
use topic::Topic;

#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// Half a minute instead of five, on two cores that have nothing else to do.
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`; changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much of everything.
struct Plan {
    rounds: usize,
    /// Messages in each part of a round.
    messages: usize,
    /// Messages that are sent one at a time in each round.
    alone: usize,
    /// Messages that the relay must survive without growing, and when to stop if it is not through them.
    soak: usize,
    soak_at_most: Duration,
}

impl Plan {
    const FULL: Self =
        Self { rounds: 15, messages: 10_000, alone: 200, soak: 1_000_000, soak_at_most: Duration::from_secs(30 * 60) };
    const QUICK: Self =
        Self { rounds: 7, messages: 4_000, alone: 100, soak: 100_000, soak_at_most: Duration::from_secs(30) };
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match bench(if args.quick { Plan::QUICK } else { Plan::FULL }).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(plan: Plan) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    let stack = Stack::start(&receiver.url).await?;
    let topic = Topic::connect(&stack.momento).await?;
    let mut results = Results::default();
    topic.flood(plan.messages, async || receiver.next().await.map(drop)).await?; // warms everything up
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {} ...", plan.rounds);
        results.rounds.push(throughput(&plan, &topic, &mut receiver).await?);
        latency(&plan, &topic, &mut receiver, &mut results).await?;
    }
    eprintln!("{} messages, to see what becomes of memory ...", plan.soak);
    soak(&plan, &stack, &topic, &mut receiver, &mut results).await?;
    let (received, attempts) = stack.counted().await?;
    ensure!(received == attempts, "{received} messages were received, and {attempts} attempts made: not an even run");

    print!("{}", results.table());
    let path = output("relay.json")?;
    std::fs::write(&path, serde_json::to_string_pretty(&results)?)?;
    eprintln!("the same for programs: {}", path.display());
    Ok(())
}

/// As much as goes through each: a topic alone, a client alone, and both with the relay between them.
async fn throughput(plan: &Plan, topic: &Topic, receiver: &mut Receiver) -> Result<Round> {
    let rate = |begin: Instant| plan.messages as f64 / begin.elapsed().as_secs_f64();

    let elsewhere = topic.named("elsewhere");
    let mut items = elsewhere.subscribe().await?;
    let begin = Instant::now();
    elsewhere.flood(plan.messages, async || items.next().await).await?;
    let topic_alone = rate(begin);

    let begin = Instant::now();
    client::flood(receiver, plan.messages).await?;
    let client_alone = rate(begin);

    let begin = Instant::now();
    topic.flood(plan.messages, async || receiver.next().await.map(drop)).await?;
    Ok(Round { topic_alone, client_alone, relay: rate(begin) })
}

/// One message at a time, from before it is published until it has arrived: through the relay, and through the least that
/// a relay can be, a subscriber that posts what comes.
async fn latency(plan: &Plan, topic: &Topic, receiver: &mut Receiver, results: &mut Results) -> Result<()> {
    let elsewhere = topic.named("elsewhere");
    let mut items = elsewhere.subscribe().await?;
    let client = client::Client::like(receiver)?;
    for _ in 0..plan.alone {
        let begin = Instant::now();
        topic.publish().await?;
        results.through_relay.push(receiver.next().await?.at - begin);

        let begin = Instant::now();
        elsewhere.publish().await?;
        items.next().await?;
        client.post().await?;
        results.least.push(receiver.next().await?.at - begin);
    }
    Ok(())
}

async fn soak(plan: &Plan, stack: &Stack, topic: &Topic, receiver: &mut Receiver, results: &mut Results) -> Result<()> {
    const SAMPLES: usize = 20;
    let begin = Instant::now();
    let part = plan.soak / SAMPLES;
    let mut sample = |messages| -> Result<()> {
        let after = begin.elapsed();
        results.soak.push(Sample { messages, after, relay: stack.relay.usage()?, local: stack.local.usage()? });
        Ok(())
    };
    sample(0)?;
    for done in 1..=SAMPLES {
        topic.flood(part, async || receiver.next().await.map(drop)).await?;
        sample(done * part)?;
        if begin.elapsed() > plan.soak_at_most {
            eprintln!("not through them after {} s: that was it", plan.soak_at_most.as_secs());
            break;
        }
    }
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
