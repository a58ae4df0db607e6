//! The relay: flags → configuration → run.
#![allow(clippy::print_stderr, reason = "a command tells the person at the terminal what went wrong")]

use std::process::ExitCode;

use clap::Parser;
use momento_webhook::relay::Cli;
use momento_webhook::{config, logs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    logs::init(&config::env, module_path!());
    match Box::pin(Cli::parse().execute(&config::env, stop_signal())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
