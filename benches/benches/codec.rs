//! `cargo bench -p benches --bench codec`

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group!(benches, codec);
criterion_main!(benches);

fn codec(criterion: &mut Criterion) {
    benches::time(criterion, &benches::codec::cases());
}
