//! MQTT 5.0's properties: one table, one parser, one writer.

use super::{
    DecodeError, EncodeError, PacketType, QoS,
    leaf::{self, Parsed, be_u8, be_u16, be_u32},
    list::{Element, List, Sealed},
    text::{self, Text, TextError},
    varint,
    writer::Writer,
};
use crate::topic::Topic;

/// Where properties stand: in a packet, or with the Will Message in a CONNECT.
#[derive(Clone, Copy)]
pub(super) struct Context(u16);

#[allow(non_upper_case_globals, reason = "named as the packets are")]
impl Context {
    /// Packet types are 1 to 15.
    pub(super) const Will: Self = Self(1);
    pub(super) const Connect: Self = Self(PacketType::Connect.bit());
    pub(super) const ConnAck: Self = Self(PacketType::ConnAck.bit());
    pub(super) const Publish: Self = Self(PacketType::Publish.bit());
    const PubAck: Self = Self(PacketType::PubAck.bit());
    const PubRec: Self = Self(PacketType::PubRec.bit());
    const PubRel: Self = Self(PacketType::PubRel.bit());
    const PubComp: Self = Self(PacketType::PubComp.bit());
    pub(super) const Subscribe: Self = Self(PacketType::Subscribe.bit());
    pub(super) const SubAck: Self = Self(PacketType::SubAck.bit());
    pub(super) const Unsubscribe: Self = Self(PacketType::Unsubscribe.bit());
    pub(super) const UnsubAck: Self = Self(PacketType::UnsubAck.bit());
    pub(super) const Disconnect: Self = Self(PacketType::Disconnect.bit());
    pub(super) const Auth: Self = Self(PacketType::Auth.bit());

