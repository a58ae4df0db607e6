//! One test binary: whatever needs a server. The modules are named in the order in which the flows meet them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod stack; // what the tests start

mod local; // the development server, driven by the official SDKs
