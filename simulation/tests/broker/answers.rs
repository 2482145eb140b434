//! What whoever breaks a rule is told, in the words of its version.

use super::*;

/// What follows a CONNECT, and what is written after the CONNACK.
type Wrong = (&'static str, &'static [u8], &'static [u8]);

/// Each of 5.0, with the reason that DISCONNECT gives.
const WRONGS: [Wrong; 15] = [
    ("[MQTT-3.1.0-2]", b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0", b"\xe0\x01\x82"),
    ("[MQTT-4.13.1-1] CONNACK", b"\x20\x03\0\0\0", b"\xe0\x01\x82"),
    ("[MQTT-4.13.1-1] SUBACK", b"\x90\x04\0\x01\0\0", b"\xe0\x01\x82"),
    ("[MQTT-4.13.1-1] PINGRESP", b"\xd0\0", b"\xe0\x01\x82"),
    ("[MQTT-2.1.3-1]", b"\xc1\0", b"\xe0\x01\x81"),
    ("[MQTT-3.3.1-4]", b"\x36\x06\0\x01a\0\x01\0", b"\xe0\x01\x81"),
    ("[MQTT-3.3.2-2]", b"\x30\x04\0\x01+\0", b"\xe0\x01\x90"),
    ("[MQTT-3.3.4-6]", b"\x30\x06\0\x01a\x02\x0b\x01", b"\xe0\x01\x82"),
    ("[MQTT-3.3.4-7]", b"\x34\x06\0\x01a\0\x01\0\x34\x06\0\x01a\0\x02\0", b"\xe0\x01\x93"),
    ("[MQTT-3.2.2-15]", b"\x30\x80\x08\0\x01a\0", b"\xe0\x01\x95"),
    ("[MQTT-3.3.2-8]", b"\x30\x07\0\x01a\x03\x23\0\0", b"\xe0\x01\x94"),
    ("[MQTT-3.8.1-1]", b"\x80\x07\0\x01\0\0\x01a\0", b"\xe0\x01\x81"),
    ("[MQTT-3.8.3-2]", b"\x82\x03\0\x01\0", b"\xe0\x01\x82"),
    ("[MQTT-3.8.3-4]", b"\x82\x10\0\x01\0\0\x0a$share/g/a\x04", b"\xe0\x01\x82"),
    ("[MQTT-3.14.2-2]", b"\xe0\x07\0\x05\x11\0\0\0\x05", b"\xe0\x01\x82"),
];

/// And before, where there is no word for it but the close.
#[test]
fn whoever_breaks_a_rule_is_told_which() {
    let config = Config { maximum_packet_size: 512, receive_maximum: 1, ..Config::default() };
    both!(config, party => {
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, "wills/#", QoS::AtLeastOnce);
        for (statement, wrong, told) in WRONGS {
            let will = Will { topic: topic("wills/a"), payload: b"gone", ..Will::default() };
            let connect = Connect { will: Some(will), ..named(Version::V5, "a", false) };
            let hello = bytes(Version::V5, &Packet::Connect(Version::V5, connect));
            let answer = break_in(&mut party, &[hello, wrong.to_vec()]);
            assert!(answer.ends_with(told), "{statement}: {answer:02x?}");
            assert_eq!(party.texts(heir), ["gone"], "{statement}");
        }
        let old: [&[u8]; 5] = [
            b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0",
            b"\x20\x02\0\0",
            b"\x36\x05\0\x01a\0\x01",
            b"\x30\x03\0\x01#",
            b"\x80\x06\0\x01\0\x01a\0",
        ];
        for wrong in old {
            let hello = named(Version::V3_1_1, "a", false);
            let hello = bytes(Version::V3_1_1, &Packet::Connect(Version::V3_1_1, hello));
            let answer = break_in(&mut party, &[hello, wrong.to_vec()]);
            assert_eq!(answer, b"\x20\x02\0\0", "{wrong:02x?}");
        }
        assert_eq!(party.broker.sessions(), 1, "nobody else is disturbed");
    });
}

/// [MQTT-3.1.0-1] [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.2-3] [MQTT-3.1.4-1] [MQTT-3.2.2-7]; 3.1.1:
/// MQTT-3.1.2-2, MQTT-3.1.3-8, MQTT-3.1.3-9: who does not come as it should is not let in.
#[test]
fn a_connect_that_is_wrong_is_refused_in_its_words() {
    let wrongs: [(&[u8], &[u8]); 9] = [
        (b"\xc0\0", b""),
        (b"\x10\x0c\0\x04MQTX\x04\x02\0\0\0\0", b""),
        (b"\x10\x0c\0\x04MQTT\x06\x02\0\0\0\0", b"\x20\x03\0\x84\0"),
        (b"\x10\x0c\0\x04MQTT\x03\x02\0\0\0\0", b"\x20\x02\0\x01"),
        (b"\x10\x0e\0\x06MQIsdp\x04\x02\0\0\0\0", b"\x20\x02\0\x01"),
        (b"\x10\x0d\0\x04MQTT\x05\x03\0\0\0\0\0", b"\x20\x03\0\x81\0"),
        (b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0", b"\x20\x02\0\x02"),
        (b"\x10\x0e\0\x06MQIsdp\x03\x02\0\0\0\0", b"\x20\x02\0\x02"),
        (b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01\x01", b"\x20\x03\0\x85\0"),
    ];
    both!(Config::default(), party => {
        for (wrong, told) in wrongs {
            let answer = break_in(&mut party, &[wrong.to_vec()]);
            assert_eq!(answer, told, "{wrong:02x?}");
        }
        assert_eq!(party.broker.sessions(), 0);
    });
}

/// MQTT 3.1: CONNACK does not tell of the session, DUP may come with requests and PUBREL, and SUBACK
/// knows no failure.
#[test]
fn a_client_of_3_1_is_served_as_it_was_then() {
    both!(Config::default(), party => {
        party.desk.ask = |action| match action {
            Action::Subscribe { .. } => Verdict::Deny(ReasonCode::NotAuthorized),
            _ => Verdict::Allow,
        };
        let who = party.guest(Version::V3_1, "a", true);
        party.cut(who);
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        let mut input = &[
            &b"\x10\x0f\0\x06MQIsdp\x03\0\0\0\0\x01a"[..],
            b"\x8a\x06\0\x01\0\x01a\x01",
            b"\x34\x05\0\x01a\0\x07",
            b"\x6a\x02\0\x07",
            b"\xaa\x05\0\x02\0\x01a",
        ].concat()[..];
        party.broker.poll(now, connection, &mut input, &mut party.desk).expect("it is legal");
        let answers = b"\x20\x02\0\0\x90\x03\0\x01\x01\x50\x02\0\x07\x70\x02\0\x07\xb0\x02\0\x02";
        assert_eq!(party.desk.sinks[connection.index()].as_bytes(), answers);
        party.desk.closing[connection.index()] = true;
        party.broker.closed(now, connection, &mut party.desk);
    });
}

/// [MQTT-4.3.3-8]: it is routed when it comes, and not when it is released; nobody subscribes to the
/// other (section 3.5.2.1).
#[test]
fn a_message_at_qos_2_is_routed_before_it_is_released() {
    both!(Config::default(), party => {
        let subscriber = party.guest(Version::V3_1_1, "subscriber", false);
        party.subscribe(subscriber, "a", QoS::AtMostOnce);
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        let hello = bytes(Version::V5, &Packet::Connect(Version::V5, named(Version::V5, "b", false)));
        party.broker.poll(now, connection, &mut &hello[..], &mut party.desk).expect("legal");
        party.desk.sinks[connection.index()].clear();
        let mut input: &[u8] = b"\x34\x07\0\x01a\0\x01\0x\x34\x07\0\x01b\0\x02\0x";
        party.broker.poll(now, connection, &mut input, &mut party.desk).expect("legal");
        assert_eq!(party.texts(subscriber), ["x"]);
        let answers = b"\x50\x02\0\x01\x50\x03\0\x02\x10";
        assert_eq!(party.desk.sinks[connection.index()].as_bytes(), answers);
        let mut input: &[u8] = b"\x62\x02\0\x01\x62\x02\0\x02";
        party.broker.poll(now, connection, &mut input, &mut party.desk).expect("legal");
        assert_eq!(party.texts(subscriber), [""; 0]);
        party.desk.closing[connection.index()] = true;
        party.broker.closed(now, connection, &mut party.desk);
    });
}
