//! The publisher: a command for people and scripts, and a Lambda function when it runs under Lambda.
#![allow(clippy::print_stderr, reason = "a command tells the person at the terminal what went wrong")]

use std::process::ExitCode;

use clap::Parser;
use momento_webhook::publisher::{cli, serve};
use momento_webhook::{config, logs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    logs::init(&config::env, module_path!());
    let done = if config::env("AWS_LAMBDA_RUNTIME_API").is_some() {
        Box::pin(serve(&config::env)).await.map_err(|error| error.to_string())
    } else {
        let cli = cli::Cli::parse();
        Box::pin(cli::run(cli, &config::env, &mut std::io::stdout())).await.map_err(|error| format!("{error:#}"))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
