//! Packets that proptest thinks of: all that can be sent.

use std::sync::LazyLock;

use proptest::{option, prelude::*, sample::select};

use super::*;

/// A packet and the lists it borrows.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The version of the connection.
    pub(crate) version: Version,
    packet: Packet<'static>,
    properties: Vec<Property<'static>>,
    will_properties: Vec<Property<'static>>,
    user_properties: Vec<UserProperty<'static>>,
    subscriptions: Vec<Subscription<'static>>,
    filters: Vec<Filter<'static>>,
    reasons: Vec<ReasonCode>,
}

impl Sample {
    fn new(version: Version, packet: Packet<'static>) -> Self {
        Self {
            version,
            packet,
            properties: Vec::new(),
            will_properties: Vec::new(),
            user_properties: Vec::new(),
            subscriptions: Vec::new(),
            filters: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// The packet with its lists.
    pub(crate) fn packet(&self) -> Packet<'_> {
        let properties = Properties::from(&self.properties[..]);
        let user_properties = List::from(&self.user_properties[..]);
        match self.packet {
            Packet::Connect(version, connect) => {
                let will_properties = Properties::from(&self.will_properties[..]);
                let will = connect.will.map(|will| Will { properties: will_properties, ..will });
                Packet::Connect(version, Connect { will, user_properties, ..connect })
            }
            Packet::ConnAck(ack) => Packet::ConnAck(ConnAck { user_properties, ..ack }),
            Packet::Publish(delivery, publish) => {
                Packet::Publish(delivery, Publish { properties, ..publish })
            }
            Packet::PubAck(id, ack) => Packet::PubAck(id, Ack { properties, ..ack }),
            Packet::PubRec(id, ack) => Packet::PubRec(id, Ack { properties, ..ack }),
            Packet::PubRel(id, ack) => Packet::PubRel(id, Ack { properties, ..ack }),
            Packet::PubComp(id, ack) => Packet::PubComp(id, Ack { properties, ..ack }),
            Packet::Subscribe(id, _) => {
                let subscriptions = List::from(&self.subscriptions[..]);
                Packet::Subscribe(id, Subscribe { subscriptions, properties })
            }
            Packet::SubAck(id, _) => {
                Packet::SubAck(id, SubAck { reasons: List::from(&self.reasons[..]), properties })
            }
            Packet::Unsubscribe(id, _) => {
                let filters = List::from(&self.filters[..]);
                Packet::Unsubscribe(id, Unsubscribe { filters, properties })
            }
            Packet::UnsubAck(id, _) => {
                let reasons = List::from(&self.reasons[..]);
                Packet::UnsubAck(id, UnsubAck { reasons, properties })
            }
            Packet::Disconnect(disconnect) => {
                Packet::Disconnect(Disconnect { properties, ..disconnect })
            }
            Packet::Auth(auth) => Packet::Auth(Auth { properties, ..auth }),
            bare => bare,
        }
    }
}

/// All packets of this version.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Sample> {
    let common = prop_oneof![
        connect(version),
        connack(version),
        publish(version),
        ack(version, "40"),
        ack(version, "50"),
        ack(version, "62"),
        ack(version, "70"),
        subscribe(version),
        suback(version),
        unsubscribe(version),
        unsuback(version),
        disconnect(version),
        select(vec![Packet::PingReq, Packet::PingResp])
            .prop_map(move |packet| Sample::new(version, packet)),
    ];
    if version == Version::V5 {
        prop_oneof![12 => common, 1 => auth()].boxed()
    } else {
        common.boxed()
    }
}

/// The characters that texts are cut from: of every length in bytes, plain ones, control
/// characters, wildcards, U+FEFF, U+10FFFF, and never U+0000.
static CHARACTERS: LazyLock<String> = LazyLock::new(|| {
    let some =
        "plain ASCII/text that is longer than any block/é€𝄞\u{feff}\u{1}\u{7f}\u{9f}\u{10ffff}$";
    some.repeat(65_535 / some.len() + 1)
});

fn some_text() -> impl Strategy<Value = &'static str> {
    let len = prop_oneof![20 => 0..40_usize, 4 => 40..300_usize, 1 => Just(65_535_usize)];
    (0..150_usize, len).prop_map(|(start, len)| {
        let from_start = &CHARACTERS[CHARACTERS.ceil_char_boundary(start)..];
        &from_start[..from_start.floor_char_boundary(len)]
    })
}

