//! What the growing router takes from the allocator. One test: the counts are the process's.
//!
//! Prints the bytes that a filter takes.

use std::alloc::System;

use mqtt_core::{
    Filter, Topic,
    router::{Limits, Options, Router, Subscriber, Trie},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[path = "data/filters.rs"]
mod filters;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Each subscriber has so many filters.
const EACH: usize = 10;

fn main() {
    println!("what a router takes"); // Standard output has a buffer: not counted.
    memory_follows_what_is_kept();
    println!("memory_follows_what_is_kept ... ok");
    many_subscribers_of_few_filters();
    println!("many_subscribers_of_few_filters ... ok");
}

/// The bytes that are allocated since the region began.
fn used(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

fn subscribe(trie: &mut Trie, number: usize, filter: &str) {
    let subscriber = Subscriber((number / EACH) as u32);
    let filter = Filter::new(filter).unwrap();
    assert_eq!(trie.subscribe(subscriber, filter, Options::default()), Ok(None));
}

fn memory_follows_what_is_kept() {
    let region = Region::new(ALLOCATOR);
    let limits = Limits { subscriptions: usize::MAX, bytes: usize::MAX };
    let mut trie = Trie::with_limits(7, limits);
    assert_eq!(region.change().allocations, 0);

    // At every size: where a table has just grown, and where it is about to.
    let all = 1_000_000;
    let mut most = 0;
    for number in 0..all {
        let filter = filters::filter(number);
        subscribe(&mut trie, number, &filter);
        drop(filter);
        if (number + 1) % 1_000 == 0 {
            most = most.max(used(&region) / (number + 1));
            assert!(used(&region) * 3 < trie.bytes() * 4, "{number}: {}", used(&region));
        }
    }
    let full = used(&region);
    println!("{} bytes per filter with {all}; at most {most}", full / all);
    assert!(full <= 200 * all && most <= 200);

    // A look-up takes nothing.
    let topics: Vec<_> = (0..1_000).map(|number| filters::topic(number, all)).collect();
    let look_up = Region::new(ALLOCATOR);
    let mut found = 0;
    for topic in &topics {
        let matches = trie.matches(Topic::new(topic).unwrap());
        found += matches.map(|found| found.recipients.len()).sum::<usize>();
    }
    assert_eq!((look_up.change().allocations, look_up.change().reallocations), (0, 0));
    assert!(found > topics.len());
    drop(topics);

    // It shrinks, whether filters go one by one or all that a subscriber has.
    let kept = |subscriber: usize| subscriber % 10 == 3;
    for subscriber in (0..all / EACH).filter(|subscriber| !kept(*subscriber)) {
        let all = Subscriber(subscriber as u32);
        if subscriber % 2 == 0 {
            assert_eq!(trie.unsubscribe_all(all), EACH);
            continue;
        }
        for number in subscriber * EACH..(subscriber + 1) * EACH {
            let filter = filters::filter(number);
            assert!(trie.unsubscribe(all, Filter::new(&filter).unwrap()).is_some());
        }
    }
    assert_eq!(trie.len(), all / 10);
    assert!(used(&region) < full * 4 / 10, "{} of {full}", used(&region));
    for subscriber in (0..all / EACH).filter(|subscriber| kept(*subscriber)) {
        assert_eq!(trie.unsubscribe_all(Subscriber(subscriber as u32)), EACH);
    }
    assert_eq!((trie.len(), trie.bytes(), used(&region)), (0, 0, 0));
}

fn many_subscribers_of_few_filters() {
    let region = Region::new(ALLOCATOR);
    let mut trie = Trie::new(7);
    let filters = ["a/b", "a/+", "a/#", "$share/g/a/b", "$share/h/+/b"];
    let all = 10_000_u32;
    for subscriber in 0..all {
        for filter in filters {
            let filter = Filter::new(filter).unwrap();
            let result = trie.subscribe(Subscriber(subscriber), filter, Options::default());
            assert_eq!(result, Ok(None));
        }
    }
    let subscriptions = filters.len() * all as usize;
    println!("{} bytes per subscription of few filters", used(&region) / subscriptions);
    assert!(used(&region) * 3 < trie.bytes() * 4, "{} {}", used(&region), trie.bytes());
    let found = trie.matches(Topic::new("a/b").unwrap());
    assert_eq!(found.map(|found| found.recipients.len()).sum::<usize>(), subscriptions);
    (0..all).for_each(|subscriber| assert_eq!(trie.unsubscribe_all(Subscriber(subscriber)), 5));
    assert_eq!(used(&region), 0);
}
