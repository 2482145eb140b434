//! The tokio broker against clients that nobody here wrote, and ours.
//!
//! `interop peers PYTHON NODE_MODULES [WORD]...` starts the broker as a process, runs every scenario,
//! or those whose names contain one of the words, with every client at both versions, and prints a table
//! and, last, `N passed, N failed`. What a client cannot do at all is said and is no scenario of its.

mod driver;
mod mosquitto;
mod ours;
mod rumqttc;
mod scenarios;
mod serve;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use crate::{Result, ensure};
use driver::Driver;
use scenarios::{SCENARIOS, Scenario};

pub(crate) use serve::{Served, run as serve};

/// How a client is to connect.
#[derive(Clone, Default)]
struct Login {
    url: String,
    /// 3 is 3.1.1.
    version: u8,
    id: String,
    clean: bool,
    /// For how long the session outlives the connection, in seconds; 5.0 only.
    expiry: u32,
    user: Option<(&'static str, &'static str)>,
    /// Topic, payload, and delay in seconds; at QoS 1, not retained.
    will: Option<(String, &'static str, u32)>,
    /// Where the files are, if the URL says TLS.
    tls: Option<PathBuf>,
    shows_certificate: bool,
}

/// What becomes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Whether there was a session, if the client tells.
    Connected {
        present: Option<bool>,
    },
    Refused {
        reason: u8,
    },
}

/// A message that a client sends or has got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    identifiers: Vec<u32>,
}

/// A client. When it is dropped its connection is lost without a word.
trait Peer {
    fn connect(&mut self, login: &Login) -> Result<Outcome>;
    /// Waits until that is granted.
    fn subscribe(&mut self, filter: &str, qos: u8, identifier: Option<u32>) -> Result<()>;
    /// Waits until it is acknowledged.
    fn publish(&mut self, message: &Message, alias: Option<u16>) -> Result<()>;
    /// The next message, if one comes within so many seconds.
    fn next(&mut self, within: f32) -> Result<Option<Message>>;
    fn disconnect(&mut self) -> Result<()>;
}

/// Whose clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mosquitto,
    Paho,
    MqttJs,
    Rumqttc,
    Ours,
}

const KINDS: [Kind; 5] = [Kind::Mosquitto, Kind::Paho, Kind::MqttJs, Kind::Rumqttc, Kind::Ours];

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto_pub/sub",
            Self::Paho => "paho-mqtt",
            Self::MqttJs => "MQTT.js",
            Self::Rumqttc => "rumqttc",
            Self::Ours => "transport-tokio",
        }
    }
}

/// Where clients of one kind are to be started.
struct Place<'a> {
    kind: Kind,
    version: u8,
    served: &'a Served,
    python: &'a str,
    modules: &'a str,
    /// In front of every topic and client identifier, so that scenarios do not meet.
    prefix: String,
}

impl Place<'_> {
    /// One that has not connected.
    fn peer(&self) -> Result<Box<dyn Peer>> {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/");
        Ok(match self.kind {
            Kind::Mosquitto => Box::<mosquitto::Tools>::default(),
            Kind::Paho => {
                let mut command = Command::new(self.python);
                Box::new(Driver::start(command.arg(format!("{own}paho-mqtt.py")))?)
            }
            Kind::MqttJs => {
                let mut command = Command::new("node");
                command.arg(format!("{own}mqttjs.js")).env("NODE_PATH", self.modules);
                Box::new(Driver::start(&mut command)?)
            }
            Kind::Rumqttc if self.version == 5 => Box::new(rumqttc::v5::Client::new()?),
            Kind::Rumqttc => Box::new(rumqttc::v4::Client::new()?),
            Kind::Ours => Box::new(ours::Ours::new()?),
        })
    }

    fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// To the port that lets everybody in, with a session that ends with the connection.
    fn login(&self, id: &str) -> Login {
        Login {
            url: self.served.tcp.clone(),
            version: self.version,
            id: format!("{}-{id}", self.prefix),
            clean: true,
            ..Login::default()
        }
    }

    /// One that is connected.
    fn connected(&self, login: &Login) -> Result<Box<dyn Peer>> {
        let mut peer = self.peer()?;
        match peer.connect(login)? {
            Outcome::Connected { present: None | Some(false) } => Ok(peer),
            other => Err(format!("{}: {other:?}", login.id).into()),
        }
    }
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure(text.len().is_multiple_of(2), || format!("{} digits", text.len()))?;
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

/// What became of a scenario: it took so many seconds, went wrong, or is none.
type Cell = Option<Result<f32>>;

fn run(scenario: &Scenario, place: &Place<'_>) -> Cell {
    if scenario.is_v5 && place.version < 5 || scenario.not_for.contains(&place.kind) {
        return None;
    }
    let start = Instant::now();
    let result = (scenario.run)(place).map(|()| start.elapsed().as_secs_f32());
    if let Err(error) = &result {
        let name = place.kind.name();
        println!("FAILED {} {name} {}: {error}", scenario.name, place.version);
    }
    Some(result)
}

/// Everything, one thread for each kind of client.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [python, modules, words @ ..] = arguments else {
        eprintln!("usage: interop peers PYTHON NODE_MODULES [WORD]...");
        return ExitCode::FAILURE;
    };
    let served = match Served::start() {
        Ok(served) => served,
        Err(error) => {
            eprintln!("the broker does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let wanted = |scenario: &&Scenario| {
        words.is_empty() || words.iter().any(|word| scenario.name.contains(word))
    };
    let wanted: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    let column = |kind| {
        let (served, wanted) = (&served, &wanted);
        move || -> Vec<[Cell; 2]> {
            let row = |(number, scenario): (usize, &&Scenario)| {
                [3, 5].map(|version| {
                    let prefix = format!("{}{version}{number}", kind as u8);
                    run(scenario, &Place { kind, version, served, python, modules, prefix })
                })
            };
            wanted.iter().enumerate().map(row).collect()
        }
    };
    let columns = thread::scope(|scope| {
        let running = KINDS.map(|kind| scope.spawn(column(kind)));
        running.map(|one| one.join().unwrap_or_default())
    });
    report(&wanted, &columns)
}

/// A column for each kind of client, with both versions.
fn report(scenarios: &[&Scenario], columns: &[Vec<[Cell; 2]>]) -> ExitCode {
    let width = 40;
    print!("\n{:width$}", "3.1.1 / 5.0, seconds");
    KINDS.iter().for_each(|kind| print!(" {:>18}", kind.name()));
    println!();
    let (mut passed, mut failed) = (0, 0);
    for (number, scenario) in scenarios.iter().enumerate() {
        print!("{:width$}", scenario.name);
        for column in columns {
            // A client whose scenarios have panicked has none.
            let words = column.get(number).map(|cells| {
                cells.each_ref().map(|cell| match cell {
                    None => "–".to_owned(),
                    Some(Ok(seconds)) => format!("{seconds:.1}"),
                    Some(Err(_)) => "FAILED".to_owned(),
                })
            });
            let results = column.get(number).into_iter().flatten().flatten();
            let before = passed;
            results.clone().for_each(|result| passed += usize::from(result.is_ok()));
            failed += results.count() - (passed - before) + usize::from(words.is_none());
            let words = words.map_or_else(|| "FAILED".to_owned(), |words| words.join(" / "));
            print!(" {words:>18}");
        }
        println!();
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
