//! Errors, split by who is to blame.

use core::fmt;

use crate::reason::ReasonCode;

/// Implements `Display` by one phrase per variant, and `Error`.
macro_rules! phrases {
    ($error:ident: $($variant:ident => $phrase:literal,)+) => {
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $phrase,)+
                })
            }
        }

        impl core::error::Error for $error {}
    };
}

/// Received bytes are not a valid packet: the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet type is 0, or AUTH before 5.0.
    PacketType,
    /// Reserved flags of the fixed header are not as fixed: [MQTT-2.1.3-1], [MQTT-3.8.1-1],
    /// [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1].
    Flags,
    /// DUP is set at QoS 0 [MQTT-3.3.1-2].
    Dup,
    /// A variable byte integer is longer than four bytes or than necessary [MQTT-1.5.5-1].
    VariableByteInteger,
    /// The packet ends before its last field does.
    Truncated,
    /// The packet has more bytes than fields.
    TrailingBytes,
    /// A string is not well-formed UTF-8 [MQTT-1.5.4-1].
    Utf8,
    /// A string contains U+0000 [MQTT-1.5.4-2].
    Null,
    /// A topic name is empty or has a wildcard [MQTT-4.7.3-1], [MQTT-3.3.2-2], [MQTT-3.3.2-14].
    TopicName,
    /// A PUBLISH has neither a topic name nor a topic alias (section 3.3.2.1).
    TopicMissing,
    /// A topic filter is empty, has a misplaced wildcard or no proper share name:
    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    TopicFilter,
    /// The packet identifier is 0 [MQTT-2.2.1-3].
    PacketId,
    /// The QoS is 3 [MQTT-3.3.1-4], [MQTT-3.1.2-12].
    QoS,
    /// There is no such property, or not in this packet.
    PropertyIdentifier,
    /// A property that may occur once occurs again.
    PropertyRepeated,
    /// A property has a value that the specification excludes.
    PropertyValue,
    /// A topic alias is 0 [MQTT-3.3.2-8].
    TopicAlias,
    /// Authentication data or an AUTH without an authentication method (sections 3.1.2.11.10 and
    /// 3.15.2.2.2).
    AuthenticationMethod,
    /// There is no such reason code, or not in this packet; see [`ReasonCode::is_legal_in`].
    ReasonCode,
    /// The protocol name is neither `MQTT` nor 3.1's `MQIsdp` [MQTT-3.1.2-1].
    ProtocolName,
    /// The protocol version is not supported [MQTT-3.1.2-2].
    ProtocolVersion,
    /// The connect flags contradict each other or the reserved one is set: [MQTT-3.1.2-3],
    /// [MQTT-3.1.2-11], [MQTT-3.1.2-13], 3.1.1: [MQTT-3.1.2-22].
    ConnectFlags,
    /// The connect acknowledge flags are reserved but for the first [MQTT-3.2.2-1].
    ConnAckFlags,
    /// Session present in a refusal [MQTT-3.2.2-6].
    SessionPresent,
    /// Reserved bits of the subscription options are set [MQTT-3.8.3-5].
    SubscriptionOptions,
    /// The QoS or the Retain Handling of a subscription is 3 (section 3.8.3.1, 3.1.1:
    /// [MQTT-3.8.3-4]).
    SubscriptionValue,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    SharedNoLocal,
    /// A list that must have an element has none: [MQTT-3.8.3-2], [MQTT-3.10.3-2].
    Empty,
}

impl DecodeError {
    /// The reason code with which the connection is to be closed.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::Dup
            | Self::TopicMissing
            | Self::PropertyRepeated
            | Self::PropertyValue
            | Self::AuthenticationMethod
            | Self::SessionPresent
            | Self::SubscriptionValue
            | Self::SharedNoLocal
            | Self::Empty => ReasonCode::ProtocolError,
            Self::TopicName => ReasonCode::TopicNameInvalid,
            Self::TopicFilter => ReasonCode::TopicFilterInvalid,
            Self::TopicAlias => ReasonCode::TopicAliasInvalid,
            Self::ProtocolName | Self::ProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            _ => ReasonCode::MalformedPacket,
        }
    }
}

phrases! { DecodeError:
    PacketType => "no such packet type",
    Flags => "reserved flags are set",
    Dup => "DUP is set at QoS 0",
    VariableByteInteger => "a variable byte integer is too long",
    Truncated => "the packet is shorter than its fields",
    TrailingBytes => "the packet is longer than its fields",
    Utf8 => "a string is not UTF-8",
    Null => "a string contains U+0000",
    TopicName => "a topic name is empty or has a wildcard",
    TopicMissing => "neither a topic name nor a topic alias",
    TopicFilter => "a topic filter is malformed",
    PacketId => "the packet identifier is 0",
    QoS => "the QoS is 3",
    PropertyIdentifier => "a property is not allowed in this packet",
    PropertyRepeated => "a property is repeated",
    PropertyValue => "a property's value is out of range",
    TopicAlias => "a topic alias is 0",
    AuthenticationMethod => "authentication without a method",
    ReasonCode => "a reason code is not allowed in this packet",
    ProtocolName => "the protocol name is not MQTT",
    ProtocolVersion => "the protocol version is not supported",
    ConnectFlags => "the connect flags are inconsistent",
    ConnAckFlags => "reserved connect acknowledge flags are set",
    SessionPresent => "session present in a refusal",
    SubscriptionOptions => "reserved subscription options are set",
    SubscriptionValue => "the QoS or Retain Handling of a subscription is 3",
    SharedNoLocal => "No Local on a shared subscription",
    Empty => "a list without elements",
}

