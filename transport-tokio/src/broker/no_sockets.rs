//! Where sockets cannot have one registration at the runtime together: each is a transport that tells for
//! itself.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    net::SocketAddr,
    task::{Context, Poll},
};

use tokio::net::{TcpListener, TcpStream};

use super::stream::Stream;
use crate::transport::BoxedTransport;

/// A TCP port.
#[derive(Debug)]
pub(super) struct Port(TcpListener);

/// A connection as it has been accepted.
pub(super) enum Raw {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Port {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self(listener))
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

impl Raw {
    /// What MQTT runs over.
    pub(super) fn plain(self) -> io::Result<Stream> {
        self.boxed().map(Stream::from)
    }

    /// What something else runs over.
    pub(super) fn boxed(self) -> io::Result<BoxedTransport> {
        Ok(match self {
            Self::Tcp(stream) => Box::new(stream),
            #[cfg(unix)]
            Self::Unix(stream) => Box::new(stream),
        })
    }
}

/// None.
#[derive(Default)]
pub(super) struct Sockets(());

/// There is none.
pub(super) struct Socket(Infallible);

/// There is none.
#[derive(Clone, Copy)]
pub(super) struct News {
    pub(super) place: usize,
    _none: Infallible,
}

impl Sockets {
    pub(super) fn add(&mut self, _: usize, socket: &mut Socket) -> io::Result<()> {
        match socket.0 {}
    }

    pub(super) fn poll(&mut self, _: &mut Context<'_>, _: impl FnMut(News)) {}

    pub(super) fn look(&mut self, _: impl FnMut(News)) {}
}

impl Socket {
    pub(super) fn hear(&mut self, _: News) {
        match self.0 {}
    }

    pub(super) fn poll_read(&mut self, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(super) fn has_more(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn poll_write(&mut self, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(super) fn shut_down(&self) -> io::Result<()> {
        match self.0 {}
    }
}
