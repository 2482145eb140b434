//! The client against a broker, over two network stacks in memory.

mod broker;
mod ends;
mod handles;
mod publishing;
mod resilience;
mod serial;
mod streaming;
mod world;
