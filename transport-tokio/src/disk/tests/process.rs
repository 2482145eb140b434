//! Programs that are killed.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use mqtt_core::{
    Publish, QoS, Topic,
    store::{Limits, Outgoing},
};

use super::*;
use crate::kept::{Kept, QUEUED};

const PATH: &str = "SESSION_FILE";
const SEED: &str = "SESSION_SEED";
const LENGTH: usize = 2000;

/// Messages that come and go.
pub(super) struct Queue {
    kept: Kept,
    first: u64,
    last: u64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { kept: Kept::new(Limits::default(), true), first: 1, last: 0 }
    }

    pub(super) fn push(&mut self, len: usize) -> Changes {
        let payload = bytes::Bytes::from(vec![7; len]);
        let payload = mqtt_core::Payload::shared(&payload);
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            ..Publish::new(Topic::new("sensors/7/temperature").unwrap(), payload)
        };
        self.last += 1;
        self.kept.queue(self.last, &Outgoing::new(VERSION, QUEUED, &publish).unwrap());
        self.kept.take_changes().unwrap()
    }

    pub(super) fn pop(&mut self) -> Changes {
        self.kept.unqueue(self.first);
        self.first += 1;
        self.kept.take_changes().unwrap()
    }
}

fn durability(seed: u64) -> Durability {
    if seed.is_multiple_of(2) { Durability::Power } else { Durability::Process }
}

#[test]
#[ignore = "a program to be killed by the test below"]
fn program() {
    let seed = env::var(SEED).unwrap().parse().unwrap();
    let file = SessionFile { path: env::var(PATH).unwrap().into(), durability: durability(seed) };
    let ops = scenario(seed, LENGTH);
    let (mut disk, _) = Disk::open(&file, CLIENT, VERSION).unwrap();
    println!("open");
    play(&ops, |changes, _| {
        disk.commit(changes).unwrap();
        println!("committed");
    });
    thread::park();
}

/// Killed at any moment, while it creates the file too: what has been committed is there.
#[test]
fn killed_at_any_moment() {
    let directory = TempDir::new().unwrap();
    for seed in 0..40_u64 {
        let states = states(&scenario(seed, LENGTH));
        let path = directory.path().join(seed.to_string());
        let mut program = Command::new(env::current_exe().unwrap())
            .args(["--exact", "disk::tests::process::program", "--ignored", "--nocapture"])
            .env(PATH, &path)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut committed = 0;
        // At every other seed while it starts, at the others in the middle of its work.
        let until = if seed % 4 < 2 { 0 } else { (seed as usize * 37) % (states.len() - 2) };
        if until == 0 {
            thread::sleep(Duration::from_micros(seed * 600));
        }
        while committed < until {
            let line = lines.next().expect("the program works until it is killed");
            committed += usize::from(line.ends_with("committed"));
        }
        program.kill().unwrap();
        program.wait().unwrap();
        committed += lines.filter(|line| line.ends_with("committed")).count();

        let file = SessionFile { path, durability: durability(seed) };
        let (_, restored) = Disk::open(&file, CLIENT, VERSION).unwrap();
        let expected = &states[committed..states.len().min(committed + 2)];
        assert!(expected.contains(&kept::restored(restored)), "seed {seed}, {committed} commits");
        println!("seed {seed}: {committed} commits");
    }
}
