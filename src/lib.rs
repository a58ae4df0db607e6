//! A serverless webhook handler for Momento Topics.

pub mod event;
pub mod signature;
