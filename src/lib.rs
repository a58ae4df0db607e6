//! A serverless webhook handler for Momento Topics, the publisher that mints its users' tokens, the relay that delivers their
//! messages, and a Momento-compatible server to run all of it on one machine.
//!
//! The flows, in the order in which an event meets them:
//!
//! - **publisher**: [`publisher`] mints a token for one user and one topic ([`momento`]), and publishes as that user.
//! - **relay**: [`relay`] subscribes to topics, keeps each message in a journal, and delivers it, signed, until it is accepted.
//! - **local**: [`local`] stands for Momento and Secrets Manager, and delivers webhooks as Momento's retired service did.
//! - **handler**: [`handler`] takes a webhook in through a function URL, verifies it ([`signature`], with what [`secrets`]
//!   keeps), reads it ([`event`]), claims it, reads its user, and lets the application react ([`reaction`]). What cannot be
//!   processed in time is parked ([`park`]).
//! - **redrive**: [`redrive`] takes parked events up again.
//!
//! Handler and sender meet only at the wire: [`signature`] and [`event`], both pure. All is configured through [`config`].
//!
//! An application implements [`reaction::Reaction`] and hands it to [`handler::run`].

#[cfg(feature = "clients")]
pub mod aws;
#[cfg(feature = "clients")]
mod clock;
pub mod config;
#[cfg(feature = "clients")]
mod connection;
#[cfg(any(feature = "relay", feature = "local"))]
mod delivery;
pub mod event;
#[cfg(feature = "handler")]
pub mod handler;
#[cfg(feature = "local")]
pub mod local;
pub mod logs;
#[cfg(feature = "processing")]
#[cfg_attr(not(feature = "handler"), allow(dead_code, reason = "redrive counts less than the handler does"))]
mod metrics;
#[cfg(feature = "clients")]
pub mod momento;
#[cfg(feature = "processing")]
pub mod park;
#[cfg(feature = "processing")]
mod processing;
#[cfg(feature = "publisher")]
pub mod publisher;
#[cfg(feature = "processing")]
pub mod reaction;
#[cfg(feature = "redrive")]
pub mod redrive;
#[cfg(feature = "relay")]
pub mod relay;
#[cfg(feature = "clients")]
pub mod secrets;
pub mod signature;
