//! `cargo bench -p benches --bench packet_throughput`

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group!(benches, packet_throughput);
criterion_main!(benches);

fn packet_throughput(criterion: &mut Criterion) {
    benches::time(criterion, &benches::machine::cases());
}
