//! A connection's bytes on their way, in both directions.

use std::collections::VecDeque;

use mqtt_core::Instant;

use crate::rng::Rng;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What a wire does to the bytes it carries. It loses and changes none: it is TCP.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The longest piece that arrives at once; pieces are of random length up to it.
    pub piece: usize,
    /// The longest a piece takes, in milliseconds.
    pub delay: u64,
    /// How many bytes may be on their way in one direction.
    pub window: usize,
}

impl Weather {
    /// Everything arrives at once and whole.
    pub const CALM: Self = Self { piece: usize::MAX, delay: 0, window: usize::MAX };
    /// Everything arrives at once, a byte at a time.
    pub const BYTES: Self = Self { piece: 1, delay: 0, window: usize::MAX };
}

/// A hostile wire: splits, delays, stalls, and cuts after any byte in either direction.
#[derive(Debug)]
pub struct Wire {
    /// May be changed at any time.
    pub weather: Weather,
    rng: Rng,
    up: Pipe,
    down: Pipe,
    open: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    carried: usize,
    cut_after: Option<usize>,
    finished: bool,
}

impl Wire {
    /// A wire that is not connected yet.
    pub fn new(seed: u64, weather: Weather) -> Self {
        let (up, down) = (Pipe::default(), Pipe::default());
        Self { weather, rng: Rng::new(seed), up, down, open: false }
    }

    /// Connects anew; what was on its way is gone.
    pub fn open(&mut self) {
        (self.up, self.down) = (Pipe::default(), Pipe::default());
        self.open = true;
    }

    /// Cuts the connection now: what is on its way is lost.
    pub fn cut(&mut self) {
        (self.up, self.down) = (Pipe::default(), Pipe::default());
        self.open = false;
    }

    /// Cuts the connection once `bytes` bytes of it have arrived in this direction.
    pub fn cut_after(&mut self, direction: Direction, bytes: usize) {
        self.pipe(direction).cut_after = Some(bytes);
    }

    /// How many bytes it takes now.
    pub fn room(&mut self, direction: Direction) -> usize {
        let window = self.weather.window;
        if self.open { window.saturating_sub(self.pipe(direction).in_flight) } else { 0 }
    }

    /// Takes bytes, as many as it has [room](Self::room) for.
    pub fn send(&mut self, direction: Direction, now: Instant, mut bytes: &[u8]) {
        let weather = self.weather;
        while !bytes.is_empty() {
            let longest = bytes.len().min(weather.piece) as u64;
            let len = if longest == bytes.len() as u64 && weather.piece == usize::MAX {
                bytes.len()
            } else {
                1 + self.rng.below(longest) as usize
            };
            let (piece, rest) = bytes.split_at(len);
            let delay = if weather.delay > 0 { self.rng.below(weather.delay + 1) } else { 0 };
            let pipe = self.pipe(direction);
            let at = pipe.pieces.back().map_or(now, |(at, _)| now.max(*at));
            pipe.pieces.push_back((at.max(now + delay), piece.to_vec()));
            pipe.in_flight += len;
            bytes = rest;
        }
    }

    /// Gives what has arrived next, at most `room` bytes.
    pub fn receive(&mut self, direction: Direction, now: Instant, room: usize) -> Option<Vec<u8>> {
        if !self.open || room == 0 {
            return None;
        }
        let pipe = self.pipe(direction);
        let left = pipe.cut_after.map_or(usize::MAX, |at| at.saturating_sub(pipe.carried));
        let room = room.min(left);
        let mut piece = if room == 0 { None } else { pipe.take(now, room) };
        if let Some(piece) = &mut piece {
            pipe.carried += piece.len();
            pipe.in_flight -= piece.len();
        }
        let cut = pipe.cut_after.is_some_and(|at| pipe.carried >= at);
        if cut || pipe.finished && pipe.pieces.is_empty() {
            self.cut();
        }
        piece
    }

    /// The sender has closed: when everything has arrived, the connection ends.
    pub fn finish(&mut self, direction: Direction) {
        self.pipe(direction).finished = true;
        if self.pipe(direction).pieces.is_empty() {
            self.cut();
        }
    }

    /// Whether it is connected.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// How many bytes have arrived in this direction.
    pub fn carried(&mut self, direction: Direction) -> usize {
        self.pipe(direction).carried
    }

    /// When the next piece arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        let next = |pipe: &Pipe| pipe.pieces.front().map(|(at, _)| *at);
        [next(&self.up), next(&self.down)].into_iter().flatten().min()
    }

    const fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

impl Pipe {
    fn take(&mut self, now: Instant, room: usize) -> Option<Vec<u8>> {
        let (at, piece) = self.pieces.front_mut()?;
        if *at > now {
            return None;
        }
        if piece.len() > room {
            let rest = piece.split_off(room);
            return Some(std::mem::replace(piece, rest));
        }
        self.pieces.pop_front().map(|(_, piece)| piece)
    }
}
