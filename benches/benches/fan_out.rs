//! `cargo bench -p benches --bench fan_out`

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group!(benches, fan_out);
criterion_main!(benches);

fn fan_out(criterion: &mut Criterion) {
    benches::time(criterion, &benches::fan_out::cases());
}