/// A packet to be sent is not valid: the caller's fault. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EncodeError {
    /// The packet does not fit the sink now.
    NoRoom,
    /// Only MQTT 5.0 has this packet or field.
    Version,
    /// A field has more than 65,535 bytes, or the packet more than 268,435,455.
    TooLong,
    /// A property is not legal in this packet, repeated, or out of range.
    Property,
    /// The reason code is not legal in this packet, or 3.1.1 has no such return code.
    ReasonCode,
    /// The topic name is empty [MQTT-4.7.3-1].
    TopicName,
    /// A packet identifier at QoS 0 or none above it [MQTT-2.2.1-2], or DUP at QoS 0
    /// [MQTT-3.3.1-2].
    Delivery,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    SharedNoLocal,
    /// A list that must have an element has none: [MQTT-3.8.3-2], [MQTT-3.10.3-2].
    Empty,
    /// A password without a user name on 3.1.1 [MQTT-3.1.2-22], or an empty client identifier
    /// that asks for an old session on 3.1.1 [MQTT-3.1.3-7].
    Credentials,
}

phrases! { EncodeError:
    NoRoom => "the packet does not fit the sink now",
    Version => "only MQTT 5.0 has this",
    TooLong => "a field or the packet is too long",
    Property => "a property is not allowed here, repeated, or out of range",
    ReasonCode => "the reason code is not allowed in this packet",
    TopicName => "the topic name is empty",
    Delivery => "packet identifier or DUP contradict the QoS",
    SharedNoLocal => "No Local on a shared subscription",
    Empty => "a list without elements",
    Credentials => "3.1.1 requires a user name with a password, and a client identifier with a session",
}

/// What a peer did that its packets' format does not exclude but the protocol does: its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Violation {
    /// A packet that this role never receives, or not at this time: [MQTT-3.1.0-1],
    /// [MQTT-3.1.0-2], [MQTT-3.2.0-1], [MQTT-3.2.0-2].
    UnexpectedPacket,
    /// A packet larger than the Maximum Packet Size told, or than the caller can hold where it
    /// must be held whole [MQTT-3.1.2-24], [MQTT-3.2.2-15].
    PacketTooLarge,
    /// A Maximum Packet Size so small that no acknowledgement could be sent [MQTT-3.2.2-15].
    MaximumPacketSize,
    /// More than Receive Maximum publishes unacknowledged: [MQTT-3.3.4-7], [MQTT-3.3.4-9]. On
    /// 3.1.1: more QoS 2 messages than the session has room for.
    ReceiveMaximumExceeded,
    /// A publish above the Maximum QoS [MQTT-3.2.2-11].
    QoSNotSupported,
    /// An identifier that is in use for a message at another QoS [MQTT-2.2.1-4].
    PacketIdInUse,
    /// An acknowledgement of another kind than its packet identifier asks for [MQTT-2.2.1-5],
    /// [MQTT-2.2.1-6].
    WrongAcknowledgement,
    /// Not as many reason codes as there were filters [MQTT-3.8.4-6].
    ReasonCount,
    /// A session is present that should have been discarded [MQTT-3.2.2-2], or was here alone
    /// [MQTT-3.2.2-4]: then the next clean start ends it.
    SessionPresent,
    /// A topic alias above the maximum [MQTT-3.1.2-26], [MQTT-3.2.2-17].
    TopicAliasInvalid,
    /// A topic alias that was not set on this connection.
    TopicAliasUnknown,
    /// AUTH or an authentication method that was not asked for: [MQTT-4.12.0-5],
    /// [MQTT-4.12.0-6].
    Authentication,
    /// A property that this role does not send here: [MQTT-3.14.2-2], [MQTT-3.3.4-6].
    Property,
}

impl Violation {
    /// The reason code with which the connection is to be closed.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::PacketTooLarge => ReasonCode::PacketTooLarge,
            Self::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            Self::QoSNotSupported => ReasonCode::QoSNotSupported,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            _ => ReasonCode::ProtocolError,
        }
    }
}

phrases! { Violation:
    UnexpectedPacket => "a packet that must not come now",
    PacketTooLarge => "a packet larger than the maximum",
    MaximumPacketSize => "a maximum packet size that no acknowledgement fits",
    ReceiveMaximumExceeded => "more publishes in flight than the receive maximum",
    QoSNotSupported => "a publish above the maximum QoS",
    PacketIdInUse => "a packet identifier that is in use",
    WrongAcknowledgement => "an acknowledgement of the wrong kind",
    ReasonCount => "not as many reason codes as filters",
    SessionPresent => "a session that should have been discarded",
    TopicAliasInvalid => "a topic alias above the maximum",
    TopicAliasUnknown => "a topic alias that was not set",
    Authentication => "authentication that was not asked for",
    Property => "a property that must not come from this side",
}

