//! The clients against mosquitto: the core, through the driver of `mqtt-core/examples/blocking.rs`, and
//! the one of `transport-tokio`.
//!
//! `interop ADDRESS [WORD]...` runs every scenario, or those whose names contain one of the words,
//! against the broker at this address. Some start a mosquitto of their own beside it. Prints a line
//! for each and, last, `N passed, N failed`.
//!
//! What happens at random follows from a seed, which is printed first; `INTEROP_SEED` sets it.
//! `INTEROP_FULL=1` makes waits as long as they are in life.
//!
//! `interop child ...` is a program to be killed, for scenarios that do so. `interop peers ...` is the
//! other way round: [the tokio broker against clients](peers); `interop siege` [against those that do not
//! behave](siege).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use mqtt_core::store::{Fixed, Heap, Limits};
use mqtt_core::{Connect, Text, Version};

#[allow(
    dead_code,
    unreachable_pub,
    reason = "an example for users: its driver is used here, its main is not"
)]
#[path = "../../mqtt-core/examples/blocking.rs"]
mod blocking;
mod broker;
mod peer;
mod peers;
mod proxy;
mod scenarios;
mod siege;
mod tokio_client;
mod tools;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// What a scenario is to be run with.
pub(crate) struct Setup {
    pub(crate) address: String,
    pub(crate) version: Version,
    /// The blocking driver's store: `Heap`, or else `Fixed`.
    pub(crate) heap: bool,
    /// What everything random begins with.
    pub(crate) seed: u64,
    /// In front of every topic and client identifier, so that scenarios do not meet.
    prefix: String,
}

impl Setup {
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Short: 3.1 allows 23 characters.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Another broker, all else equal.
    pub(crate) fn at(&self, address: &str) -> Self {
        let (address, prefix) = (address.to_owned(), self.prefix.clone());
        Self { address, prefix, ..*self }
    }

    pub(crate) fn store(&self) -> peer::Kept {
        match (self.heap, self.version.is_v5()) {
            (false, true) => Box::leak(Box::new(Fixed::<64, 8192>::new())),
            (true, true) => Box::leak(Box::new(Heap::new())),
            // Before 5.0 the broker cannot tell its limit, 20 at QoS 2, and hangs up beyond.
            (false, false) => Box::leak(Box::new(Fixed::<20, 8192>::new())),
            (true, false) => {
                let limits = Limits { flights: 20, ..Limits::default() };
                Box::leak(Box::new(Heap::with_limits(limits)))
            }
        }
    }

    pub(crate) fn large_store(&self) -> peer::Kept {
        if self.heap {
            Box::leak(Box::new(Heap::new()))
        } else {
            Box::leak(Box::new(Fixed::<8, 2_200_000>::new()))
        }
    }

    /// What asks for a session that outlives the connection.
    pub(crate) fn lasting<'a>(&self, id: &'a str) -> Result<Connect<'a>> {
        Ok(Connect {
            client_id: Text::new(id)?,
            clean_start: false,
            session_expiry_interval: if self.version.is_v5() { 60 } else { 0 },
            ..Connect::default()
        })
    }
}

/// `Err` with that text unless it is so.
pub(crate) fn ensure(so: bool, text: impl FnOnce() -> String) -> Result<()> {
    if so { Ok(()) } else { Err(text().into()) }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Case {
    name: String,
    run: fn(&Setup) -> Result<()>,
    setup: Setup,
}

/// Each scenario with each version and store that it is for.
fn cases(address: &str, seed: u64) -> VecDeque<Case> {
    let mut cases = VecDeque::new();
    let tokio: &[_] = &[(true, "tokio")];
    let blocking: &[_] = &[(false, "Fixed"), (true, "Heap")];
    for (scenarios, stores) in [(tokio_client::ALL, tokio), (scenarios::ALL, blocking)] {
        for (scenario, versions, run) in scenarios {
            for &(version, number) in *versions {
                for &(heap, store) in stores {
                    let prefix = format!("s{}", cases.len());
                    let setup = Setup { address: address.to_owned(), version, heap, seed, prefix };
                    let name = format!("{scenario} {number} {store}");
                    cases.push_back(Case { name, run: *run, setup });
                }
            }
        }
    }
    cases
}

/// Takes cases and runs them until there are none.
fn work(cases: &Mutex<VecDeque<Case>>, failures: &Mutex<Vec<String>>) -> usize {
    let mut passed = 0;
    loop {
        let Some(case) = cases.lock().unwrap().pop_front() else { return passed };
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&case.setup)));
        let seconds = start.elapsed().as_secs_f32();
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("panicked".to_owned()),
        };
        match failure {
            None => {
                println!("ok     {seconds:6.2} s  {}", case.name);
                passed += 1;
            }
            Some(failure) => {
                println!("FAILED {seconds:6.2} s  {}: {failure}", case.name);
                failures.lock().unwrap().push(case.name);
            }
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        eprintln!("usage: interop ADDRESS [WORD]...");
        return ExitCode::FAILURE;
    };
    let words: Vec<String> = arguments.collect();
    match &address[..] {
        "child" => return tokio_client::child(&words),
        "peers" => return peers::main(&words),
        "siege" => return siege::main(),
        "serve" => return peers::serve(&words),
        _ => {}
    }
    let given = std::env::var("INTEROP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut cases = cases(&address, seed);
    cases.retain(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word)));
    let count = cases.len();
    let (cases, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    // They wait more than they work. Large buffers pass through the stack.
    let passed: usize = thread::scope(|scope| {
        let worker = || thread::Builder::new().stack_size(64 << 20);
        let workers: Vec<_> = (0..4)
            .filter_map(|_| worker().spawn_scoped(scope, || work(&cases, &failures)).ok())
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum()
    });
    let failed = failures.into_inner().unwrap_or_default();
    for name in &failed {
        println!("failed: {name}");
    }
    println!("{passed} passed, {} failed", failed.len());
    if passed == count && count > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
