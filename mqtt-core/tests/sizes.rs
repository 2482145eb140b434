//! How much memory the types take: bounds that a change should not pass unnoticed.
//!
//! `cargo test -p mqtt-core --test sizes -- --nocapture` prints the sizes.
#![cfg(all(feature = "v3", feature = "v5", target_pointer_width = "64"))]

use mqtt_core::{
    Client, ConnAck, Connect, Event, Message, Property, Publish,
    broker::{Broker, Small},
    store::{Fixed, Records},
    wire::Packet,
};

#[test]
fn types_are_small() {
    let sizes = [
        // Everything but what the session keeps.
        ("Client<()>", size_of::<Client<()>>(), 300),
        ("Client<Records<8>>", size_of::<Client<Records<8>>>(), 576),
        ("Fixed<8, 1024>", size_of::<Fixed<8, 1024>>(), 1024 + 280),
        ("small Broker", size_of::<Broker<Small<8, 32, 1024, 64, { 24 * 1024 }>>>(), 64 * 1024),
        ("Event", size_of::<Event<'_>>(), 160),
        ("Message", size_of::<Message<'_>>(), 80),
        ("Publish", size_of::<Publish<'_>>(), 72),
        ("Connect", size_of::<Connect<'_>>(), 200),
        ("ConnAck", size_of::<ConnAck<'_>>(), 160),
        ("Packet", size_of::<Packet<'_>>(), 208),
        ("Property", size_of::<Property<'_>>(), 40),
    ];
    for (name, size, limit) in sizes {
        println!("{name:20} {size:5} of {limit:5}");
    }
    for (name, size, limit) in sizes {
        assert!(size <= limit, "{name} takes {size} bytes");
    }
}

/// What the documentation of `Small` says.
#[test]
fn the_small_broker_is_as_large_as_the_formula_says() {
    fn formula(
        clients: usize,
        subscriptions: usize,
        filters: usize,
        messages: usize,
        bytes: usize,
    ) -> usize {
        clients * (3_450 + 8 * subscriptions)
            + 28 * subscriptions
            + filters
            + 64 * messages
            + bytes
            + 800
    }
    macro_rules! check {
        ($($c:literal $s:literal $f:literal $m:literal $b:literal;)*) => {$(
            let size = size_of::<Broker<Small<$c, $s, $f, $m, $b>>>();
            let most = formula($c, $s, $f, $m, $b);
            assert!((most - 1_000..=most).contains(&size), "{size} of {most}");
        )*};
    }
    check! {
        8 32 1024 64 24576;
        9 32 1024 64 24576;
        8 64 1024 64 24576;
        9 64 1024 64 24576;
        8 32 2048 64 24576;
        8 32 1024 128 24576;
        8 32 1024 64 49152;
    }
}
