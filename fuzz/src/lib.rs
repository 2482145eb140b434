//! What the fuzz targets have in common.

use mqtt_core::{
    Version,
    wire::{Decoded, Packet},
};

/// The version of the connection, chosen by a byte, and the bytes after it.
pub fn split_version(data: &[u8]) -> Option<(Version, &[u8])> {
    let (choice, rest) = data.split_first()?;
    let version = match choice % 3 {
        0 => Version::V3_1,
        1 => Version::V3_1_1,
        _ => Version::V5,
    };
    Some((version, rest))
}

/// The packet that is all of `bytes`.
pub fn decode(version: Version, bytes: &[u8]) -> Packet<'_> {
    match Packet::decode(version, bytes) {
        Ok(Decoded::Packet { packet, len }) if len == bytes.len() => packet,
        other => panic!("{version:?} {bytes:02x?}: {other:?}"),
    }
}

/// The encoding of a packet that can be sent, which is as long as it was said to be.
pub fn encode(version: Version, packet: &Packet<'_>) -> Option<Vec<u8>> {
    let Ok(len) = packet.encoded_len(version) else {
        assert!(packet.encode(version, &mut &mut [0; 16][..]).is_err());
        return None;
    };
    let mut bytes = vec![0; len];
    let mut rest = &mut bytes[..];
    packet.encode(version, &mut rest).expect("it has been measured");
    assert!(rest.is_empty(), "shorter than measured: {packet:?}");
    Some(bytes)
}
