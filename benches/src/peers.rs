//! The libraries' codecs.

use std::hint::black_box;

use bytes::BytesMut;
use mqtt_core::{
    Version,
    wire::{Decoded, Packet},
};
use mqtt_protocol_core::mqtt::{
    Arc,
    common::Cursor,
    connection::{PacketBuildResult, PacketBuilder, PacketData, RawPacket},
    packet::{GenericPacketTrait, Packet as GenericPacket, v3_1_1, v5_0},
};

use crate::{codec::Codec, packets::bytes, see};

mod machines;

/// Appends `pieces` one after the other to a buffer. After each, `decode` decodes what is whole: it
/// gives the number of packets, and how many bytes are left.
fn decode_from_buffer(pieces: &[&[u8]], mut decode: impl FnMut(&[u8]) -> (usize, usize)) -> usize {
    let mut buffer = Vec::with_capacity(1 << 14);
    let mut packets = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let (more, left) = decode(&buffer);
        packets += more;
        buffer.drain(..buffer.len() - left);
    }
    packets
}

/// This project.
pub struct MqttCore;

impl MqttCore {
    #[inline(always)]
    fn decode_slice(version: Version, mut input: &[u8]) -> (usize, usize) {
        let mut packets = 0;
        while let Ok(Decoded::Packet { ref packet, len }) = Packet::decode(version, input) {
            see(packet);
            input = &input[len..];
            packets += 1;
        }
        (packets, input.len())
    }
}

impl Codec for MqttCore {
    const NAME: &'static str = "mqtt-core";
    type Input = (Version, &'static [u8]);
    type Packet = Packet<'static>;
    type Output = (Version, Vec<u8>);

    fn input(version: Version, bytes: &'static [u8]) -> Self::Input {
        (version, bytes)
    }

    fn decode((version, input): &mut Self::Input) -> usize {
        Self::decode_slice(*version, input).0
    }

    fn decode_pieces(version: Version, pieces: &[&[u8]]) -> usize {
        decode_from_buffer(pieces, |bytes| Self::decode_slice(version, bytes))
    }

    fn packet(_: Version, ours: &Packet<'static>) -> Self::Packet {
        *ours
    }

    fn output(version: Version, len: usize) -> Self::Output {
        (version, vec![0; len])
    }

    #[inline(always)]
    fn encode(packet: &Self::Packet, (version, output): &mut Self::Output, times: usize) {
        for _ in 0..times {
            black_box(packet).encode(*version, &mut &mut output[..]).expect("it fits");
        }
    }

    fn written((_, output): &Self::Output) -> &[u8] {
        output
    }
}

/// mqttrs: 3.1.1, borrows, copies lists.
pub struct Mqttrs;

impl Mqttrs {
    #[inline(always)]
    fn decode_slice(mut input: &[u8]) -> (usize, usize) {
        let mut packets = 0;
        while let Ok(Some(ref packet)) = mqttrs::decode_slice(input) {
            see(packet);
            // The library does not tell how long the packet was.
            let len = match *input {
                [_, len @ ..0x80, ..] => 2 + usize::from(len),
                [_, low, high @ ..0x80, ..] => {
                    3 + (usize::from(low & 0x7f) | usize::from(high) << 7)
                }
                [_, low, middle, high, ..] => {
                    let low = usize::from(low & 0x7f) | usize::from(middle & 0x7f) << 7;
                    4 + (low | usize::from(high) << 14)
                }
                _ => break,
            };
            input = &input[len..];
            packets += 1;
        }
        (packets, input.len())
    }
}

impl Codec for Mqttrs {
    const NAME: &'static str = "mqttrs";
    type Input = &'static [u8];
    type Packet = mqttrs::Packet<'static>;
    type Output = Vec<u8>;

    fn input(_: Version, bytes: &'static [u8]) -> Self::Input {
        bytes
    }

    fn decode(input: &mut Self::Input) -> usize {
        Self::decode_slice(input).0
    }

    fn decode_pieces(_: Version, pieces: &[&[u8]]) -> usize {
        decode_from_buffer(pieces, Self::decode_slice)
    }

    fn packet(version: Version, ours: &Packet<'static>) -> Self::Packet {
        mqttrs::decode_slice(bytes(version, ours)).expect("valid").expect("whole")
    }

    fn output(_: Version, len: usize) -> Self::Output {
        vec![0; len]
    }

    #[inline(always)]
    fn encode(packet: &Self::Packet, output: &mut Self::Output, times: usize) {
        for _ in 0..times {
            mqttrs::encode_slice(black_box(packet), output).expect("it fits");
        }
    }