fn any_text() -> impl Strategy<Value = Text<'static>> {
    some_text().prop_map(text)
}

fn any_topic() -> impl Strategy<Value = Topic<'static>> {
    some_text().prop_map(|name| topic(if name.is_empty() { "/" } else { name }))
}

fn any_filter() -> impl Strategy<Value = Filter<'static>> {
    const FILTERS: [&str; 8] =
        ["#", "+", "/", "+/#", "$SYS/#", "$share/g/+", "$share/é//", "a/+/b"];
    prop_oneof![
        select(&FILTERS[..]).prop_map(filter),
        some_text().prop_map(|name| filter(if name.is_empty() { "#" } else { name })),
    ]
}

fn any_bytes() -> impl Strategy<Value = &'static [u8]> {
    some_text().prop_map(str::as_bytes)
}

fn any_qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn any_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(id)
}

fn any_user() -> impl Strategy<Value = UserProperty<'static>> {
    (any_text(), any_text()).prop_map(|(name, value)| UserProperty { name, value })
}

fn any_users(version: Version) -> impl Strategy<Value = Vec<UserProperty<'static>>> {
    prop::collection::vec(any_user(), if version.is_v5() { 0..4 } else { 0..1 })
}

fn property(identifier: u8) -> BoxedStrategy<Property<'static>> {
    match identifier {
        0x01 => any::<bool>().prop_map(Property::PayloadFormatIndicator).boxed(),
        0x02 => any::<u32>().prop_map(Property::MessageExpiryInterval).boxed(),
        0x03 => any_text().prop_map(Property::ContentType).boxed(),
        0x08 => any_topic().prop_map(Property::ResponseTopic).boxed(),
        0x09 => any_bytes().prop_map(Property::CorrelationData).boxed(),
        0x0b => prop_oneof![1..0x80_u32, 1..0x8000_u32, 1..=268_435_455_u32]
            .prop_map(Property::SubscriptionIdentifier)
            .boxed(),
        0x11 => any::<u32>().prop_map(Property::SessionExpiryInterval).boxed(),
        0x15 => any_text().prop_map(Property::AuthenticationMethod).boxed(),
        0x16 => any_bytes().prop_map(Property::AuthenticationData).boxed(),
        0x18 => any::<u32>().prop_map(Property::WillDelayInterval).boxed(),
        0x1c => any_text().prop_map(Property::ServerReference).boxed(),
        0x1f => any_text().prop_map(Property::ReasonString).boxed(),
        0x23 => (1..=u16::MAX).prop_map(Property::TopicAlias).boxed(),
        _ => any_user().prop_map(Property::UserProperty).boxed(),
    }
}

/// Properties of these kinds, in any order; those of `again` may be repeated.
fn properties(
    version: Version,
    once: &'static [u8],
    again: &'static [u8],
) -> impl Strategy<Value = Vec<Property<'static>>> {
    let kinds = select([once, again].concat());
    let list = prop::collection::vec(kinds.prop_flat_map(property), 0..=once.len() + 2);
    list.prop_map(move |mut list| {
        let mut seen = Vec::new();
        list.retain(|property| {
            let identifier = property.identifier();
            let legal = again.contains(&identifier) || !seen.contains(&identifier);
            seen.push(identifier);
            legal && version.is_v5()
        });
        list
    })
}

/// The reason codes that the table allows in this packet.
fn reason(version: Version, packet: &str) -> impl Strategy<Value = ReasonCode> + use<> {
    let table = include_str!("../data/reasons.txt").lines();
    let legal = table.filter(|line| line.split(' ').any(|name| name == packet));
    let codes = legal.map(|line| u8::from_str_radix(&line[..2], 16).unwrap());
    let codes = codes.filter(|code| match (version, packet) {
        (Version::V5, _) => true,
        (_, "CONNACK") => matches!(code, 0 | 0x84..=0x88),
        (Version::V3_1_1, "SUBACK") => matches!(code, 0..=2 | 0x80),
        (_, "SUBACK") => *code <= 2,
        _ => *code == 0,
    });
    select(codes.map(|code| ReasonCode::from_u8(code).unwrap()).collect::<Vec<_>>())
}

