//! Where sockets cannot have one registration at the runtime together: each is a transport that tells for
//! itself.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    task::{Context, Poll},
};

use super::{listener::Raw, stream::Stream};
use crate::transport::BoxedTransport;

/// What runs over a socket as it is.
pub(super) fn stream(raw: Raw) -> io::Result<Stream> {
    Ok(BoxedTransport::from(raw).into())
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