    fn written(output: &Self::Output) -> &[u8] {
        output
    }
}

/// rumqttc has a module per version, with the same surface.
macro_rules! rumqttc {
    ($name:ident, $packet:path, $limit:expr) => {
        /// rumqttc: the codec of its module for this version; counts references.
        pub struct $name;

        impl Codec for $name {
            const NAME: &'static str = "rumqttc";
            type Input = BytesMut;
            type Packet = $packet;
            type Output = BytesMut;

            fn input(_: Version, bytes: &'static [u8]) -> Self::Input {
                bytes.into()
            }

            #[inline(always)]
            fn decode(input: &mut Self::Input) -> usize {
                let mut packets = 0;
                while let Ok(ref packet) = <$packet>::read(input, $limit) {
                    see(packet);
                    packets += 1;
                }
                packets
            }

            fn decode_pieces(_: Version, pieces: &[&[u8]]) -> usize {
                let mut buffer = BytesMut::with_capacity(1 << 14);
                let mut packets = 0;
                for piece in pieces {
                    buffer.extend_from_slice(piece);
                    packets += Self::decode(&mut buffer);
                }
                packets
            }

            fn packet(version: Version, ours: &Packet<'static>) -> Self::Packet {
                <$packet>::read(&mut bytes(version, ours).into(), $limit).expect("valid")
            }

            fn output(_: Version, len: usize) -> Self::Output {
                BytesMut::with_capacity(len)
            }

            #[inline(always)]
            fn encode(packet: &Self::Packet, output: &mut Self::Output, times: usize) {
                for _ in 0..times {
                    output.clear();
                    black_box(packet).write(output, $limit).expect("it fits");
                }
            }

            fn written(output: &Self::Output) -> &[u8] {
                output
            }
        }
    };
}

rumqttc!(RumqttcV4, rumqttc::mqttbytes::v4::Packet, usize::MAX);
rumqttc!(RumqttcV5, rumqttc::v5::mqttbytes::v5::Packet, None);

/// mqtt-protocol-core: allocates every packet.
pub struct MqttProtocolCore;

impl MqttProtocolCore {
    fn parse(version: Version, raw: &RawPacket) -> Option<GenericPacket> {
        let data = raw.data_as_slice();
        let arc = || match &raw.data {
            PacketData::Publish(data) => data.clone(),
            PacketData::Normal(data) => Arc::from(data.as_slice()),
        };
        Some(if version == Version::V5 {
            match raw.packet_type() {
                1 => v5_0::Connect::parse(data).ok()?.0.into(),
                3 => v5_0::Publish::parse(raw.flags(), arc()).ok()?.0.into(),
                4 => v5_0::Puback::parse(data).ok()?.0.into(),
                5 => v5_0::Pubrec::parse(data).ok()?.0.into(),
                7 => v5_0::Pubcomp::parse(data).ok()?.0.into(),
                8 => v5_0::Subscribe::parse(data).ok()?.0.into(),
                9 => v5_0::Suback::parse(data).ok()?.0.into(),
                13 => v5_0::Pingresp::parse(data).ok()?.0.into(),
                _ => return None,
            }
        } else {
            match raw.packet_type() {
                1 => v3_1_1::Connect::parse(data).ok()?.0.into(),
                3 => v3_1_1::Publish::parse(raw.flags(), arc()).ok()?.0.into(),
                4 => v3_1_1::Puback::parse(data).ok()?.0.into(),
                5 => v3_1_1::Pubrec::parse(data).ok()?.0.into(),
                7 => v3_1_1::Pubcomp::parse(data).ok()?.0.into(),
                8 => v3_1_1::Subscribe::parse(data).ok()?.0.into(),
                9 => v3_1_1::Suback::parse(data).ok()?.0.into(),
                13 => v3_1_1::Pingresp::parse(data).ok()?.0.into(),
                _ => return None,
            }
        })
    }

    fn next(
        version: Version,
        builder: &mut PacketBuilder,
        input: &mut Cursor<&[u8]>,
    ) -> Option<GenericPacket> {
        match builder.feed(input) {
            PacketBuildResult::Complete(raw) => Self::parse(version, &raw),
            PacketBuildResult::Incomplete => None,
            PacketBuildResult::Error(error) => panic!("{error:?}"),
        }
    }

    #[inline(always)]
    fn decode_cursor(
        version: Version,
        builder: &mut PacketBuilder,
        input: &mut Cursor<&[u8]>,
    ) -> usize {
        let mut packets = 0;
        while let Some(ref packet) = Self::next(version, builder, input) {
            see(packet);
            packets += 1;
        }
        packets
    }
}

impl Codec for MqttProtocolCore {
    const NAME: &'static str = "mqtt-protocol-core";
    type Input = (Version, PacketBuilder, Cursor<&'static [u8]>);
    type Packet = GenericPacket;
    type Output = Vec<u8>;

    fn input(version: Version, bytes: &'static [u8]) -> Self::Input {
        (version, PacketBuilder::new(), Cursor::new(bytes))
    }

    #[inline(always)]
    fn decode((version, builder, input): &mut Self::Input) -> usize {
        Self::decode_cursor(*version, builder, input)
    }

    fn decode_pieces(version: Version, pieces: &[&[u8]]) -> usize {
        let mut builder = PacketBuilder::new();
        let decode = |piece| Self::decode_cursor(version, &mut builder, &mut Cursor::new(piece));
        pieces.iter().copied().map(decode).sum()
    }

    fn packet(version: Version, ours: &Packet<'static>) -> Self::Packet {
        let mut input = Cursor::new(bytes(version, ours));
        Self::next(version, &mut PacketBuilder::new(), &mut input).expect("whole")
    }

    fn output(_: Version, _: usize) -> Self::Output {
        Vec::new()
    }

    fn encode(packet: &Self::Packet, output: &mut Self::Output, times: usize) {
        for _ in 0..times {
            *output = black_box(packet).to_continuous_buffer();
        }
    }

    fn written(output: &Self::Output) -> &[u8] {
        output
    }
}
