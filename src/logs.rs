//! Logs: one JSON object a line on standard error, in the shape that Lambda's log filters read.
//!
//! Only this library and the application may be talkative. Everything beneath them stays at warnings, whatever the
//! level asked for, since the Lambda runtime logs raw events at TRACE and the SDKs log requests.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use crate::config::{Lookup, optional};

/// Starts logging. `application` is the caller's `module_path!()`, whose own log lines are to be seen.
///
/// `AWS_LAMBDA_LOG_LEVEL` (`TRACE` to `FATAL`), else `RUST_LOG`, gives the level, `INFO` where neither does;
/// `AWS_LAMBDA_LOG_FORMAT=Text` gives lines for people.
pub fn init(lookup: Lookup<'_>, application: &'static str) {
    let level = optional(lookup, "AWS_LAMBDA_LOG_LEVEL").or_else(|| optional(lookup, "RUST_LOG"));
    let level = level.map_or(LevelFilter::INFO, |level| match level.to_ascii_uppercase().as_str() {
        "FATAL" => LevelFilter::ERROR,
        level => level.parse().unwrap_or(LevelFilter::INFO),
    });
    let talkative = move |target: &str| is_within(target, env!("CARGO_CRATE_NAME")) || is_within(target, application);
    let quiet = level.min(LevelFilter::WARN);
    let filter = filter_fn(move |of| of.level() <= if talkative(of.target()) { &level } else { &quiet })
        .with_max_level_hint(level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let text = optional(lookup, "AWS_LAMBDA_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("text"));
    let layer = if text {
        layer.with_ansi(false).boxed()
    } else {
        layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    // A second call is the caller's mistake and changes nothing.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Is the target this module, or one within it? A crate whose name only begins alike is another.
fn is_within(target: &str, module: &str) -> bool {
    target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_whose_name_begins_alike_is_another() {
        assert!(is_within("lambda", "lambda") && is_within("lambda::x", "lambda"));
        assert!(!is_within("lambda_runtime::layers", "lambda"));
    }
}
