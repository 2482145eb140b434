//! Any bytes: the decoder answers, consistently.
#![no_main]

use fuzz::{decode, encode, split_version};
use libfuzzer_sys::fuzz_target;
use mqtt_core::{
    Version,
    wire::{Decoded, Header, Packet},
};

fuzz_target!(|data: &[u8]| {
    let Some((version, bytes)) = split_version(data) else { return };
    match Packet::decode(version, bytes) {
        Ok(Decoded::Packet { packet, len }) => check_packet(version, &bytes[..len], packet),
        Ok(Decoded::Incomplete { missing }) => check_incomplete(version, bytes, missing),
        Err(error) => assert!(error.reason().is_error()),
    }
});

/// The bytes after the packet do not matter, all of those in it do, and it can be sent again.
fn check_packet(version: Version, bytes: &[u8], packet: Packet<'_>) {
    assert_eq!(decode(version, bytes), packet);
    for len in 0..bytes.len().min(64) {
        let cut = if len < 8 { len } else { bytes.len() - len + 7 };
        match Packet::decode(version, &bytes[..cut]) {
            Ok(Decoded::Incomplete { missing }) => {
                assert!(cut + missing <= bytes.len());
                check_incomplete(version, &bytes[..cut], missing);
            }
            other => panic!("{cut} of {bytes:02x?}: {other:?}"),
        }
    }
    match encode(version, &packet) {
        Some(again) => {
            assert!(again.len() <= bytes.len());
            assert_eq!(decode(version, &again), packet);
        }
        // One that a server must answer, but no client may send [MQTT-3.1.3-7].
        None => match packet {
            Packet::Connect(_, connect) => {
                assert!(connect.client_id.is_empty() && !connect.clean_start);
            }
            other => panic!("received, but cannot be sent: {other:?}"),
        },
    }
    walk(&packet);
}

fn check_incomplete(version: Version, bytes: &[u8], missing: usize) {
    assert!(missing > 0);
    if let Some((header, body)) = Header::decode(version, bytes).expect("it was incomplete") {
        assert_eq!(header.packet_len(), bytes.len() + missing);
        assert_eq!(header.remaining_length as usize, body.len() + missing);
    }
}

/// Reads everything that decoding has left for later.
fn walk(packet: &Packet<'_>) {
    let properties = match packet {
        Packet::Connect(_, connect) => {
            connect.user_properties.iter().for_each(|pair| walk_text(&pair.value));
            walk_text(&connect.client_id);
            connect.will.unwrap_or_default().properties
        }
        Packet::ConnAck(ack) => {
            ack.user_properties.iter().for_each(|pair| walk_text(&pair.name));
            return;
        }
        Packet::Publish(_, publish) => {
            assert!(!publish.topic.as_str().contains(['+', '#', '\0']));
            let alias = publish.properties.topic_alias();
            assert!(!publish.topic.is_empty() || alias.is_some_and(|alias| alias != 0));
            publish.properties
        }
        Packet::PubAck(_, ack)
        | Packet::PubRec(_, ack)
        | Packet::PubRel(_, ack)
        | Packet::PubComp(_, ack) => ack.properties,
        Packet::Subscribe(_, subscribe) => {
            assert!(subscribe.subscriptions.iter().all(|one| one.filter.levels().count() > 0));
            subscribe.properties
        }
        Packet::SubAck(_, ack) => {
            assert!(ack.reasons.iter().count() > 0);
            ack.properties
        }
        Packet::Unsubscribe(_, unsubscribe) => {
            assert!(unsubscribe.filters.iter().all(|filter| !filter.as_str().is_empty()));
            unsubscribe.properties
        }
        Packet::UnsubAck(_, ack) => {
            ack.reasons.iter().for_each(drop);
            ack.properties
        }
        Packet::Disconnect(disconnect) => disconnect.properties,
        Packet::Auth(auth) => auth.properties,
        Packet::PingReq | Packet::PingResp => return,
    };
    assert_eq!(properties.is_empty(), properties.iter().next().is_none());
    properties.user_property().iter().for_each(|pair| walk_text(&pair.name));
    assert!(properties.subscription_identifier() != Some(0));
}

/// What was checked as bytes is text: were it not, it would read as empty.
fn walk_text(text: &mqtt_core::Text<'_>) {
    assert_eq!(text.as_str().len(), text.len());
    assert!(!text.as_str().contains('\0'));
}
