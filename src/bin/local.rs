//! The development server: flags → listener → run.
#![allow(clippy::print_stderr, reason = "this is a command line; standard output stays empty")]

use std::process::ExitCode;

use clap::Parser;
use momento_webhook::local::{Args, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let listener = args.listen().await?;
    let config = args.config()?;
    config.describe(listener.local_addr()?).iter().for_each(|fact| eprintln!("{fact}"));
    Ok(run(listener, config, stop_signal()).await?)
}

/// Ctrl-C at a terminal, or SIGTERM from whatever started this.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return drop(tokio::signal::ctrl_c().await) };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
