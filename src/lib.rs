//! A serverless webhook handler for Momento Topics.

#[cfg(feature = "clients")]
pub mod aws;
#[cfg(feature = "clients")]
mod clock;
pub mod config;
#[cfg(any(feature = "relay", feature = "local"))]
mod delivery;
pub mod event;
#[cfg(feature = "handler")]
pub mod handler;
#[cfg(feature = "local")]
pub mod local;
pub mod logs;
#[cfg(feature = "processing")]
mod metrics;
#[cfg(feature = "clients")]
pub mod momento;
#[cfg(feature = "processing")]
pub mod park;
#[cfg(feature = "processing")]
mod processing;
#[cfg(feature = "publisher")]
pub mod publisher;
#[cfg(feature = "clients")]
pub mod reaction;
#[cfg(feature = "redrive")]
pub mod redrive;
#[cfg(feature = "relay")]
pub mod relay;
#[cfg(feature = "clients")]
pub mod secrets;
pub mod signature;
