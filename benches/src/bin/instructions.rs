//! Does every case once, for an instruction counter that takes notes whenever
//! [`benches::measured`] returns. Prints what it did, a line each: the name, by whom, how often,
//! and how many instructions one may take. See `scripts/instructions`.

use benches::{codec, fan_out, machine, router, topics};

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let cases = codec::cases().into_iter().chain(topics::cases()).chain(machine::cases());
    let cases = cases.chain(router::cases()).chain(fan_out::cases());
    for case in cases.filter(|case| case.name.contains(&wanted)) {
        let mut work = case.prepare();
        benches::measured(&mut work);
        let gate = case.gate.map_or_else(|| "-".into(), |gate| gate.to_string());
        println!("{}\t{}\t{}\t{gate}", case.name, case.by, case.count);
    }
}
