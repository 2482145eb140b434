//! Anything that may be done to a client: see [`simulation::chaos`].

use mqtt_core::store::{Aliased, Fixed, Heap, Limits, Records};
use proptest::prelude::*;
use simulation::{Step, chaos};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any::<Step>(), 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn fixed(begin: Step, steps in steps()) {
        chaos(Fixed::<3, 200>::new(), begin, &steps);
    }

    #[test]
    fn records(begin: Step, steps in steps()) {
        chaos(Records::<3>::new(), begin, &steps);
    }

    #[test]
    fn aliased(begin: Step, steps in steps()) {
        chaos(Aliased::<_, 3, 8>::new(Fixed::<2, 100>::new()), begin, &steps);
    }

    #[test]
    fn heap(begin: Step, steps in steps()) {
        let limits = Limits { flights: 4, arrivals: 3, bytes: 300, ..Limits::default() };
        let limits = Limits { inbound_aliases: 3, outbound_aliases: 3, ..limits };
        chaos(Heap::with_limits(limits), begin, &steps);
    }
}
