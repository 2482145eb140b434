//! MQTT 3.1.1 and 5.0 for microcontrollers: [`mqtt_core`] with embassy.
//!
//! A client that survives what happens to devices; a [`blocking`] one for where there is no executor; and a
//! [`broker`] for a few clients. No allocation, no unsafe code; all memory is one value that the application
//! declares.
//!
//! ```
//! use embassy_net::Stack;
//! use embassy_sync::blocking_mutex::raw::NoopRawMutex;
//! use mqtt_core::{Connect, Publish, QoS, Text, Topic, Version, store::Fixed};
//! use transport_embassy::{
//!     Client, ConnectionError, Inbox, Options, Outbox, Resources, Runner, Sizes, Subscriptions, Waiting,
//!     net::Tcp,
//! };
//!
//! struct Mqtt; // how much of everything there is
//!
//! impl Sizes for Mqtt {
//!     type Mutex = NoopRawMutex;
//!     type Store = Fixed<8, 2048>; // 8 publishes without an outcome, of 2,048 bytes altogether
//!     type Inbox = Inbox<3, 1024>; // 3 receive buffers of 1,024 bytes; longer messages come in parts
//!     type Outbox = Outbox<1024>;
//!     type Subscriptions = Subscriptions<4, 48>;
//!     type Waiting = Waiting<8>;
//! }
//!
//! // One task: does the IO, and connects again.
//! async fn net(stack: Stack<'static>, mut runner: Runner<'static, Mqtt>) -> Result<(), ConnectionError> {
//!     let (mut rx, mut tx) = ([0; 1024], [0; 1024]);
//!     runner.run(Tcp::new(stack, "broker.local", 1883, &mut rx, &mut tx)).await
//! }
//!
//! // Any others.
//! async fn sensor(client: Client<'static, Mqtt>) {
//!     let topic = Topic::new("sensors/7/temperature").unwrap();
//!     let reading = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, "21.5") };
//!     let _ = client.publish(&reading).await; // the server has it, now or when the link is back
//! }
//!
//! fn main() {
//!     let resources = Resources::<Mqtt>::new(Version::V5, Fixed::new());
//!     let resources = Box::leak(Box::new(resources)); // or a `StaticCell`
//!     let connect = Connect {
//!         client_id: Text::new("sensor-7").unwrap(),
//!         session_expiry_interval: 3600,
//!         ..Connect::default()
//!     };
//!     let (client, runner) = resources.split(Options { connect, ..Options::default() });
//!     // spawner.spawn(net(stack, runner)); spawner.spawn(sensor(client));
//! #   let _ = (client, runner);
//! }
//! ```
//!
//! # What to rely on
//!
//! - A [`publish`](Client::publish) that has been accepted has one outcome, across connections, resets of the
//!   server, and sessions it loses; messages at QoS 1 and 2 are sent again from the [store](Sizes::Store).
//! - Futures can be dropped at every await: nothing is lost or sent twice.
//! - Messages stay in the buffer that received them until they are dropped, which acknowledges them. Longer ones
//!   come [part by part](Message::into_payload), and [leave](Client::publish_streamed) so.
//! - The link is looked after however busy the application is; unread messages hold back nothing but messages.
//!   (Before 5.0, where servers cannot be told how many to send, what comes behind a full inbox at QoS 1 and 2
//!   waits: there, a task that receives should not wait for outcomes.)
//! - A server that refuses for good, and a client with the same identifier, end the [run](Runner::run);
//!   everything else makes it try again.
//!
//! # Where it runs
//!
//! On any executor, with an `embassy-time` driver. Tasks that use the network stack and the stack's own runner
//! wake each other, so they should be different tasks, as usual. Other transports than
//! `net::Tcp` and [`serial::Line`] implement [`Connector`].
//!
//! # Features
//!
//! - `net` (default): TCP by `embassy-net`.
//! - `flash`: the session in flash memory, by `embedded-storage` and `sequential-storage`.
//! - `tls`: TLS 1.3 over TCP, by `embedded-tls`.
//! - `v3` and `v5` (default): the protocol versions.
//! - `defmt`: `defmt::Format` for the public types, and a log of lost connections.

#![no_std]
#![forbid(unsafe_code)]

mod alarm;
pub mod blocking;
pub mod broker;
mod client;
mod connector;
mod error;
#[cfg(feature = "flash")]
pub mod flash;
mod inbox;
mod input;
mod keep;
mod message;
#[cfg(feature = "net")]
pub mod net;
mod options;
mod outbox;
mod publish;
mod receive;
mod resources;
mod runner;
pub mod serial;
mod state;
mod status;
mod subscriptions;
#[cfg(feature = "tls")]
pub mod tls;
mod transmit;
mod waiting;

pub use client::{Client, Watch};
pub use connector::{Connection, Connector};
pub use error::{AcknowledgeError, ConnectionError, Cut, PublishError, SubscribeError};
pub use inbox::{Inbox, InboxSize};
pub use message::{Message, Payload};
pub use options::{Options, Reconnect};
pub use outbox::{Outbox, OutboxSize};
pub use publish::Publication;
pub use resources::{Resources, Sizes};
pub use runner::Runner;
pub use status::Status;
pub use subscriptions::{Subscriptions, SubscriptionsSize};
pub use waiting::{Waiting, WaitingSize};

pub use mqtt_core;
