//! What a machine tells the application.

use crate::{
    error::DecodeError,
    reason::ReasonCode,
    topic::Topic,
    wire::{
        self, Ack, Auth, ConnAck, Delivery, Disconnect, Header, PacketId, PacketType, Properties,
        Publish, QoS, SubAck, UnsubAck, Version,
    },
};

/// Something the application may want to know. Borrows the input, never the machine, so that the
/// machine can be used while the event is being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event<'b> {
    /// The server has accepted the connection, on these terms.
    ///
    /// Without [`session_present`](ConnAck::session_present) the session is new: every publish
    /// that had no outcome yet has ended as lost, and there are no subscriptions. (3.1 servers do
    /// not tell; the session is taken for present if it was not to be discarded.)
    Connected(ConnAck<'b>),
    /// The server has refused the connection [MQTT-3.2.2-7]. Nothing more will happen on it.
    Refused(ConnAck<'b>),
    /// A message has arrived, or the beginning of a long one.
    Message(Message<'b>),
    /// More of the payload of the message that arrived last.
    Payload {
        /// The next bytes.
        bytes: &'b [u8],
        /// How many bytes are still to come.
        remaining: u32,
    },
    /// A message was discarded and acknowledged, because the application asked for it or because
    /// its topic and properties do not fit the input.
    Skipped {
        /// The length of its packet without the fixed header, in bytes.
        size: u32,
    },
    /// The outcome of a publish at QoS 1 or 2: the peer has it, or (5.0) has refused it with a
    /// reason of 0x80 or above.
    Acknowledged(PacketId, Ack<'b>),
    /// The outcome of a publish that could not be sent again on this connection: larger than the
    /// peer now takes, at a QoS or retained as it no longer supports, or
    /// [`ImplementationSpecificError`](ReasonCode::ImplementationSpecificError) if what the store
    /// gave back was not the packet, [`UnspecifiedError`](ReasonCode::UnspecifiedError) if the
    /// application [gave it up](crate::Client::abandon). At QoS 2 the peer may have had it already.
    Dropped(PacketId, ReasonCode),
    /// A publish of which only a record is kept is to be sent again: call
    /// [`publish_again`](crate::Client::publish_again) or [`abandon`](crate::Client::abandon).
    /// Nothing else is sent again before.
    Resend(PacketId),
    /// A SUBSCRIBE is answered, filter by filter.
    Subscribed(PacketId, SubAck<'b>),
    /// An UNSUBSCRIBE is answered, in 5.0 filter by filter.
    Unsubscribed(PacketId, UnsubAck<'b>),
    /// A step of enhanced authentication.
    Auth(Auth<'b>),
    /// The server ends the connection (5.0). Nothing more will happen on it.
    Disconnected(Disconnect<'b>),
}

/// An application message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'b> {
    /// What it is about.
    pub topic: TopicName<'b>,
    /// The message, or its beginning.
    pub payload: &'b [u8],
    /// How many bytes of the payload are still to come, in [`Event::Payload`].
    pub remaining: u32,
    /// The QoS at which it was sent to us.
    pub qos: QoS,
    /// It had been kept for future subscribers.
    pub retain: bool,
    /// The sender may have sent it before. Says nothing about whether it was delivered before.
    pub dup: bool,
    /// 5.0 only.
    pub properties: Properties<'b>,
    /// What to acknowledge it with, if that is left to the application: from now on, or once
    /// `remaining` has come to 0.
    pub receipt: Option<Receipt>,
}

impl<'b> Message<'b> {
    /// Reads a message again, from bytes at which [`poll`](crate::Client::poll) found it and that
    /// were kept: its packet, or the beginning of it with at least all that stands before the payload.
    /// `None` if they are something else. It has no receipt.
    ///
    /// ```
    /// use mqtt_core::{Message, Version};
    ///
    /// let message = Message::decode(Version::V3_1_1, b"\x30\x06\0\x01tabc")?.unwrap();
    /// assert_eq!((message.payload, message.remaining), (&b"abc"[..], 0));
    /// let beginning = Message::decode(Version::V3_1_1, b"\x30\x06\0\x01ta")?.unwrap();
    /// assert_eq!((beginning.payload, beginning.remaining), (&b"a"[..], 2));
    /// # Ok::<(), mqtt_core::DecodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the packet is malformed.
    pub fn decode(version: Version, packet: &'b [u8]) -> Result<Option<Self>, DecodeError> {
        let Some((header, body)) = Header::decode(version, packet)? else { return Ok(None) };
        if header.packet_type != PacketType::Publish {
            return Ok(None);
        }
        let body = body.get(..header.remaining_length as usize).unwrap_or(body);
        match wire::head_len(version, &header, body)? {
            Some(len) if len <= body.len() => {}
            _ => return Ok(None),
        }
        let (delivery, publish) = Publish::read(version, header.flags, body)?;
        let topic = match publish.properties.topic_alias() {
            Some(alias) if publish.topic.is_empty() => TopicName::Alias(alias),
            _ => TopicName::Name(publish.topic),
        };
        let remaining = header.remaining_length - body.len() as u32;
        Ok(Some(Self::new(&delivery, &publish, topic, remaining, None)))
    }

    pub(crate) fn new(
        delivery: &Delivery,
        publish: &Publish<'b>,
        topic: TopicName<'b>,
        remaining: u32,
        receipt: Option<Receipt>,
    ) -> Self {
        Self {
            topic,
            payload: publish.payload.as_bytes(),
            remaining,
            qos: publish.qos,
            retain: publish.retain,
            dup: delivery.dup,
            properties: publish.properties,
            receipt,
        }
    }
}

/// How an incoming message names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TopicName<'b> {
    /// By its name.
    Name(Topic<'b>),
    /// By an alias that [`Client::topic`](crate::Client::topic) knows until the connection ends or
    /// the server sets it anew.
    Alias(u16),
}

impl<'b> TopicName<'b> {
    /// The name, unless it is an alias.
    pub const fn name(&self) -> Option<Topic<'b>> {
        match self {
            Self::Name(topic) => Some(*topic),
            Self::Alias(_) => None,
        }
    }
}

/// Entitles to acknowledge one message once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Receipt {
    pub(crate) id: PacketId,
    pub(crate) number: u32,
}
