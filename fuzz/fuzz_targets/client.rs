//! A client under a hostile server and a hostile application: any packets, bytes, calls, sinks and clocks.
//! Whole packets are written, and it comes to rest, whatever its session is kept in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_core::store::{Aliased, Fixed, Heap, Limits, Records};
use simulation::{Step, chaos};

fuzz_target!(|script: &[u8]| {
    let (steps, _) = script.as_chunks();
    let step = |&[kind, high, low, a, b]: &[u8; 5]| (kind, u16::from_be_bytes([high, low]), a, b);
    let steps: Vec<Step> = steps.iter().map(step).collect();
    let Some((begin, steps)) = steps.split_first() else { return };
    chaos(Fixed::<3, 200>::new(), *begin, steps);
    chaos(Records::<3>::new(), *begin, steps);
    chaos(Aliased::<_, 3, 8>::new(Fixed::<2, 100>::new()), *begin, steps);
    let limits = Limits { flights: 4, arrivals: 3, bytes: 300, ..Limits::default() };
    let limits = Limits { inbound_aliases: 3, outbound_aliases: 3, ..limits };
    chaos(Heap::with_limits(limits), *begin, steps);
});
