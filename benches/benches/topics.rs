//! `cargo bench -p benches --bench topics`

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group!(benches, topics);
criterion_main!(benches);

fn topics(criterion: &mut Criterion) {
    benches::time(criterion, &benches::topics::cases());
}
