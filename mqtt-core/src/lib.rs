//! MQTT 3.1.1 and 5.0 as a state machine: no IO, no clock, no allocation, no unsafe code.
//!
//! The machine is given received bytes and the time, and writes bytes to send. Whoever embeds it
//! moves the bytes: a blocking loop, an async runtime, an interrupt handler, a simulator, a fuzzer.
//!
//! # The loop
//!
//! This is all that an adapter does. `receive` and `transmit` stand for the transport, `clock` for
//! the time, `handle` for the application.
//!
//! ```
//! use mqtt_core::{
//!     Buffer, Client, Config, Connect, Event, Instant, Version, store::Fixed,
//! };
//!
//! fn run(
//!     clock: impl Fn() -> Instant,
//!     mut receive: impl FnMut(&mut [u8], Option<Instant>) -> Option<usize>, // until the deadline
//!     mut transmit: impl FnMut(&[u8]),
//!     mut handle: impl FnMut(&mut Client<Fixed<8, 2048>>, Event<'_>),
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let (mut rx, mut len) = ([0; 2048], 0);
//!     let config = Config { whole: rx.len(), ..Config::default() }; // longer messages come in parts
//!     let mut client = Client::with_config(Version::V5, Fixed::new(), config);
//!     let mut out = Buffer::<2048>::new();
//!     client.connect(clock(), &Connect::default(), &mut out)?;
//!     loop {
//!         let mut input = &rx[..len];
//!         loop {
//!             match client.poll(clock(), &mut input, &mut out) {
//!                 Ok(Some(event)) => handle(&mut client, event), // may publish meanwhile
//!                 Ok(None) if out.is_empty() => break,           // nothing more can happen
//!                 result => {
//!                     transmit(out.as_bytes()); // on an error it may hold a last DISCONNECT
//!                     out.clear();
//!                     result?;
//!                 }
//!             }
//!         }
//!         let rest = input.len();
//!         rx.copy_within(len - rest..len, 0);
//!         match receive(&mut rx[rest..], client.deadline()) {
//!             Some(received) => len = rest + received, // 0 if the deadline came first
//!             None => return Ok(client.closed()),      // connect again: the session is kept
//!         }
//!     }
//! }
//! # let connack = [0x20, 0x03, 0x00, 0x00, 0x00];
//! # let mut reads = [Some(&connack[..]), None].into_iter();
//! # let mut sent = Vec::new();
//! # let mut connected = false;
//! # run(
//! #     || Instant::from_millis(0),
//! #     |rx, deadline| {
//! #         assert!(deadline.is_some());
//! #         let bytes = reads.next().unwrap()?;
//! #         rx[..bytes.len()].copy_from_slice(bytes);
//! #         Some(bytes.len())
//! #     },
//! #     |bytes| sent.extend_from_slice(bytes),
//! #     |client, event| connected = matches!(event, Event::Connected(_)) && client.is_connected(),
//! # ).unwrap();
//! # assert!(connected && sent.starts_with(&[0x10]));
//! ```
//!
//! # Map
//!
//! | module | what is in it |
//! |---|---|
//! | [`client`] | [`Client`]: commands, `poll`, `deadline` |
//! | [`server`] | [`Peer`](server::Peer): the server's end of one connection |
//! | [`broker`] | [`Broker`](broker::Broker): all of them, their sessions, and who gets what |
//! | [`event`] | what `poll` tells: [`Event`], [`Message`], [`Receipt`] |
//! | [`store`] | what a session remembers, in fixed memory or growing |
//! | [`wire`] | packets and their bytes, of use without the rest |
//! | [`topic`] | [`Topic`], [`Filter`], matching |
//! | [`router`] | which subscribers a topic is for, in fixed memory or growing |
//! | [`sink`] | where outgoing bytes go |
//! | [`error`], [`reason`] | errors by who is to blame; the protocol's reason codes |
//!
//! # Features
//!
//! - `v3` and `v5` (default): the protocol versions. With one of them off, its branches vanish from
//!   the image; which is spoken is otherwise a [value](Version).
//! - `alloc`: [`store::Heap`], [`router::Trie`], and payloads shared by reference count.
//! - `defmt`: `defmt::Format` for the public types.
//!
//! A feature adds, and never changes what is there without it.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(not(any(feature = "v3", feature = "v5")))]
compile_error!("mqtt-core needs at least one of the features `v3` and `v5`");

pub mod broker;
pub mod client;
pub mod error;
pub mod event;
mod hash;
#[cfg(feature = "alloc")]
mod inline;
mod link;
pub mod reason;
pub mod router;
pub mod server;
mod session;
pub mod sink;
mod slice;
pub mod store;
pub mod time;
pub mod topic;
pub mod wire;

pub use client::Client;
pub use error::{DecodeError, EncodeError, Error, PublishError, SendError, Violation};
pub use event::{Event, Message, Receipt, TopicName};
pub use link::{Acknowledgement, Config, Limits, Overrun};
pub use reason::ReasonCode;
pub use sink::{Buffer, MIN_SINK, Payload, Sink};
pub use time::Instant;
pub use topic::{Filter, Topic, TopicError};
pub use wire::{
    Ack, Auth, Authentication, ConnAck, Connect, Disconnect, List, PacketId, Properties, Property,
    Publish, QoS, RetainHandling, SubAck, Subscribe, Subscription, Text, TextError, UnsubAck,
    Unsubscribe, UserProperty, Version, Will,
};
