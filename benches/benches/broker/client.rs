//! A client of few words: its packets are made beforehand, and of those it gets it looks at the first
//! bytes only.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use mqtt_core::{
    Connect, Filter, PacketId, Publish, QoS, Subscribe, Subscription, Text, Topic, Version,
    wire::{Delivery, Packet},
};

/// Payloads are so long.
pub(crate) const PAYLOAD: usize = 64;

/// All clients speak the version that all brokers do.
const VERSION: Version = Version::V3_1_1;

pub(crate) fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len(VERSION).expect("a packet")];
    packet.encode(VERSION, &mut &mut bytes[..]).expect("it fits");
    bytes
}

pub(crate) fn connect(name: &str) -> Vec<u8> {
    let client_id = Text::new(name).expect("text");
    bytes(&Packet::Connect(VERSION, Connect { client_id, ..Connect::default() }))
}

pub(crate) fn subscribe(filter: &str, qos: QoS) -> Vec<u8> {
    let wanted = [Subscription::new(Filter::new(filter).expect("a filter"), qos)];
    bytes(&Packet::Subscribe(PacketId::FIRST, Subscribe::from(&wanted)))
}

pub(crate) fn publish(topic: &str, qos: QoS, id: usize) -> Vec<u8> {
    let packet_id = PacketId::new(id as u16).filter(|_| qos > QoS::AtMostOnce);
    let topic = Topic::new(topic).expect("a topic");
    let payload = (&[b'x'; PAYLOAD]).into();
    let publish = Publish { topic, qos, payload, ..Publish::default() };
    bytes(&Packet::Publish(Delivery { packet_id, dup: false }, publish))
}

pub(crate) const DISCONNECT: &[u8] = b"\xe0\0";

/// A connection over which CONNECT, and then these packets, have been sent and answered.
pub(crate) fn admitted(to: SocketAddr, name: &str, then: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect(name))?;
    expect(&stream, 0x20)?;
    if !then.is_empty() {
        stream.write_all(then)?;
        expect(&stream, 0x90)?;
    }
    Ok(stream)
}

/// Reads a short packet that begins with this byte.
pub(crate) fn expect(mut stream: &TcpStream, first: u8) -> io::Result<()> {
    let mut header = [0; 2];
    stream.read_exact(&mut header)?;
    let mut body = [0; 127];
    let body = &mut body[..usize::from(header[1] & 0x7f)];
    stream.read_exact(body)?;
    // The last byte of both is the reason.
    if header[0] == first && body.last().is_some_and(|reason| *reason < 0x80) {
        return Ok(());
    }
    Err(io::Error::other(format!("{header:02x?} {body:02x?} instead of {first:02x}")))
}

/// One end of a load, which never blocks.
pub(crate) struct Client {
    pub(crate) stream: mio::net::TcpStream,
    /// The beginning of a packet that has not come whole.
    part: Vec<u8>,
    /// What is to be written, from the offset on.
    out: Vec<u8>,
    written: usize,
    /// Its publishes, as many as may be on their way, sent over and over.
    ring: Vec<Vec<u8>>,
    next: usize,
    pub(crate) sent: usize,
    /// How many of those have been acknowledged, to the end.
    pub(crate) completed: usize,
    /// How many messages have come.
    pub(crate) received: usize,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, ring: Vec<Vec<u8>>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: mio::net::TcpStream::from_std(stream),
            part: Vec::new(),
            out: Vec::new(),
            written: 0,
            ring,
            next: 0,
            sent: 0,
            completed: 0,
            received: 0,
        })
    }

    /// Publishes so many messages.
    pub(crate) fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.out.extend_from_slice(&self.ring[self.next]);
            self.next += 1;
            if self.next == self.ring.len() {
                self.next = 0;
            }
        }
        self.sent += count;
    }

    /// Writes what there is to be written, as far as the socket takes it.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads all there is, and answers it.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut input = &buffer[..count];
            // The rest of a packet that was cut: few bytes at a time are moved.
            while !self.part.is_empty() && !input.is_empty() {
                let missing = packet_len(&self.part).map_or(1, |len| len - self.part.len());
                let taken = missing.min(input.len());
                self.part.extend_from_slice(&input[..taken]);
                input = &input[taken..];
                if packet_len(&self.part).is_some_and(|len| len == self.part.len()) {
                    let mut part = std::mem::take(&mut self.part);
                    self.take(&part);
                    part.clear();
                    self.part = part;
                }
            }
            while let Some(len) = packet_len(input).filter(|len| *len <= input.len()) {
                self.take(&input[..len]);
                input = &input[len..];
            }
            self.part.extend_from_slice(input);
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes a packet.
    fn take(&mut self, packet: &[u8]) {
        let answer = match packet[0] & 0xf6 {
            0x30 => {
                self.received += 1;
                return;
            }
            0x32 => 0x40,
            0x34 => 0x50,
            0x50 => 0x62,
            0x62 => 0x70,
            0x40 | 0x70 => {
                self.completed += 1;
                return;
            }
            other => panic!("nobody asked for {other:02x}"),
        };
        // Where the identifier is: behind the topic, if there is one.
        let mut at = 2;
        if packet[0] & 0xf0 == 0x30 {
            self.received += 1;
            at = 1 + packet[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
            at += 2 + usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        }
        self.out.extend_from_slice(&[answer, 2, packet[at], packet[at + 1]]);
    }
}

/// How long the packet is that begins here. `None` if that cannot be told yet.
fn packet_len(input: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (index, byte) in input.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Some(2 + index + len);
        }
    }
    None
}
