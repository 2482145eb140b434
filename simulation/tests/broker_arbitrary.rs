//! Anything that clients may do to a broker: see [`simulation::assault`].

use mqtt_core::broker::Large;
use proptest::{collection::vec, prelude::*};
use simulation::{Pocket, assault};

/// A way into a session for each hostile client, so that what follows is heard.
fn introduced(script: &[u8]) -> Vec<u8> {
    let mut whole = vec![0x10, 4, 0x11, 5, 0x92, 0x09, 0x14, 0x08, 0x15, 0x09];
    whole.extend_from_slice(script);
    whole
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_the_small_broker(script in vec(any::<u8>(), 0..200)) {
        assault::<Pocket>(&script);
        assault::<Pocket>(&introduced(&script));
    }

    #[test]
    fn no_bytes_break_the_large_broker(script in vec(any::<u8>(), 0..200)) {
        assault::<Large>(&script);
        assault::<Large>(&introduced(&script));
    }
}
