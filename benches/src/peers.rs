//! The libraries.

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

use crate::{
    codec::{Codec, see},
    packets::bytes,
};

/// Appends `pieces` one after the other to a buffer and calls `decode`, which gives the length of
/// the packet at its front, until it gives 0. Gives the number of packets.
fn decode_from_buffer(pieces: &[&[u8]], mut decode: impl FnMut(&[u8]) -> usize) -> usize {
    let mut buffer = Vec::with_capacity(1 << 14);
    let mut packets = 0;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut taken = 0;
        loop {
            match decode(&buffer[taken..]) {
                0 => break,
                len => taken += len,
            }
            packets += 1;
        }
        buffer.copy_within(taken.., 0);
        buffer.truncate(buffer.len() - taken);
    }
    packets
}

/// This project.
pub struct MqttCore;

impl MqttCore {
    /// Gives the packet's length, 0 if it is not whole.
    #[inline(always)]
    fn decode_front(version: Version, bytes: &[u8]) -> usize {
        match Packet::decode(version, bytes) {
            Ok(Decoded::Packet { packet, len }) => {
                see(&packet);
                len
            }
            Ok(Decoded::Incomplete { .. }) => 0,
            Err(error) => panic!("{error}"),
        }
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

    #[inline(always)]
    fn decode((version, input): &mut Self::Input) -> bool {
        let len = Self::decode_front(*version, input);
        *input = &input[len..];
        len != 0
    }

    fn decode_pieces(version: Version, pieces: &[&[u8]]) -> usize {
        decode_from_buffer(pieces, |bytes| Self::decode_front(version, bytes))
    }

    fn packet(_: Version, ours: &Packet<'static>) -> Self::Packet {
        *ours
    }

    fn output(version: Version, len: usize) -> Self::Output {
        (version, vec![0; len])
    }

    #[inline(always)]
    fn encode(packet: &Self::Packet, (version, output): &mut Self::Output) {
        packet.encode(*version, &mut &mut output[..]).expect("it fits");
    }

    fn written((_, output): &Self::Output) -> &[u8] {
        output
    }
}

/// mqttrs: 3.1.1, borrows, copies lists.
pub struct Mqttrs;

impl Mqttrs {
    /// Gives the packet's length, 0 if it is not whole. The library does not tell.
    #[inline(always)]
    fn decode_front(bytes: &[u8]) -> usize {
        match mqttrs::decode_slice(bytes).expect("valid") {
            Some(packet) => {
                see(&packet);
                match *bytes {
                    [_, len @ ..0x80, ..] => 2 + usize::from(len),
                    [_, low, high @ ..0x80, ..] => {
                        3 + (usize::from(low & 0x7f) | usize::from(high) << 7)
                    }
                    [_, low, middle, high, ..] => {
                        let low = usize::from(low & 0x7f) | usize::from(middle & 0x7f) << 7;
                        4 + (low | usize::from(high) << 14)
                    }
                    _ => 0,
                }
            }
            None => 0,
        }
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

    #[inline(always)]
    fn decode(input: &mut Self::Input) -> bool {
        if input.is_empty() {
            return false;
        }
        let len = Self::decode_front(input);
        *input = &input[len..];
        len != 0
    }

    fn decode_pieces(_: Version, pieces: &[&[u8]]) -> usize {
        decode_from_buffer(pieces, Self::decode_front)
    }

    fn packet(version: Version, ours: &Packet<'static>) -> Self::Packet {
        mqttrs::decode_slice(bytes(version, ours)).expect("valid").expect("whole")
    }

    fn output(_: Version, len: usize) -> Self::Output {
        vec![0; len]
    }

    #[inline(always)]
    fn encode(packet: &Self::Packet, output: &mut Self::Output) {
        mqttrs::encode_slice(packet, output).expect("it fits");
    }

    fn written(output: &Self::Output) -> &[u8] {
        output
    }
}

/// rumqttc has a module per version, with the same surface.
macro_rules! rumqttc {
    ($name:ident, $packet:path, $limit:expr, $incomplete:path) => {
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
            fn decode(input: &mut Self::Input) -> bool {
                match <$packet>::read(input, $limit) {
                    Ok(packet) => {
                        see(&packet);
                        true
                    }
                    Err($incomplete(_)) => false,
                    Err(error) => panic!("{error}"),
                }
            }

            fn decode_pieces(_: Version, pieces: &[&[u8]]) -> usize {
                let mut buffer = BytesMut::with_capacity(1 << 14);
                let mut packets = 0;
                for piece in pieces {
                    buffer.extend_from_slice(piece);
                    while Self::decode(&mut buffer) {
                        packets += 1;
                    }
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
            fn encode(packet: &Self::Packet, output: &mut Self::Output) {
                output.clear();
                packet.write(output, $limit).expect("it fits");
            }

            fn written(output: &Self::Output) -> &[u8] {
                output
            }
        }
    };
}

rumqttc!(
    RumqttcV4,
    rumqttc::mqttbytes::v4::Packet,
    usize::MAX,
    rumqttc::mqttbytes::Error::InsufficientBytes
);
rumqttc!(
    RumqttcV5,
    rumqttc::v5::mqttbytes::v5::Packet,
    None,
    rumqttc::v5::mqttbytes::Error::InsufficientBytes
);

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
            PacketBuildResult::Complete(raw) => Some(Self::parse(version, &raw).expect("valid")),
            PacketBuildResult::Incomplete => None,
            PacketBuildResult::Error(error) => panic!("{error:?}"),
        }
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

    fn decode((version, builder, input): &mut Self::Input) -> bool {
        Self::next(*version, builder, input).is_some_and(|packet| {
            see(&packet);
            true
        })
    }

    fn decode_pieces(version: Version, pieces: &[&[u8]]) -> usize {
        let mut builder = PacketBuilder::new();
        let mut packets = 0;
        for piece in pieces {
            let mut input = Cursor::new(*piece);
            while let Some(packet) = Self::next(version, &mut builder, &mut input) {
                see(&packet);
                packets += 1;
            }
        }
        packets
    }

    fn packet(version: Version, ours: &Packet<'static>) -> Self::Packet {
        let mut input = Cursor::new(bytes(version, ours));
        Self::next(version, &mut PacketBuilder::new(), &mut input).expect("whole")
    }

    fn output(_: Version, _: usize) -> Self::Output {
        Vec::new()
    }

    fn encode(packet: &Self::Packet, output: &mut Self::Output) {
        *output = packet.to_continuous_buffer();
    }

    fn written(output: &Self::Output) -> &[u8] {
        output
    }
}
