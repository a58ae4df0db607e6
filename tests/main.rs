//! One test binary: whatever needs a server. Each module says what it is about.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod fixture;
mod processes;
mod proxy;
mod stack;

mod chaos;
mod deploy;
mod handler;
mod lambda;
mod local;
mod once;
mod publisher;
mod relay;
mod rotation;
mod strangers;
