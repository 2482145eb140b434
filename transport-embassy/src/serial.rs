//! MQTT over a serial line, for boards without a network: a line that knows where a connection begins and ends, and
//! the [`bridge`] at its other end.
//!
//! Bytes pass as they are but for `0xdb`, which is doubled. `0xdb`, an `O` and a number ask for a connection, and tell
//! that there is one; with a `C` it has ended. So nothing of an earlier connection is taken for a part of the next,
//! whichever side was reset. The line itself has to be reliable: flow control, or speed enough. A byte that is lost all
//! the same ends the connection sooner or later, and the client connects again.
//!
//! ```
//! use embedded_io_async::{Read, Write};
//! use transport_embassy::{ConnectionError, Runner, Sizes, serial::Line};
//!
//! async fn run<R: Sizes>(
//!     mut runner: Runner<'_, R>,
//!     rx: impl Read, // of a UART that is split
//!     tx: impl Write,
//! ) -> Result<(), ConnectionError> {
//!     runner.run(Line::new(rx, tx)).await
//! }
//! ```

use core::fmt;

use embassy_futures::select::{Either, select};
use embassy_time::Instant;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

use crate::connector::{Connection, Connector};

const ESCAPE: u8 = 0xdb;
const OPEN: u8 = b'O';
const CLOSE: u8 = b'C';
const NOTHING: u8 = b'X';

/// How much is taken from the line, and given to it, at once.
const CHUNK: usize = 64;

/// The board's end of a serial line: a [`Connector`] that asks the [bridge] for a connection to the server.
pub struct Line<R, W> {
    receiver: Receiver<R>,
    sender: Sender<W>,
}

impl<R: Read, W: Write> Line<R, W> {
    /// A line by its two halves.
    pub const fn new(rx: R, tx: W) -> Self {
        Self { receiver: Receiver::new(rx), sender: Sender(tx) }
    }
}

impl<R, W> fmt::Debug for Line<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl<R: Read, W: Write> Connector for Line<R, W> {
    type Error = Error;
    type Connection<'c>
        = (&'c mut Receiver<R>, &'c mut Sender<W>)
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<(&mut Receiver<R>, &mut Sender<W>), Error> {
        let Self { receiver, sender } = self;
        // Another than of late, also after a reset.
        receiver.number = receiver.number.wrapping_add(Instant::now().as_ticks() as u8 | 1);
        sender.say(OPEN, receiver.number).await?;
        let mut before = [0; CHUNK];
        loop {
            match receiver.take(&mut before).await? {
                Taken::Open(number) if number == receiver.number => return Ok((receiver, sender)),
                Taken::Close(number) if number == receiver.number => {
                    return Err(Error(ErrorKind::ConnectionRefused));
                }
                Taken::End => return Err(Error(ErrorKind::BrokenPipe)),
                _ => {} // of an earlier connection
            }
        }
    }

    async fn close(&mut self) {
        let _ = self.sender.say(CLOSE, self.receiver.number).await;
    }
}

/// Connects a serial line to a server as the board at its other end asks for it. Ends when the line does.
///
/// # Errors
///
/// [`Error`] if the line fails.
pub async fn bridge<C: Connector>(
    rx: impl Read,
    tx: impl Write,
    mut server: C,
) -> Result<(), Error> {
    let (mut receiver, mut sender) = (Receiver::new(rx), Sender(tx));
    let mut asked = false;
    loop {
        let mut idle = [0; CHUNK];
        while !asked {
            match receiver.take(&mut idle).await? {
                Taken::Open(number) => (receiver.number, asked) = (number, true),
                Taken::End => return Ok(()),
                _ => {}
            }
        }
        let number = receiver.number;
        let mut end = Taken::Close(number);
        if let Ok(mut connection) = server.connect().await {
            sender.say(OPEN, number).await?;
            let (mut from_server, mut to_server) = connection.split();
            let up = carry_up(&mut receiver, &mut to_server);
            match select(up, carry_down(&mut from_server, &mut sender)).await {
                Either::First(taken) => end = taken?,
                Either::Second(result) => result?,
            }
        }
        server.close().await;
        asked = false;
        match end {
            Taken::Open(number) => (receiver.number, asked) = (number, true),
            Taken::End => return Ok(()),
            _ => sender.say(CLOSE, number).await?,
        }
    }
}

/// Carries bytes to the server, until the board says something else, or the server takes no more.
async fn carry_up(receiver: &mut Receiver<impl Read>, to: &mut impl Write) -> Result<Taken, Error> {
    let mut bytes = [0; CHUNK];
    loop {
        match receiver.take(&mut bytes).await? {
            Taken::Bytes(count) => {
                let bytes = bytes.get(..count).unwrap_or_default();
                if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
                    return Ok(Taken::Close(receiver.number));
                }
            }
            Taken::Close(number) if number != receiver.number => {}
            end => return Ok(end),
        }
    }
}

