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
