//! What a connection runs over.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sockets::{Socket, Sockets};
use crate::transport::BoxedTransport;

/// What a connection runs over.
pub(super) enum Stream {
    #[cfg_attr(any(not(unix), unshared_sockets), expect(dead_code, reason = "there is none"))]
    Socket(Socket),
    /// What lies on top of a socket, or a pipe within the process.
    Layered(Box<Layered>),
}

/// What tells for itself when there is something to be done.
pub(super) struct Layered {
    transport: BoxedTransport,
    waker: Waker,
}

impl From<BoxedTransport> for Stream {
    fn from(transport: BoxedTransport) -> Self {
        Self::Layered(Box::new(Layered { transport, waker: Waker::noop().clone() }))
    }
}

impl Layered {
    fn with<R>(&mut self, poll: impl FnOnce(Pin<&mut BoxedTransport>, &mut Context<'_>) -> R) -> R {
        poll(Pin::new(&mut self.transport), &mut Context::from_waker(&self.waker))
    }
}

impl Stream {
    /// From now on the connection in this place hears when there is something to be done: through `sockets`,
    /// or else `waker` is called.
    pub(super) fn attach(
        &mut self,
        place: usize,
        sockets: &mut Sockets,
        waker: impl FnOnce() -> Waker,
    ) -> io::Result<()> {
        match self {
            Self::Socket(socket) => sockets.add(place, socket),
            Self::Layered(layered) => {
                layered.waker = waker();
                Ok(())
            }
        }
    }

    /// Reads once. How much; 0 is the end.
    pub(super) fn poll_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_read(buffer),
            Self::Layered(layered) => {
                let mut buffer = ReadBuf::new(buffer);
                let read = layered.with(|io, cx| io.poll_read(cx, &mut buffer));
                read.map_ok(|()| buffer.filled().len())
            }
        }
    }

    /// Whether there may be more to be read. If not, it will be told when there is.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.has_more(),
            Self::Layered(_) => true,
        }
    }

    pub(super) fn poll_write(&mut self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_write(pieces),
            Self::Layered(layered) => layered.with(|io, cx| io.poll_write_vectored(cx, pieces)),
        }
    }

    pub(super) fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(_) => Poll::Ready(Ok(())),
            Self::Layered(layered) => layered.with(|io, cx| io.poll_flush(cx)),
        }
    }

    pub(super) fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.shut_down()),
            Self::Layered(layered) => layered.with(|io, cx| io.poll_shutdown(cx)),
        }
    }
}
