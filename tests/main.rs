//! One test binary: whatever needs a server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod fixture; // a handler in this process, and what to put before it
mod processes; // moto, `cargo lambda watch`, and our binaries under it
mod stack; // the servers that the tests start

mod handler; // every answer of the handler, and what it leaves behind
mod lambda; // our binaries as Lambda functions
mod local; // the development server, driven by the official SDKs
mod relay; // from topics to webhooks: nothing lost, whatever happens on the way
