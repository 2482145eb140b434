//! Packets from bytes, and bytes from packets.

use std::hint::black_box;

use mqtt_core::{Version, wire::Packet};

use crate::{
    Case, Work, label, packets,
    peers::{MqttCore, MqttProtocolCore, Mqttrs, RumqttcV4, RumqttcV5},
    see,
};

/// What a library must be able to do to be measured. Whatever it decodes, it shows to
/// [`see`].
pub trait Codec {
    /// The library's name.
    const NAME: &'static str;

    /// A buffer of received bytes, as the library likes it.
    type Input: 'static;

    /// A packet as the library has it.
    type Packet: 'static;

    /// What the encoder writes to.
    type Output: 'static;

    /// An input that already has `bytes`.
    fn input(version: Version, bytes: &'static [u8]) -> Self::Input;

    /// Decodes all that is whole, and gives the number of packets.
    fn decode(input: &mut Self::Input) -> usize;

    /// The same as more and more bytes arrive.
    fn decode_pieces(version: Version, pieces: &[&[u8]]) -> usize;

    /// The same packet as ours.
    fn packet(version: Version, ours: &Packet<'static>) -> Self::Packet;

    /// An output for one packet of `len` bytes.
    fn output(version: Version, len: usize) -> Self::Output;

    /// Writes `packet` to the front of the output, again and again.
    fn encode(packet: &Self::Packet, output: &mut Self::Output, times: usize);

    /// What was written.
    fn written(output: &Self::Output) -> &[u8];
}

/// How many bytes a segment of TCP carries over Ethernet.
const SEGMENT: usize = 1_460;

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
                $function::<Mqttrs>($($argument),*),
                $function::<MqttProtocolCore>($($argument),*),
            ]
        }
    };
}

/// All cases, those of one name together, ours first.
pub fn cases() -> Vec<Case> {
    [Version::V3_1_1, Version::V5].into_iter().flat_map(cases_of).collect()
}

fn cases_of(version: Version) -> Vec<Case> {
    let v5 = version.is_v5();
    let plain_gates = Gates { decode: Some(if v5 { 180 } else { 160 }), encode: Some(100) };
    let mut cases = Vec::new();
    let mut both = |name, packet, gates| {
        cases.extend(decode_and_encode(version, name, &packet, gates));
    };
    both("PUBLISH QoS 0, 16 B", packets::publish(16), Gates::NONE);
    both("PUBLISH QoS 0, 64 B", packets::publish(64), plain_gates);
    both("PUBLISH QoS 0, 1 KiB", packets::publish(1 << 10), Gates::NONE);
    both("PUBLISH QoS 0, 16 KiB", packets::publish(1 << 14), Gates::NONE);
    both("PUBLISH QoS 0, 64 KiB", packets::publish(1 << 16), Gates::NONE);
    both("PUBLISH QoS 1, 64 B", packets::publish_qos1(7), Gates::NONE);
    if v5 {
        let packet = packets::publish_with_properties(7);
        both("PUBLISH QoS 1, 64 B, 3 properties", packet, Gates::decode(480));
    }
    both("PUBACK", packets::puback(7), Gates::decode(80));
    both("CONNECT", packets::connect(version), Gates::NONE);
    both("SUBSCRIBE", packets::subscribe(), Gates::NONE);
    both("SUBACK", packets::suback(), Gates::NONE);
    cases.extend(by_everyone!(version, decode_stream(version)));
    cases
}

/// How many instructions we allow ourselves.
struct Gates {
    decode: Option<u64>,
    encode: Option<u64>,
}

impl Gates {
    const NONE: Self = Self { decode: None, encode: None };

    const fn decode(gate: u64) -> Self {
        Self { decode: Some(gate), encode: None }
    }
}

fn decode_and_encode(
    version: Version,
    name: &str,
    packet: &Packet<'static>,
    gates: Gates,
) -> Vec<Case> {
    let mut decoding = by_everyone!(version, decode(version, name, packet));
    let mut encoding = by_everyone!(version, encode(version, name, packet));
    decoding[0].gate = gates.decode;
    encoding[0].gate = gates.encode;
    decoding.append(&mut encoding);
    decoding
}

fn decode<C: Codec>(version: Version, name: &str, packet: &Packet<'_>) -> Case {
    let packet = packets::bytes(version, packet);
    let count = count(packet.len());
    let bytes: &'static [u8] = packet.repeat(count).leak();
    let prepare = move || -> Work {
        let mut input = C::input(black_box(version), bytes);
        Box::new(move || assert_eq!(C::decode(&mut input), count))
    };
    let name = format!("decode {name}, {}", label(version));
    Case { name, by: C::NAME, count, bytes: bytes.len(), gate: None, prepare: Box::new(prepare) }
}

fn encode<C: Codec>(version: Version, name: &str, packet: &Packet<'static>) -> Case {
    let packet = *packet;
    let len = packets::bytes(version, &packet).len();
    let count = count(len);
    let prepare = move || -> Work {
        let mut output = C::output(black_box(version), len);
        let packet = C::packet(version, &packet);
        Box::new(move || {
            C::encode(&packet, &mut output, count);
            see(&output);
        })
    };
    let name = format!("encode {name}, {}", label(version));
    Case { name, by: C::NAME, count, bytes: len * count, gate: None, prepare: Box::new(prepare) }
}

fn decode_stream<C: Codec>(version: Version) -> Case {
    let stream = packets::mixed(version);
    let pieces: Vec<_> = stream.chunks(SEGMENT).collect();
    let count = packets::MIXED;
    let prepare = move || -> Work {
        let (version, pieces) = (black_box(version), pieces.clone());
        Box::new(move || assert_eq!(C::decode_pieces(version, &pieces), count))
    };
    let name = format!("decode a mixed stream, {}", label(version));
    Case { name, by: C::NAME, count, bytes: stream.len(), gate: None, prepare: Box::new(prepare) }
}

/// How many packets of `len` bytes make about 1 MB, but no more than 1,000.
fn count(len: usize) -> usize {
    (1_000_000 / len).min(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody gives up early.
    #[test]
    fn every_case_does_its_work() {
        cases().iter().for_each(|case| case.prepare()());
    }

    #[test]
    fn everyone_writes_the_same_packets() {
        for version in [Version::V3_1_1, Version::V5] {
            fn encoded<C: Codec>(version: Version, packet: &Packet<'static>) -> Vec<u8> {
                let mut output = C::output(version, packets::bytes(version, packet).len());
                C::encode(&C::packet(version, packet), &mut output, 2);
                C::written(&output).to_vec()
            }
            for packet in [
                packets::publish(64),
                packets::publish_qos1(7),
                packets::puback(7),
                packets::connect(version),
                packets::subscribe(),
                packets::suback(),
            ] {
                let all = by_everyone!(version, encoded(version, &packet));
                assert!(all.iter().all(|bytes| *bytes == all[0]), "{all:02x?}");
            }
        }
    }
}
