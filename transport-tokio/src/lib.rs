//! An MQTT 3.1.1 and 5.0 client over tokio.
//!
//! ```no_run
//! use transport_tokio::{Client, Options, QoS};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { client_id: "sensor-7".into(), ..Options::default() };
//! let client = Client::connect("mqtt://127.0.0.1:1883", options).await?;
//!
//! let mut readings = client.subscribe("sensors/+/temperature", QoS::AtLeastOnce).await?;
//! client.publish("valve/3", "open").qos(QoS::ExactlyOnce).await?; // the server has it
//! while let Some(message) = readings.next().await {
//!     println!("{} {:?}", message.topic, message.payload);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - **A publish is awaited until it is acknowledged**, across lost connections, and has exactly one
//!   outcome. What is published while there is no connection waits, in order and within
//!   [limits](QueueLimits).
//! - **A stream per subscription.** [`Messages`] that are not read hold back their acknowledgements,
//!   not the connection. [Manual acknowledgement](Messages::next_unacknowledged),
//!   [callbacks](Client::on), [listening](Client::listen) and [requests](Requester) are there, too.
//! - **Nothing has to be polled.** One task does the IO. [`Client`] can be cloned, sent and used
//!   anywhere; futures can be dropped at any point. Who does not want a task to be spawned polls
//!   [`Driver`].
//! - **Connections come back** with [backoff and jitter](Reconnect), sessions are resumed or, when lost,
//!   rebuilt: subscriptions are made again, QoS 1 messages published again, QoS 2 messages reported.
//!   [`Client::status`] tells how things stand.
//! - **TCP, TLS, WebSocket, Unix sockets**, by [URL](transport), or anything that tokio can read and
//!   write, by [connector](transport::Connector).
//! - With the feature `persistence`, [a session file](Options) lets sessions and accepted messages
//!   survive the program.
//!
//! The protocol itself is [`mqtt_core`]'s. [`coming_from_rumqttc`] says what corresponds to what there.
//!
//! # Features
//!
//! - `tls` and `websocket` (default): the transports of these names.
//! - `persistence`: `Options::session_file`, and `broker::Builder::persistence`.
//!
//! A feature adds, and never changes what is there without it.
//!
//! # Logging and counters
//!
//! Connections, and what is lost with nobody waiting for it, are told as `tracing` events within a span
//! `mqtt` that has the client identifier. [`Client::counters`] has numbers.

pub mod broker;
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
mod request;
mod routes;
mod shared;
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
pub use mqtt_core::{
    self, EncodeError, Limits, QoS, ReasonCode, RetainHandling, TextError, TopicError, Version,
};
pub use options::{Authenticator, Credentials, InFlight, Options, Reconnect, Will};
pub use outcome::Published;
pub use publish::{Delivery, Publish, Publishing};
pub use queue::QueueLimits;
pub use request::{RequestError, Requester};
pub use status::{Counters, Status};
pub use stream::{Ack, Messages, Streams, Subscribe, SubscribeOptions};

#[doc = include_str!("coming_from_rumqttc.md")]
pub mod coming_from_rumqttc {}
