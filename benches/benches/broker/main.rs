//! What the tokio broker costs beside mosquitto and rumqttd: each in a process of its own, under the
//! same load from raw sockets and packets made beforehand. `scripts/broker-speed` does all of it.
//!
//! ```text
//! cargo bench -p benches --bench broker -- mosquitto=PATH rumqttd=PATH
//!                                             everything, beside these
//! cargo bench -p benches --bench broker -- only=WORD
//!                                             what has the word in its name: a load, or
//!                                             `latency`, `connections`, `idle`
//! cargo bench -p benches --bench broker       ours alone
//! ```
//!
//! CPU time is the broker's whole process by its clock, which counts what `/proc/PID/stat` does, in
//! nanoseconds. Runs alternate between the brokers, and the median is printed.

mod client;
mod idle;
mod latency;
mod load;
mod report;
mod serve;
mod subject;

use std::{io, time::Duration};

use self::{
    load::{LOADS, Outcome},
    report::Table,
    subject::{Kind, Subject},
};

/// How much is done.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    runs: usize,
    /// Before what is measured, and while it is.
    warm_up: Duration,
    measured: Duration,
    /// How many connections come and go, and how many are idle.
    visits: usize,
    idle: usize,
}

impl Size {
    const FULL: Self = Self {
        runs: 3,
        warm_up: Duration::from_millis(300),
        measured: Duration::from_millis(1_000),
        visits: 8_000,
        idle: 10_000,
    };
    /// Whether it works at all.
    const TEST: Self = Self {
        runs: 1,
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(50),
        visits: 200,
        idle: 100,
    };
}

/// What each broker did in one run of all loads.
#[derive(Default)]
struct Round {
    loads: Vec<Outcome>,
    /// Resident bytes when there is nobody any more.
    after: usize,
    visits: Option<latency::Visits>,
    trips: Vec<latency::Trips>,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == serve::ARGUMENT) {
        return serve::run();
    }
    let value = |key: &str| {
        let mut found = arguments.iter().filter_map(|argument| argument.split_once('='));
        found.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
    };
    let size = if arguments.iter().any(|one| one == "--bench") { Size::FULL } else { Size::TEST };
    let mut kinds = vec![Kind::Ours];
    kinds.extend(value("mosquitto").map(Kind::Mosquitto));
    kinds.extend(value("rumqttd").map(Kind::Rumqttd));
    let only = value("only");
    let wanted = |what: &str| only.as_ref().is_none_or(|only| what.contains(only));

    let mut rounds: Vec<Vec<Round>> = kinds.iter().map(|_| Vec::new()).collect();
    for number in 1..=size.runs {
        eprintln!("round {number} of {}", size.runs);
        for (round, of) in one_round(size, &kinds, wanted)?.into_iter().zip(&mut rounds) {
            of.push(round);
        }
    }
    let mut table = Table::new(&kinds);
    table.loads(&rounds, wanted);
    table.latency(&rounds);
    table.visits(&rounds);
    let idle = if wanted("idle") { table.idle(&kinds, size) } else { Ok(()) };
    table.print();
    idle
}

/// What is wanted, each with one broker after the other.
fn one_round(size: Size, kinds: &[Kind], wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Round>> {
    let mut rounds: Vec<_> = kinds.iter().map(|_| Round::default()).collect();
    let subjects: io::Result<Vec<_>> = kinds.iter().map(Subject::start).collect();
    let subjects = subjects?;
    for load in LOADS.iter().filter(|load| wanted(load.name)) {
        for (subject, round) in subjects.iter().zip(&mut rounds) {
            round.loads.push(load.run(subject, size)?);
        }
    }
    for (subject, round) in subjects.iter().zip(&mut rounds) {
        round.after = subject.resident()?;
        if wanted("connections") {
            round.visits = Some(latency::visit(subject, size)?);
        }
    }
    drop(subjects);
    if wanted("latency") {
        for (kind, round) in kinds.iter().zip(&mut rounds) {
            for flooded in [false, true] {
                round.trips.push(latency::ping(kind, size, flooded)?);
            }
        }
    }
    Ok(rounds)
}
