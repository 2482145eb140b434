//! The cases that are measured, in the same words for every codec.
//!
//! A [`Case`] is something to do many times. The criterion benches time it, and the binary
//! `instructions` counts it. Where another crate can do the same, it has a case of the same name.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use mqtt_core::Version;

pub mod codec;
pub mod fan_out;
pub mod machine;
pub mod packets;
pub mod peers;
pub mod router;
pub mod topics;

/// Something to measure: one library doing one thing.
pub struct Case {
    /// What is done.
    pub name: String,
    /// The library that does it.
    pub by: &'static str,
    /// How often it is done each time.
    pub count: usize,
    /// How many bytes that is about.
    pub bytes: usize,
    /// The most instructions that doing it once may take.
    pub gate: Option<u64>,
    prepare: Box<dyn Fn() -> Work>,
}

/// What is left to do after everything is prepared. Once.
pub type Work = Box<dyn FnMut()>;

impl Case {
    /// Prepares everything that is not to be measured.
    pub fn prepare(&self) -> Work {
        (self.prepare)()
    }
}

/// What the instruction counter looks for: the instructions of `work` and nothing else.
#[inline(never)]
pub fn measured(work: &mut dyn FnMut()) {
    work();
    // Not a tail call: this function is on the stack while it counts.
    black_box(());
}

/// Everything in `value` might be looked at.
#[inline(always)]
pub fn see<T>(value: &T) {
    black_box(value);
}

/// The name of a version, as it is known.
fn label(version: Version) -> &'static str {
    if version.is_v5() { "5.0" } else { "3.1.1" }
}

/// Times all `cases`: those of one name in one group.
pub fn time(criterion: &mut Criterion, cases: &[Case]) {
    for cases in cases.chunk_by(|a, b| a.name == b.name) {
        let mut group = criterion.benchmark_group(&cases[0].name);
        for case in cases {
            group.throughput(Throughput::ElementsAndBytes {
                elements: case.count as u64,
                bytes: case.bytes as u64,
            });
            group.bench_function(BenchmarkId::from_parameter(case.by), |bencher| {
                let setup = || case.prepare();
                bencher.iter_batched_ref(setup, |work| work(), BatchSize::PerIteration);
            });
        }
    }
}