fn authentication(version: Version) -> impl Strategy<Value = Option<Authentication<'static>>> {
    let parts = (any_text(), option::of(any_bytes()));
    option::of(parts.prop_map(|(method, data)| Authentication { method, data }))
        .prop_map(move |parts| parts.filter(|_| version.is_v5()))
}

fn will() -> impl Strategy<Value = Will<'static>> {
    (any_topic(), any_bytes(), any_qos(), any::<bool>()).prop_map(
        |(topic, payload, qos, retain)| Will { topic, payload, qos, retain, ..Will::default() },
    )
}

fn connect(version: Version) -> BoxedStrategy<Sample> {
    let who =
        (any_text(), option::of(any_text()), option::of(any_bytes()), authentication(version));
    let how = (any::<bool>(), any::<u16>(), option::of(will()));
    let limits =
        (any::<u32>(), 1..=u16::MAX, option::of(1..=u32::MAX), any::<u16>(), any::<[bool; 2]>());
    let will_properties = properties(version, &[1, 2, 3, 8, 9, 0x18], &[0x26]);
    (who, how, limits, will_properties, any_users(version))
        .prop_map(move |(who, how, limits, will_properties, user_properties)| {
            let (client_id, user_name, password, authentication) = who;
            let (clean_start, keep_alive, will) = how;
            let mut connect = Connect {
                client_id,
                clean_start,
                keep_alive,
                will,
                user_name,
                password,
                ..Connect::default()
            };
            if version.is_v5() {
                connect.session_expiry_interval = limits.0;
                connect.receive_maximum = limits.1;
                connect.maximum_packet_size = limits.2;
                connect.topic_alias_maximum = limits.3;
                [connect.request_response_information, connect.request_problem_information] =
                    limits.4;
                connect.authentication = authentication;
            } else {
                connect.clean_start |= client_id.is_empty();
                connect.password = password.filter(|_| user_name.is_some());
            }
            let sample = Sample::new(version, Packet::Connect(version, connect));
            Sample { will_properties, user_properties, ..sample }
        })
        .boxed()
}

fn connack(version: Version) -> BoxedStrategy<Sample> {
    let outcome = (reason(version, "CONNACK"), any::<bool>());
    let numbers = (
        option::of(any::<u32>()),
        1..=u16::MAX,
        option::of(1..=u32::MAX),
        any::<u16>(),
        option::of(any::<u16>()),
        any_qos(),
    );
    let texts = prop::array::uniform4(option::of(any_text()));
    let rest = (any::<[bool; 4]>(), authentication(version), any_users(version));
    (outcome, numbers, texts, rest)
        .prop_map(move |((reason, present), numbers, texts, rest)| {
            let session_present =
                present && reason == ReasonCode::Success && version != Version::V3_1;
            let mut ack = ConnAck { session_present, reason, ..ConnAck::default() };
            if version.is_v5() {
                ack.session_expiry_interval = numbers.0;
                ack.receive_maximum = numbers.1;
                ack.maximum_packet_size = numbers.2;
                ack.topic_alias_maximum = numbers.3;
                ack.server_keep_alive = numbers.4;
                ack.maximum_qos = numbers.5;
                [
                    ack.assigned_client_identifier,
                    ack.reason_string,
                    ack.response_information,
                    ack.server_reference,
                ] = texts;
                [
                    ack.retain_available,
                    ack.wildcard_subscription_available,
                    ack.subscription_identifier_available,
                    ack.shared_subscription_available,
                ] = rest.0;
                ack.authentication = rest.1;
            }
            Sample { user_properties: rest.2, ..Sample::new(version, Packet::ConnAck(ack)) }
        })
        .boxed()
}

fn publish(version: Version) -> BoxedStrategy<Sample> {
    let message = (any_topic(), any_bytes(), any_qos(), any::<bool>(), any::<bool>());
    let properties = properties(version, &[1, 2, 3, 8, 9, 0x23], &[0x0b, 0x26]);
    (message, any_id(), any::<bool>(), properties)
        .prop_map(move |((topic, payload, qos, retain, dup), id, nameless, properties)| {
            let identified = qos != QoS::AtMostOnce;
            let delivery = Delivery { packet_id: identified.then_some(id), dup: dup && identified };
            let mut publish = Publish { qos, retain, ..Publish::new(topic, payload) };
            if nameless && Properties::from(&properties[..]).topic_alias().is_some() {
                publish.topic = Topic::default();
            }
            Sample { properties, ..Sample::new(version, Packet::Publish(delivery, publish)) }
        })
        .boxed()
}