    pub(super) const fn of(packet: PacketType) -> Self {
        Self(packet.bit())
    }
}

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident($type:ty) as $codec:ident = $id:literal, $accessor:ident
        in $($context:ident)|+;)+) => {
        /// One MQTT 5.0 property.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub enum Property<'a> {
            $($(#[$doc])* $name($type),)+
        }

        impl<'a> Property<'a> {
            /// The property's identifier on the wire.
            pub const fn identifier(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $id,)+
                }
            }

            /// The contexts in which the property with this identifier is legal.
            const fn contexts(identifier: u8) -> u16 {
                match identifier {
                    $($id => $(Context::$context.0)|+,)+
                    _ => 0,
                }
            }

            #[inline(always)]
            fn read_value(identifier: u8, input: &'a [u8]) -> Parsed<'a, Self> {
                match identifier {
                    $($id => {
                        let (input, value) = <codec::$codec as Codec<'a>>::read(input)?;
                        Ok((input, Self::$name(value)))
                    })+
                    _ => leaf::fail(DecodeError::PropertyIdentifier),
                }
            }

            fn value_len(&self) -> usize {
                match self {
                    $(Self::$name(value) => <codec::$codec as Codec<'a>>::len(value),)+
                }
            }

            fn write_value(&self, to: &mut Writer<'_>) {
                match self {
                    $(Self::$name(value) => <codec::$codec as Codec<'a>>::write(value, to),)+
                }
            }
        }

        impl<'a> Properties<'a> {
            $(
                $(#[$doc])*
                ///
                /// The first such property, if there is one.
                pub fn $accessor(&self) -> Option<$type> {
                    self.iter().find_map(|property| match property {
                        Property::$name(value) => Some(value),
                        _ => None,
                    })
                }
            )+
        }
    };
}

properties! {
    /// The payload is UTF-8 text.
    PayloadFormatIndicator(bool) as Flag = 0x01, payload_format_indicator in Publish | Will;
    /// Seconds after which the message is no longer worth delivering.
    MessageExpiryInterval(u32) as Four = 0x02, message_expiry_interval in Publish | Will;
    /// What the payload is, in terms that sender and receiver agree on.
    ContentType(Text<'a>) as String = 0x03, content_type in Publish | Will;
    /// Where an answer should be published [MQTT-3.3.2-14].
    ResponseTopic(Topic<'a>) as TopicName = 0x08, response_topic in Publish | Will;
    /// What tells the requester which request an answer is for.
    CorrelationData(&'a [u8]) as Binary = 0x09, correlation_data in Publish | Will;
    /// A number, 1 to 268,435,455, that comes back with every message the subscription matches.
    SubscriptionIdentifier(u32) as Variable = 0x0b, subscription_identifier in Publish | Subscribe;
    /// Seconds that the session outlives the connection; `u32::MAX` is for ever.
    SessionExpiryInterval(u32) as Four = 0x11, session_expiry_interval
        in Connect | ConnAck | Disconnect;
    /// The client identifier that the server chose.
    AssignedClientIdentifier(Text<'a>) as String = 0x12, assigned_client_identifier in ConnAck;
    /// Seconds of keep alive to use instead of the client's.
    ServerKeepAlive(u16) as Two = 0x13, server_keep_alive in ConnAck;
    /// The name of the enhanced authentication.
    AuthenticationMethod(Text<'a>) as String = 0x15, authentication_method
        in Connect | ConnAck | Auth;
    /// One step of the enhanced authentication.
    AuthenticationData(&'a [u8]) as Binary = 0x16, authentication_data in Connect | ConnAck | Auth;
    /// Whether the server may explain failures by reason strings and user properties.
    RequestProblemInformation(bool) as Flag = 0x17, request_problem_information in Connect;
    /// Seconds between the loss of the connection and the publication of the Will Message.
    WillDelayInterval(u32) as Four = 0x18, will_delay_interval in Will;
    /// Whether the server should return Response Information.
    RequestResponseInformation(bool) as Flag = 0x19, request_response_information in Connect;
    /// The basis for response topics.
    ResponseInformation(Text<'a>) as String = 0x1a, response_information in ConnAck;
    /// Another server to use.
    ServerReference(Text<'a>) as String = 0x1c, server_reference in ConnAck | Disconnect;
    /// An explanation for people, not for programs.
    ReasonString(Text<'a>) as String = 0x1f, reason_string
        in ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth;
    /// How many QoS 1 and 2 publishes may be unacknowledged, 1 to 65,535.
    ReceiveMaximum(u16) as Two = 0x21, receive_maximum in Connect | ConnAck;
    /// The highest topic alias accepted; 0 is none.
    TopicAliasMaximum(u16) as Two = 0x22, topic_alias_maximum in Connect | ConnAck;
    /// A number, 1 to 65,535, that stands for the topic on this connection.
    TopicAlias(u16) as Two = 0x23, topic_alias in Publish;
    /// The highest QoS that the server takes: 0 or 1 (2 is told by absence).
    MaximumQoS(QoS) as Level = 0x24, maximum_qos in ConnAck;
    /// Whether the server keeps retained messages.
    RetainAvailable(bool) as Flag = 0x25, retain_available in ConnAck;
    /// A name and a value that the specification gives no meaning. May be repeated.
    UserProperty(UserProperty<'a>) as Pair = 0x26, user_property
        in Connect | ConnAck | Publish | PubAck | PubRec | PubRel | PubComp | Subscribe | SubAck
            | Unsubscribe | UnsubAck | Disconnect | Auth | Will;
    /// The largest packet accepted, in bytes, from 1.
    MaximumPacketSize(u32) as Four = 0x27, maximum_packet_size in Connect | ConnAck;
    /// Whether the server supports wildcards in subscriptions.
    WildcardSubscriptionAvailable(bool) as Flag = 0x28, wildcard_subscription_available in ConnAck;
    /// Whether the server supports subscription identifiers.
    SubscriptionIdentifierAvailable(bool) as Flag = 0x29, subscription_identifier_available
        in ConnAck;
    /// Whether the server supports shared subscriptions.
    SharedSubscriptionAvailable(bool) as Flag = 0x2a, shared_subscription_available in ConnAck;
}

/// The properties of a packet, in order.
///
/// ```
/// use mqtt_core::{Properties, Property, Text};
///
/// let list = [
///     Property::ContentType(Text::new("text/plain")?),
///     Property::MessageExpiryInterval(3_600),
/// ];
/// let properties = Properties::from(&list);
/// assert_eq!(properties.content_type(), Some(Text::new("text/plain")?));
/// assert_eq!(properties.response_topic(), None);
/// # Ok::<(), mqtt_core::TextError>(())
/// ```
pub type Properties<'a> = List<'a, Property<'a>>;

/// A name and a value for applications to agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UserProperty<'a> {
    /// The name; the same name may appear more than once.
    pub name: Text<'a>,
    /// The value.
    pub value: Text<'a>,
}

impl<'a> UserProperty<'a> {
    /// The pair of these two.
    ///
    /// # Errors
    ///
    /// [`TextError`] if one of them cannot stand in a packet.
    pub const fn new(name: &'a str, value: &'a str) -> Result<Self, TextError> {
        match (Text::new(name), Text::new(value)) {
            (Ok(name), Ok(value)) => Ok(Self { name, value }),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

impl Property<'_> {
    /// Values the specification excludes although their type has them.
    #[inline(always)]
    const fn is_in_range(&self) -> bool {
        match *self {
            Self::SubscriptionIdentifier(value) => value != 0 && value <= varint::MAX,
            Self::ReceiveMaximum(value) | Self::TopicAlias(value) => value != 0,
            Self::MaximumPacketSize(value) => value != 0,
            Self::MaximumQoS(value) => !matches!(value, QoS::ExactlyOnce),
            Self::ResponseTopic(value) => !value.is_empty(),
            Self::CorrelationData(value) | Self::AuthenticationData(value) => {
                value.len() <= u16::MAX as usize
            }
            _ => true,
        }
    }

    /// What is wrong with a received property that is not in range.
    const fn out_of_range(&self) -> DecodeError {
        match self {
            Self::TopicAlias(_) => DecodeError::TopicAlias,
            _ => DecodeError::PropertyValue,
        }
    }

    /// What is wrong with a property that cannot be sent.
    const fn unsendable(&self) -> EncodeError {
        match self {
            Self::CorrelationData(value) | Self::AuthenticationData(value)
                if value.len() > u16::MAX as usize =>
            {
                EncodeError::TooLong
            }
            _ => EncodeError::Property,
        }
    }

    const fn may_repeat(identifier: u8, context: Context) -> bool {
        const USER_PROPERTY: u8 = 0x26;
        const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
        identifier == USER_PROPERTY
            || identifier == SUBSCRIPTION_IDENTIFIER && context.0 == Context::Publish.0
    }
}

impl<'a> Element<'a> for Property<'a> {}

impl<'a> Sealed<'a> for Property<'a> {
    #[inline(always)]
    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, identifier) = be_u8(input)?;
        let (input, property) = Self::read_value(identifier, input)?;
        Ok((input, Some(property)))
    }

    fn encoded_len(&self) -> usize {
        1 + self.value_len()
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u8(self.identifier());
        self.write_value(to);
    }
}

impl<'a> Element<'a> for UserProperty<'a> {}

impl<'a> Sealed<'a> for UserProperty<'a> {
    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, property) = Property::read(input)?;
        match property {
            Some(Property::UserProperty(pair)) => Ok((input, Some(pair))),
            _ => Ok((input, None)),
        }
    }

    fn encoded_len(&self) -> usize {
        Property::UserProperty(*self).encoded_len()
    }

    fn write(&self, to: &mut Writer<'_>) {
        Property::UserProperty(*self).write(to);
    }
}

/// Which properties have been seen: each identifier fits a bit.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    /// Whether the property is the first of its kind, or one of those that may repeat.
    #[inline(always)]
    fn accepts(&mut self, identifier: u8, context: Context) -> bool {
        let bit = 1 << (identifier & 63);
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first || Property::may_repeat(identifier, context)
    }
}

/// A property length and as many bytes of properties, each legal, in range, and not repeated.
#[inline(always)]
pub(super) fn read(input: &[u8], context: Context) -> Parsed<'_, Properties<'_>> {
    if let [0, rest @ ..] = input {
        return Ok((rest, Properties::EMPTY));
    }
    let (input, len) = leaf::varint(input)?;
    let (input, bytes) = leaf::take(input, len as usize)?;
    validate(bytes, context)?;
    Ok((input, Properties::encoded(bytes)))
}

#[inline(never)]
fn validate(mut bytes: &[u8], context: Context) -> Result<(), nom::Err<DecodeError>> {
    let mut seen = Seen::default();
    while let Some((&identifier, rest)) = bytes.split_first() {
        if Property::contexts(identifier) & context.0 == 0 {
            return leaf::fail(DecodeError::PropertyIdentifier);
        }
        if !seen.accepts(identifier, context) {
            return leaf::fail(DecodeError::PropertyRepeated);
        }
        let (rest, property) = Property::read_value(identifier, rest)?;
        if !property.is_in_range() {
            return leaf::fail(property.out_of_range());
        }
        bytes = rest;
    }
    Ok(())
}

/// The number of bytes of `properties` without their length, all of them checked as a receiver
/// would.
pub(super) fn encoded_len<'a>(
    properties: impl Iterator<Item = Property<'a>>,
    context: Context,
) -> Result<usize, EncodeError> {
    let mut seen = Seen::default();
    let mut len = 0;
    for property in properties {
        let identifier = property.identifier();
        let legal = Property::contexts(identifier) & context.0 != 0;
        if !legal || !property.is_in_range() || !seen.accepts(identifier, context) {
            return Err(property.unsendable());
        }
        len += property.encoded_len();
    }
    Ok(len)
}

/// The two halves of reading, measuring and writing one type of value.
trait Codec<'a> {
    type Value;

    fn read(input: &'a [u8]) -> Parsed<'a, Self::Value>;
    fn len(value: &Self::Value) -> usize;
    fn write(value: &Self::Value, to: &mut Writer<'_>);
}

mod codec {
    use super::*;

    pub(super) struct Flag;
    pub(super) struct Level;
    pub(super) struct Two;
    pub(super) struct Four;
    pub(super) struct Variable;
    pub(super) struct Binary;
    pub(super) struct String;
    pub(super) struct TopicName;
    pub(super) struct Pair;

    impl<'a> Codec<'a> for Flag {
        type Value = bool;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, bool> {
            match be_u8(input)? {
                (input, byte @ 0..=1) => Ok((input, byte == 1)),
                _ => leaf::fail(DecodeError::PropertyValue),
            }
        }

        fn len(_: &bool) -> usize {
            1
        }

        fn write(value: &bool, to: &mut Writer<'_>) {
            to.u8((*value).into());
        }
    }

    impl<'a> Codec<'a> for Level {
        type Value = QoS;

        fn read(input: &'a [u8]) -> Parsed<'a, QoS> {
            let (input, byte) = be_u8(input)?;
            match QoS::from_u8(byte) {
                Some(qos) => Ok((input, qos)),
                None => leaf::fail(DecodeError::PropertyValue),
            }
        }

        fn len(_: &QoS) -> usize {
            1
        }

        fn write(value: &QoS, to: &mut Writer<'_>) {
            to.u8(*value as u8);
        }
    }

    impl<'a> Codec<'a> for Two {
        type Value = u16;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, u16> {
            be_u16(input)
        }

        fn len(_: &u16) -> usize {
            2
        }

        fn write(value: &u16, to: &mut Writer<'_>) {
            to.u16(*value);
        }
    }

    impl<'a> Codec<'a> for Four {
        type Value = u32;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, u32> {
            be_u32(input)
        }

        fn len(_: &u32) -> usize {
            4
        }

        fn write(value: &u32, to: &mut Writer<'_>) {
            to.u32(*value);
        }
    }

    impl<'a> Codec<'a> for Variable {
        type Value = u32;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, u32> {
            leaf::varint(input)
        }

        fn len(value: &u32) -> usize {
            varint::len(*value)
        }

        fn write(value: &u32, to: &mut Writer<'_>) {
            to.varint(*value);
        }
    }

    impl<'a> Codec<'a> for Binary {
        type Value = &'a [u8];

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, &'a [u8]> {
            leaf::binary(input)
        }

        fn len(value: &&'a [u8]) -> usize {
            2 + value.len()
        }

        fn write(value: &&'a [u8], to: &mut Writer<'_>) {
            to.binary(value);
        }
    }

    impl<'a> Codec<'a> for String {
        type Value = Text<'a>;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, Text<'a>> {
            leaf::string(input)
        }

        fn len(value: &Text<'a>) -> usize {
            2 + value.len()
        }

        fn write(value: &Text<'a>, to: &mut Writer<'_>) {
            to.string(*value);
        }
    }

    impl<'a> Codec<'a> for TopicName {
        type Value = Topic<'a>;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, Topic<'a>> {
            let (input, bytes) = leaf::binary(input)?;
            match text::topic(bytes) {
                Ok(topic) => Ok((input, topic)),
                Err(error) => leaf::fail(error),
            }
        }

        fn len(value: &Topic<'a>) -> usize {
            2 + value.len()
        }

        fn write(value: &Topic<'a>, to: &mut Writer<'_>) {
            to.binary(value.as_bytes());
        }
    }

    impl<'a> Codec<'a> for Pair {
        type Value = UserProperty<'a>;

        #[inline(always)]
        fn read(input: &'a [u8]) -> Parsed<'a, UserProperty<'a>> {
            let (input, name) = leaf::string(input)?;
            let (input, value) = leaf::string(input)?;
            Ok((input, UserProperty { name, value }))
        }

        fn len(value: &UserProperty<'a>) -> usize {
            4 + value.name.len() + value.value.len()
        }

        fn write(value: &UserProperty<'a>, to: &mut Writer<'_>) {
            to.string(value.name);
            to.string(value.value);
        }
    }
}
