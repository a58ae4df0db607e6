//! One test binary: whatever needs a server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod fixture; // a handler in this process, and what to put before it
mod processes; // moto, `cargo lambda watch`, and our binaries under it
mod stack; // the servers that the tests start

mod chaos; // everything fails in turn
mod handler; // every answer of the handler, and what it leaves behind
mod lambda; // our binaries as Lambda functions
mod local;
mod once; // an event has its effect once
mod publisher;
mod rotation;
mod strangers; // whoever does not know the secret gains nothing // secrets change under load // its tokens: what they permit, how long, in whose name // the development server, driven by the official SDKs
