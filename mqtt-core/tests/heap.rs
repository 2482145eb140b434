//! What the growing store takes from the allocator. One test: the counts are the process's.

use std::alloc::System;

use mqtt_core::{
    PacketId, Payload, Publish, QoS, Topic, Version,
    store::{Arrival, Flight, Heap, Outgoing, Stage, Store},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    memory_follows_what_is_kept();
    println!("memory_follows_what_is_kept ... ok");
}

fn memory_follows_what_is_kept() {
    let owner = bytes::Bytes::from(vec![7; 1000]);
    let _shared = owner.clone();
    let qos = QoS::ExactlyOnce;
    let small = Publish { qos, ..Publish::new(Topic::new("pump/7/status").unwrap(), "on") };
    let large = Publish { payload: Payload::shared(&owner), ..small };
    let push = |heap: &mut Heap, number: u16, publish: &Publish<'_>| {
        let id = PacketId::new(number).unwrap();
        let message = Outgoing::new(Version::V5, id, publish).unwrap();
        heap.push(id, qos, Some(&message)).unwrap();
    };
    let arrive = |heap: &mut Heap, number: u16| {
        let id = PacketId::new(number).unwrap();
        heap.push_arrival(Arrival { id, qos, stage: Stage::Held, number: 1, live: true }).unwrap();
    };
    let id = |number| PacketId::new(number).unwrap();

    // Nothing without a message.
    let region = Region::new(ALLOCATOR);
    let mut heap = Heap::new();
    assert_eq!(region.change().allocations, 0);

    // After the first ones, one allocation for each message, small or shared, and none for an
    // arrival.
    for number in 1..=4 {
        push(&mut heap, number, &small);
        arrive(&mut heap, number);
    }
    let region = Region::new(ALLOCATOR);
    for number in 5..=1000 {
        heap.release(id(number - 3), Flight::AwaitComp);
        heap.finish(id(number - 4));
        heap.remove_arrival(id(number - 4));
        push(&mut heap, number, if number % 2 == 0 { &small } else { &large });
        arrive(&mut heap, number);
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (996, 0));
    assert!(change.bytes_allocated < 996 * 32);

    // Nor if some come at once, and go before the next.
    let wave = |heap: &mut Heap| {
        for number in 2000..2020 {
            push(heap, number, &small);
            arrive(heap, number);
        }
        for number in 2000..2020 {
            heap.finish(id(number));
            heap.remove_arrival(id(number));
        }
    };
    (0..3).for_each(|_| wave(&mut heap));
    let region = Region::new(ALLOCATOR);
    (0..100).for_each(|_| wave(&mut heap));
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (2000, 0));

    // The packets' memory goes with them, the bookkeeping's soon after.
    let region = Region::new(ALLOCATOR);
    let mut heap = Heap::new();
    let used = |region: &Region<'_, System>| {
        let change = region.change();
        change.bytes_allocated - change.bytes_deallocated
    };
    let all = 30_000;
    for number in 1..=all {
        push(&mut heap, number, &small);
        arrive(&mut heap, number);
    }
    let packets = heap.bytes();
    let full = used(&region) - packets;
    assert!(full / usize::from(all) < 150, "{full} bytes of bookkeeping");
    for number in (1..=all).rev() {
        heap.release(id(number), Flight::AwaitComp);
    }
    assert_eq!((heap.bytes(), used(&region)), (0, full));
    for number in (1..=all).filter(|number| number % 10 != 0) {
        heap.finish(id(number));
        heap.remove_arrival(id(number));
    }
    assert!(used(&region) < full / 2, "{} of {full}", used(&region));
    for number in (1..=all).filter(|number| number % 10 == 0) {
        heap.finish(id(number));
        heap.remove_arrival(id(number));
    }
    assert!(used(&region) < 4200, "{}", used(&region));
    heap.clear();
    assert_eq!(used(&region), 0);
}
