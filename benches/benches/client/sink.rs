//! A server that only acknowledges, in a process of its own: what it costs is not the clients'.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

use mqtt_core::{
    ConnAck, PacketId, Publish, QoS, ReasonCode, SubAck, Subscribe, Topic, UnsubAck, Version,
    wire::{Decoded, Delivery, Packet},
};

use crate::PAYLOAD;

/// The argument that makes the program a sink.
pub(crate) const ARGUMENT: &str = "sink";

/// How many messages at QoS 1 it lets a client leave unacknowledged.
const WINDOW: u16 = 256;

/// The process. It ends when this is dropped, or whoever holds it.
pub(crate) struct Sink {
    process: Child,
    /// Where it listens, on the loopback interface.
    pub(crate) port: u16,
}

impl Sink {
    pub(crate) fn start() -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let port = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { process, port })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A subscription to this asks for so many messages, and gets them at the QoS it names.
pub(crate) fn filter(count: usize) -> String {
    format!("plant/{count}/+")
}

/// What the process does.
pub(crate) fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| Connection::new(stream?)?.run());
        }
        io::Result::Ok(())
    });
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

struct Connection {
    stream: TcpStream,
    version: Version,
    /// What is to be sent next.
    answers: Vec<u8>,
    messages: Messages,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (version, messages) = (Version::V5, Messages::default());
        Ok(Self { stream, version, answers: Vec::new(), messages })
    }

    fn run(mut self) -> io::Result<()> {
        let mut input = vec![0; 64 * 1024];
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut input[filled..])?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
            let rest = self.answer(&input[..filled]).map_err(io::Error::other)?;
            input.copy_within(filled - rest..filled, 0);
            filled = rest;
            self.stream.write_all(&self.answers)?;
            self.answers.clear();
            self.messages.send(&mut self.stream)?;
        }
    }

    /// Answers all packets that are there; gives the number of bytes of the one that is incomplete.
    fn answer(&mut self, mut input: &[u8]) -> Result<usize, String> {
        let malformed = |error| format!("{error}");
        while let Decoded::Packet { packet, len } =
            Packet::decode(self.version, input).map_err(malformed)?
        {
            input = &input[len..];
            match packet {
                Packet::Publish(Delivery { packet_id: Some(id), .. }, publish) => {
                    let puback = publish.qos == QoS::AtLeastOnce;
                    self.ack(if puback { 0x40 } else { 0x50 }, id);
                }
                Packet::Publish(..) | Packet::Disconnect(_) => {}
                Packet::PubRel(id, _) => self.ack(0x70, id),
                Packet::PubAck(..) => self.messages.due += 1,
                Packet::Connect(version, _) => {
                    self.version = version;
                    self.encode(&Packet::ConnAck(ConnAck::default()));
                }
                Packet::Subscribe(id, subscribe) => self.subscribed(id, subscribe)?,
                Packet::Unsubscribe(id, _) => {
                    let reasons = (&[ReasonCode::Success]).into();
                    let reasons = if self.version.is_v5() { reasons } else { Default::default() };
                    self.encode(&Packet::UnsubAck(id, UnsubAck { reasons, ..Default::default() }));
                }
                Packet::PingReq => self.encode(&Packet::PingResp),
                packet => return Err(format!("this is not for a sink: {packet:?}")),
            }
        }
        Ok(input.len())
    }

    fn subscribed(&mut self, id: PacketId, subscribe: Subscribe<'_>) -> Result<(), String> {
        for subscription in subscribe.subscriptions.iter() {
            let (filter, qos) = (subscription.filter.as_str(), subscription.qos);
            self.messages = Messages::new(self.version, filter, qos)
                .ok_or_else(|| format!("not a filter for a sink: {filter}"))?;
            let reasons = [ReasonCode::Success, ReasonCode::GrantedQoS1];
            let reasons = [reasons[usize::from(qos != QoS::AtMostOnce)]];
            let ack = SubAck { reasons: (&reasons).into(), ..SubAck::default() };
            self.encode(&Packet::SubAck(id, ack));
        }
        Ok(())
    }

    /// An acknowledgement of either version.
    fn ack(&mut self, first: u8, id: PacketId) {
        let [high, low] = id.get().to_be_bytes();
        self.answers.extend_from_slice(&[first, 2, high, low]);
    }

    fn encode(&mut self, packet: &Packet<'_>) {
        append(&mut self.answers, self.version, packet);
    }
}

fn append(bytes: &mut Vec<u8>, version: Version, packet: &Packet<'_>) {
    let start = bytes.len();
    bytes.resize(start + packet.encoded_len(version).expect("valid"), 0);
    packet.encode(version, &mut &mut bytes[start..]).expect("it fits");
}

/// The messages that a client has asked for.
#[derive(Default)]
struct Messages {
    /// As many packets as may be unacknowledged, to be sent over and over.
    ring: Vec<u8>,
    /// The number of bytes of each.
    len: usize,
    /// Where in the ring the next one begins.
    next: usize,
    /// How many are left to send.
    left: usize,
    /// How many may be sent now.
    due: usize,
}

impl Messages {
    fn new(version: Version, filter: &str, qos: QoS) -> Option<Self> {
        let left = filter.strip_prefix("plant/")?.strip_suffix("/+")?.parse().ok()?;
        let name = format!("plant/{left}/temperature");
        let topic = Topic::new(&name).ok()?;
        let publish = Publish { topic, payload: PAYLOAD.into(), qos, ..Publish::default() };
        let mut ring = Vec::new();
        for id in 1..=WINDOW {
            let packet_id = PacketId::new(id).filter(|_| qos != QoS::AtMostOnce);
            let packet = Packet::Publish(Delivery { packet_id, dup: false }, publish);
            append(&mut ring, version, &packet);
        }
        let len = ring.len() / usize::from(WINDOW);
        let due = if qos == QoS::AtMostOnce { left } else { WINDOW.into() };
        Some(Self { ring, len, next: 0, left, due })
    }

    fn send(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let mut count = self.left.min(self.due);
        self.left -= count;
        self.due -= count;
        while count > 0 {
            let rest = &self.ring[self.next..];
            let piece = &rest[..rest.len().min(count * self.len)];
            stream.write_all(piece)?;
            count -= piece.len() / self.len;
            self.next = (self.next + piece.len()) % self.ring.len();
        }
        Ok(())
    }
}
