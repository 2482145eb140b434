//! What is sent is what is received.

use proptest::prelude::*;

use super::{
    strategies::{Sample, packet},
    *,
};

fn any_sample() -> impl Strategy<Value = Sample> {
    prop_oneof![packet(Version::V3_1), packet(Version::V3_1_1), packet(Version::V5)]
}

proptest! {
    #[test]
    fn packets_survive_their_encoding(sample in any_sample()) {
        let (version, packet) = (sample.version, sample.packet());
        let bytes = encode(version, &packet).unwrap();
        let decoded = decode(version, &bytes);
        prop_assert_eq!(decoded, packet);
        prop_assert_eq!(format!("{decoded:?}"), format!("{packet:?}"));
        prop_assert_eq!(encode(version, &decoded), Ok(bytes));
    }

    #[test]
    fn beginnings_are_incomplete(sample in any_sample(), cut: prop::sample::Index) {
        let bytes = encode(sample.version, &sample.packet()).unwrap();
        let cut = cut.index(bytes.len());
        let decoded = Packet::decode(sample.version, &bytes[..cut]);
        let Ok(Decoded::Incomplete { missing }) = decoded else { panic!("{decoded:?}") };
        // The header tells from its end on, which is after five bytes at the latest.
        prop_assert!(missing >= 1 && cut + missing <= bytes.len());
        prop_assert!(cut < 5 || cut + missing == bytes.len());
    }

    #[test]
    fn changed_bytes_are_harmless(
        sample in any_sample(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(sample.version, &sample.packet()).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        for &version in ALL {
            check_stable(version, &bytes);
        }
    }

    #[test]
    fn any_bytes_are_harmless(bytes: Vec<u8>, first in 0..16_u8) {
        let mut bytes = bytes;
        if let [start, length, body @ ..] = &mut bytes[..] {
            *start = first << 4 | *start & 0x0f;
            *length = body.len() as u8 & 0x7f;
        }
        for &version in ALL {
            check_stable(version, &bytes);
        }
    }
}
