//! What cannot be encoded, and sinks that cannot take what can.

use super::*;

/// A sink that may be asked, but not written to.
struct Untouchable(usize);

impl Sink for Untouchable {
    fn room(&self) -> usize {
        self.0
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }

    fn span(&mut self, _: usize) -> Option<&mut [u8]> {
        panic!("a span was taken")
    }

    fn payload(&mut self, _: Payload<'_>) {
        panic!("a payload was written")
    }
}

fn refuses(versions: &[Version], packet: Packet<'_>, error: EncodeError) {
    for &version in versions {
        assert_eq!(packet.encoded_len(version), Err(error), "{version:?} {packet:?}");
        assert_eq!(packet.encode(version, &mut Untouchable(usize::MAX)), Err(error));
    }
}

#[test]
fn a_packet_that_does_not_fit_leaves_the_sink_as_it_was() {
    valid::valid(&mut |versions, hex, packet| {
        let bytes = bytes(hex);
        for &version in versions {
            for room in 0..bytes.len() {
                let refused = packet.encode(version, &mut Untouchable(room));
                assert_eq!(refused, Err(EncodeError::NoRoom), "{hex}");
            }

            // Room for all but one byte, in what is left of a slice and of a buffer.
            let mut short = vec![0xaa; bytes.len() - 1];
            let mut rest = &mut short[..];
            assert_eq!(packet.encode(version, &mut rest), Err(EncodeError::NoRoom));
            assert_eq!(rest.len(), bytes.len() - 1);
            assert!(short.iter().all(|byte| *byte == 0xaa));

            let mut buffer = Buffer::<512>::new();
            let used = buffer.room() + 1 - bytes.len();
            buffer.span(used).unwrap().fill(0xaa);
            assert_eq!(packet.encode(version, &mut buffer), Err(EncodeError::NoRoom));
            assert!(buffer.len() == used && buffer.as_bytes().iter().all(|byte| *byte == 0xaa));
            buffer.consume(1);
            assert_eq!(packet.encode(version, &mut buffer), Ok(()));
            assert_eq!(buffer.as_bytes()[used - 1..], bytes);
        }
    });
}

/// 5.0's fields are refused, not dropped, before 5.0.
#[test]
fn what_only_5_0_has() {
    let properties = [Property::UserProperty(user("k", "v"))];
    let properties = Properties::from(&properties);
    let users = [user("k", "v")];
    let users = List::from(&users);
    let refuses = |packet: Packet<'_>| refuses(V3, packet, EncodeError::Version);

    for &version in V3 {
        let refuses = |connect: Connect<'_>| refuses(Packet::Connect(version, connect));
        refuses(Connect { session_expiry_interval: 1, ..Connect::default() });
        refuses(Connect { request_response_information: true, ..Connect::default() });
        let authentication = Some(Authentication::default());
        refuses(Connect { authentication, ..Connect::default() });
        refuses(Connect { user_properties: users, ..Connect::default() });
        let will = Will { topic: topic("t"), properties, ..Will::default() };
        refuses(Connect { will: Some(will), ..Connect::default() });
    }
    refuses(Packet::ConnAck(ConnAck { user_properties: users, ..ConnAck::default() }));
    refuses(Packet::ConnAck(ConnAck { receive_maximum: 1, ..ConnAck::default() }));
    let publish = Publish { properties, ..Publish::new(topic("t"), "") };
    refuses(Packet::Publish(Delivery::default(), publish));
    refuses(Packet::PubAck(id(1), Ack::from(ReasonCode::NoMatchingSubscribers)));
    refuses(Packet::PubRec(id(1), Ack { properties, ..Ack::default() }));
    let plain = Subscription::new(filter("a"), QoS::AtMostOnce);
    let retain_handling = RetainHandling::DoNotSend;
    for subscription in [
        Subscription { no_local: true, ..plain },
        Subscription { retain_as_published: true, ..plain },
        Subscription { retain_handling, ..plain },
    ] {
        let subscriptions = [subscription];
        refuses(Packet::Subscribe(id(1), Subscribe::from(&subscriptions)));
    }
    let subscriptions = [plain];
    let subscribe = Subscribe { properties, ..Subscribe::from(&subscriptions) };
    refuses(Packet::Subscribe(id(1), subscribe));
    let reasons = [ReasonCode::Success];
    let reasons = List::from(&reasons);
    refuses(Packet::SubAck(id(1), SubAck { reasons, properties }));
    let filters = [filter("a")];
    refuses(Packet::Unsubscribe(id(1), Unsubscribe { properties, ..Unsubscribe::from(&filters) }));
    refuses(Packet::UnsubAck(id(1), UnsubAck { reasons, ..UnsubAck::default() }));
    refuses(Packet::Disconnect(Disconnect::from(ReasonCode::ServerMoved)));
    refuses(Packet::Disconnect(Disconnect { properties, ..Disconnect::default() }));
    refuses(Packet::Auth(Auth::default()));
}

