//! The broker and its sockets, with this crate's client and with bare sockets.
//!
//! One program, so that it is linked once: a module for each theme.

mod access;
mod crowds;
mod ending;
mod events;
mod exchange;
mod hostile;
mod inspecting;
#[cfg(feature = "persistence")]
mod killed;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod layers;
#[cfg(feature = "metrics")]
mod metrics;
mod owners;
mod pacing;
#[cfg(feature = "persistence")]
mod persistence;
mod sessions;
#[cfg(unix)]
mod storm;
mod support;
mod sys;
mod tracing;
mod turns;
