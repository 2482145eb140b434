//! The packets that are measured.

use mqtt_core::{
    Ack, Connect, Filter, PacketId, Property, Publish, QoS, ReasonCode, SubAck, Subscribe,
    Subscription, Text, Topic, UserProperty, Version, Will,
    wire::{Delivery, Packet},
};

/// The bytes of `packet`, for ever: written by our own encoder, read by everyone.
pub fn bytes(version: Version, packet: &Packet<'_>) -> &'static [u8] {
    let mut bytes = vec![0; packet.encoded_len(version).expect("valid")];
    packet.encode(version, &mut &mut bytes[..]).expect("it fits");
    bytes.leak()
}

/// PUBLISH at QoS 0 with a topic of 20 bytes and a payload of this size.
pub fn publish(size: usize) -> Packet<'static> {
    Packet::Publish(Delivery::default(), message(size))
}

/// PUBLISH at QoS 1 with a topic of 20 bytes and a payload of 64.
pub fn publish_qos1(id: u16) -> Packet<'static> {
    let publish = Publish { qos: QoS::AtLeastOnce, ..message(64) };
    Packet::Publish(Delivery { packet_id: PacketId::new(id), dup: false }, publish)
}

/// The same with three properties.
pub fn publish_with_properties(id: u16) -> Packet<'static> {
    let properties = vec![
        Property::MessageExpiryInterval(3_600),
        Property::ContentType(text("text/plain")),
        Property::UserProperty(UserProperty::new("unit", "ppm").expect("valid")),
    ];
    let properties = (&*properties.leak()).into();
    let publish = Publish { qos: QoS::AtLeastOnce, properties, ..message(64) };
    Packet::Publish(Delivery { packet_id: PacketId::new(id), dup: false }, publish)
}

/// PUBACK of a success.
pub fn puback(id: u16) -> Packet<'static> {
    Packet::PubAck(packet_id(id), Ack::default())
}

/// CONNECT with nearly everything that 3.1.1 has.
pub fn connect(version: Version) -> Packet<'static> {
    let connect = Connect {
        client_id: text("gateway-7f3a"),
        clean_start: false,
        will: Some(Will {
            topic: topic("gateways/7f3a/state"),
            payload: b"offline",
            qos: QoS::AtLeastOnce,
            retain: true,
            ..Will::default()
        }),
        user_name: Some(text("gateway")),
        password: Some(b"correct horse battery staple"),
        session_expiry_interval: if version.is_v5() { 86_400 } else { 0 },
        ..Connect::default()
    };
    Packet::Connect(version, connect)
}

/// SUBSCRIBE to three filters.
pub fn subscribe() -> Packet<'static> {
    let filters = ["sensors/+/kitchen/co", "commands/7f3a/#", "time"];
    let subscriptions =
        filters.map(|name| Subscription::new(Filter::new(name).expect("valid"), QoS::AtLeastOnce));
    let subscriptions = (&*subscriptions.to_vec().leak()).into();
    Packet::Subscribe(packet_id(7), Subscribe { subscriptions, ..Subscribe::default() })
}

/// The answer to that.
pub fn suback() -> Packet<'static> {
    let reasons = (&[ReasonCode::GrantedQoS1; 3]).into();
    Packet::SubAck(packet_id(7), SubAck { reasons, ..SubAck::default() })
}

/// How many packets [`mixed`] has.
pub const MIXED: usize = 1_000;

/// Packets as a busy client receives them. Of twenty, ten are messages at QoS 0, four are
/// messages at QoS 1 (on 5.0, two of them with properties), and five acknowledge what it sends.
pub fn mixed(version: Version) -> &'static [u8] {
    let rich = if version.is_v5() { publish_with_properties } else { publish_qos1 };
    let mut stream = Vec::new();
    for id in 1..=MIXED as u16 / 20 {
        let pair = [publish(16), publish(64)];
        let singles = [
            publish_qos1(id),
            publish_qos1(id + 100),
            puback(id),
            puback(id + 50),
            rich(id + 200),
            rich(id + 300),
            Packet::PubRec(packet_id(id + 400), Ack::default()),
            Packet::PubComp(packet_id(id + 500), Ack::default()),
            suback(),
            Packet::PingResp,
        ];
        for packet in [pair; 5].iter().flatten().chain(&singles) {
            stream.extend_from_slice(bytes(version, packet));
        }
    }
    stream.leak()
}

/// A message at QoS 0, without properties.
fn message(size: usize) -> Publish<'static> {
    Publish::new(topic("sensors/7/kitchen/co"), &*vec![b'x'; size].leak())
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not 0")
}

fn text(text: &str) -> Text<'_> {
    Text::new(text).expect("valid")
}

fn topic(topic: &str) -> Topic<'_> {
    Topic::new(topic).expect("valid")
}
