//! An MQTT 3.1.1 and 5.0 client over tokio.

#[cfg(feature = "persistence")]
mod disk;
mod kept;
pub mod transport;

#[cfg(feature = "persistence")]
pub use disk::{Durability, SessionFile, SessionFileError};