#[test]
fn what_is_too_long() {
    let refuses = |packet: Packet<'_>| refuses(V5, packet, EncodeError::TooLong);
    let long = vec![0; 65_536];
    let connect = |connect: Connect<'_>| refuses(Packet::Connect(Version::V5, connect));
    connect(Connect { password: Some(&long), ..Connect::default() });
    let will = Will { topic: topic("t"), payload: &long, ..Will::default() };
    connect(Connect { will: Some(will), ..Connect::default() });
    let authentication = Some(Authentication { data: Some(&long), ..Authentication::default() });
    connect(Connect { authentication, ..Connect::default() });
    let properties = [Property::CorrelationData(&long)];
    let properties = Properties::from(&properties);
    let publish = Publish { properties, ..Publish::new(topic("t"), "") };
    refuses(Packet::Publish(Delivery::default(), publish));
    assert_eq!(Text::new(&"a".repeat(65_536)), Err(TextError::TooLong));

    // The longest packet, and one that is longer by a byte.
    let huge = vec![0; 268_435_455];
    let publish = Publish::new(topic("t"), &huge[4..]);
    let publish = Packet::Publish(Delivery::default(), publish);
    assert_eq!(publish.encoded_len(Version::V5), Ok(5 + 268_435_455));
    let publish = Publish::new(topic("t"), &huge[3..]);
    refuses(Packet::Publish(Delivery::default(), publish));
    // Long by its parts alone.
    let filters = vec![filter(core::str::from_utf8(&[b'a'; 65_535]).unwrap()); 4_096];
    let unsubscribe = Unsubscribe { filters: List::from(&filters[..]), ..Unsubscribe::default() };
    refuses(Packet::Unsubscribe(id(1), unsubscribe));
}

/// Section 2.2.2.2
#[test]
fn properties_that_no_receiver_accepts() {
    let refuses = |packet: Packet<'_>| refuses(V5, packet, EncodeError::Property);
    let publish = |properties: &[Property<'_>]| {
        let properties = Properties::from(properties);
        let publish = Publish { properties, ..Publish::new(topic("t"), "") };
        refuses(Packet::Publish(Delivery::default(), publish));
    };
    publish(&[Property::ReasonString(text(""))]);
    publish(&[Property::TopicAlias(0)]);
    publish(&[Property::TopicAlias(1), Property::TopicAlias(1)]);
    publish(&[Property::SubscriptionIdentifier(0)]);
    publish(&[Property::SubscriptionIdentifier(268_435_456)]);
    publish(&[Property::ResponseTopic(Topic::default())]);

    let connect = |connect: Connect<'_>| refuses(Packet::Connect(Version::V5, connect));
    connect(Connect { receive_maximum: 0, ..Connect::default() });
    connect(Connect { maximum_packet_size: Some(0), ..Connect::default() });
    let alias = [Property::TopicAlias(1)];
    let properties = Properties::from(&alias);
    let will = Will { topic: topic("t"), properties, ..Will::default() };
    connect(Connect { will: Some(will), ..Connect::default() });
    refuses(Packet::ConnAck(ConnAck { receive_maximum: 0, ..ConnAck::default() }));

    let twice = [Property::SubscriptionIdentifier(1), Property::SubscriptionIdentifier(2)];
    let plain = [Subscription::new(filter("a"), QoS::AtMostOnce)];
    let properties = Properties::from(&twice);
    refuses(Packet::Subscribe(id(1), Subscribe { properties, ..Subscribe::from(&plain) }));
    refuses(Packet::PubAck(id(1), Ack { properties, ..Ack::default() }));
    refuses(Packet::Disconnect(Disconnect { properties, ..Disconnect::default() }));

    // AUTH without a method.
    let reason = ReasonCode::ContinueAuthentication;
    refuses(Packet::Auth(Auth { reason, ..Auth::default() }));
    let data = [Property::AuthenticationData(b"")];
    refuses(Packet::Auth(Auth { properties: Properties::from(&data), ..Auth::default() }));
}

