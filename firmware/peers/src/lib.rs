//! What these clients need around them is firmware/size's.

#![no_std]

pub use size::line::{Line, run};
