//! Packets and their bytes, each the only encoding of the other.
//!
//! Written by hand from the specification, in the order of the packet types.

use mqtt_core::{wire::*, *};

use super::*;

/// Calls `case` with the versions in which the bytes mean the packet, the bytes, and the packet.
pub(crate) fn valid(case: &mut dyn FnMut(&[Version], &str, Packet<'_>)) {
    connect(case);
    connack(case);
    publish(case);
    acks(case);
    subscribe(case);
    suback(case);
    unsubscribe(case);
    unsuback(case);
    rest(case);
}

/// [MQTT-2.2.2-1] [MQTT-3.1.2-1] [MQTT-3.1.2-9] [MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT-3.1.3-1]
/// [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12], 3.1.1: [MQTT-3.1.2-9]
/// [MQTT-3.1.2-19] [MQTT-3.1.2-21] [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT-3.1.3-10]
/// [MQTT-3.1.3-11]
fn connect(case: Case<'_>) {
    let plain = Connect { client_id: text("id"), keep_alive: 10, ..Connect::default() };
    let hex = "10 10 0006 4d5149736470 03 02 000a 0002 6964";
    case(V3_1, hex, Packet::Connect(Version::V3_1, plain));
    let hex = "10 0e 0004 4d515454 04 02 000a 0002 6964";
    case(V3_1_1, hex, Packet::Connect(Version::V3_1_1, plain));
    let hex = "10 0f 0004 4d515454 05 02 000a 00 0002 6964";
    case(V5, hex, Packet::Connect(Version::V5, plain));

    // The server chooses the client identifier.
    let nameless = Connect { client_id: text(""), keep_alive: 0, ..Connect::default() };
    let hex = "10 0c 0004 4d515454 04 02 0000 0000";
    case(V3_1_1, hex, Packet::Connect(Version::V3_1_1, nameless));
    let hex = "10 0d 0004 4d515454 05 02 0000 00 0000";
    case(V5, hex, Packet::Connect(Version::V5, nameless));
    let old = Connect { clean_start: false, ..nameless };
    let hex = "10 0d 0004 4d515454 05 00 0000 00 0000";
    case(V5, hex, Packet::Connect(Version::V5, old));

    // Everything 3.1.1 has; a 3.1 CONNECT differs in its first bytes only.
    let will = Will {
        topic: topic("w/é"),
        payload: b"gone\0",
        qos: QoS::ExactlyOnce,
        retain: true,
        ..Will::default()
    };
    let full = Connect {
        client_id: text("\u{feff}"),
        clean_start: false,
        keep_alive: u16::MAX,
        will: Some(will),
        user_name: Some(text("me")),
        password: Some(b"\0\xff"),
        ..Connect::default()
    };
    let hex = "10 26 0006 4d5149736470 03 f4 ffff 0003 efbbbf 0004 772fc3a9 0005 676f6e6500 \
        0002 6d65 0002 00ff";
    case(V3_1, hex, Packet::Connect(Version::V3_1, full));
    let hex = "10 24 0004 4d515454 04 f4 ffff 0003 efbbbf 0004 772fc3a9 0005 676f6e6500 0002 \
        6d65 0002 00ff";
    case(V3_1_1, hex, Packet::Connect(Version::V3_1_1, full));
    let hex = "10 26 0004 4d515454 05 f4 ffff 00 0003 efbbbf 00 0004 772fc3a9 0005 676f6e6500 \
        0002 6d65 0002 00ff";
    case(V5, hex, Packet::Connect(Version::V5, full));

    // Each flag alone.
    let will = Will { topic: topic("t"), qos: QoS::AtLeastOnce, ..Will::default() };
    let named = Connect { user_name: Some(text("")), ..nameless };
    let hex = "10 0e 0004 4d515454 04 82 0000 0000 0000";
    case(V3_1_1, hex, Packet::Connect(Version::V3_1_1, named));
    let hex = "10 11 0004 4d515454 04 0e 0000 0000 0001 74 0000";
    let doomed = Connect { will: Some(will), ..nameless };
    case(V3_1_1, hex, Packet::Connect(Version::V3_1_1, doomed));
    let hex = "10 11 0004 4d515454 05 42 0000 00 0000 0002 7077";
    let secret = Connect { password: Some(b"pw"), ..nameless };
    case(V5, hex, Packet::Connect(Version::V5, secret));

    // Every property.
    let users = [user("a", "1"), user("", ""), user("a", "2")];
    let authentication = Authentication { method: text("SCRAM"), data: Some(b"\x01\x02") };
    let connect = Connect {
        session_expiry_interval: u32::MAX,
        receive_maximum: 1,
        maximum_packet_size: Some(256),
        topic_alias_maximum: 10,
        request_response_information: true,
        request_problem_information: false,
        authentication: Some(authentication),
        user_properties: List::from(&users),
        ..plain
    };
    let hex = "10 43 0004 4d515454 05 02 000a 34 11 ffffffff 21 0001 27 00000100 22 000a 19 01 \
        17 00 15 0005 534352414d 16 0002 0102 26 0001 61 0001 31 26 0000 0000 26 0001 61 \
        0001 32 0002 6964";
    case(V5, hex, Packet::Connect(Version::V5, connect));
    let authentication = Some(Authentication { method: text(""), data: None });
    let hex = "10 10 0004 4d515454 05 02 0000 03 15 0000 0000";
    case(V5, hex, Packet::Connect(Version::V5, Connect { authentication, ..nameless }));
    let properties = [
        Property::WillDelayInterval(5),
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(0),
        Property::ContentType(text("text/plain")),
        Property::ResponseTopic(topic("re")),
        Property::CorrelationData(b"\0\x01"),
        Property::UserProperty(user("k", "v")),
    ];
    let will = Some(Will { properties: Properties::from(&properties), ..will });
    let hex = "10 3d 0004 4d515454 05 0e 0000 00 0000 2a 18 00000005 01 01 02 00000000 03 000a \
        746578742f706c61696e 08 0002 7265 09 0002 0001 26 0001 6b 0001 76 0001 74 0000";
    case(V5, hex, Packet::Connect(Version::V5, Connect { will, ..nameless }));
}

/// [MQTT-3.2.2-1] [MQTT-3.2.2-8]
fn connack(case: Case<'_>) {
    case(V3, "20 02 00 00", Packet::ConnAck(ConnAck::default()));
    case(V5, "20 03 00 00 00", Packet::ConnAck(ConnAck::default()));
    let present = ConnAck { session_present: true, ..ConnAck::default() };
    case(V3_1_1, "20 02 01 00", Packet::ConnAck(present));
    case(V5, "20 03 01 00 00", Packet::ConnAck(present));

    let refusal = |reason| Packet::ConnAck(ConnAck { reason, ..ConnAck::default() });
    case(V3, "20 02 00 01", refusal(ReasonCode::UnsupportedProtocolVersion));
    case(V3, "20 02 00 02", refusal(ReasonCode::ClientIdentifierNotValid));
    case(V3, "20 02 00 03", refusal(ReasonCode::ServerUnavailable));
    case(V3, "20 02 00 04", refusal(ReasonCode::BadUserNameOrPassword));
    case(V3, "20 02 00 05", refusal(ReasonCode::NotAuthorized));
    case(V5, "20 03 00 87 00", refusal(ReasonCode::NotAuthorized));

    let users = [user("k", "v"), user("k", "w")];
    let ack = ConnAck {
        session_expiry_interval: Some(0),
        receive_maximum: 20,
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        maximum_packet_size: Some(u32::MAX),
        assigned_client_identifier: Some(text("auto-1")),
        topic_alias_maximum: u16::MAX,
        reason_string: Some(text("ok")),
        wildcard_subscription_available: false,
        subscription_identifier_available: false,
        shared_subscription_available: false,
        server_keep_alive: Some(0),
        response_information: Some(text("re/")),
        server_reference: Some(text("b:1883")),
        authentication: Some(Authentication { method: text("X"), data: Some(b"") }),
        user_properties: List::from(&users),
        ..ConnAck::default()
    };
    let hex = "20 52 00 00 4f 21 0014 24 01 25 00 22 ffff 28 00 29 00 2a 00 11 00000000 27 \
        ffffffff 12 0006 6175746f2d31 1f 0002 6f6b 13 0000 1a 0003 72652f 1c 0006 \
        623a31383833 15 0001 58 16 0000 26 0001 6b 0001 76 26 0001 6b 0001 77";
    case(V5, hex, Packet::ConnAck(ack));
    let ack = ConnAck { maximum_qos: QoS::AtMostOnce, ..ConnAck::default() };
    case(V5, "20 05 00 00 02 24 00", Packet::ConnAck(ack));
}

/// [MQTT-2.2.1-2] [MQTT-2.2.2-1] [MQTT-3.3.2-1], 3.1.1: [MQTT-2.3.1-5] [MQTT-3.3.2-1]
fn publish(case: Case<'_>) {
    let plain = Publish::new(topic("a/b"), "21.5");
    let once = Delivery::default();
    case(V3, "30 09 0003 612f62 32312e35", Packet::Publish(once, plain));
    case(V5, "30 0a 0003 612f62 00 32312e35", Packet::Publish(once, plain));
    let retained = Publish { retain: true, ..Publish::new(topic("a/b"), "") };
    case(V3, "31 05 0003 612f62", Packet::Publish(once, retained));
    case(V5, "31 06 0003 612f62 00", Packet::Publish(once, retained));
    // Any bytes are a payload, and the longest are what a longer length is for.
    let long = [0xff; 200];
    let binary = Publish::new(topic("/"), &long);
    let hex = "30 cb01 0001 2f \
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff \
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff \
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff \
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff \
        ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    case(V3, hex, Packet::Publish(once, binary));

    let first = Delivery { packet_id: Some(id(1)), dup: false };
    let again = Delivery { packet_id: Some(id(u16::MAX)), dup: true };
    let publish = Publish { qos: QoS::AtLeastOnce, ..plain };
    case(V3, "32 0b 0003 612f62 0001 32312e35", Packet::Publish(first, publish));
    case(V5, "32 0c 0003 612f62 0001 00 32312e35", Packet::Publish(first, publish));
    case(V3, "3a 0b 0003 612f62 ffff 32312e35", Packet::Publish(again, publish));
    let publish = Publish { qos: QoS::ExactlyOnce, retain: true, ..plain };
    case(V3, "35 0b 0003 612f62 0001 32312e35", Packet::Publish(first, publish));
    case(V3, "3d 0b 0003 612f62 ffff 32312e35", Packet::Publish(again, publish));
    case(V5, "3d 0c 0003 612f62 ffff 00 32312e35", Packet::Publish(again, publish));

    let properties = [
        Property::PayloadFormatIndicator(false),
        Property::MessageExpiryInterval(u32::MAX),
        Property::ContentType(text("")),
        Property::ResponseTopic(topic("re/é")),
        Property::CorrelationData(b""),
        Property::SubscriptionIdentifier(1),
        Property::SubscriptionIdentifier(268_435_455),
        Property::SubscriptionIdentifier(128),
        Property::TopicAlias(u16::MAX),
        Property::UserProperty(user("k", "v")),
        Property::UserProperty(user("k", "v")),
    ];
    let publish = Publish { properties: Properties::from(&properties), ..plain };
    let hex = "30 3a 0003 612f62 30 01 00 02 ffffffff 03 0000 08 0005 72652fc3a9 09 0000 0b 01 \
        0b ffffff7f 0b 8001 23 ffff 26 0001 6b 0001 76 26 0001 6b 0001 76 32312e35";
    case(V5, hex, Packet::Publish(once, publish));
    let alias = [Property::TopicAlias(1)];
    let properties = Properties::from(&alias);
    let publish = Publish { topic: Topic::default(), properties, ..plain };
    case(V5, "30 0a 0000 03 23 0001 32312e35", Packet::Publish(once, publish));
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP. [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.4.2-1]
/// [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1], 3.1.1: [MQTT-2.2.2-1] [MQTT-3.6.1-1]
fn acks(case: Case<'_>) {
    let success = Ack::default();
    case(ALL, "40 02 0001", Packet::PubAck(id(1), success));
    case(ALL, "50 02 0100", Packet::PubRec(id(0x100), success));
    case(ALL, "62 02 ffff", Packet::PubRel(id(0xffff), success));
    case(ALL, "70 02 7fff", Packet::PubComp(id(0x7fff), success));

    let unheard = Ack::from(ReasonCode::NoMatchingSubscribers);
    case(V5, "40 03 0001 10", Packet::PubAck(id(1), unheard));
    case(V5, "50 03 0001 97", Packet::PubRec(id(1), Ack::from(ReasonCode::QuotaExceeded)));
    let unknown = Ack::from(ReasonCode::PacketIdentifierNotFound);
    case(V5, "62 03 0001 92", Packet::PubRel(id(1), unknown));
    case(V5, "70 03 0001 92", Packet::PubComp(id(1), unknown));

    let properties = [
        Property::ReasonString(text("why")),
        Property::UserProperty(user("k", "v")),
        Property::UserProperty(user("k", "w")),
    ];
    let properties = Properties::from(&properties);
    let explained = Ack { properties, ..success };
    let hex = "40 18 0001 00 14 1f 0003 776879 26 0001 6b 0001 76 26 0001 6b 0001 77";
    case(V5, hex, Packet::PubAck(id(1), explained));
    let hex = "50 18 0001 00 14 1f 0003 776879 26 0001 6b 0001 76 26 0001 6b 0001 77";
    case(V5, hex, Packet::PubRec(id(1), explained));
    let explained = Ack { properties, ..unknown };
    let hex = "62 18 0001 92 14 1f 0003 776879 26 0001 6b 0001 76 26 0001 6b 0001 77";
    case(V5, hex, Packet::PubRel(id(1), explained));
    let hex = "70 18 0001 92 14 1f 0003 776879 26 0001 6b 0001 76 26 0001 6b 0001 77";
    case(V5, hex, Packet::PubComp(id(1), explained));
}

/// [MQTT-3.8.1-1] [MQTT-3.8.3-1], 3.1.1: [MQTT-3.8.1-1] [MQTT-3.8.3-1]
fn subscribe(case: Case<'_>) {
    let subscriptions = [
        Subscription::new(filter("a/+"), QoS::AtMostOnce),
        Subscription::new(filter("#"), QoS::ExactlyOnce),
    ];
    let subscribe = Subscribe::from(&subscriptions);
    case(V3, "82 0c 0001 0003 612f2b 00 0001 23 02", Packet::Subscribe(id(1), subscribe));
    case(V5, "82 0d 0001 00 0003 612f2b 00 0001 23 02", Packet::Subscribe(id(1), subscribe));
    let shared = [Subscription::new(filter("$share/g/é"), QoS::AtLeastOnce)];
    let subscribe = Subscribe::from(&shared);
    let hex = "82 10 0001 000b 2473686172652f672fc3a9 01";
    case(V3, hex, Packet::Subscribe(id(1), subscribe));

    let plain = Subscription::new(filter("a"), QoS::AtMostOnce);
    let subscriptions = [
        Subscription { no_local: true, ..plain },
        Subscription { retain_as_published: true, ..plain },
        Subscription { retain_handling: RetainHandling::SendIfNew, ..plain },
        Subscription { retain_handling: RetainHandling::DoNotSend, ..plain },
    ];
    let properties =
        [Property::SubscriptionIdentifier(200), Property::UserProperty(user("k", "v"))];
    let properties = Properties::from(&properties);
    let subscribe = Subscribe { properties, ..Subscribe::from(&subscriptions) };
    let hex = "82 1d ffff 0a 0b c801 26 0001 6b 0001 76 0001 61 04 0001 61 08 0001 61 10 0001 \
        61 20";
    case(V5, hex, Packet::Subscribe(id(0xffff), subscribe));
}

/// [MQTT-3.9.3-2], 3.1.1: [MQTT-3.9.3-2]
fn suback(case: Case<'_>) {
    let granted = [ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2];
    let ack = SubAck { reasons: List::from(&granted), ..SubAck::default() };
    case(V3, "90 05 0001 00 01 02", Packet::SubAck(id(1), ack));
    case(V5, "90 06 0001 00 00 01 02", Packet::SubAck(id(1), ack));
    let refused = [ReasonCode::UnspecifiedError];
    let ack = SubAck { reasons: List::from(&refused), ..SubAck::default() };
    case(V3_1_1, "90 03 0001 80", Packet::SubAck(id(1), ack));
    let refused = [ReasonCode::NotAuthorized, ReasonCode::WildcardSubscriptionsNotSupported];
    let properties = [Property::ReasonString(text("no")), Property::UserProperty(user("k", "v"))];
    let properties = Properties::from(&properties);
    let ack = SubAck { reasons: List::from(&refused), properties };
    let hex = "90 11 0001 0c 1f 0002 6e6f 26 0001 6b 0001 76 87 a2";
    case(V5, hex, Packet::SubAck(id(1), ack));
}

/// [MQTT-3.10.1-1] [MQTT-3.10.3-1], 3.1.1: [MQTT-3.10.1-1] [MQTT-3.10.3-1]
fn unsubscribe(case: Case<'_>) {
    let filters = [filter("a/+"), filter("#")];
    let unsubscribe = Unsubscribe::from(&filters);
    case(V3, "a2 0a 0001 0003 612f2b 0001 23", Packet::Unsubscribe(id(1), unsubscribe));
    let properties = [Property::UserProperty(user("k", "v"))];
    let unsubscribe = Unsubscribe { properties: Properties::from(&properties), ..unsubscribe };
    let hex = "a2 12 0001 07 26 0001 6b 0001 76 0003 612f2b 0001 23";
    case(V5, hex, Packet::Unsubscribe(id(1), unsubscribe));
}

/// [MQTT-3.11.3-2]
fn unsuback(case: Case<'_>) {
    case(V3, "b0 02 0001", Packet::UnsubAck(id(1), UnsubAck::default()));
    let reasons = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    let ack = UnsubAck { reasons: List::from(&reasons), ..UnsubAck::default() };
    case(V5, "b0 05 0001 00 00 11", Packet::UnsubAck(id(1), ack));
    let properties = [Property::ReasonString(text("no")), Property::UserProperty(user("k", "v"))];
    let ack = UnsubAck { properties: Properties::from(&properties), ..ack };
    let hex = "b0 11 0001 0c 1f 0002 6e6f 26 0001 6b 0001 76 00 11";
    case(V5, hex, Packet::UnsubAck(id(1), ack));
}

/// PINGREQ, PINGRESP, DISCONNECT and AUTH. [MQTT-3.14.2-1] [MQTT-3.15.2-1]
fn rest(case: Case<'_>) {
    case(ALL, "c0 00", Packet::PingReq);
    case(ALL, "d0 00", Packet::PingResp);

    case(ALL, "e0 00", Packet::Disconnect(Disconnect::default()));
    let reason = ReasonCode::DisconnectWithWillMessage;
    case(V5, "e0 01 04", Packet::Disconnect(Disconnect::from(reason)));
    let properties = [
        Property::SessionExpiryInterval(0),
        Property::ReasonString(text("bye")),
        Property::UserProperty(user("k", "v")),
        Property::ServerReference(text("b")),
    ];
    let properties = Properties::from(&properties);
    let moved = Disconnect { reason: ReasonCode::ServerMoved, properties };
    let hex = "e0 18 9d 16 11 00000000 1f 0003 627965 26 0001 6b 0001 76 1c 0001 62";
    case(V5, hex, Packet::Disconnect(moved));
    let hex = "e0 18 00 16 11 00000000 1f 0003 627965 26 0001 6b 0001 76 1c 0001 62";
    let normal = Disconnect { reason: ReasonCode::Success, properties };
    case(V5, hex, Packet::Disconnect(normal));

    case(V5, "f0 00", Packet::Auth(Auth::default()));
    let method = [Property::AuthenticationMethod(text("X"))];
    let properties = Properties::from(&method);
    let reason = ReasonCode::ReAuthenticate;
    case(V5, "f0 06 19 04 15 0001 58", Packet::Auth(Auth { reason, properties }));
    let properties = [
        Property::AuthenticationMethod(text("X")),
        Property::AuthenticationData(b"\0"),
        Property::ReasonString(text("next")),
        Property::UserProperty(user("k", "v")),
    ];
    let properties = Properties::from(&properties);
    let reason = ReasonCode::ContinueAuthentication;
    let hex = "f0 18 18 16 15 0001 58 16 0001 00 1f 0004 6e657874 26 0001 6b 0001 76";
    case(V5, hex, Packet::Auth(Auth { reason, properties }));
}