/// Why a connection has ended, as [`Client::poll`](crate::Client::poll) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// There is no connection: the caller's mistake, or what follows every other ending.
    NotConnected,
    /// The peer sent something that is not a packet.
    Malformed(DecodeError),
    /// The peer broke the protocol.
    Protocol(Violation),
    /// The handshake took longer than the time given to it. Nobody's fault, or the network's.
    HandshakeTimeout,
    /// Nothing came back for half a keep alive after a PINGREQ: the network's.
    KeepAliveTimeout,
}

impl Error {
    /// The reason code of the DISCONNECT that was written, if one was (5.0, and it fitted).
    pub const fn reason(self) -> Option<ReasonCode> {
        match self {
            Self::Malformed(error) => Some(error.reason()),
            Self::Protocol(violation) => Some(violation.reason()),
            Self::NotConnected | Self::HandshakeTimeout | Self::KeepAliveTimeout => None,
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Protocol(violation)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("not connected"),
            Self::Malformed(error) => write!(f, "malformed packet: {error}"),
            Self::Protocol(violation) => write!(f, "protocol error: {violation}"),
            Self::HandshakeTimeout => f.write_str("no answer to the handshake in time"),
            Self::KeepAliveTimeout => f.write_str("no sign of life within the keep alive"),
        }
    }
}

impl core::error::Error for Error {}

/// Why a packet was not written. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WriteError {
    NoRoom,
    TooLarge,
    Streaming,
    Invalid(EncodeError),
}

impl From<EncodeError> for WriteError {
    fn from(error: EncodeError) -> Self {
        Self::Invalid(error)
    }
}

macro_rules! from_write_error {
    ($error:ident) => {
        impl From<WriteError> for $error {
            fn from(error: WriteError) -> Self {
                match error {
                    WriteError::NoRoom => Self::NoRoom,
                    WriteError::TooLarge => Self::TooLarge,
                    WriteError::Streaming => Self::Streaming,
                    WriteError::Invalid(error) => Self::Invalid(error),
                }
            }
        }

        impl core::error::Error for $error {}
    };
}

/// Why a message was not published. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PublishError {
    /// There is no connection yet, or no longer.
    NotConnected,
    /// The sink is too full: flush it, then try again.
    NoRoom,
    /// As many publishes are unacknowledged as the peer or the store takes [MQTT-3.3.4-7], or
    /// earlier ones have still to be sent again: wait for an outcome, then try again.
    InFlightFull,
    /// Too large for the peer's Maximum Packet Size [MQTT-3.2.2-15], the sink or the store: it will
    /// never fit.
    TooLarge,
    /// A payload is being streamed; nothing may come in between.
    Streaming,
    /// The peer has told that it would refuse this: QoS [MQTT-3.2.2-11] or retain
    /// [MQTT-3.2.2-14].
    Unsupported(ReasonCode),
    /// The message is not valid.
    Invalid(EncodeError),
}

from_write_error!(PublishError);

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("not connected"),
            Self::NoRoom => f.write_str("no room in the sink now"),
            Self::InFlightFull => f.write_str("too many publishes in flight"),
            Self::TooLarge => f.write_str("too large for the peer, the sink or the store"),
            Self::Streaming => f.write_str("a payload is being streamed"),
            Self::Unsupported(reason) => write!(f, "not supported by the peer: {reason:?}"),
            Self::Invalid(error) => write!(f, "invalid message: {error}"),
        }
    }
}

/// Why a packet other than a publish was not sent. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SendError {
    /// There is no connection yet, or no longer.
    NotConnected,
    /// There is a connection already.
    AlreadyConnected,
    /// The sink is too full: flush it, then try again.
    NoRoom,
    /// As many requests are unanswered as fit: wait for an answer, then try again.
    InFlightFull,
    /// Too large for the peer's Maximum Packet Size [MQTT-3.2.2-15] or the sink: it will never fit.
    TooLarge,
    /// A payload is being streamed; nothing may come in between.
    Streaming,
    /// The peer has told that it would refuse this.
    Unsupported(ReasonCode),
    /// The packet is not valid.
    Invalid(EncodeError),
    /// The receipt is of an earlier connection, or was used before.
    StaleReceipt,
}

from_write_error!(SendError);

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("not connected"),
            Self::AlreadyConnected => f.write_str("already connected"),
            Self::NoRoom => f.write_str("no room in the sink now"),
            Self::InFlightFull => f.write_str("too many requests in flight"),
            Self::TooLarge => f.write_str("too large for the peer or the sink"),
            Self::Streaming => f.write_str("a payload is being streamed"),
            Self::Unsupported(reason) => write!(f, "not supported by the peer: {reason:?}"),
            Self::Invalid(error) => write!(f, "invalid packet: {error}"),
            Self::StaleReceipt => f.write_str("the receipt is stale"),
        }
    }
}
