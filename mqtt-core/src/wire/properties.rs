//! MQTT 5.0's properties: one table, one parser, one writer.

use super::{
    DecodeError, EncodeError, PacketType, QoS, SMALL,
    leaf::{self, Parsed, be_u8, be_u16, be_u32},
    list::{Element, List, Repr, Sealed},
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
    ($($(#[$doc:meta])* $name:ident($type:ty) as $kind:ident = $id:literal, $accessor:ident
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

            /// How the value of the property with this identifier is encoded.
            const fn kind(identifier: u8) -> Option<Kind> {
                match identifier {
                    $($id => Some(Kind::$kind),)+
                    _ => None,
                }
            }

            fn new(identifier: u8, value: Value<'a>) -> Option<Self> {
                Some(match identifier {
                    $($id => Self::$name(Carried::from_value(value)),)+
                    _ => return None,
                })
            }

            /// Apart from the identifier there are few kinds, and one way for each.
            #[inline(never)]
            fn value(&self) -> Value<'a> {
                match *self {
                    $(Self::$name(value) => value.into_value(),)+
                }
            }

            fn field(&self) -> Field<'a> {
                Field { identifier: self.identifier(), value: self.value() }
            }
        }

        /// The identifiers by the properties' names.
        #[allow(non_upper_case_globals, reason = "named as the properties are")]
        pub(super) mod id {
            $(pub(in super::super) const $name: u8 = $id;)+
        }

        impl<'a> Properties<'a> {
            $(
                $(#[$doc])*
                ///
                /// The first such property, if there is one.
                pub fn $accessor(&self) -> Option<$type> {
                    self.find(id::$name).map(Carried::from_value)
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
    ResponseTopic(Topic<'a>) as Topic = 0x08, response_topic in Publish | Will;
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
    ReceiveMaximum(u16) as NonZeroTwo = 0x21, receive_maximum in Connect | ConnAck;
    /// The highest topic alias accepted; 0 is none.
    TopicAliasMaximum(u16) as Two = 0x22, topic_alias_maximum in Connect | ConnAck;
    /// A number, 1 to 65,535, that stands for the topic on this connection.
    TopicAlias(u16) as NonZeroTwo = 0x23, topic_alias in Publish;
    /// The highest QoS that the server takes: 0 or 1 (2 is told by absence).
    MaximumQoS(QoS) as Flag = 0x24, maximum_qos in ConnAck;
    /// Whether the server keeps retained messages.
    RetainAvailable(bool) as Flag = 0x25, retain_available in ConnAck;
    /// A name and a value that the specification gives no meaning. May be repeated.
    UserProperty(UserProperty<'a>) as Pair = 0x26, user_property
        in Connect | ConnAck | Publish | PubAck | PubRec | PubRel | PubComp | Subscribe | SubAck
            | Unsubscribe | UnsubAck | Disconnect | Auth | Will;
    /// The largest packet accepted, in bytes, from 1.
    MaximumPacketSize(u32) as NonZeroFour = 0x27, maximum_packet_size in Connect | ConnAck;
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
    const fn may_repeat(identifier: u8, context: Context) -> bool {
        identifier == id::UserProperty
            || identifier == id::SubscriptionIdentifier && context.0 == Context::Publish.0
    }
}

impl<'a> Element<'a> for Property<'a> {}

impl<'a> Sealed<'a> for Property<'a> {
    /// Not used: whether a property may stand somewhere depends on those before it.
    fn check(input: &'a [u8]) -> Parsed<'a, ()> {
        Self::read(input).map(|(input, _)| (input, ()))
    }

    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, field) = Field::read(input)?;
        Ok((input, Self::new(field.identifier, field.value)))
    }

    fn encoded_len(&self) -> usize {
        self.field().encoded_len()
    }

    fn write(&self, to: &mut Writer<'_>) {
        self.field().write(to);
    }
}

/// A property as it is encoded, whatever it means.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) identifier: u8,
    value: Value<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn new(identifier: u8, value: impl Carried<'a>) -> Self {
        Self { identifier, value: value.into_value() }
    }

    /// What the property with its identifier carries.
    #[inline]
    pub(super) fn get<T: Carried<'a>>(&self) -> T {
        T::from_value(self.value)
    }

    fn kind(&self) -> Kind {
        // There is no field of another identifier.
        Property::kind(self.identifier).unwrap_or(Kind::Flag)
    }

    /// Takes one off the front of bytes that have been checked.
    #[inline(never)]
    fn read(input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, identifier) = be_u8(input)?;
        let Some(kind) = Property::kind(identifier) else {
            return leaf::fail(DecodeError::PropertyIdentifier);
        };
        let (input, value) = kind.read(input)?;
        Ok((input, Self { identifier, value }))
    }

    pub(super) fn encoded_len(&self) -> usize {
        1 + self.kind().len(&self.value)
    }

    #[inline(never)]
    pub(super) fn write(&self, to: &mut Writer<'_>) {
        to.u8(self.identifier);
        self.kind().write(&self.value, to);
    }
}

impl<'a> Properties<'a> {
    /// The properties as they are encoded.
    pub(super) fn fields(&self) -> Fields<'a> {
        Fields(self.0)
    }

    #[inline(never)]
    fn find(&self, identifier: u8) -> Option<Value<'a>> {
        self.fields().find(|field| field.identifier == identifier).map(|field| field.value)
    }
}

