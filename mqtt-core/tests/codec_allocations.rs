//! What the codec takes from the allocator: nothing. One test: the counts are the process's.

use std::alloc::System;

use mqtt_core::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filter, PacketId, Property, Publish, QoS, ReasonCode,
    SubAck, Subscribe, Subscription, Text, Topic, UnsubAck, Unsubscribe, UserProperty, Version,
    Will,
    wire::{Decoded, Delivery, Packet},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ID: PacketId = PacketId::FIRST;

/// Calls `case` with a packet of each kind that the version has, with lists where it has some.
fn packets(version: Version, case: &mut dyn FnMut(&Packet<'_>)) {
    let v5 = version.is_v5();
    let pair = UserProperty::new("name", "not ASCII: \u{e9}").unwrap();
    let explained = [
        Property::ReasonString(Text::new("because").unwrap()),
        Property::UserProperty(pair),
        Property::UserProperty(pair),
    ];
    let method = [Property::AuthenticationMethod(Text::new("SCRAM").unwrap())];
    let described = [
        Property::ResponseTopic(Topic::new("answers/\u{e9}").unwrap()),
        Property::CorrelationData(b"7"),
        Property::UserProperty(pair),
    ];
    let described = (if v5 { &described[..] } else { &[] }).into();
    let explained = (if v5 { &explained[..] } else { &[] }).into();
    let reason = if v5 { ReasonCode::UnspecifiedError } else { ReasonCode::Success };

    let topic = Topic::new("sensors/7/a topic that is longer than two blocks").unwrap();
    let filters = [Filter::new("$share/crew/sensors/+/#").unwrap(), Filter::new("a").unwrap()];
    let subscriptions = filters.map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
    let reasons = [ReasonCode::GrantedQoS1, ReasonCode::UnspecifiedError];
    let unsubscribed = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];

    let will = Will { topic, properties: described, ..Will::default() };
    let user_name = Some(Text::new("me").unwrap());
    let connect =
        Connect { will: Some(will), user_name, password: Some(b"*"), ..Connect::default() };
    case(&Packet::Connect(version, connect));
    let refusal = ConnAck { reason: ReasonCode::ServerUnavailable, ..ConnAck::default() };
    let reason_string = v5.then(|| Text::new("busy").unwrap());
    case(&Packet::ConnAck(ConnAck { reason_string, ..refusal }));
    for (qos, packet_id) in [(QoS::AtMostOnce, None), (QoS::ExactlyOnce, Some(ID))] {
        let publish = Publish { qos, properties: described, ..Publish::new(topic, "21.5") };
        case(&Packet::Publish(Delivery { packet_id, dup: false }, publish));
    }
    let unknown = if v5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
    case(&Packet::PubAck(ID, Ack { reason, properties: explained }));
    case(&Packet::PubRec(ID, Ack { reason, properties: explained }));
    case(&Packet::PubRel(ID, Ack { reason: unknown, properties: explained }));
    case(&Packet::PubComp(ID, Ack { reason: unknown, properties: explained }));
    let subscribe = Subscribe::from(&subscriptions);
    case(&Packet::Subscribe(ID, subscribe));
    case(&Packet::SubAck(ID, SubAck { reasons: (&reasons).into(), properties: explained }));
    case(&Packet::Unsubscribe(ID, Unsubscribe::from(&filters)));
    let reasons = (if v5 { &unsubscribed[..] } else { &[] }).into();
    case(&Packet::UnsubAck(ID, UnsubAck { reasons, properties: explained }));
    case(&Packet::PingReq);
    case(&Packet::PingResp);
    case(&Packet::Disconnect(Disconnect { reason, properties: explained }));
    if v5 {
        let reason = ReasonCode::ContinueAuthentication;
        case(&Packet::Auth(Auth { reason, properties: (&method).into() }));
    }
}

fn main() {
    packets_of_every_type();
    println!("packets_of_every_type ... ok");
}

fn packets_of_every_type() {
    let mut bytes = [0; 512];
    for (version, expected) in [(Version::V3_1_1, 0x7ffe), (Version::V5, 0xfffe)] {
        let mut types = 0;
        packets(version, &mut |packet| {
            let region = Region::new(ALLOCATOR);
            let len = packet.encoded_len(version).unwrap();
            packet.encode(version, &mut &mut bytes[..]).unwrap();
            let decoded = Packet::decode(version, &bytes[..len]);
            // Compares what is in the lists, too.
            let same = decoded == Ok(Decoded::Packet { packet: *packet, len });
            let part = Packet::decode(version, &bytes[..len - 1]);
            let change = region.change();
            assert_eq!(change.allocations + change.reallocations, 0, "{packet:?}");
            assert!(same && matches!(part, Ok(Decoded::Incomplete { .. })), "{packet:?}");
            types |= 1 << (bytes[0] >> 4);
        });
        assert_eq!(types, expected, "one of each");
    }
}
