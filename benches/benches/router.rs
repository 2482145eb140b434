//! `cargo bench -p benches --bench router`: looking up, adding and removing with 100, 10,000 and
//! 1,000,000 filters, and what memory a filter takes; about two minutes.

use std::{alloc::System, fs, time::Duration, time::Instant};

use benches::router::{Engine, Linear, Table, filters};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use mqtt_core::router::{Flat, Trie};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = routers
}
criterion_main!(benches);

fn routers(criterion: &mut Criterion) {
    for count in [100, 10_000, 1_000_000] {
        let mut group = criterion.benchmark_group(format!("router with {count} filters"));
        let filters: Vec<_> = (0..count).map(filters::filter).collect();
        time::<Trie>(&mut group, &filters);
        time::<Box<Flat<1_100, 65_536>>>(&mut group, &filters);
        time::<Linear>(&mut group, &filters);
        time::<Engine>(&mut group, &filters);
    }
}

/// How many topics there are, and how many filters are added and removed.
const TOPICS: usize = 1 << 17;
const FRESH: usize = 500;

fn time<T: Table>(group: &mut BenchmarkGroup<'_, WallTime>, filters: &[String]) {
    let count = filters.len();
    if count > T::MAX {
        return;
    }
    let topic = |number| T::topic(filters::topic(number, count).leak());
    let topics: Vec<_> = (0..TOPICS).map(topic).collect();
    let (region, resident) = (Region::new(ALLOCATOR), resident());
    let mut table = T::new();
    for (number, filter) in filters.iter().enumerate() {
        table.insert(subscriber(number), filter);
    }
    let change = region.change();
    let bytes = change.bytes_allocated - change.bytes_deallocated;
    let resident = self::resident().saturating_sub(resident);
    let found: usize = topics.iter().map(|topic| table.count(topic)).sum();
    println!(
        "{}, {count} filters: {} bytes per filter requested, {} resident; {:.2} found per topic",
        T::NAME,
        bytes / count,
        resident / count,
        found as f64 / TOPICS as f64,
    );

    let mut next = topics.iter().cycle();
    group.bench_function(BenchmarkId::new("look up", T::NAME), |bencher| {
        bencher.iter(|| next.next().map(|topic| table.count(topic)));
    });
    let fresh: Vec<_> =
        (count..count + FRESH).map(|n| (subscriber(n), filters::filter(n))).collect();
    group.bench_function(BenchmarkId::new("add", T::NAME), |bencher| {
        bencher.iter_custom(|times| add_and_remove(&mut table, &fresh, times)[0]);
    });
    group.bench_function(BenchmarkId::new("remove", T::NAME), |bencher| {
        bencher.iter_custom(|times| add_and_remove(&mut table, &fresh, times)[1]);
    });
}

/// Each subscriber has ten filters.
fn subscriber(number: usize) -> u32 {
    number as u32 / 10
}

/// Adds and removes `times` filters, and tells what each of the two took.
fn add_and_remove(table: &mut impl Table, fresh: &[(u32, String)], times: u64) -> [Duration; 2] {
    let (mut left, mut took) = (times as usize, [Duration::ZERO; 2]);
    while left > 0 {
        let fresh = &fresh[..left.min(fresh.len())];
        let start = Instant::now();
        for (subscriber, filter) in fresh {
            table.insert(*subscriber, filter);
        }
        took[0] += start.elapsed();
        let start = Instant::now();
        for (subscriber, filter) in fresh.iter().rev() {
            table.remove(*subscriber, filter);
        }
        took[1] += start.elapsed();
        left -= fresh.len();
    }
    took
}

/// The bytes of this process that are in memory; 0 where that cannot be told.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or_default() * 1024
}
