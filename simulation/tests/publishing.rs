//! Messages that leave: their outcomes, their limits, and what becomes of them when the connection
//! is cut.

use mqtt_core::{Config, Event, QoS, Version, store::Store};
use simulation::{Direction, Manners, story::*};

/// [MQTT-4.3.1-1]
#[test]
fn a_message_at_qos_0_arrives_and_has_no_outcome() {
    for version in BOTH {
        let mut pair = meet(version);
        assert_eq!(pair.publish(&message("a", "once", QoS::AtMostOnce)), Ok(None));
        assert_eq!(pair.events(), []);
        assert_eq!(pair.server.accepted[0].payload, b"once");
    }
}

/// Connects, publishes two messages, is cut after so many bytes in this direction, resumes, and
/// tells whether the cut came before the end.
fn publish_and_cut(version: Version, qos: QoS, direction: Direction, bytes: usize) -> bool {
    let mut pair = meet(version);
    pair.wire.weather = simulation::Weather::BYTES;
    let carried = pair.wire.carried(direction);
    pair.wire.cut_after(direction, carried + bytes);
    let first = pair.publish(&message("a", "first", qos)).unwrap().unwrap();
    let second = pair.publish(&message("a", "second", qos)).unwrap().unwrap();
    let mut outcomes = Vec::new();
    let is_outcome = |event| match event {
        Event::Acknowledged(id, _) => Some(id),
        _ => None,
    };
    outcomes.extend(pair.events().into_iter().filter_map(is_outcome));
    let was_cut = !pair.wire.is_open();
    if was_cut {
        pair.connect(&persistent(version)).unwrap();
        outcomes.extend(pair.events().into_iter().filter_map(is_outcome));
    }
    assert_eq!(outcomes, [first, second]);
    assert_eq!(pair.client.client.store().flights(), 0);
    let mut payloads: Vec<_> = pair.server.accepted.iter().map(|note| &note.payload[..]).collect();
    if qos == QoS::AtLeastOnce {
        payloads.sort_unstable();
        payloads.dedup();
    }
    assert_eq!(payloads, [&b"first"[..], b"second"]);
    was_cut
}

/// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1]: the server checks DUP, order and identifiers.
#[test]
fn a_message_at_qos_1_survives_a_cut_after_any_byte() {
    for version in BOTH {
        for direction in [Direction::Up, Direction::Down] {
            let cuts =
                (0..).take_while(|cut| publish_and_cut(version, QoS::AtLeastOnce, direction, *cut));
            assert!(cuts.count() >= 8);
        }
    }
}

/// [MQTT-4.3.3-4] to [MQTT-4.3.3-6], [MQTT-4.6.0-4]
#[test]
fn a_message_at_qos_2_survives_a_cut_after_any_byte() {
    for version in BOTH {
        for direction in [Direction::Up, Direction::Down] {
            let cuts =
                (0..).take_while(|cut| publish_and_cut(version, QoS::ExactlyOnce, direction, *cut));
            assert!(cuts.count() >= 16);
        }
    }
}

#[test]
fn answers_may_come_in_any_order() {
    for version in BOTH {
        let manners = Manners { dawdle: true, ..Manners::default() };
        let mut pair = meet_on(version, Small::new(), Config::default(), manners);
        for (number, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().cycle().enumerate() {
            if number == 50 {
                break;
            }
            let payload = number.to_string();
            while pair.publish(&message("a", &payload, qos)).is_err() {
                assert!(pair.step());
            }
        }
        assert_eq!(pair.events().len(), 50);
        assert_eq!(pair.server.accepted.len(), 50);
    }
}
