//! The client against a broker, over two network stacks in memory.

mod broker;
mod ends;
mod handles;
mod names;
mod publishing;
mod resilience;
mod serial;
mod streaming;
mod world;