/// What a list of user properties has, as it is encoded.
pub(super) fn each_user_property<'a>(
    list: List<'a, UserProperty<'a>>,
    each: &mut dyn FnMut(&Field<'a>),
) {
    match list.0 {
        Repr::Given(pairs) => {
            pairs.iter().for_each(|pair| each(&Field::new(id::UserProperty, *pair)));
        }
        Repr::Encoded(bytes) => {
            let is_pair = |field: &Field<'_>| field.identifier == id::UserProperty;
            Fields(Repr::Encoded(bytes)).filter(is_pair).for_each(|field| each(&field));
        }
    }
}

/// Those of some properties that are given.
pub(super) fn each_given<'a, T: Carried<'a> + Copy>(
    values: &[(u8, Option<T>)],
    each: &mut dyn FnMut(&Field<'a>),
) {
    for (identifier, value) in values {
        if let Some(value) = *value {
            each(&Field::new(*identifier, value));
        }
    }
}

pub(super) struct Fields<'a>(Repr<'a, Property<'a>>);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Field<'a>> {
        match &mut self.0 {
            Repr::Given(properties) => properties.split_off_first().map(Property::field),
            Repr::Encoded([]) => None,
            Repr::Encoded(bytes) => {
                let (rest, field) = Field::read(bytes).ok()?;
                *bytes = rest;
                Some(field)
            }
        }
    }
}

impl<'a> Element<'a> for UserProperty<'a> {}

impl<'a> Sealed<'a> for UserProperty<'a> {
    const SELECTED: bool = true;

    fn check(input: &'a [u8]) -> Parsed<'a, ()> {
        Property::check(input)
    }

    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, field) = Field::read(input)?;
        Ok((input, (field.identifier == id::UserProperty).then(|| field.get())))
    }

    fn encoded_len(&self) -> usize {
        Field::new(id::UserProperty, *self).encoded_len()
    }

    fn write(&self, to: &mut Writer<'_>) {
        Field::new(id::UserProperty, *self).write(to);
    }
}

/// Which properties have been seen: each identifier fits a bit.
#[derive(Default)]
struct Seen([u32; 2]);

impl Seen {
    /// Whether the property is the first of its kind, or one of those that may repeat.
    #[inline(always)]
    fn accepts(&mut self, identifier: u8, context: Context) -> bool {
        let bit = 1 << (identifier & 31);
        let word = &mut self.0[usize::from(identifier >> 5 & 1)];
        let first = *word & bit == 0;
        *word |= bit;
        first || Property::may_repeat(identifier, context)
    }
}

/// A property length and as many bytes of properties, each legal, in range, and not repeated. They make a
/// list only where they are kept: on the way, two words are passed on more easily than three.
#[cfg_attr(not(target_pointer_width = "32"), inline(always))]
#[cfg_attr(target_pointer_width = "32", inline(never))]
pub(super) fn read(input: &[u8], context: Context) -> Parsed<'_, &[u8]> {
    if let [0, rest @ ..] = input
        && !SMALL
    {
        return Ok((rest, &[]));
    }
    let (input, len) = leaf::varint(input)?;
    let (input, bytes) = leaf::take(input, len as usize)?;
    leaf::check(validate(bytes, context))?;
    Ok((input, bytes))
}

#[inline(never)]
pub(super) fn validate(bytes: &[u8], context: Context) -> Result<(), DecodeError> {
    leaf::complete(parse(bytes, context))
}

