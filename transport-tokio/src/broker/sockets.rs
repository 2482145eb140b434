//! The sockets of all connections, with one registration at the runtime for all of them: one of tokio's
//! takes 450 bytes, and says no more than this one does.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::Shutdown,
    task::{Context, Poll},
    time::Duration,
};

use mio::{Events, Interest, Token, event::Event};
use tokio::io::{Interest as Wanted, unix::AsyncFd};

use super::{listener::Raw, stream::Stream};

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
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
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

    /// Tells of which there is news, and has the task woken when there is more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut told: impl FnMut(News)) {
        let Some(Selector { poll, events }) = &mut self.0 else { return };
        while let Poll::Ready(Ok(mut ready)) = poll.poll_read_ready_mut(cx) {
            let is_all = listen(ready.get_inner_mut(), events);
            events.iter().map(News::from).for_each(&mut told);
            if !is_all {
                return cx.waker().wake_by_ref();
            }
            ready.clear_ready();
        }
    }

    /// Tells of which there is news just now.
    pub(super) fn look(&mut self, told: impl FnMut(News)) {
        let Some(Selector { poll, events }) = &mut self.0 else { return };
        listen(poll.get_mut(), events);
        events.iter().map(News::from).for_each(told);
    }
}

impl Selector {
    #[allow(deprecated, reason = "for values whose descriptor may change, unlike this one's")]
    fn new() -> io::Result<Self> {
        let poll = AsyncFd::with_interest(mio::Poll::new()?, Wanted::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS) })
    }
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

/// What runs over a socket as it is.
pub(super) fn stream(raw: Raw) -> io::Result<Stream> {
    let io = match raw {
        Raw::Tcp(stream) => Io::Tcp(mio::net::TcpStream::from_std(stream.into_std()?)),
        Raw::Unix(stream) => Io::Unix(mio::net::UnixStream::from_std(stream.into_std()?)),
    };
    Ok(Stream::Socket(Socket { io, is_readable: false, is_writable: false, is_ended: false }))
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
