//! Verifying a body, next to OpenSSL's HMAC-SHA3-256 over as many bytes.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use momento_webhook::signature::{Secret, Signature, sign, verify};
use serde::Serialize;

use crate::event::SIGNING_SECRET;

const SIZES: [usize; 2] = [1024, 64 * 1024];

/// Bytes in a second, in the best of some rounds: whatever else the machine does only ever takes away.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    pub(crate) bytes: usize,
    pub(crate) verify: f64,
    /// `None` where there is no `openssl`.
    pub(crate) openssl: Option<f64>,
}

pub(crate) fn compare(rounds: usize) -> Result<Vec<Speed>> {
    SIZES.into_iter().map(|bytes| compare_at(bytes, rounds)).collect()
}

fn compare_at(bytes: usize, rounds: usize) -> Result<Speed> {
    let mut speed = Speed { bytes, verify: 0.0, openssl: None };
    for _ in 0..rounds {
        speed.verify = speed.verify.max(ours(bytes)?);
        speed.openssl = openssl(bytes).map(|theirs| theirs.max(speed.openssl.unwrap_or_default()));
    }
    Ok(speed)
}

fn ours(bytes: usize) -> Result<f64> {
    let (secret, body) = (Secret::new(SIGNING_SECRET)?, vec![b'x'; bytes]);
    let signature = Signature::from_hex(sign(&secret, &body)).context("not a signature")?;
    let (begin, used, mut verified) = (Instant::now(), processor_time()?, 0);
    while begin.elapsed() < Duration::from_secs(1) {
        for _ in 0..16 {
            verified += usize::from(verify(&secret, &signature, black_box(&body)).is_some());
        }
    }
    Ok((verified * bytes) as f64 / (processor_time()? - used).as_secs_f64())
}

/// Of this thread: `openssl speed` counts it too, whatever else the machine does meanwhile.
fn processor_time() -> Result<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = statistics.split_whitespace().next().context("no processor time")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// `openssl speed` keys its HMAC once, and finishes it once for each body.
fn openssl(bytes: usize) -> Option<f64> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-mr", "-seconds", "1", "-hmac", "sha3-256", "-bytes", &bytes.to_string()]);
    let output = command.output().ok()?;
    // +F:22:hmac(sha3-256):337241190.40
    let line = String::from_utf8(output.stdout).ok()?;
    line.lines().rfind(|line| line.starts_with("+F:"))?.rsplit(':').next()?.parse().ok()
}
