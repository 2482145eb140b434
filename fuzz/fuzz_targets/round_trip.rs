//! Any value of a packet, legal or not: what can be sent is received as it was.
#![no_main]

use fuzz::{decode, encode, split_version};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use mqtt_core::{
    Ack, Auth, Authentication, ConnAck, Connect, Disconnect, Filter, List, PacketId, Properties,
    Property, Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, Subscription, Text,
    Topic, UnsubAck, Unsubscribe, UserProperty, Version, Will,
    wire::{Decoded, Delivery, Packet},
};

fuzz_target!(|data: &[u8]| {
    let Some((version, bytes)) = split_version(data) else { return };
    // The seeds are packets. What is one is sent with its lists given as slices.
    if let Ok(Decoded::Packet { packet, .. }) = Packet::decode(version, bytes) {
        check(version, &Lists::of(&packet).lend_to(packet));
    }
    // And any bytes tell a packet.
    let mut source = Unstructured::new(bytes);
    if let Ok(lists) = Lists::make(&mut source)
        && let Ok(packet) = make_packet(&mut source)
    {
        check(version, &lists.lend_to(packet));
    }
});

fn check(version: Version, packet: &Packet<'_>) {
    if let Some(bytes) = encode(version, packet) {
        let decoded = decode(version, &bytes);
        assert_eq!(decoded, as_received(version, *packet));
        assert_eq!(encode(version, &decoded), Some(bytes));
    }
}

/// The packet without what an earlier version leaves out or cannot tell apart.
fn as_received(version: Version, packet: Packet<'_>) -> Packet<'_> {
    match packet {
        Packet::Connect(version, connect) if !version.is_v5() => {
            let told = Connect {
                client_id: connect.client_id,
                clean_start: connect.clean_start,
                keep_alive: connect.keep_alive,
                will: connect.will,
                user_name: connect.user_name,
                password: connect.password,
                ..Connect::default()
            };
            Packet::Connect(version, told)
        }
        Packet::ConnAck(ack) if !version.is_v5() => {
            let reason = match ack.reason {
                ReasonCode::ServerBusy | ReasonCode::QuotaExceeded => ReasonCode::ServerUnavailable,
                ReasonCode::Banned => ReasonCode::NotAuthorized,
                reason => reason,
            };
            let session_present = ack.session_present && version != Version::V3_1;
            Packet::ConnAck(ConnAck { reason, session_present, ..ack })
        }
        packet => packet,
    }
}

/// What a packet borrows.
#[derive(Default)]
struct Lists<'a> {
    properties: Vec<Property<'a>>,
    will_properties: Vec<Property<'a>>,
    user_properties: Vec<UserProperty<'a>>,
    subscriptions: Vec<Subscription<'a>>,
    filters: Vec<Filter<'a>>,
    reasons: Vec<ReasonCode>,
}

impl<'a> Lists<'a> {
    fn make(from: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self {
            properties: make_list(from, make_property)?,
            will_properties: make_list(from, make_property)?,
            user_properties: make_list(from, make_user_property)?,
            subscriptions: make_list(from, make_subscription)?,
            filters: make_list(from, make_filter)?,
            reasons: make_list(from, make_reason)?,
        })
    }

    fn of(packet: &Packet<'a>) -> Self {
        let mut lists = Self::default();
        let properties = match packet {
            Packet::Connect(_, connect) => {
                lists.user_properties = connect.user_properties.iter().collect();
                let will = connect.will.unwrap_or_default();
                lists.will_properties = will.properties.iter().collect();
                Properties::EMPTY
            }
            Packet::ConnAck(ack) => {
                lists.user_properties = ack.user_properties.iter().collect();
                Properties::EMPTY
            }
            Packet::Publish(_, publish) => publish.properties,
            Packet::PubAck(_, ack)
            | Packet::PubRec(_, ack)
            | Packet::PubRel(_, ack)
            | Packet::PubComp(_, ack) => ack.properties,
            Packet::Subscribe(_, subscribe) => {
                lists.subscriptions = subscribe.subscriptions.iter().collect();
                subscribe.properties
            }
            Packet::SubAck(_, ack) => {
                lists.reasons = ack.reasons.iter().collect();
                ack.properties
            }
            Packet::Unsubscribe(_, unsubscribe) => {
                lists.filters = unsubscribe.filters.iter().collect();
                unsubscribe.properties
            }
            Packet::UnsubAck(_, ack) => {
                lists.reasons = ack.reasons.iter().collect();
                ack.properties
            }
            Packet::Disconnect(disconnect) => disconnect.properties,
            Packet::Auth(auth) => auth.properties,
            Packet::PingReq | Packet::PingResp => Properties::EMPTY,
        };
        lists.properties = properties.iter().collect();
        lists
    }

    fn lend_to<'s>(&'s self, packet: Packet<'s>) -> Packet<'s> {
        let properties = Properties::from(&self.properties[..]);
        let user_properties = List::from(&self.user_properties[..]);
        let reasons = List::from(&self.reasons[..]);
        match packet {
            Packet::Connect(version, connect) => {
                let properties = Properties::from(&self.will_properties[..]);
                let will = connect.will.map(|will| Will { properties, ..will });
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
            Packet::SubAck(id, _) => Packet::SubAck(id, SubAck { reasons, properties }),
            Packet::Unsubscribe(id, _) => {
                let filters = List::from(&self.filters[..]);
                Packet::Unsubscribe(id, Unsubscribe { filters, properties })
            }
            Packet::UnsubAck(id, _) => Packet::UnsubAck(id, UnsubAck { reasons, properties }),
            Packet::Disconnect(disconnect) => {
                Packet::Disconnect(Disconnect { properties, ..disconnect })
            }
            Packet::Auth(auth) => Packet::Auth(Auth { properties, ..auth }),
            bare => bare,
        }
    }
}

