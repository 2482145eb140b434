//! SUBSCRIBE, UNSUBSCRIBE and their acknowledgements.

use super::{
    DecodeError, Encode, EncodeError, PacketId, PacketType, Properties, QoS, Version, Writer,
    ack::reason_code,
    leaf::{self, Parsed, be_u8},
    list::{self, Element, List, Sealed},
    properties::{self, Context},
    publish::packet_id,
    text,
};
use crate::{reason::ReasonCode, topic::Filter};

/// One topic filter with its options.
///
/// ```
/// use mqtt_core::{Filter, QoS, Subscription};
///
/// let subscription = Subscription {
///     no_local: true, // 5.0 only
///     ..Subscription::new(Filter::new("chat/+")?, QoS::AtLeastOnce)
/// };
/// assert!(!subscription.retain_as_published);
/// # Ok::<(), mqtt_core::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subscription<'a> {
    /// What to subscribe to.
    pub filter: Filter<'a>,
    /// The highest QoS wanted.
    pub qos: QoS,
    /// Not the messages that this client publishes [MQTT-3.8.3-3]; 5.0 only.
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published; 5.0 only.
    pub retain_as_published: bool,
    /// Which retained messages to send; 5.0 only.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a subscription brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match, at every SUBSCRIBE.
    #[default]
    Send = 0,
    /// All that match, if the subscription is new.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl<'a> Subscription<'a> {
    /// A subscription with everything optional left out.
    pub const fn new(filter: Filter<'a>, qos: QoS) -> Self {
        Self {
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    const fn options(&self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// With options that have been checked.
    fn with_options(filter: Filter<'a>, options: u8) -> Self {
        Self {
            filter,
            qos: QoS::from_u8(options & 0b11).unwrap_or_default(),
            no_local: options & 1 << 2 != 0,
            retain_as_published: options & 1 << 3 != 0,
            retain_handling: match options >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        }
    }
}

fn check_options(filter: Filter<'_>, options: u8) -> Result<(), DecodeError> {
    if options >> 4 > 3 {
        return Err(DecodeError::SubscriptionOptions);
    }
    if options >> 4 == 3 || options & 0b11 == 3 {
        return Err(DecodeError::SubscriptionValue);
    }
    if options & 1 << 2 != 0 && filter.is_shared() {
        return Err(DecodeError::SharedNoLocal);
    }
    Ok(())
}

impl<'a> Element<'a> for Subscription<'a> {}

impl<'a> Sealed<'a> for Subscription<'a> {
    fn check(input: &'a [u8]) -> Parsed<'a, ()> {
        let (input, filter) = filter(input)?;
        let (input, options) = be_u8(input)?;
        match check_options(filter, options) {
            Ok(()) => Ok((input, ())),
            Err(error) => leaf::fail(error),
        }
    }

    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, filter) = leaf::binary(input)?;
        let (input, options) = be_u8(input)?;
        Ok((input, Some(Self::with_options(Filter::from_validated(filter), options))))
    }

    fn encoded_len(&self) -> usize {
        self.filter.encoded_len() + 1
    }

    fn write(&self, to: &mut Writer<'_>) {
        self.filter.write(to);
        to.u8(self.options());
    }
}

impl<'a> Element<'a> for Filter<'a> {}

impl<'a> Sealed<'a> for Filter<'a> {
    fn check(input: &'a [u8]) -> Parsed<'a, ()> {
        let (input, _) = filter(input)?;
        Ok((input, ()))
    }

    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, filter) = leaf::binary(input)?;
        Ok((input, Some(Self::from_validated(filter))))
    }

    fn encoded_len(&self) -> usize {
        2 + self.as_bytes().len()
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.binary(self.as_bytes());
    }
}

fn filter(input: &[u8]) -> Parsed<'_, Filter<'_>> {
    let (input, bytes) = leaf::binary(input)?;
    match text::filter(bytes) {
        Ok(filter) => Ok((input, filter)),
        Err(error) => leaf::fail(error),
    }
}

/// The codes of SUBACK and UNSUBACK: which packet each may stand in is checked with the packet.
impl Element<'_> for ReasonCode {}

impl<'a> Sealed<'a> for ReasonCode {
    fn check(input: &'a [u8]) -> Parsed<'a, ()> {
        let (input, _) = Self::read(input)?;
        Ok((input, ()))
    }

    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (input, code) = be_u8(input)?;
        match Self::from_u8(code) {
            Some(reason) => Ok((input, Some(reason))),
            None => leaf::fail(DecodeError::ReasonCode),
        }
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.u8(self.as_u8());
    }
}

/// The front of the four packets here: identifier and, in 5.0, properties.
fn head(version: Version, context: Context, body: &[u8]) -> Parsed<'_, (PacketId, &[u8])> {
    let (input, id) = packet_id(body)?;
    let (input, properties) =
        if version.is_v5() { properties::read(input, context)? } else { (input, &[][..]) };
    Ok((input, (id, properties)))
}

