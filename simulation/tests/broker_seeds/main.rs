//! Random runs of clients and a broker on hostile wires, watched by a [`Model`](simulation::Model),
//! and in the end a calm in which everything must come to its end.
//!
//! A run that fails prints its seed, and others go on; to see it again:
//! `SEED=17 cargo test -p simulation --test broker_seeds large`, which prints every packet, too. `RUNS` sets how many there are of
//! each of the two tests, `FIRST` where they begin: `RUNS=100000 cargo test --profile checked ...`.

mod guest;
mod plan;
mod run;

use mqtt_core::broker::{Large, Small};
use simulation::party::Kind;

/// Of each of the two tests.
const RUNS: u64 = 500;

/// A small broker whose memory lasts for a run, so that nothing but its policy drops messages.
type Roomy = Small<10, 64, 2048, 512, { 64 * 1024 }>;

fn runs<M: Kind>() {
    let number =
        |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    let first = number("FIRST").unwrap_or(0);
    let only = number("SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => first..first + number("RUNS").unwrap_or(RUNS),
    };
    let fails = |seed: &u64| {
        let run = || run::Run::<M>::new(*seed, only.is_some()).run();
        let failed = std::panic::catch_unwind(run).is_err();
        failed.then(|| eprintln!("SEED={seed}")).is_some()
    };
    let failed: Vec<_> = seeds.filter(fails).collect();
    assert!(failed.is_empty(), "SEED={failed:?}");
}

#[test]
fn small() {
    runs::<Roomy>();
}

#[test]
fn large() {
    runs::<Large>();
}
