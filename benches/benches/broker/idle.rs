//! What connections cost that do nothing.

use std::{
    io::{self, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use mqtt_core::QoS;

use crate::{
    Size, client,
    subject::{Kind, Subject},
};

/// How long it may take to accept them all. rumqttd takes about a millisecond for each.
const PATIENCE: Duration = Duration::from_secs(50);

/// Resident bytes for each connection, beyond those of a broker without any.
#[derive(Clone, Copy, Default)]
pub(crate) struct Idle {
    /// Before CONNECT.
    pub(crate) accepted: f64,
    /// With a session.
    pub(crate) connected: f64,
    /// With a subscription, each to a topic of its own.
    pub(crate) subscribed: f64,
}

/// A broker that has never done anything else.
pub(crate) fn measure(kind: &Kind, size: Size) -> io::Result<Idle> {
    let crowd = Crowd::gather(kind, size)?;
    let accepted = crowd.each()?;
    let mut streams = &crowd.streams[..];
    while let Some((some, rest)) = streams.split_at_checked(streams.len().min(100)) {
        if some.is_empty() {
            break;
        }
        for (number, mut stream) in (rest.len()..).zip(some) {
            stream.write_all(&client::connect(&format!("client-{number:05}")))?;
        }
        some.iter().try_for_each(|stream| client::expect(stream, 0x20))?;
        streams = rest;
    }
    let connected = crowd.each()?;
    for (number, mut stream) in crowd.streams.iter().enumerate() {
        let filter = format!("idle/{number:05}");
        stream.write_all(&client::subscribe(&filter, QoS::AtLeastOnce))?;
        client::expect(stream, 0x90)?;
    }
    Ok(Idle { accepted, connected, subscribed: crowd.each()? })
}

/// Connections on which nothing has been sent yet.
struct Crowd {
    subject: Subject,
    before: usize,
    streams: Vec<TcpStream>,
}

impl Crowd {
    fn gather(kind: &Kind, size: Size) -> io::Result<Self> {
        let subject = Subject::start(kind)?;
        let (before, descriptors) = (subject.resident()?, subject.descriptors()?);
        let mut streams = Vec::new();
        let start = Instant::now();
        while streams.len() < size.idle {
            streams.push(TcpStream::connect(subject.address)?);
            // The system's queue of those to be accepted is shorter.
            let waiting = || io::Result::Ok(streams.len() + descriptors - subject.descriptors()?);
            while (streams.len() % 100 == 0 || streams.len() == size.idle) && waiting()? > 0 {
                if start.elapsed() > PATIENCE {
                    return Err(io::Error::other("connections are not accepted"));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(Self { subject, before, streams })
    }

    fn each(&self) -> io::Result<f64> {
        // What it does at last is done by then.
        thread::sleep(Duration::from_millis(200));
        let grown = self.subject.resident()?.saturating_sub(self.before);
        Ok(grown as f64 / self.streams.len() as f64)
    }
}