#[inline(always)]
fn parse(mut bytes: &[u8], context: Context) -> Parsed<'_, ()> {
    let mut seen = Seen::default();
    while let Some((&identifier, rest)) = bytes.split_first() {
        let kind = match Property::kind(identifier) {
            Some(kind) if Property::contexts(identifier) & context.0 != 0 => kind,
            _ => return leaf::fail(DecodeError::PropertyIdentifier),
        };
        if !seen.accepts(identifier, context) {
            return leaf::fail(DecodeError::PropertyRepeated);
        }
        let value;
        (bytes, value) = kind.read(rest)?;
        if let Err(error) = kind.check(&value) {
            let alias = identifier == id::TopicAlias;
            return leaf::fail(if alias { DecodeError::TopicAlias } else { error });
        }
    }
    Ok((bytes, ()))
}

/// Adds up the number of bytes of properties, and checks them as a receiver would.
pub(super) struct Measure {
    context: Context,
    seen: Seen,
    len: usize,
    error: Option<EncodeError>,
}

impl Measure {
    pub(super) fn new(context: Context) -> Self {
        Self { context, seen: Seen::default(), len: 0, error: None }
    }

    #[inline(never)]
    pub(super) fn add(&mut self, field: &Field<'_>) {
        let identifier = field.identifier;
        self.len = self.len.saturating_add(field.encoded_len());
        let error = field.kind().check_given(&field.value).err();
        let legal = Property::contexts(identifier) & self.context.0 != 0
            && self.seen.accepts(identifier, self.context);
        let error = if legal { error } else { error.or(Some(EncodeError::Property)) };
        self.error = self.error.or(error);
    }

    /// The number of bytes, without the length in front.
    pub(super) fn len(self) -> Result<usize, EncodeError> {
        match self.error {
            None if self.len > varint::MAX as usize => Err(EncodeError::TooLong),
            None => Ok(self.len),
            Some(error) => Err(error),
        }
    }

    /// The number of bytes, with the length in front.
    pub(super) fn len_with_prefix(self) -> Result<usize, EncodeError> {
        let len = self.len()?;
        Ok(varint::len(len as u32) + len)
    }
}

/// The number of bytes that [`write`] takes; checks the properties as a receiver would.
#[inline(never)]
pub(super) fn encoded_len(
    properties: Properties<'_>,
    context: Context,
) -> Result<usize, EncodeError> {
    let mut measure = Measure::new(context);
    properties.fields().for_each(|field| measure.add(&field));
    measure.len_with_prefix()
}

/// Writes the length of these properties, and them.
#[inline(never)]
pub(super) fn write(properties: Properties<'_>, to: &mut Writer<'_>) {
    let len: usize = properties.fields().map(|field| field.encoded_len()).sum();
    to.varint(len as u32);
    properties.fields().for_each(|field| field.write(to));
}

/// How a value is encoded, and which values there are.
#[derive(Clone, Copy)]
enum Kind {
    /// One byte, 0 or 1.
    Flag,
    Two,
    NonZeroTwo,
    Four,
    NonZeroFour,
    /// A variable byte integer, not 0.
    Variable,
    Binary,
    String,
    Topic,
    Pair,
}

/// A value of any kind, in the one or two of its fields that the kind has.
#[derive(Clone, Copy, Default)]
pub(super) struct Value<'a> {
    number: u32,
    bytes: &'a [u8],
    /// The second half of a pair.
    more: &'a [u8],
}

impl Kind {
    /// Takes a value of this kind off the front, without a look at it.
    #[cfg_attr(not(target_pointer_width = "32"), inline(always))]
    fn read(self, input: &[u8]) -> Parsed<'_, Value<'_>> {
        let mut value = Value::default();
        let mut input = input;
        match self {
            Self::Flag => {
                let (rest, number) = be_u8(input)?;
                (input, value.number) = (rest, number.into());
            }
            Self::Two | Self::NonZeroTwo => {
                let (rest, number) = be_u16(input)?;
                (input, value.number) = (rest, number.into());
            }
            Self::Four | Self::NonZeroFour => (input, value.number) = be_u32(input)?,
            Self::Variable => (input, value.number) = leaf::varint(input)?,
            Self::Binary | Self::String | Self::Topic => {
                (input, value.bytes) = leaf::binary(input)?;
            }
            Self::Pair => {
                (input, value.bytes) = leaf::binary(input)?;
                (input, value.more) = leaf::binary(input)?;
            }
        }
        Ok((input, value))
    }