/// A packet without lists.
fn make_packet<'a>(from: &mut Unstructured<'a>) -> Result<Packet<'a>> {
    let kind = from.int_in_range(0..=14)?;
    Ok(match kind {
        0 => Packet::Connect(make_version(from)?, make_connect(from)?),
        1 => Packet::ConnAck(make_connack(from)?),
        2 => {
            let delivery =
                Delivery { packet_id: PacketId::new(from.arbitrary()?), dup: from.arbitrary()? };
            let publish = Publish {
                qos: make_qos(from)?,
                retain: from.arbitrary()?,
                ..Publish::new(make_topic(from)?, from.arbitrary::<&[u8]>()?)
            };
            Packet::Publish(delivery, publish)
        }
        3 => Packet::PubAck(make_id(from)?, make_reason(from)?.into()),
        4 => Packet::PubRec(make_id(from)?, make_reason(from)?.into()),
        5 => Packet::PubRel(make_id(from)?, make_reason(from)?.into()),
        6 => Packet::PubComp(make_id(from)?, make_reason(from)?.into()),
        7 => Packet::Subscribe(make_id(from)?, Subscribe::default()),
        8 => Packet::SubAck(make_id(from)?, SubAck::default()),
        9 => Packet::Unsubscribe(make_id(from)?, Unsubscribe::default()),
        10 => Packet::UnsubAck(make_id(from)?, UnsubAck::default()),
        11 => Packet::PingReq,
        12 => Packet::PingResp,
        13 => Packet::Disconnect(make_reason(from)?.into()),
        _ => Packet::Auth(Auth { reason: make_reason(from)?, ..Auth::default() }),
    })
}

fn make_connect<'a>(from: &mut Unstructured<'a>) -> Result<Connect<'a>> {
    Ok(Connect {
        client_id: make_text(from)?,
        clean_start: from.arbitrary()?,
        keep_alive: from.arbitrary()?,
        will: make_option(from, |from| {
            Ok(Will {
                topic: make_topic(from)?,
                payload: from.arbitrary()?,
                qos: make_qos(from)?,
                retain: from.arbitrary()?,
                ..Will::default()
            })
        })?,
        user_name: make_option(from, make_text)?,
        password: from.arbitrary()?,
        // Often at their defaults, which is what earlier versions require.
        session_expiry_interval: make_option(from, |from| from.arbitrary())?.unwrap_or(0),
        receive_maximum: make_option(from, |from| from.arbitrary())?.unwrap_or(u16::MAX),
        maximum_packet_size: from.arbitrary()?,
        topic_alias_maximum: from.arbitrary()?,
        request_response_information: from.arbitrary()?,
        request_problem_information: from.arbitrary()?,
        authentication: make_option(from, make_authentication)?,
        user_properties: List::EMPTY,
    })
}

fn make_connack<'a>(from: &mut Unstructured<'a>) -> Result<ConnAck<'a>> {
    let plain = ConnAck {
        session_present: from.arbitrary()?,
        reason: make_reason(from)?,
        ..ConnAck::default()
    };
    if from.arbitrary()? {
        return Ok(plain);
    }
    Ok(ConnAck {
        session_expiry_interval: from.arbitrary()?,
        receive_maximum: from.arbitrary()?,
        maximum_qos: make_qos(from)?,
        retain_available: from.arbitrary()?,
        maximum_packet_size: from.arbitrary()?,
        assigned_client_identifier: make_option(from, make_text)?,
        topic_alias_maximum: from.arbitrary()?,
        reason_string: make_option(from, make_text)?,
        wildcard_subscription_available: from.arbitrary()?,
        subscription_identifier_available: from.arbitrary()?,
        shared_subscription_available: from.arbitrary()?,
        server_keep_alive: from.arbitrary()?,
        response_information: make_option(from, make_text)?,
        server_reference: make_option(from, make_text)?,
        authentication: make_option(from, make_authentication)?,
        ..plain
    })
}

