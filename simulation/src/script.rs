//! A server that does what the test tells it, and nothing else.

use std::collections::VecDeque;

use mqtt_core::{
    ConnAck, Instant, Version,
    wire::{Decoded, Packet},
};

use crate::{event::keep_packet, pair::End};

/// A server that records what it is sent and sends what it is given.
#[derive(Debug)]
pub struct Script {
    /// The packets that came, oldest first.
    pub received: VecDeque<Packet<'static>>,
    /// With what a CONNECT is answered, if at once.
    pub greeting: Option<ConnAck<'static>>,
    version: Version,
    rx: Vec<u8>,
    out: Vec<u8>,
    closing: bool,
}

impl Script {
    /// A server that accepts connections on these terms.
    pub fn new(version: Version, greeting: ConnAck<'static>) -> Self {
        let (received, greeting) = (VecDeque::new(), Some(greeting));
        Self { received, greeting, version, rx: Vec::new(), out: Vec::new(), closing: false }
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: &Packet<'_>) {
        let len = packet.encoded_len(self.version).expect("a packet that can be sent");
        let start = self.out.len();
        self.out.resize(start + len, 0);
        packet.encode(self.version, &mut &mut self.out[start..]).expect("room for it");
    }

    /// Sends bytes, whatever they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Closes the connection once everything is sent.
    pub const fn close(&mut self) {
        self.closing = true;
    }

    /// The oldest packet that was not asked for yet.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn packet(&mut self) -> Packet<'static> {
        self.received.pop_front().expect("a packet")
    }

    /// Whether there is none.
    pub fn is_quiet(&self) -> bool {
        self.received.is_empty()
    }
}

impl End for Script {
    fn opened(&mut self, _: Instant) {
        self.received.clear();
    }

    fn room(&self) -> usize {
        usize::MAX
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.rx.extend_from_slice(bytes);
    }

    fn poll(&mut self, _: Instant) -> bool {
        let before = (self.rx.len(), self.out.len());
        loop {
            let decoded = Packet::decode(self.version, &self.rx).expect("a valid packet");
            let Decoded::Packet { packet, len } = decoded else { break };
            self.received.push_back(keep_packet(self.version, &packet));
            self.rx.drain(..len);
            if let (Some(Packet::Connect(..)), Some(greeting)) =
                (self.received.back(), self.greeting)
            {
                self.received.pop_back();
                self.send(&Packet::ConnAck(greeting));
            }
        }
        before != (self.rx.len(), self.out.len())
    }

    fn unsent(&self) -> &[u8] {
        &self.out
    }

    fn sent(&mut self, len: usize) {
        self.out.drain(..len);
    }

    fn is_closing(&self) -> bool {
        self.closing
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn lost(&mut self, _: Instant) {
        self.rx.clear();
        self.out.clear();
        self.closing = false;
    }
}