fn ack(version: Version, first: &'static str) -> BoxedStrategy<Sample> {
    let (name, build): (_, fn(PacketId, Ack<'static>) -> Packet<'static>) = match first {
        "40" => ("PUBACK", Packet::PubAck),
        "50" => ("PUBREC", Packet::PubRec),
        "62" => ("PUBREL", Packet::PubRel),
        _ => ("PUBCOMP", Packet::PubComp),
    };
    (any_id(), reason(version, name), properties(version, &[0x1f], &[0x26]))
        .prop_map(move |(id, reason, properties)| Sample {
            properties,
            ..Sample::new(version, build(id, Ack::from(reason)))
        })
        .boxed()
}

fn subscription(version: Version) -> impl Strategy<Value = Subscription<'static>> {
    const HANDLING: [RetainHandling; 3] =
        [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    (any_filter(), any_qos(), any::<bool>(), any::<bool>(), select(&HANDLING[..])).prop_map(
        move |(filter, qos, no_local, retain_as_published, retain_handling)| {
            let no_local = no_local && !filter.is_shared();
            let plain = Subscription::new(filter, qos);
            if version.is_v5() {
                Subscription { no_local, retain_as_published, retain_handling, ..plain }
            } else {
                plain
            }
        },
    )
}

fn subscribe(version: Version) -> BoxedStrategy<Sample> {
    let subscriptions = prop::collection::vec(subscription(version), 1..5);
    (any_id(), subscriptions, properties(version, &[0x0b], &[0x26]))
        .prop_map(move |(id, subscriptions, properties)| {
            let sample = Sample::new(version, Packet::Subscribe(id, Subscribe::default()));
            Sample { subscriptions, properties, ..sample }
        })
        .boxed()
}

fn suback(version: Version) -> BoxedStrategy<Sample> {
    let reasons = prop::collection::vec(reason(version, "SUBACK"), 1..9);
    (any_id(), reasons, properties(version, &[0x1f], &[0x26]))
        .prop_map(move |(id, reasons, properties)| {
            let sample = Sample::new(version, Packet::SubAck(id, SubAck::default()));
            Sample { reasons, properties, ..sample }
        })
        .boxed()
}

fn unsubscribe(version: Version) -> BoxedStrategy<Sample> {
    let filters = prop::collection::vec(any_filter(), 1..5);
    (any_id(), filters, properties(version, &[], &[0x26]))
        .prop_map(move |(id, filters, properties)| {
            let sample = Sample::new(version, Packet::Unsubscribe(id, Unsubscribe::default()));
            Sample { filters, properties, ..sample }
        })
        .boxed()
}

fn unsuback(version: Version) -> BoxedStrategy<Sample> {
    let count = if version.is_v5() { 1..9 } else { 0..1 };
    let reasons = prop::collection::vec(reason(version, "UNSUBACK"), count);
    (any_id(), reasons, properties(version, &[0x1f], &[0x26]))
        .prop_map(move |(id, reasons, properties)| {
            let sample = Sample::new(version, Packet::UnsubAck(id, UnsubAck::default()));
            Sample { reasons, properties, ..sample }
        })
        .boxed()
}

fn disconnect(version: Version) -> BoxedStrategy<Sample> {
    let properties = properties(version, &[0x11, 0x1c, 0x1f], &[0x26]);
    (reason(version, "DISCONNECT"), properties)
        .prop_map(move |(reason, properties)| {
            let disconnect = Packet::Disconnect(Disconnect::from(reason));
            Sample { properties, ..Sample::new(version, disconnect) }
        })
        .boxed()
}

fn auth() -> BoxedStrategy<Sample> {
    let version = Version::V5;
    let parts =
        (reason(version, "AUTH"), property(0x15), properties(version, &[0x16, 0x1f], &[0x26]));
    parts
        .prop_map(move |(reason, method, mut properties)| {
            properties.insert(properties.len() / 2, method);
            let auth = Packet::Auth(Auth { reason, ..Auth::default() });
            Sample { properties, ..Sample::new(version, auth) }
        })
        .boxed()
}
