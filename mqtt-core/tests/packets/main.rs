//! Every kind of packet against its bytes: first the tables in `tests/data`, written by hand from
//! the specifications, then whatever proptest thinks of.
#![cfg(all(feature = "v3", feature = "v5"))]

use mqtt_core::{wire::*, *};

mod encode;
mod example;
mod legality;
mod round_trip;
mod seeds;
mod strategies;
#[path = "../data/valid.rs"]
mod valid;

const ALL: &[Version] = &[Version::V3_1, Version::V3_1_1, Version::V5];
const V3: &[Version] = &[Version::V3_1, Version::V3_1_1];
const V3_1: &[Version] = &[Version::V3_1];
const V3_1_1: &[Version] = &[Version::V3_1_1];
const V5: &[Version] = &[Version::V5];

type Case<'c> = &'c mut dyn FnMut(&[Version], &str, Packet<'_>);

fn text(text: &str) -> Text<'_> {
    Text::new(text).unwrap()
}

fn topic(name: &str) -> Topic<'_> {
    Topic::new(name).unwrap()
}

fn filter(filter: &str) -> Filter<'_> {
    Filter::new(filter).unwrap()
}

fn user<'a>(name: &'a str, value: &'a str) -> UserProperty<'a> {
    UserProperty::new(name, value).unwrap()
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// The bytes written as `hex`; blanks have no meaning.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// A text table: rows of columns, the first of which says for which versions the row is.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = (Version, [&str; N])> {
    let rows = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.flat_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        let versions = columns.next().unwrap();
        let columns: Vec<_> = columns.collect();
        let columns: [&str; N] = columns.try_into().unwrap_or_else(|_| panic!("{line}"));
        versions.chars().map(move |version| match version {
            '3' => (Version::V3_1, columns),
            '4' => (Version::V3_1_1, columns),
            '5' => (Version::V5, columns),
            other => panic!("version {other} in {line}"),
        })
    })
}