fn make_property<'a>(from: &mut Unstructured<'a>) -> Result<Property<'a>> {
    let kind = from.int_in_range(0..=26)?;
    Ok(match kind {
        0 => Property::PayloadFormatIndicator(from.arbitrary()?),
        1 => Property::MessageExpiryInterval(from.arbitrary()?),
        2 => Property::ContentType(make_text(from)?),
        3 => Property::ResponseTopic(make_topic(from)?),
        4 => Property::CorrelationData(from.arbitrary()?),
        5 => Property::SubscriptionIdentifier(from.arbitrary()?),
        6 => Property::SessionExpiryInterval(from.arbitrary()?),
        7 => Property::AssignedClientIdentifier(make_text(from)?),
        8 => Property::ServerKeepAlive(from.arbitrary()?),
        9 => Property::AuthenticationMethod(make_text(from)?),
        10 => Property::AuthenticationData(from.arbitrary()?),
        11 => Property::RequestProblemInformation(from.arbitrary()?),
        12 => Property::WillDelayInterval(from.arbitrary()?),
        13 => Property::RequestResponseInformation(from.arbitrary()?),
        14 => Property::ResponseInformation(make_text(from)?),
        15 => Property::ServerReference(make_text(from)?),
        16 => Property::ReasonString(make_text(from)?),
        17 => Property::ReceiveMaximum(from.arbitrary()?),
        18 => Property::TopicAliasMaximum(from.arbitrary()?),
        19 => Property::TopicAlias(from.arbitrary()?),
        20 => Property::MaximumQoS(make_qos(from)?),
        21 => Property::RetainAvailable(from.arbitrary()?),
        22 => Property::MaximumPacketSize(from.arbitrary()?),
        23 => Property::WildcardSubscriptionAvailable(from.arbitrary()?),
        24 => Property::SubscriptionIdentifierAvailable(from.arbitrary()?),
        25 => Property::SharedSubscriptionAvailable(from.arbitrary()?),
        _ => Property::UserProperty(make_user_property(from)?),
    })
}

fn make_list<'a, T>(
    from: &mut Unstructured<'a>,
    make: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let len = from.int_in_range(0..=4)?;
    (0..len).map(|_| make(from)).collect()
}

fn make_option<'a, T>(
    from: &mut Unstructured<'a>,
    make: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    if from.arbitrary()? { make(from).map(Some) } else { Ok(None) }
}

fn make_text<'a>(from: &mut Unstructured<'a>) -> Result<Text<'a>> {
    Ok(Text::new(from.arbitrary()?).unwrap_or_default())
}

fn make_topic<'a>(from: &mut Unstructured<'a>) -> Result<Topic<'a>> {
    Ok(Topic::new(from.arbitrary()?).unwrap_or_default())
}

fn make_filter<'a>(from: &mut Unstructured<'a>) -> Result<Filter<'a>> {
    const FALLBACK: [&str; 3] = ["#", "a/+", "$share/g/a"];
    match Filter::new(from.arbitrary()?) {
        Ok(filter) => Ok(filter),
        Err(_) => Ok(Filter::new(from.choose(&FALLBACK)?).expect("these are filters")),
    }
}

fn make_subscription<'a>(from: &mut Unstructured<'a>) -> Result<Subscription<'a>> {
    const HANDLING: [RetainHandling; 3] =
        [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let plain = Subscription::new(make_filter(from)?, make_qos(from)?);
    if from.arbitrary()? {
        return Ok(plain);
    }
    Ok(Subscription {
        no_local: from.arbitrary()?,
        retain_as_published: from.arbitrary()?,
        retain_handling: *from.choose(&HANDLING)?,
        ..plain
    })
}

fn make_user_property<'a>(from: &mut Unstructured<'a>) -> Result<UserProperty<'a>> {
    Ok(UserProperty { name: make_text(from)?, value: make_text(from)? })
}

fn make_authentication<'a>(from: &mut Unstructured<'a>) -> Result<Authentication<'a>> {
    Ok(Authentication { method: make_text(from)?, data: from.arbitrary()? })
}

fn make_reason(from: &mut Unstructured<'_>) -> Result<ReasonCode> {
    Ok(ReasonCode::from_u8(from.arbitrary()?).unwrap_or_default())
}

fn make_id(from: &mut Unstructured<'_>) -> Result<PacketId> {
    Ok(PacketId::new(from.arbitrary()?).unwrap_or(PacketId::FIRST))
}

fn make_qos(from: &mut Unstructured<'_>) -> Result<QoS> {
    Ok(QoS::from_u8(from.int_in_range(0..=2)?).unwrap_or_default())
}

fn make_version(from: &mut Unstructured<'_>) -> Result<Version> {
    Ok(*from.choose(&[Version::V3_1, Version::V3_1_1, Version::V5])?)
}
