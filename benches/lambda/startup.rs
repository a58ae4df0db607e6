//! The instructions of a start: counted, not timed, so that a budget for them holds on any machine.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use momento_webhook::local::{self, Config, Seed};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::event::Events;
use crate::function::{Function, Subject};
use crate::{output, services};

/// Instructions until a process asks for its first event.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Instructions {
    pub(crate) handler: u64,
    pub(crate) bare: u64,
}

/// Is the handler within its budget, in millions of instructions?
pub(crate) async fn check(budget: Option<f64>, events: usize) -> Result<bool> {
    let Some(counted) = measure(events).await? else { bail!("valgrind is not there: install it") };
    let millions = |instructions| instructions as f64 / 1e6;
    let what = if events == 0 { "start-up".to_owned() } else { format!("start-up and {events} events") };
    println!("{what}: {:.2} million instructions", millions(counted.handler));
    println!("a bare function: {:.2} million", millions(counted.bare));
    let Some(budget) = budget else { return Ok(true) };
    let within = millions(counted.handler) <= budget;
    if !within {
        eprintln!("error: more than the budget of {budget} million instructions");
    }
    Ok(within)
}

/// Also counts this many events. `None` where there is no valgrind.
pub(crate) async fn measure(events: usize) -> Result<Option<Instructions>> {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if valgrind.is_err() {
        return Ok(None);
    }
    let url = local().await?;
    let handler = count(Subject::handler()?, &url, events).await?;
    let bare = count(Subject::bare()?, &url, events).await?;
    Ok(Some(Instructions { handler, bare }))
}

/// A `local` in this process.
async fn local() -> Result<String> {
    let seed = output("seed.json")?;
    fs::write(&seed, services::seed().to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let config = Config { seed: Seed::read(&seed)?, ..Config::default() };
    tokio::spawn(local::run(listener, config, std::future::pending()));
    Ok(url)
}

async fn count(subject: Subject, local: &str, events: usize) -> Result<u64> {
    let profile = output(&format!("startup.{}.callgrind", subject.name))?;
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(&profile);
    let subject = subject.under("valgrind", vec!["--tool=callgrind".into(), file.into()]);
    let mut function = Function::start(&subject, local).await?;
    function.ready().await?;
    let mut deliveries = Events::new()?;
    for _ in 0..events {
        function.invoke(deliveries.delivery()).await?;
    }
    function.end().await?;
    let profile = fs::read_to_string(&profile).context("valgrind has left no profile")?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.context("no total in valgrind's profile")
}
