//! One message at a time, and one connection after the other.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use mqtt_core::QoS;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    Size, client,
    load::{Field, LOADS},
    subject::{Kind, Subject},
};

/// How long a message takes there and back, in microseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trips {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Connections that come and go.
#[derive(Clone, Copy, Default)]
pub(crate) struct Visits {
    /// How many a second.
    pub(crate) rate: f64,
    /// The broker's CPU time for each, in microseconds.
    pub(crate) cost: f64,
}

/// From now on this thread, and the processes that it starts, run on this core only.
fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core % thread::available_parallelism()?.get())?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// The client and the broker are on one core; on another there may be a client that floods the broker
/// with messages, and takes them all.
pub(crate) fn ping(kind: &Kind, size: Size, flooded: bool) -> io::Result<Trips> {
    let start = || pin(0).and_then(|()| Subject::start(kind));
    let broker = thread::scope(|scope| scope.spawn(start).join().expect("no panic"))?;
    let is_over = AtomicBool::new(false);
    let flood = || {
        pin(1)?;
        let mut field = Field::new(&LOADS[0], &broker)?;
        field.run_while(|_| !is_over.load(Ordering::Relaxed))
    };
    let ping = || pin(0).and_then(|()| round_trips(broker.address, size));
    thread::scope(|scope| {
        let flood = flooded.then(|| scope.spawn(flood));
        let trips = scope.spawn(ping).join().expect("no panic");
        is_over.store(true, Ordering::Relaxed);
        flood.map_or(Ok(()), |flood| flood.join().expect("no panic"))?;
        trips
    })
}

fn round_trips(to: SocketAddr, size: Size) -> io::Result<Trips> {
    let subscribe = client::subscribe("ping", QoS::AtMostOnce);
    let mut stream = client::admitted(to, "ping", &subscribe)?;
    let ping = client::publish("ping", QoS::AtMostOnce, 1);
    let mut pong = ping.clone();
    let mut trip = || {
        let start = Instant::now();
        stream.write_all(&ping)?;
        stream.read_exact(&mut pong)?;
        io::Result::Ok(start.elapsed())
    };
    let start = Instant::now();
    while start.elapsed() < size.warm_up {
        trip()?;
    }
    let (start, mut trips) = (Instant::now(), Vec::new());
    while start.elapsed() < size.measured {
        trips.push(trip()?);
    }
    trips.sort();
    let percentile = |percent: usize| trips[trips.len() * percent / 100].as_secs_f64() * 1e6;
    Ok(Trips { p50: percentile(50), p99: percentile(99) })
}

/// How many visit at once.
const VISITORS: usize = 8;

/// Connections of which each is let in and takes its leave.
pub(crate) fn visit(subject: &Subject, size: Size) -> io::Result<Visits> {
    let (number, before, start) = (AtomicUsize::new(0), subject.cpu()?, Instant::now());
    let visitor = || -> io::Result<()> {
        loop {
            let number = number.fetch_add(1, Ordering::Relaxed);
            if number >= size.visits {
                return Ok(());
            }
            let mut stream: TcpStream =
                client::admitted(subject.address, &format!("v{number}"), &[])?;
            stream.write_all(client::DISCONNECT)?;
        }
    };
    thread::scope(|scope| {
        let visitors: Vec<_> = (0..VISITORS).map(|_| scope.spawn(visitor)).collect();
        visitors.into_iter().try_for_each(|visitor| visitor.join().expect("no panic"))
    })?;
    let wall = start.elapsed().as_secs_f64();
    // The last of them are still being closed.
    thread::sleep(Duration::from_millis(50));
    let cpu = subject.cpu()? - before;
    let visits = size.visits as f64;
    Ok(Visits { rate: visits / wall, cost: cpu.as_secs_f64() * 1e6 / visits })
}
