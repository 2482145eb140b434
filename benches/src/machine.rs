//! Messages through a client: decoding, state, answers, encoding; all but the network.

use std::hint::black_box;

use mqtt_core::{QoS, Version, wire::Packet};

use crate::{
    Case, Work, label, packets,
    peers::{MqttCore, MqttProtocolCore, RumqttcV4, RumqttcV5},
};

/// What a library must be able to do to be measured. Whatever it receives, it shows to
/// [`see`](crate::see).
pub trait Machine {
    /// The library's name.
    const NAME: &'static str;

    /// A client that is connected.
    type Client: 'static;

    /// A message as the library has it.
    type Message: 'static;

    /// Connects.
    fn client(version: Version) -> Self::Client;

    /// Takes all packets in `input` and writes what answers them; gives the number of messages.
    fn receive(client: &mut Self::Client, input: &'static [u8]) -> usize;

    /// The same message as ours.
    fn message(version: Version, ours: &Packet<'static>) -> Self::Message;

    /// Writes the message, and if it is at QoS 1, takes the acknowledgement.
    fn publish(client: &mut Self::Client, message: &Self::Message);
}

const COUNT: usize = 1_000;

/// The same by everyone who speaks the version, ours first.
macro_rules! by_everyone {
    ($version:expr, $function:ident($($argument:expr),*)) => {
        if $version.is_v5() {
            vec![
                $function::<MqttCore>($($argument),*),
                $function::<RumqttcV5>($($argument),*),
                $function::<MqttProtocolCore>($($argument),*),
            ]
        } else {
            vec![
                $function::<MqttCore>($($argument),*),
                $function::<RumqttcV4>($($argument),*),
                $function::<MqttProtocolCore>($($argument),*),
            ]
        }
    };
}

/// All cases, those of one name together, ours first.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in [Version::V3_1_1, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut receiving = by_everyone!(version, receive(version, qos));
            receiving[0].gate = (qos == QoS::AtLeastOnce).then_some(450);
            cases.append(&mut receiving);
            cases.append(&mut by_everyone!(version, publish(version, qos)));
        }
    }
    cases
}

fn message(qos: QoS, id: u16) -> Packet<'static> {
    match qos {
        QoS::AtMostOnce => packets::publish(64),
        _ => packets::publish_qos1(id),
    }
}

fn receive<M: Machine>(version: Version, qos: QoS) -> Case {
    let packets = (1..=COUNT as u16).map(|id| packets::bytes(version, &message(qos, id)));
    let bytes: &'static [u8] = packets.collect::<Vec<_>>().concat().leak();
    let prepare = move || -> Work {
        let mut client = M::client(black_box(version));
        Box::new(move || assert_eq!(M::receive(&mut client, bytes), COUNT))
    };
    let name = match qos {
        QoS::AtMostOnce => format!("receive QoS 0, 64 B, {}", label(version)),
        _ => format!("receive QoS 1, 64 B, acknowledge it, {}", label(version)),
    };
    let (count, bytes) = (COUNT, bytes.len());
    Case { name, by: M::NAME, count, bytes, gate: None, prepare: Box::new(prepare) }
}

fn publish<M: Machine>(version: Version, qos: QoS) -> Case {
    let message = message(qos, 1);
    let bytes = COUNT * packets::bytes(version, &message).len();
    let prepare = move || -> Work {
        let mut client = M::client(black_box(version));
        let message = M::message(version, &message);
        Box::new(move || (0..COUNT).for_each(|_| M::publish(&mut client, black_box(&message))))
    };
    let name = match qos {
        QoS::AtMostOnce => format!("publish QoS 0, 64 B, {}", label(version)),
        _ => format!("publish QoS 1, 64 B, until acknowledged, {}", label(version)),
    };
    Case { name, by: M::NAME, count: COUNT, bytes, gate: None, prepare: Box::new(prepare) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_its_work() {
        cases().iter().for_each(|case| case.prepare()());
    }
}
