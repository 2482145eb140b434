//! A broker under hostile clients: any bytes and many packets, on several connections, in any
//! interleaving. Whole packets are written, a witness notices nothing, and nothing is left over.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_core::broker::Large;
use simulation::{Pocket, assault};

fuzz_target!(|script: &[u8]| {
    assault::<Pocket>(script);
    assault::<Large>(script);
});
