//! The client against a server in the same process, on a clock that is told the time.
//!
//! One program, so that it is linked once: a module for each theme.

mod authenticating;
mod cancelling;
mod connecting;
mod ending;
mod keeping_alive;
mod publishing;
mod random;
mod receiving;
mod requesting;
mod subscribing;
mod support;
