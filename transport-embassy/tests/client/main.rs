//! The client against a broker, over two network stacks in memory.

mod ends;
mod publishing;
mod resilience;
mod world;
