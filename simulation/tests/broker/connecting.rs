//! How each version begins, and how it ends for those who break its rules.

use super::*;

/// CONNECT of a client without a session: 5.0, 3.1.1, 3.1.
const NEW: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c";
const OLD: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";
const OLDEST: &[u8] = b"\x10\x0f\0\x06MQIsdp\x03\x02\0\0\0\x01c";

/// What is answered to each of these, one after the other on one connection, and whether it is over.
fn answers<M: Kind>(party: &mut Party<M>, said: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let now = party.clock.now();
    let connection = party.broker.open(now).expect("room");
    party.desk.begin(connection);
    let mut answers = Vec::new();
    for bytes in said {
        let mut input = *bytes;
        // Whether it is over is asked below.
        let _ = party.broker.poll(now, connection, &mut input, &mut party.desk);
        let sink = &mut party.desk.sinks[connection.index()];
        answers.push(sink.as_bytes().to_vec());
        sink.check(0);
        sink.clear();
    }
    let is_over = party.desk.closing[connection.index()];
    party.broker.closed(now, connection, &mut party.desk);
    (answers, is_over)
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2]: a level that is not supported is answered as its version says, and
/// who does not speak MQTT not at all.
#[test]
fn each_level_is_answered_in_its_own_words() {
    let cases: [(&[u8], &[u8]); 7] = [
        (b"\x10\x0c\0\x04MQTT\x06\x02\0\0\0\0", b"\x20\x03\0\x84\0"),
        (b"\x10\x0c\0\x04MQTT\xff\x02\0\0\0\0", b"\x20\x03\0\x84\0"),
        (b"\x10\x0c\0\x04MQTT\x03\x02\0\0\0\0", b"\x20\x02\0\x01"),
        (b"\x10\x0e\0\x06MQIsdp\x04\x02\0\0\0\0", b"\x20\x02\0\x01"),
        (b"\x10\x0c\0\x04MQTX\x04\x02\0\0\0\0", b""),
        (b"\x10\x0c\0\x04mqtt\x04\x02\0\0\0\0", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
    ];
    both!(Config::default(), party => {
        for (connect, refusal) in cases {
            assert_eq!(answers(&mut party, &[connect]), (vec![refusal.to_vec()], true), "{connect:02x?}");
        }
        for connect in [NEW, OLD, OLDEST] {
            let (said, is_over) = answers(&mut party, &[connect, b"\xc0\0"]);
            assert!(said[0][2..].starts_with(b"\0\0") && said[1] == b"\xd0\0" && !is_over, "{said:02x?}");
        }
        assert_eq!(party.broker.sessions(), 0);
    });
}

/// 3.1: CONNACK's first byte is 0, SUBACK knows no failure, a name is a must, DUP may be anywhere.
#[test]
fn a_client_of_3_1_is_served_as_it_was_then() {
    let keeps: &[u8] = b"\x10\x0f\0\x06MQIsdp\x03\0\0\0\0\x01c";
    both!(Config::default(), party => {
        let nameless: &[u8] = b"\x10\x0e\0\x06MQIsdp\x03\x02\0\0\0\0";
        assert_eq!(answers(&mut party, &[nameless]), (vec![b"\x20\x02\0\x02".to_vec()], true));
        for _ in 0..2 {
            let (said, is_over) = answers(&mut party, &[keeps]);
            assert_eq!((&said[0][..], is_over), (&b"\x20\x02\0\0"[..], false), "resumed or not");
        }
        party.desk.ask = |action| match action {
            Action::Subscribe { .. } => Verdict::Deny(ReasonCode::NotAuthorized),
            _ => Verdict::Allow,
        };
        let again: [&[u8]; 5] = [
            keeps,
            b"\x8a\x06\0\x01\0\x01a\x01",
            b"\xaa\x05\0\x02\0\x01a",
            b"\x34\x05\0\x01a\0\x03",
            b"\x6a\x02\0\x03",
        ];
        let expected: [&[u8]; 5] =
            [b"\x20\x02\0\0", b"\x90\x03\0\x01\x01", b"\xb0\x02\0\x02", b"\x50\x02\0\x03", b"\x70\x02\0\x03"];
        let (said, is_over) = answers(&mut party, &again);
        assert!(said.iter().eq(&expected) && !is_over, "{said:02x?}");
    });
}

/// [MQTT-3.1.3-8] 3.1.1: [MQTT-3.1.3-8] [MQTT-3.1.3-9]: who has no name has no session to keep.
#[test]
fn a_client_without_a_name_gets_one_or_is_refused() {
    both!(Config::default(), party => {
        let cases: [(&[u8], &[u8], bool); 3] = [
            (b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0", b"\x20\x02\0\x02", true),
            (b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0", b"\x20\x02\0\0", false),
            (b"\x10\x0d\0\x04MQTT\x05\0\0\0\0\0\0", b"\x20", false),
        ];
        for (connect, answer, refused) in cases {
            let (said, is_over) = answers(&mut party, &[connect]);
            assert!(said[0].starts_with(answer) && is_over == refused, "{connect:02x?} {said:02x?}");
        }
        assert_eq!(party.broker.sessions(), 0);
    });
}

/// [MQTT-3.1.0-1] [MQTT-3.1.0-2]: CONNECT comes first, and nothing else is answered before.
#[test]
fn nothing_comes_before_connect() {
    both!(Config::default(), party => {
        for packet_type in (0..16_u8).filter(|packet_type| *packet_type != 1) {
            let flags = if [6, 8, 10].contains(&packet_type) { 2 } else { 0 };
            let first = [packet_type * 16 + flags, 2, 0, 1];
            assert_eq!(answers(&mut party, &[&first]), (vec![vec![]], true), "{packet_type}");
        }
    });
}

/// [MQTT-4.13.1-1] [MQTT-3.1.4-1]: on 5.0 a CONNECT that is wrong is refused, before the connection
/// is closed, by nobody who does anything with it.
#[test]
fn a_connect_that_is_wrong_is_refused() {
    let cases: [(&str, &[u8], u8); 8] = [
        ("a reserved flag", b"\x10\x0e\0\x04MQTT\x05\x03\0\0\0\0\x01c", 0x81),
        ("will QoS 3", b"\x10\x14\0\x04MQTT\x05\x1e\0\0\0\0\x01c\0\0\x01w\0\0", 0x81),
        ("will flags without a will", b"\x10\x0e\0\x04MQTT\x05\x22\0\0\0\0\x01c", 0x81),
        ("bytes behind it", b"\x10\x0f\0\x04MQTT\x05\x02\0\0\0\0\x01c!", 0x81),
        ("ill-formed text", b"\x10\x0f\0\x04MQTT\x05\x02\0\0\0\0\x02\xc3\x28", 0x81),
        ("no such property", b"\x10\x10\0\x04MQTT\x05\x02\0\0\x02\x01\0\0\x01c", 0x81),
        ("Receive Maximum 0", b"\x10\x11\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\x01c", 0x82),
        ("data without a method", b"\x10\x12\0\x04MQTT\x05\x02\0\0\x04\x16\0\x01d\0\x01c", 0x82),
    ];
    both!(Config::default(), party => {
        for (what, connect, reason) in cases {
            assert_eq!(answers(&mut party, &[connect]), (vec![vec![0x20, 3, 0, reason, 0]], true), "{what}");
        }
        let cases: [(&str, &[u8]); 3] = [
            ("a reserved flag", b"\x10\x0d\0\x04MQTT\x04\x03\0\0\0\x01c"),
            ("a password alone", b"\x10\x0f\0\x04MQTT\x04\x42\0\0\0\x01c\0\0"),
            ("bytes behind it", b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x01c!"),
        ];
        for (what, connect) in cases {
            assert_eq!(answers(&mut party, &[connect]), (vec![vec![]], true), "{what}");
        }
    });
}

/// [MQTT-4.13.1-1] [MQTT-3.1.0-2]: whoever breaks the rules is told why on 5.0, and sent away on
/// any version, and nobody else notices.
#[test]
fn whoever_breaks_the_rules_is_told_and_goes() {
    const MALFORMED: u8 = 0x81;
    const PROTOCOL: u8 = 0x82;
    let cases: [(&str, u8, &[u8]); 26] = [
        ("a second CONNECT", PROTOCOL, NEW),
        ("CONNACK", PROTOCOL, b"\x20\x03\0\0\0"),
        ("SUBACK", PROTOCOL, b"\x90\x04\0\x01\0\0"),
        ("UNSUBACK", PROTOCOL, b"\xb0\x04\0\x01\0\0"),
        ("PINGRESP", PROTOCOL, b"\xd0\0"),
        ("AUTH that was not asked for", PROTOCOL, b"\xf0\x06\x18\x04\x15\0\x01m"),
        ("no packet type", MALFORMED, b"\0\0"),
        ("a length of five bytes", MALFORMED, b"\x30\xff\xff\xff\xff\x7f"),
        ("QoS 3", MALFORMED, b"\x36\x06\0\x01a\0\x01\0"),
        ("DUP at QoS 0", PROTOCOL, b"\x38\x04\0\x01a\0"),
        ("no identifier", MALFORMED, b"\x32\x06\0\x01a\0\0\0"),
        ("a wildcard in a name", 0x90, b"\x30\x04\0\x01+\0"),
        ("ill-formed text", MALFORMED, b"\x30\x05\0\x02\xc3\x28\0"),
        ("U+0000", MALFORMED, b"\x30\x04\0\x01\0\0"),
        ("no such property", MALFORMED, b"\x30\x06\0\x01a\x02\x11\0"),
        ("a property twice", PROTOCOL, b"\x30\x08\0\x01a\x04\x01\0\x01\0"),
        ("alias 0", 0x94, b"\x30\x07\0\x01a\x03\x23\0\0"),
        ("a subscription's identifier", PROTOCOL, b"\x30\x06\0\x01a\x02\x0b\x01"),
        ("SUBSCRIBE with other flags", MALFORMED, b"\x80\x07\0\x01\0\0\x01a\0"),
        ("SUBSCRIBE to nothing", PROTOCOL, b"\x82\x03\0\x01\0"),
        ("a reserved option", MALFORMED, b"\x82\x07\0\x01\0\0\x01a\x40"),
        ("No Local, shared", PROTOCOL, b"\x82\x10\0\x01\0\0\x0a$share/g/a\x04"),
        ("UNSUBSCRIBE from nothing", PROTOCOL, b"\xa2\x03\0\x01\0"),
        ("PINGREQ with a body", MALFORMED, b"\xc0\x01\0"),
        ("DISCONNECT with flags", MALFORMED, b"\xe1\0"),
        ("a session revived", PROTOCOL, b"\xe0\x07\0\x05\x11\0\0\0\x01"),
    ];
    both!(Config::default(), party => {
        let witness = party.guest(Version::V5, "witness", false);
        party.subscribe(witness, "#", QoS::AtLeastOnce);
        for (what, reason, wrong) in cases {
            let (said, is_over) = answers(&mut party, &[NEW, wrong]);
            assert_eq!((&said[1][..], is_over), (&[0xe0, 1, reason][..], true), "{what}");
        }
        let cases: [(&str, &[u8]); 10] = [
            ("a second CONNECT", OLD),
            ("CONNACK", b"\x20\x02\0\0"),
            ("SUBACK", b"\x90\x03\0\x01\0"),
            ("PINGRESP", b"\xd0\0"),
            ("AUTH", b"\xf0\0"),
            ("QoS 3", b"\x36\x05\0\x01a\0\x01"),
            ("a wildcard in a name", b"\x30\x03\0\x01+"),
            ("SUBSCRIBE to nothing", b"\x82\x02\0\x01"),
            ("a reserved option", b"\x82\x06\0\x01\0\x01a\x04"),
            ("DISCONNECT with a reason", b"\xe0\x01\0"),
        ];
        for connect in [OLD, OLDEST] {
            for (what, wrong) in cases {
                let (said, is_over) = answers(&mut party, &[connect, wrong]);
                assert!(said[1].is_empty() && is_over, "{what}");
            }
        }
        party.say(witness, "a", "x", QoS::AtLeastOnce);
        assert_eq!(party.texts(witness), ["x"], "and nothing else");
        assert_eq!(party.broker.sessions(), 1);
    });
}