/// Carries bytes to the board, until the server gives no more.
async fn carry_down(from: &mut impl Read, sender: &mut Sender<impl Write>) -> Result<(), Error> {
    let mut bytes = [0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        sender.write_all(bytes.get(..count).unwrap_or_default()).await?;
        sender.flush().await?;
    }
    Ok(())
}

/// The line has failed, or the bridge cannot connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Error(ErrorKind);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial line: {:?}", self.0)
    }
}

impl core::error::Error for Error {}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

fn failed(error: impl embedded_io_async::Error) -> Error {
    Error(error.kind())
}

/// What comes over a line.
pub struct Receiver<R> {
    rx: R,
    chunk: [u8; CHUNK],
    start: usize,
    end: usize,
    /// What has been read of something else.
    escape: Escape,
    /// The connection's.
    number: u8,
    /// Something else than bytes that came behind them.
    next: Option<Taken>,
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Bytes(usize),
    /// With the connection's number.
    Open(u8),
    Close(u8),
    /// There is no line any more.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Escaped,
    Open,
    Close,
}

impl<R: Read> Receiver<R> {
    const fn new(rx: R) -> Self {
        Self {
            rx,
            chunk: [0; CHUNK],
            start: 0,
            end: 0,
            escape: Escape::None,
            number: 0,
            next: None,
        }
    }

    /// Takes what comes next. Dropping the future loses nothing if that of the line does not.
    async fn take(&mut self, buf: &mut [u8]) -> Result<Taken, Error> {
        loop {
            if let Some(next) = self.next.take() {
                return Ok(next);
            }
            let count = self.decode(buf);
            if count > 0 {
                return Ok(Taken::Bytes(count));
            }
            if self.next.is_none() {
                let count = self.rx.read(&mut self.chunk).await.map_err(failed)?;
                (self.start, self.end) = (0, count);
                if count == 0 {
                    return Ok(Taken::End);
                }
            }
        }
    }

    /// Decodes bytes up to something else. How many.
    fn decode(&mut self, buf: &mut [u8]) -> usize {
        let mut count = 0;
        while let Some(place) = buf.get_mut(count)
            && let Some(byte) = self.chunk.get(self.start..self.end).and_then(<[u8]>::first)
        {
            self.start += 1;
            match (core::mem::take(&mut self.escape), *byte) {
                (Escape::None, ESCAPE) => self.escape = Escape::Escaped,
                (Escape::None, byte) | (Escape::Escaped, byte @ ESCAPE) => {
                    *place = byte;
                    count += 1;
                }
                (Escape::Escaped, OPEN) => self.escape = Escape::Open,
                (Escape::Escaped, CLOSE) => self.escape = Escape::Close,
                (Escape::Escaped, _) => {} // nothing
                (Escape::Open, number) => self.next = Some(Taken::Open(number)),
                (Escape::Close, number) => self.next = Some(Taken::Close(number)),
            }
            if self.next.is_some() {
                break;
            }
        }
        count
    }
}

impl<R> fmt::Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<R> ErrorType for Receiver<R> {
    type Error = Error;
}

impl<R: Read> Read for Receiver<R> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.take(buf).await? {
                Taken::Bytes(count) => return Ok(count),
                Taken::Close(number) if number == self.number => return Ok(0),
                Taken::End => return Ok(0),
                _ => {} // of an earlier connection
            }
        }
    }
}

/// What goes over a line.
pub struct Sender<W>(W);

impl<W: Write> Sender<W> {
    /// Says something else than bytes, after what ends anything that was cut off.
    async fn say(&mut self, what: u8, number: u8) -> Result<(), Error> {
        self.0.write_all(&[ESCAPE, NOTHING, ESCAPE, what, number]).await.map_err(failed)?;
        self.0.flush().await.map_err(failed)
    }
}

impl<W> fmt::Debug for Sender<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<W> ErrorType for Sender<W> {
    type Error = Error;
}

impl<W: Write> Write for Sender<W> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
        let mut encoded = heapless::Vec::<u8, CHUNK>::new();
        let mut taken = 0;
        for byte in buf {
            let twice = *byte == ESCAPE;
            if encoded.len() + 1 + usize::from(twice) > CHUNK {
                break;
            }
            // There is room.
            let _ = encoded.push(*byte);
            let _ = if twice { encoded.push(*byte) } else { Ok(()) };
            taken += 1;
        }
        self.0.write_all(&encoded).await.map_err(failed)?;
        Ok(taken)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.0.flush().await.map_err(failed)
    }
}