/// The number of bytes [`write_head`] takes.
fn head_len(
    version: Version,
    context: Context,
    properties: Properties<'_>,
) -> Result<usize, EncodeError> {
    if version.is_v5() {
        Ok(2 + properties::encoded_len(properties, context)?)
    } else if properties.is_empty() {
        Ok(2)
    } else {
        Err(EncodeError::Version)
    }
}

fn write_head(version: Version, id: PacketId, properties: Properties<'_>, to: &mut Writer<'_>) {
    to.u16(id.get());
    if version.is_v5() {
        properties::write(properties, to);
    }
}

/// A SUBACK or UNSUBACK with these reasons, wherever they come from, which says nothing besides.
pub(crate) struct Reasons<F> {
    pub(crate) packet_type: PacketType,
    pub(crate) id: PacketId,
    pub(crate) count: usize,
    /// Why, by the number of the filter.
    pub(crate) reason: F,
}

impl<F> Reasons<F> {
    /// An UNSUBACK before 5.0 has none.
    fn count(&self, version: Version) -> usize {
        let tells = version.is_v5() || self.packet_type == PacketType::SubAck;
        if tells { self.count } else { 0 }
    }
}

impl<F: Fn(usize) -> ReasonCode> Encode for Reasons<F> {
    fn first_byte(&self) -> u8 {
        self.packet_type.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        let head = head_len(version, Context::of(self.packet_type), Properties::EMPTY)?;
        Ok(head + self.count(version))
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        write_head(version, self.id, Properties::EMPTY, to);
        (0..self.count(version)).for_each(|index| to.u8((self.reason)(index).as_u8()));
    }
}

/// A request for subscriptions, at least one [MQTT-3.8.3-2].
///
/// ```
/// use mqtt_core::{Filter, QoS, Subscribe, Subscription};
///
/// let list = [Subscription::new(Filter::new("sensors/#")?, QoS::AtLeastOnce)];
/// let subscribe = Subscribe::from(&list);
/// assert_eq!(subscribe.subscriptions.iter().count(), 1);
/// # Ok::<(), mqtt_core::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subscribe<'a> {
    /// The subscriptions, in the order in which they will be answered.
    pub subscriptions: List<'a, Subscription<'a>>,
    /// 5.0 only: subscription identifier and user properties.
    pub properties: Properties<'a>,
}

impl<'a, const N: usize> From<&'a [Subscription<'a>; N]> for Subscribe<'a> {
    fn from(subscriptions: &'a [Subscription<'a>; N]) -> Self {
        Self { subscriptions: subscriptions.into(), properties: Properties::EMPTY }
    }
}

impl<'a> Subscribe<'a> {
    pub(crate) fn read(version: Version, body: &'a [u8]) -> Result<(PacketId, Self), DecodeError> {
        let parsed =
            head(version, Context::Subscribe, body).and_then(|(input, (id, properties))| {
                let (input, subscriptions) = list::validate_some::<Subscription<'_>>(input)?;
                let properties = Properties::encoded(properties);
                Ok((input, (id, Self { subscriptions, properties })))
            });
        let (id, subscribe) = leaf::complete(parsed)?;
        let extended = |subscription: Subscription<'_>| subscription.options() > 0b11;
        if !version.is_v5() && subscribe.subscriptions.iter().any(extended) {
            return Err(DecodeError::SubscriptionOptions);
        }
        Ok((id, subscribe))
    }
}

impl Encode for (PacketId, &Subscribe<'_>) {
    fn first_byte(&self) -> u8 {
        PacketType::Subscribe.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        let Subscribe { subscriptions, properties } = self.1;
        if subscriptions.is_empty() {
            return Err(EncodeError::Empty);
        }
        for subscription in *subscriptions {
            if subscription.options() > 0b11 && !version.is_v5() {
                return Err(EncodeError::Version);
            }
            if subscription.no_local && subscription.filter.is_shared() {
                return Err(EncodeError::SharedNoLocal);
            }
        }
        Ok(head_len(version, Context::Subscribe, *properties)? + subscriptions.encoded_len())
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        write_head(version, self.0, self.1.properties, to);
        self.1.subscriptions.write(to);
    }
}

/// A request to end subscriptions, at least one [MQTT-3.10.3-2].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Unsubscribe<'a> {
    /// The filters, exactly as they were subscribed to [MQTT-3.10.4-1].
    pub filters: List<'a, Filter<'a>>,
    /// 5.0 only: user properties.
    pub properties: Properties<'a>,
}

impl<'a, const N: usize> From<&'a [Filter<'a>; N]> for Unsubscribe<'a> {
    fn from(filters: &'a [Filter<'a>; N]) -> Self {
        Self { filters: filters.into(), properties: Properties::EMPTY }
    }
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn read(version: Version, body: &'a [u8]) -> Result<(PacketId, Self), DecodeError> {
        let parsed =
            head(version, Context::Unsubscribe, body).and_then(|(input, (id, properties))| {
                let (input, filters) = list::validate_some(input)?;
                let properties = Properties::encoded(properties);
                Ok((input, (id, Self { filters, properties })))
            });
        leaf::complete(parsed)
    }
}

