//! The broker and its sockets, with this crate's client and with bare sockets.
//!
//! One program, so that it is linked once: a module for each theme.

mod access;
mod crowds;
mod ending;
mod hostile;
mod sessions;
mod support;
