//! MQTT 3.1.1 and 5.0 as a state machine.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(not(any(feature = "v3", feature = "v5")))]
compile_error!("mqtt-core needs at least one of the features `v3` and `v5`");

pub mod client;
pub mod error;
pub mod event;
mod link;
pub mod reason;
mod session;
pub mod sink;
pub mod store;
pub mod time;
mod timer;
pub mod topic;
pub mod wire;

pub use client::Client;
pub use error::{DecodeError, EncodeError, Error, PublishError, SendError, Violation};
pub use event::{Event, Message, Receipt, TopicName};
pub use link::{Acknowledgement, Config};
pub use reason::ReasonCode;
pub use sink::{Buffer, MIN_SINK, Payload, Sink};
pub use time::Instant;
pub use topic::{Filter, Topic, TopicError};
pub use wire::{
    Ack, Auth, Authentication, ConnAck, Connect, Disconnect, List, PacketId, Properties, Property,
    Publish, QoS, RetainHandling, SubAck, Subscribe, Subscription, Text, TextError, UnsubAck,
    Unsubscribe, UserProperty, Version, Will,
};
