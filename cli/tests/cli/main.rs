//! The command as people run it.

#![cfg(unix)]

mod access;
mod clients;
mod documents;
mod serving;
mod support;
mod transports;
