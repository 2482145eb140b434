//! Writing to the transport.

use core::{future::poll_fn, task::Poll};

use embedded_io_async::{Error as _, ErrorKind, Write};

use crate::{
    error::ConnectionError,
    outbox::OutboxSize,
    resources::{Resources, Sizes},
};

/// How much is written at once. A transport with a buffer of its own joins the pieces.
const CHUNK: usize = 256;

/// Bytes that have been taken out of the outbox, so that it can be written to meanwhile.
pub(crate) struct Transmitter<'a, R: Sizes> {
    resources: &'a Resources<R>,
    chunk: [u8; CHUNK],
    start: usize,
    end: usize,
    unflushed: bool,
}

impl<'a, R: Sizes> Transmitter<'a, R> {
    pub(crate) const fn new(resources: &'a Resources<R>) -> Self {
        Self { resources, chunk: [0; CHUNK], start: 0, end: 0, unflushed: false }
    }

    /// Writes what there is to write, until that fails.
    pub(crate) async fn transmit(&mut self, writer: &mut impl Write) -> ConnectionError {
        loop {
            if let Err(error) = self.drain(writer).await {
                return error;
            }
            poll_fn(|cx| {
                self.resources.with(|state| {
                    state.runner.register(cx.waker());
                    if state.out.is_empty() { Poll::Pending } else { Poll::Ready(()) }
                })
            })
            .await;
        }
    }

    /// Writes what there is now.
    pub(crate) async fn drain(&mut self, writer: &mut impl Write) -> Result<(), ConnectionError> {
        while self.fill() {
            while let Some(bytes @ [_, ..]) = self.chunk.get(self.start..self.end) {
                self.unflushed = true;
                match writer.write(bytes).await {
                    Ok(0) => return Err(ConnectionError::Transport(ErrorKind::WriteZero)),
                    Ok(count) => self.start += count,
                    Err(error) => return Err(ConnectionError::Transport(error.kind())),
                }
            }
        }
        if self.unflushed {
            writer.flush().await.map_err(|error| ConnectionError::Transport(error.kind()))?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Whether there is something to write.
    fn fill(&mut self) -> bool {
        if self.start < self.end {
            return true;
        }
        (self.start, self.end) = (0, 0);
        self.resources.with(|state| {
            self.end = state.out.take(&mut self.chunk);
            if self.end > 0 {
                state.made_room();
                state.wake_runner(); // there may be more to say
            }
        });
        self.end > 0
    }
}
