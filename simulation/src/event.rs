//! Events that outlive the input they were read from.

use mqtt_core::{
    ConnAck, Event, Message, PacketId, Publish, QoS, ReasonCode, TopicName, Version,
    wire::{Decoded, Delivery, Packet},
};

/// The packet with the bytes it borrows kept for ever: a test ends soon enough.
///
/// # Panics
///
/// If it is not a packet of this version.
pub fn keep_packet(version: Version, packet: &Packet<'_>) -> Packet<'static> {
    let mut bytes = vec![0; packet.encoded_len(version).expect("a packet that can be sent")];
    packet.encode(version, &mut &mut bytes[..]).expect("room for it");
    match Packet::decode(version, bytes.leak()) {
        Ok(Decoded::Packet { packet, .. }) => packet,
        other => panic!("{packet:?} was read back as {other:?}"),
    }
}

/// The event with the bytes it borrows kept for ever.
pub(crate) fn keep(version: Version, event: Event<'_>) -> Event<'static> {
    let id = PacketId::FIRST;
    let packet = match event {
        Event::Connected(ack) | Event::Refused(ack) => Packet::ConnAck(ack),
        Event::Message(message) => return Event::Message(keep_message(version, message)),
        Event::Payload { bytes, remaining } => {
            return Event::Payload { bytes: bytes.to_vec().leak(), remaining };
        }
        Event::Skipped { size } => return Event::Skipped { size },
        Event::Acknowledged(id, ack) if ack.reason == ReasonCode::PacketIdentifierNotFound => {
            Packet::PubComp(id, ack)
        }
        Event::Acknowledged(id, ack) => Packet::PubAck(id, ack),
        Event::Dropped(id, reason) => return Event::Dropped(id, reason),
        Event::Resend(id) => return Event::Resend(id),
        Event::Subscribed(id, ack) => Packet::SubAck(id, ack),
        Event::Unsubscribed(_, ack) if version.is_v5() => Packet::UnsubAck(id, ack),
        Event::Unsubscribed(id, _) => return Event::Unsubscribed(id, Default::default()),
        Event::Auth(auth) => Packet::Auth(auth),
        Event::Disconnected(disconnect) => Packet::Disconnect(disconnect),
        _ => unreachable!("an event of a new kind"),
    };
    match (event, keep_packet(version, &packet)) {
        // Of 3.1 the client tells more than the packet does.
        (Event::Connected(ConnAck { session_present, .. }), Packet::ConnAck(ack)) => {
            Event::Connected(ConnAck { session_present, ..ack })
        }
        (Event::Refused(_), Packet::ConnAck(ack)) => Event::Refused(ack),
        (Event::Acknowledged(id, _), Packet::PubAck(_, ack) | Packet::PubComp(_, ack)) => {
            Event::Acknowledged(id, ack)
        }
        (Event::Subscribed(id, _), Packet::SubAck(_, ack)) => Event::Subscribed(id, ack),
        (Event::Unsubscribed(id, _), Packet::UnsubAck(_, ack)) => Event::Unsubscribed(id, ack),
        (Event::Auth(_), Packet::Auth(auth)) => Event::Auth(auth),
        (Event::Disconnected(_), Packet::Disconnect(disconnect)) => Event::Disconnected(disconnect),
        (event, packet) => unreachable!("{event:?} is no {packet:?}"),
    }
}

fn keep_message(version: Version, message: Message<'_>) -> Message<'static> {
    let publish = Publish {
        topic: message.topic.name().unwrap_or_default(),
        payload: message.payload.into(),
        qos: QoS::AtMostOnce,
        retain: message.retain,
        properties: message.properties,
    };
    let packet = Packet::Publish(Delivery::default(), publish);
    let Packet::Publish(_, publish) = keep_packet(version, &packet) else { unreachable!() };
    Message {
        topic: match message.topic {
            TopicName::Name(_) => TopicName::Name(publish.topic),
            TopicName::Alias(alias) => TopicName::Alias(alias),
        },
        payload: publish.payload.as_bytes(),
        remaining: message.remaining,
        qos: message.qos,
        retain: message.retain,
        dup: message.dup,
        properties: publish.properties,
        receipt: message.receipt,
    }
}