/// [MQTT-3.2.2-6] [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1]
#[test]
fn reason_codes_of_other_packets() {
    let refuses = |versions: &[Version], packet: Packet<'_>| {
        refuses(versions, packet, EncodeError::ReasonCode);
    };
    let reason = ReasonCode::NotAuthorized;
    let present = ConnAck { session_present: true, reason, ..ConnAck::default() };
    refuses(ALL, Packet::ConnAck(present));
    let reason = ReasonCode::GrantedQoS1;
    refuses(ALL, Packet::ConnAck(ConnAck { reason, ..ConnAck::default() }));
    let reason = ReasonCode::ServerMoved;
    refuses(V3, Packet::ConnAck(ConnAck { reason, ..ConnAck::default() }));
    refuses(V5, Packet::PubAck(id(1), Ack::from(ReasonCode::PacketIdentifierNotFound)));
    refuses(V5, Packet::PubRel(id(1), Ack::from(ReasonCode::UnspecifiedError)));
    refuses(V5, Packet::Disconnect(Disconnect::from(ReasonCode::Banned)));
    let reasons = [ReasonCode::NoSubscriptionExisted];
    let ack = SubAck { reasons: List::from(&reasons), ..SubAck::default() };
    refuses(ALL, Packet::SubAck(id(1), ack));
    let reasons = [ReasonCode::Success, ReasonCode::NotAuthorized];
    let ack = SubAck { reasons: List::from(&reasons), ..SubAck::default() };
    refuses(V3, Packet::SubAck(id(1), ack));
    let reasons = [ReasonCode::UnspecifiedError];
    let ack = SubAck { reasons: List::from(&reasons), ..SubAck::default() };
    refuses(V3_1, Packet::SubAck(id(1), ack));
    let reasons = [ReasonCode::GrantedQoS1];
    let ack = UnsubAck { reasons: List::from(&reasons), ..UnsubAck::default() };
    refuses(V5, Packet::UnsubAck(id(1), ack));
}

/// [MQTT-4.7.3-1]
#[test]
fn messages_without_a_topic() {
    let refuses = |versions: &[Version], packet: Packet<'_>| {
        refuses(versions, packet, EncodeError::TopicName);
    };
    refuses(ALL, Packet::Publish(Delivery::default(), Publish::default()));
    let users = [Property::UserProperty(user("", ""))];
    let publish = Publish { properties: Properties::from(&users), ..Publish::default() };
    refuses(V5, Packet::Publish(Delivery::default(), publish));
    let connect = Connect { will: Some(Will::default()), ..Connect::default() };
    for &version in ALL {
        refuses(ALL, Packet::Connect(version, connect));
    }
}

/// [MQTT-2.2.1-2] [MQTT-2.2.1-3] [MQTT-3.3.1-2]
#[test]
fn deliveries_that_contradict_the_qos() {
    let plain = Publish::new(topic("t"), "");
    let refuses = |packet_id, dup, qos| {
        let packet = Packet::Publish(Delivery { packet_id, dup }, Publish { qos, ..plain });
        refuses(ALL, packet, EncodeError::Delivery);
    };
    refuses(Some(id(1)), false, QoS::AtMostOnce);
    refuses(None, true, QoS::AtMostOnce);
    refuses(None, false, QoS::AtLeastOnce);
    refuses(None, true, QoS::ExactlyOnce);
}

/// [MQTT-3.8.3-2] [MQTT-3.8.3-4] [MQTT-3.10.3-2], 3.1.1: [MQTT-3.1.2-22] [MQTT-3.1.3-7]
#[test]
fn requests_that_no_server_grants() {
    let empty =
        |versions: &[Version], packet: Packet<'_>| refuses(versions, packet, EncodeError::Empty);
    empty(ALL, Packet::Subscribe(id(1), Subscribe::default()));
    empty(ALL, Packet::SubAck(id(1), SubAck::default()));
    empty(ALL, Packet::Unsubscribe(id(1), Unsubscribe::default()));
    empty(V5, Packet::UnsubAck(id(1), UnsubAck::default()));

    let plain = Subscription::new(filter("$share/g/a"), QoS::AtMostOnce);
    let subscriptions = [plain, Subscription { no_local: true, ..plain }];
    let subscribe = Packet::Subscribe(id(1), Subscribe::from(&subscriptions));
    refuses(V5, subscribe, EncodeError::SharedNoLocal);

    for &version in V3 {
        let refuses = |connect: Connect<'_>| {
            refuses(ALL, Packet::Connect(version, connect), EncodeError::Credentials);
        };
        refuses(Connect { password: Some(b""), ..Connect::default() });
        refuses(Connect { clean_start: false, ..Connect::default() });
    }
}