fn invalid() -> impl Iterator<Item = (Version, [&'static str; 4])> {
    rows(include_str!("../data/invalid.txt"))
}

fn redundant() -> impl Iterator<Item = (Version, [&'static str; 2])> {
    rows(include_str!("../data/redundant.txt"))
}

/// The packet that is all of `bytes`.
fn decode(version: Version, bytes: &[u8]) -> Packet<'_> {
    match Packet::decode(version, bytes) {
        Ok(Decoded::Packet { packet, len }) if len == bytes.len() => packet,
        other => panic!("{version:?} {bytes:02x?}: {other:?}"),
    }
}

/// The encoding of `packet`, which is as long as it was said to be.
fn encode(version: Version, packet: &Packet<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![0; packet.encoded_len(version)?];
    let mut rest = &mut bytes[..];
    packet.encode(version, &mut rest)?;
    assert!(rest.is_empty());
    Ok(bytes)
}

/// Every beginning of a valid packet is incomplete, and what is missing is told.
fn check_prefixes(version: Version, bytes: &[u8]) {
    for len in 0..bytes.len() {
        let prefix = &bytes[..len];
        let Ok(Decoded::Incomplete { missing }) = Packet::decode(version, prefix) else {
            panic!("{version:?} {prefix:02x?}");
        };
        match Header::decode(version, prefix).unwrap() {
            Some((header, _)) => {
                assert_eq!(header.packet_len(), bytes.len());
                assert_eq!(len + missing, bytes.len());
            }
            None => assert!(missing > 0 && len + missing <= bytes.len()),
        }
    }
}

/// Whatever the bytes are: if they decode, the packet can be sent, in no more bytes, and is the
/// same again.
fn check_stable(version: Version, bytes: &[u8]) {
    let Ok(Decoded::Packet { packet, len }) = Packet::decode(version, bytes) else { return };
    match encode(version, &packet) {
        Ok(again) => {
            assert!(again.len() <= len, "{bytes:02x?}");
            assert_eq!(decode(version, &again), packet, "{bytes:02x?}");
        }
        // A server answers such a CONNECT, no client sends it. 3.1.1: [MQTT-3.1.3-8]
        Err(error) => assert_eq!(error, EncodeError::Credentials, "{bytes:02x?}"),
    }
}

/// Every change of one byte leaves a packet, the beginning of one, or an error.
fn check_mutations(version: Version, bytes: &[u8]) {
    let mut changed = bytes.to_vec();
    for index in 0..bytes.len() {
        for byte in 0..=u8::MAX {
            changed[index] = byte;
            check_stable(version, &changed);
        }
        changed[index] = bytes[index];
    }
}

#[test]
fn valid_packets() {
    valid::valid(&mut |versions, hex, packet| {
        let bytes = bytes(hex);
        for &version in versions {
            let decoded = decode(version, &bytes);
            assert_eq!(decoded, packet, "{hex}");
            assert_eq!(format!("{decoded:?}"), format!("{packet:?}"), "{hex}");
            assert_eq!(encode(version, &packet).as_ref(), Ok(&bytes), "{hex}");
            assert_eq!(encode(version, &decoded).as_ref(), Ok(&bytes), "{hex}");

            let (header, body) = Header::decode(version, &bytes).unwrap().unwrap();
            assert_eq!(header.packet_len(), bytes.len());
            assert_eq!(header.remaining_length as usize, body.len());

            let two = [&bytes[..], &[0xff]].concat();
            let first = Decoded::Packet { packet, len: bytes.len() };
            assert_eq!(Packet::decode(version, &two), Ok(first));

            check_prefixes(version, &bytes);
            check_mutations(version, &bytes);
        }
    });
}

/// Every version and every packet type is in the table.
#[test]
fn valid_packets_are_of_every_kind() {
    let mut seen = [0_u16; 3];
    valid::valid(&mut |versions, hex, _| {
        for &version in versions {
            seen[version as usize] |= 1 << (bytes(hex)[0] >> 4);
        }
    });
    assert_eq!(seen, [0x7ffe, 0x7ffe, 0xfffe]);
}

/// The version of the connection does not matter to a CONNECT, which names its own.
#[test]
fn connect_is_read_by_the_version_it_names() {
    valid::valid(&mut |_, hex, packet| {
        if let Packet::Connect(..) = packet {
            for &version in ALL {
                assert_eq!(decode(version, &bytes(hex)), packet);
            }
        }
    });
}

#[test]
fn redundant_packets() {
    for (version, [long, short]) in redundant() {
        let (long, short) = (bytes(long), bytes(short));
        let packet = decode(version, &long);
        assert_eq!(packet, decode(version, &short), "{long:02x?}");
        assert_eq!(encode(version, &packet), Ok(short));
        check_prefixes(version, &long);
        check_mutations(version, &long);
    }
}

#[test]
fn invalid_packets() {
    for (version, [hex, expected, statements, why]) in invalid() {
        let bytes = bytes(hex);
        let error = Packet::decode(version, &bytes).expect_err(hex);
        assert_eq!(format!("{error:?}"), expected, "{version:?} {hex}: {why}");
        assert!(statements.contains("MQTT") || statements.contains("section"), "{hex}");

        // Once wrong, always wrong.
        let mut wrong = false;
        for len in 0..bytes.len() {
            match Packet::decode(version, &bytes[..len]) {
                Ok(Decoded::Incomplete { missing }) => assert!(missing > 0 && !wrong, "{hex}"),
                Ok(other) => panic!("{hex}: {other:?}"),
                Err(_) => wrong = true,
            }
        }
        check_mutations(version, &bytes);
    }
}

/// Every error is in the table, and has the reason code that the specification gives it.
#[test]
fn reasons_of_errors() {
    const REASONS: [(ReasonCode, &str); 6] = [
        (
            ReasonCode::MalformedPacket,
            "PacketType Flags VariableByteInteger Truncated TrailingBytes Utf8 Null PacketId QoS \
             PropertyIdentifier ReasonCode ConnectFlags ConnAckFlags SubscriptionOptions",
        ),
        (
            ReasonCode::ProtocolError,
            "Dup TopicMissing PropertyRepeated PropertyValue AuthenticationMethod SessionPresent \
             SubscriptionValue SharedNoLocal Empty",
        ),
        (ReasonCode::UnsupportedProtocolVersion, "ProtocolName ProtocolVersion"),
        (ReasonCode::TopicFilterInvalid, "TopicFilter"),
        (ReasonCode::TopicNameInvalid, "TopicName"),
        (ReasonCode::TopicAliasInvalid, "TopicAlias"),
    ];
    let mut missing: Vec<_> = REASONS.iter().flat_map(|(_, names)| names.split(' ')).collect();
    for (version, [hex, name, ..]) in invalid() {
        let expected = REASONS.iter().find(|(_, names)| names.split(' ').any(|n| n == name));
        let reason = Packet::decode(version, &bytes(hex)).expect_err(hex).reason();
        assert_eq!(Some(reason), expected.map(|(reason, _)| *reason), "{name}");
        missing.retain(|other| *other != name);
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

/// U+0001 to U+001F and U+007F to U+009F are accepted; an application that does not want them can
/// tell (section 1.5.4).
#[test]
fn control_characters_are_told() {
    let told = [("\u{1}", true), ("a\u{7f}", true), ("\u{9f}", true), ("\u{a0}", false)];
    for (string, has) in told {
        let topic = topic(string);
        let connect = Connect { client_id: text(string), ..Connect::default() };
        let connect = encode(Version::V5, &Packet::Connect(Version::V5, connect)).unwrap();
        let Packet::Connect(_, connect) = decode(Version::V5, &connect) else { panic!() };
        assert_eq!(connect.client_id.has_control_characters(), has, "{string:?}");

        let publish = Packet::Publish(Delivery::default(), Publish::new(topic, ""));
        let publish = encode(Version::V5, &publish).unwrap();
        let Packet::Publish(_, publish) = decode(Version::V5, &publish) else { panic!() };
        assert_eq!(publish.topic.has_control_characters(), has, "{string:?}");

        let filters = [filter(string)];
        let unsubscribe = Packet::Unsubscribe(id(1), Unsubscribe::from(&filters));
        let unsubscribe = encode(Version::V5, &unsubscribe).unwrap();
        let Packet::Unsubscribe(_, list) = decode(Version::V5, &unsubscribe) else { panic!() };
        assert!(list.filters.iter().all(|filter| filter.has_control_characters() == has));
    }
}
