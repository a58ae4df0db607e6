//! The development server: flags → listener → run.
#![allow(clippy::print_stderr, reason = "this is a command line; standard output stays empty")]

use clap::Parser;
use momento_webhook::local::{Args, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
    let args = Args::parse();
    let listener = args.listen().await?;
    let config = args.config()?;
    for fact in config.describe(listener.local_addr()?) {
        eprintln!("{fact}");
    }
    run(listener, config, stop_signal()).await?;
    Ok(())
}

/// Ctrl-C at a terminal, or SIGTERM from whatever started this.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};

    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