impl Encode for (PacketId, &Unsubscribe<'_>) {
    fn first_byte(&self) -> u8 {
        PacketType::Unsubscribe.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        let Unsubscribe { filters, properties } = self.1;
        if filters.is_empty() {
            return Err(EncodeError::Empty);
        }
        Ok(head_len(version, Context::Unsubscribe, *properties)? + filters.encoded_len())
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        write_head(version, self.0, self.1.properties, to);
        self.1.filters.write(to);
    }
}

/// The answer to a SUBSCRIBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SubAck<'a> {
    /// One code per subscription, in order [MQTT-3.9.3-1]: the QoS granted, or why not. 3.1.1's
    /// failure 0x80 is [`ReasonCode::UnspecifiedError`].
    pub reasons: List<'a, ReasonCode>,
    /// 5.0 only: reason string and user properties.
    pub properties: Properties<'a>,
}

/// A SUBACK or an UNSUBACK, as it is encoded.
pub(crate) struct RequestAck<'a> {
    pub(crate) id: PacketId,
    reasons: &'a [u8],
    properties: &'a [u8],
}

impl<'a> RequestAck<'a> {
    /// How many reason codes there are.
    pub(crate) const fn count(&self) -> usize {
        self.reasons.len()
    }

    pub(crate) const fn to_suback(&self) -> SubAck<'a> {
        let Self { reasons, properties, .. } = *self;
        SubAck { reasons: List::encoded(reasons), properties: List::encoded(properties) }
    }

    pub(crate) const fn to_unsuback(&self) -> UnsubAck<'a> {
        let SubAck { reasons, properties } = self.to_suback();
        UnsubAck { reasons, properties }
    }
}

/// Either of the two. They differ in the codes, and before 5.0 an UNSUBACK has none.
#[inline(never)]
pub(crate) fn read_ack(
    version: Version,
    packet: PacketType,
    body: &[u8],
) -> Result<RequestAck<'_>, DecodeError> {
    leaf::complete(head(version, Context::of(packet), body).and_then(|(input, head)| {
        let (id, properties) = head;
        if !version.is_v5() && packet == PacketType::UnsubAck {
            return Ok((input, RequestAck { id, reasons: &[], properties }));
        }
        if input.is_empty() {
            return leaf::fail(DecodeError::Empty);
        }
        let mut rest = input;
        while !rest.is_empty() {
            let reason;
            (rest, reason) = reason_code(rest, packet)?;
            if !is_known(version, reason) {
                return leaf::fail(DecodeError::ReasonCode);
            }
        }
        Ok((rest, RequestAck { id, reasons: input, properties }))
    }))
}

/// Whether a SUBACK of this version may carry the code: 3.1.1 has one failure [MQTT-3.9.3-2], 3.1
/// none.
fn is_grant(version: Version, reason: ReasonCode) -> bool {
    reason.is_legal_in(PacketType::SubAck) && is_known(version, reason)
}

/// Whether a code that is legal in the packet was so in this version.
fn is_known(version: Version, reason: ReasonCode) -> bool {
    version.is_v5()
        || !reason.is_error()
        || reason == ReasonCode::UnspecifiedError && !version.is_v3_1()
}

impl Encode for (PacketId, &SubAck<'_>) {
    fn first_byte(&self) -> u8 {
        PacketType::SubAck.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        let SubAck { reasons, properties } = self.1;
        if reasons.is_empty() {
            return Err(EncodeError::Empty);
        }
        if !reasons.iter().all(|reason| is_grant(version, reason)) {
            return Err(EncodeError::ReasonCode);
        }
        Ok(head_len(version, Context::SubAck, *properties)? + reasons.encoded_len())
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        write_head(version, self.0, self.1.properties, to);
        self.1.reasons.write(to);
    }
}

/// The answer to an UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnsubAck<'a> {
    /// One code per filter, in order [MQTT-3.11.3-1]; none before 5.0.
    pub reasons: List<'a, ReasonCode>,
    /// 5.0 only: reason string and user properties.
    pub properties: Properties<'a>,
}

impl Encode for (PacketId, &UnsubAck<'_>) {
    fn first_byte(&self) -> u8 {
        PacketType::UnsubAck.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        let UnsubAck { reasons, properties } = self.1;
        let head = head_len(version, Context::UnsubAck, *properties)?;
        match (version.is_v5(), reasons.is_empty()) {
            (true, true) => Err(EncodeError::Empty),
            (false, false) => Err(EncodeError::Version),
            _ if !reasons.iter().all(|reason| reason.is_legal_in(PacketType::UnsubAck)) => {
                Err(EncodeError::ReasonCode)
            }
            _ => Ok(head + reasons.encoded_len()),
        }
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        write_head(version, self.0, self.1.properties, to);
        self.1.reasons.write(to);
    }
}
