//! What went over the wire, in lines that can be compared.

use std::fmt::Write as _;

use mqtt_core::{
    PacketId, ReasonCode, Version,
    wire::{Decoded, Packet},
};

/// One direction's bytes, packet by packet.
#[derive(Debug, Default)]
pub(super) struct Trace {
    bytes: Vec<u8>,
}

impl Trace {
    /// Goes on, and says what is complete.
    pub(super) fn read(&mut self, version: Version, bytes: &[u8], say: &mut impl FnMut(String)) {
        self.bytes.extend_from_slice(bytes);
        let mut read = 0;
        while let Ok(Decoded::Packet { packet, len }) = Packet::decode(version, &self.bytes[read..])
        {
            say(line(&packet));
            read += len;
        }
        self.bytes.drain(..read);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

fn line(packet: &Packet<'_>) -> String {
    let ack = |name: &str, id: &PacketId, reason: ReasonCode| match reason {
        ReasonCode::Success => format!("{name} {id}"),
        reason => format!("{name} {id} {reason:?}"),
    };
    match packet {
        Packet::Connect(_, connect) if connect.clean_start => "CONNECT clean".into(),
        Packet::Connect(..) => "CONNECT".into(),
        Packet::ConnAck(connack) if connack.session_present => "CONNACK present".into(),
        Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => "CONNACK".into(),
        Packet::ConnAck(connack) => format!("CONNACK {:?}", connack.reason),
        Packet::Publish(delivery, publish) => {
            let mut line = String::from("PUBLISH");
            let retain = if publish.retain { " retain" } else { "" };
            let dup = if delivery.dup { " dup" } else { "" };
            let id = delivery.packet_id.map_or(String::new(), |id| format!(" {id}"));
            let _ = write!(line, "{id}{dup}{retain} q{}", publish.qos as u8);
            if let Some(seconds) = publish.properties.message_expiry_interval() {
                let _ = write!(line, " {seconds} s");
            }
            let payload = publish.payload.as_bytes();
            match std::str::from_utf8(payload) {
                Ok(text) if text.len() <= 32 => write!(line, " {} {text}", publish.topic.as_str()),
                _ => write!(line, " {} ({} bytes)", publish.topic.as_str(), payload.len()),
            }
            .expect("a string takes everything");
            line
        }
        Packet::PubAck(id, answer) => ack("PUBACK", id, answer.reason),
        Packet::PubRec(id, answer) => ack("PUBREC", id, answer.reason),
        Packet::PubRel(id, answer) => ack("PUBREL", id, answer.reason),
        Packet::PubComp(id, answer) => ack("PUBCOMP", id, answer.reason),
        Packet::Subscribe(id, subscribe) => {
            let mut line = format!("SUBSCRIBE {id}");
            for wanted in subscribe.subscriptions {
                let _ = write!(line, " {} q{}", wanted.filter.as_str(), wanted.qos as u8);
            }
            line
        }
        Packet::SubAck(id, _) => format!("SUBACK {id}"),
        Packet::Unsubscribe(id, unsubscribe) => {
            let mut line = format!("UNSUBSCRIBE {id}");
            for filter in unsubscribe.filters {
                let _ = write!(line, " {}", filter.as_str());
            }
            line
        }
        Packet::UnsubAck(id, _) => format!("UNSUBACK {id}"),
        Packet::PingReq => "PINGREQ".into(),
        Packet::PingResp => "PINGRESP".into(),
        Packet::Disconnect(disconnect) => {
            let expiry = disconnect.properties.session_expiry_interval();
            let expiry = expiry.map_or(String::new(), |seconds| format!(" expiry {seconds}"));
            format!("DISCONNECT {:?}{expiry}", disconnect.reason)
        }
        Packet::Auth(auth) => format!("AUTH {:?}", auth.reason),
    }
}
