//! A serverless webhook handler for Momento Topics.

pub mod event;
#[cfg(feature = "local")]
pub mod local;
pub mod signature;
