//! Two ends, a wire and a clock.

use mqtt_core::Instant;

use crate::{
    clock::Clock,
    wire::{Direction, Weather, Wire},
};

/// One end of a connection: bytes in, bytes out, and time.
pub trait End {
    /// The connection is open.
    fn opened(&mut self, now: Instant);

    /// How many bytes it can hold now.
    fn room(&self) -> usize;

    /// Bytes have arrived, at most as many as there is [room](Self::room) for.
    fn receive(&mut self, bytes: &[u8]);

    /// Does all that can be done. Whether that was anything.
    fn poll(&mut self, now: Instant) -> bool;

    /// The bytes that wait to be sent.
    fn unsent(&self) -> &[u8];

    /// The first `len` of them are on their way.
    fn sent(&mut self, len: usize);

    /// Whether it wants the connection closed once its bytes are on their way.
    fn is_closing(&self) -> bool;

    /// When it wants to be polled though nothing has arrived.
    fn deadline(&self) -> Option<Instant>;

    /// The connection is gone.
    fn lost(&mut self, now: Instant);
}

/// A client and a server, joined by a [`Wire`], on one [`Clock`].
#[derive(Debug)]
pub struct Pair<C, S> {
    /// Their clock.
    pub clock: Clock,
    /// Their wire.
    pub wire: Wire,
    /// One end.
    pub client: C,
    /// The other.
    pub server: S,
}

impl<C: End, S: End> Pair<C, S> {
    /// Two ends that are not connected.
    pub fn new(client: C, server: S) -> Self {
        Self { clock: Clock::new(), wire: Wire::new(0, Weather::CALM), client, server }
    }

    /// Connects the wire.
    pub fn open(&mut self) {
        self.wire.open();
        self.client.opened(self.clock.now());
        self.server.opened(self.clock.now());
    }

    /// Cuts the wire now, and tells both ends.
    pub fn cut(&mut self) {
        self.wire.cut();
        self.client.lost(self.clock.now());
        self.server.lost(self.clock.now());
    }

    /// A round: what has arrived is received, both ends work, what they wrote is sent. Whether
    /// anything happened.
    pub fn step(&mut self) -> bool {
        let now = self.clock.now();
        let was_open = self.wire.is_open();
        let mut moved = false;
        if let Some(bytes) = self.wire.receive(Direction::Up, now, self.server.room()) {
            self.server.receive(&bytes);
            moved = true;
        }
        if let Some(bytes) = self.wire.receive(Direction::Down, now, self.client.room()) {
            self.client.receive(&bytes);
            moved = true;
        }
        moved |= self.server.poll(now);
        moved |= self.client.poll(now);
        moved |= carry(&mut self.client, &mut self.wire, Direction::Up, now);
        moved |= carry(&mut self.server, &mut self.wire, Direction::Down, now);
        if was_open && !self.wire.is_open() {
            self.client.lost(now);
            self.server.lost(now);
            moved = true;
        }
        moved
    }

    /// Rounds until nothing happens any more without time.
    pub fn drive(&mut self) {
        let mut rounds = 0_u32;
        while self.step() {
            rounds += 1;
            assert!(rounds < 5_000_000, "they do not come to rest");
        }
    }

    /// Lets time pass, with everything that happens meanwhile.
    pub fn run(&mut self, millis: u64) {
        let end = self.clock.now() + millis;
        self.drive();
        while let Some(next) = self.next_moment()
            && next <= end
            && self.clock.now() < end
        {
            // A deadline that has passed and changes nothing must not stop the clock.
            self.clock.advance_to(next.max(self.clock.now() + 1));
            self.drive();
        }
        self.clock.advance_to(end);
        self.drive();
    }

    /// When the next thing happens by itself.
    pub fn next_moment(&self) -> Option<Instant> {
        let moments = [self.wire.next_arrival(), self.client.deadline(), self.server.deadline()];
        moments.into_iter().flatten().min()
    }
}

fn carry(end: &mut impl End, wire: &mut Wire, direction: Direction, now: Instant) -> bool {
    let len = end.unsent().len().min(wire.room(direction));
    if len > 0 {
        wire.send(direction, now, &end.unsent()[..len]);
        end.sent(len);
    }
    if end.is_closing() && end.unsent().is_empty() && wire.is_open() {
        wire.finish(direction);
    }
    len > 0
}
