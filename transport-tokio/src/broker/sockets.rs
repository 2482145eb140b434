//! The sockets of all connections, with one registration at the runtime for all of them: tokio takes 450 bytes
//! for each that it knows itself.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd,
    task::{Context, Poll},
    time::Duration,
};

use mio::{
    Events, Interest, Token,
    event::Event,
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio::io::{Interest as Wanted, unix::AsyncFd};

use super::stream::Stream;
#[cfg(any(feature = "tls", feature = "websocket"))]
use crate::transport::BoxedTransport;

/// How many are heard of at once.
const EVENTS: usize = 512;

/// Whether a short read or write tells that there is no more, because what comes afterwards is told anew.
const IS_TOLD_ANEW: bool = cfg!(any(
    target_os = "android",
    target_os = "illumos",
    target_os = "linux",
    target_vendor = "apple",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
));

/// A TCP port. Of what is accepted there the runtime does not know.
#[derive(Debug)]
pub(super) struct Port(AsyncFd<TcpListener>);

/// A connection as it has been accepted.
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

/// All sockets. Nothing is asked of the runtime before there is one.
#[derive(Default)]
pub(super) struct Sockets(Option<Selector>);

struct Selector {
    poll: AsyncFd<mio::Poll>,
    events: Events,
}

/// A socket, and what has been heard of it.
pub(super) struct Socket {
    io: Io,
    is_readable: bool,
    is_writable: bool,
    /// The other end says nothing more.
    is_ended: bool,
}

enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Does the same with each kind of socket.
macro_rules! each {
    ($io:expr, $socket:ident => $do:expr) => {
        match $io {
            Io::Tcp($socket) => $do,
            Io::Unix($socket) => $do,
        }
    };
}

impl Port {
    pub(super) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        registered(TcpListener::from_std(listener.into_std()?)).map(Self)
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
                return accepted;
            }
        }
    }
}

impl Raw {
    /// What MQTT runs over.
    pub(super) fn plain(self) -> io::Result<Stream> {
        let io = match self {
            Self::Tcp(stream) => Io::Tcp(stream),
            Self::Unix(stream) => Io::Unix(UnixStream::from_std(stream.into_std()?)),
        };
        Ok(Stream::Socket(Socket { io, is_readable: false, is_writable: false, is_ended: false }))
    }

    /// What something else runs over, which the runtime listens to.
    #[cfg(any(feature = "tls", feature = "websocket"))]
    pub(super) fn boxed(self) -> io::Result<BoxedTransport> {
        Ok(match self {
            Self::Tcp(stream) => Box::new(tokio::net::TcpStream::from_std(stream.into())?),
            Self::Unix(stream) => Box::new(stream),
        })
    }
}

impl Sockets {
    /// Listens to one more, which is the one in this place.
    pub(super) fn add(&mut self, place: usize, socket: &mut Socket) -> io::Result<()> {
        let selector = match &mut self.0 {
            Some(selector) => selector,
            none => none.insert(Selector::new()?),
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = selector.poll.get_ref().registry();
        each!(&mut socket.io, io => registry.register(io, Token(place), interest))
    }

    /// Tells of which there is news, and has the task woken when there is more: as long as it comes quicker
    /// than it is told, nobody would be served.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, told: impl FnMut(News)) {
        let Some(Selector { poll, events }) = &mut self.0 else { return };
        let Poll::Ready(Ok(mut ready)) = poll.poll_read_ready_mut(cx) else { return };
        let is_all = listen(ready.get_inner_mut(), events);
        events.iter().map(News::from).for_each(told);
        if is_all {
            ready.clear_ready();
            if poll.poll_read_ready_mut(cx).is_pending() {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Tells of which there is news just now.
    pub(super) fn look(&mut self, told: impl FnMut(News)) {
        let Some(Selector { poll, events }) = &mut self.0 else { return };
        listen(poll.get_mut(), events);
        events.iter().map(News::from).for_each(told);
    }
}

impl Selector {
    fn new() -> io::Result<Self> {
        Ok(Self { poll: registered(mio::Poll::new()?)?, events: Events::with_capacity(EVENTS) })
    }
}

/// Something of mio's that the runtime listens to.
#[allow(deprecated, reason = "for values whose descriptor may change, unlike those of mio")]
fn registered<T: AsRawFd>(value: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(value, Wanted::READABLE)
}

/// Hears what there is to be heard. Whether that is all.
fn listen(poll: &mut mio::Poll, events: &mut Events) -> bool {
    match poll.poll(events, Some(Duration::ZERO)) {
        Ok(()) => events.iter().count() < EVENTS,
        Err(error) => {
            events.clear();
            error.kind() != ErrorKind::Interrupted
        }
    }
}

/// What is heard of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    /// The place of the connection that it is about.
    pub(super) place: usize,
    is_readable: bool,
    is_writable: bool,
    /// The other end says nothing more.
    is_ended: bool,
}

impl From<&Event> for News {
    fn from(event: &Event) -> Self {
        Self {
            place: event.token().0,
            is_readable: event.is_readable() || event.is_error(),
            is_writable: event.is_writable() || event.is_error(),
            is_ended: event.is_read_closed(),
        }
    }
}

impl Socket {
    /// Takes notice.
    pub(super) fn hear(&mut self, news: News) {
        self.is_readable |= news.is_readable;
        self.is_writable |= news.is_writable;
        self.is_ended |= news.is_ended;
    }

    /// Reads once. How much; 0 is the end.
    pub(super) fn poll_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.has_more() {
            match each!(&mut self.io, io => io.read(buffer)) {
                Ok(len) => {
                    let is_short = IS_TOLD_ANEW && len > 0 && len < buffer.len();
                    self.is_readable &= !is_short;
                    return Poll::Ready(Ok(len));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    (self.is_readable, self.is_ended) = (false, false);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    /// Whether there may be more to be read. If not, there will be news when there is.
    pub(super) fn has_more(&self) -> bool {
        self.is_readable || self.is_ended
    }

    pub(super) fn poll_write(&mut self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while self.is_writable {
            match each!(&mut self.io, io => io.write_vectored(pieces)) {
                Ok(len) => {
                    let all: usize = pieces.iter().map(|piece| piece.len()).sum();
                    self.is_writable &= !(IS_TOLD_ANEW && len > 0 && len < all);
                    return Poll::Ready(Ok(len));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    /// Nothing more is written.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        match each!(&self.io, io => io.shutdown(Shutdown::Write)) {
            // The other end was quicker.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}
