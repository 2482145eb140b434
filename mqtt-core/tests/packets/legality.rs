//! Which properties and reason codes may stand where: all identifiers and all codes, in all
//! packets.

use super::*;

/// Packets with a place for properties: name, first byte, what is before and after the properties.
const PLACES: [(&str, u8, &str, &str); 14] = [
    ("CONNECT", 0x10, "0004 4d515454 05 02 0000", "0000"),
    ("WILL", 0x10, "0004 4d515454 05 06 0000 00 0000", "0001 74 0000"),
    ("CONNACK", 0x20, "00 00", ""),
    ("PUBLISH", 0x30, "0001 61", ""),
    ("PUBACK", 0x40, "0001 00", ""),
    ("PUBREC", 0x50, "0001 00", ""),
    ("PUBREL", 0x62, "0001 00", ""),
    ("PUBCOMP", 0x70, "0001 00", ""),
    ("SUBSCRIBE", 0x82, "0001", "0001 61 00"),
    ("SUBACK", 0x90, "0001", "00"),
    ("UNSUBSCRIBE", 0xa2, "0001", "0001 61"),
    ("UNSUBACK", 0xb0, "0001", "00"),
    ("DISCONNECT", 0xe0, "00", ""),
    ("AUTH", 0xf0, "18", ""),
];

/// Identifier, an encoded value, and the packets, in brackets where it may be repeated.
fn properties() -> impl Iterator<Item = [&'static str; 3]> {
    let table = include_str!("../data/properties.txt");
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        columns.try_into().unwrap()
    })
}

fn packet(first: u8, before: &str, properties: &[u8], after: &str) -> Vec<u8> {
    let len = [properties.len() as u8];
    let body = [&bytes(before), &len[..], properties, &bytes(after)].concat();
    [&[first, body.len() as u8], &body[..]].concat()
}

/// Table 2-4, and section 2.2.2.2.
#[test]
fn properties_are_legal_where_the_specification_says() {
    for (place, first, before, after) in PLACES {
        for identifier in 0..=u8::MAX {
            let row = properties().find(|[hex, ..]| bytes(hex) == [identifier]);
            let [_, value, packets] = row.unwrap_or_default();
            let is = |wanted: &str| packets.split(' ').any(|packet| packet == wanted);
            let repeatable = is(&format!("[{place}]"));

            // AUTH and authentication data require a method.
            let mut list = Vec::new();
            if (place == "AUTH" || identifier == 0x16) && identifier != 0x15 && place != "WILL" {
                list.extend(bytes("15 0001 6d"));
            }
            list.push(identifier);
            list.extend(bytes(value));
            let once = packet(first, before, &list, after);
            list.push(identifier);
            list.extend(bytes(value));
            let twice = packet(first, before, &list, after);

            let told = format!("{identifier:02x} in {place}");
            if is(place) || repeatable {
                assert_eq!(encode(Version::V5, &decode(Version::V5, &once)), Ok(once), "{told}");
                let error = Packet::decode(Version::V5, &twice).err();
                let expected = (!repeatable).then_some(DecodeError::PropertyRepeated);
                assert_eq!(error, expected, "{told} twice");
            } else {
                let error = Packet::decode(Version::V5, &once);
                assert_eq!(error, Err(DecodeError::PropertyIdentifier), "{told}");
            }
        }
    }
}

/// The accessors find the first of their kind, whether the list was given or decoded.
#[test]
fn properties_are_found_by_name() {
    let list = [
        Property::SubscriptionIdentifier(7),
        Property::ContentType(text("first")),
        Property::SubscriptionIdentifier(8),
    ];
    let given = Properties::from(&list);
    let publish = Publish { properties: given, ..Publish::new(topic("t"), "") };
    let bytes = encode(Version::V5, &Packet::Publish(Delivery::default(), publish)).unwrap();
    let Packet::Publish(_, publish) = decode(Version::V5, &bytes) else { panic!() };
    for properties in [given, publish.properties] {
        assert_eq!(properties.subscription_identifier(), Some(7));
        assert_eq!(properties.content_type(), Some(text("first")));
        assert_eq!(properties.topic_alias(), None);
        assert_eq!(properties.iter().count(), 3);
        assert!(!properties.is_empty());
        assert_eq!(properties, given);
        assert_ne!(properties, Properties::from(&list[..2]));
        assert_ne!(properties, Properties::EMPTY);
    }
}

/// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2]
/// [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
#[test]
fn reason_codes_are_legal_where_the_specification_says() {
    const PACKETS: [(&str, PacketType, &str, &str); 9] = [
        ("CONNACK", PacketType::ConnAck, "20 03 00", "00"),
        ("PUBACK", PacketType::PubAck, "40 03 0001", ""),
        ("PUBREC", PacketType::PubRec, "50 03 0001", ""),
        ("PUBREL", PacketType::PubRel, "62 03 0001", ""),
        ("PUBCOMP", PacketType::PubComp, "70 03 0001", ""),
        ("SUBACK", PacketType::SubAck, "90 04 0001 00", ""),
        ("UNSUBACK", PacketType::UnsubAck, "b0 04 0001 00", ""),
        ("DISCONNECT", PacketType::Disconnect, "e0 01", ""),
        ("AUTH", PacketType::Auth, "f0 06", "04 15 0001 6d"),
    ];
    let table = include_str!("../data/reasons.txt");
    for (name, packet_type, before, after) in PACKETS {
        for code in 0..=u8::MAX {
            let row = table.lines().find(|line| line.starts_with(&format!("{code:02x} |")));
            let legal = row.is_some_and(|row| row.split(' ').any(|packet| packet == name));
            let bytes = [&bytes(before), &[code][..], &bytes(after)].concat();
            match Packet::decode(Version::V5, &bytes) {
                Ok(_) => assert!(legal, "{code:02x} in {name}"),
                Err(error) => {
                    assert!(!legal, "{code:02x} in {name}");
                    assert_eq!(error, DecodeError::ReasonCode);
                }
            }
            let reason = ReasonCode::from_u8(code);
            assert_eq!(reason.is_some(), row.is_some(), "{code:02x}");
            assert_eq!(reason.is_some_and(|reason| reason.is_legal_in(packet_type)), legal);
        }
    }
}

/// 3.1.1: [MQTT-3.9.3-2], table 3.1; section 2.3 of 5.0 for what they became.
#[test]
fn return_codes_of_earlier_versions() {
    for code in 0..=u8::MAX {
        for &version in V3 {
            let ack = [0x20, 2, 0, code];
            assert_eq!(Packet::decode(version, &ack).is_ok(), code <= 5, "CONNACK {code}");
            let ack = [0x90, 3, 0, 1, code];
            let known = code <= 2 || code == 0x80 && version == Version::V3_1_1;
            assert_eq!(Packet::decode(version, &ack).is_ok(), known, "SUBACK {code}");
        }
    }
}