    /// Checks a received value.
    #[inline(always)]
    fn check(self, value: &Value<'_>) -> Result<(), DecodeError> {
        let good = match self {
            Self::Flag => value.number <= 1,
            Self::NonZeroTwo | Self::NonZeroFour | Self::Variable => value.number != 0,
            Self::Two | Self::Four | Self::Binary => true,
            Self::String => return text::check(value.bytes),
            Self::Topic => return text::check_rare_topic(value.bytes),
            Self::Pair => {
                text::check(value.bytes)?;
                return text::check(value.more);
            }
        };
        if good { Ok(()) } else { Err(DecodeError::PropertyValue) }
    }

    /// Checks a value to be sent; text has been checked.
    fn check_given(self, value: &Value<'_>) -> Result<(), EncodeError> {
        let good = match self {
            Self::Flag => value.number <= 1,
            Self::NonZeroTwo | Self::NonZeroFour => value.number != 0,
            Self::Variable => (1..=varint::MAX).contains(&value.number),
            Self::Topic => !value.bytes.is_empty(),
            Self::Binary if value.bytes.len() > u16::MAX.into() => {
                return Err(EncodeError::TooLong);
            }
            _ => true,
        };
        if good { Ok(()) } else { Err(EncodeError::Property) }
    }

    fn len(self, value: &Value<'_>) -> usize {
        match self {
            Self::Flag => 1,
            Self::Two | Self::NonZeroTwo => 2,
            Self::Four | Self::NonZeroFour => 4,
            Self::Variable => varint::len(value.number),
            Self::Binary | Self::String | Self::Topic => 2 + value.bytes.len(),
            Self::Pair => 4 + value.bytes.len() + value.more.len(),
        }
    }

    fn write(self, value: &Value<'_>, to: &mut Writer<'_>) {
        match self {
            Self::Flag => to.u8(value.number as u8),
            Self::Two | Self::NonZeroTwo => to.u16(value.number as u16),
            Self::Four | Self::NonZeroFour => to.u32(value.number),
            Self::Variable => to.varint(value.number),
            Self::Binary | Self::String | Self::Topic => to.binary(value.bytes),
            Self::Pair => {
                to.binary(value.bytes);
                to.binary(value.more);
            }
        }
    }
}

/// What a property carries, to and from a [`Value`] that has been checked.
pub(super) trait Carried<'a> {
    fn from_value(value: Value<'a>) -> Self;

    fn into_value(self) -> Value<'a>;
}

impl<'a> Carried<'a> for bool {
    fn from_value(value: Value<'a>) -> Self {
        value.number != 0
    }

    fn into_value(self) -> Value<'a> {
        u32::from(self).into_value()
    }
}

impl<'a> Carried<'a> for QoS {
    fn from_value(value: Value<'a>) -> Self {
        if value.number == 0 { Self::AtMostOnce } else { Self::AtLeastOnce }
    }

    fn into_value(self) -> Value<'a> {
        (self as u32).into_value()
    }
}

impl<'a> Carried<'a> for u16 {
    fn from_value(value: Value<'a>) -> Self {
        value.number as Self
    }

    fn into_value(self) -> Value<'a> {
        u32::from(self).into_value()
    }
}

impl<'a> Carried<'a> for u32 {
    fn from_value(value: Value<'a>) -> Self {
        value.number
    }

    fn into_value(self) -> Value<'a> {
        Value { number: self, ..Value::default() }
    }
}

impl<'a> Carried<'a> for &'a [u8] {
    fn from_value(value: Value<'a>) -> Self {
        value.bytes
    }

    fn into_value(self) -> Value<'a> {
        Value { bytes: self, ..Value::default() }
    }
}

impl<'a> Carried<'a> for Text<'a> {
    fn from_value(value: Value<'a>) -> Self {
        Self::from_validated(value.bytes)
    }

    fn into_value(self) -> Value<'a> {
        self.as_bytes().into_value()
    }
}

impl<'a> Carried<'a> for Topic<'a> {
    fn from_value(value: Value<'a>) -> Self {
        Self::from_validated(value.bytes)
    }

    fn into_value(self) -> Value<'a> {
        self.as_bytes().into_value()
    }
}

impl<'a> Carried<'a> for UserProperty<'a> {
    fn from_value(value: Value<'a>) -> Self {
        let Value { bytes, more, .. } = value;
        Self { name: Text::from_validated(bytes), value: Text::from_validated(more) }
    }

    fn into_value(self) -> Value<'a> {
        Value { bytes: self.name.as_bytes(), more: self.value.as_bytes(), ..Value::default() }
    }
}
