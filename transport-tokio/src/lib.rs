//! An MQTT 3.1.1 and 5.0 client over tokio.

mod client;
mod commit;
#[cfg(feature = "persistence")]
mod disk;
mod driver;
mod error;
mod inbox;
mod kept;
mod message;
mod options;
mod out;
mod outcome;
mod publish;
mod queue;
mod receive;
mod routes;
mod state;
mod status;
mod stream;
mod subscriptions;
pub mod transport;

pub use client::{Client, Farewell, Unfinished};
#[cfg(feature = "persistence")]
pub use disk::{Durability, SessionFile, SessionFileError};
pub use driver::Driver;
pub use error::{ConnectError, ConnectionError, Invalid, PublishError, Refusal, SubscribeError};
pub use inbox::StreamLimits;
pub use message::{Message, PublishProperties};
pub use mqtt_core::{QoS, ReasonCode, RetainHandling, TopicError, Version};
pub use options::{Authenticator, InFlight, Options, Reconnect, Will};
pub use outcome::Published;
pub use publish::{Delivery, Publish, Publishing};
pub use queue::QueueLimits;
pub use status::{Counters, Status};
pub use stream::{Ack, Messages, Streams, Subscribe};
