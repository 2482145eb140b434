//! An MQTT 3.1.1 and 5.0 client over tokio.

mod kept;
pub mod transport;
