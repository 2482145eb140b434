//! Packets on their way to the transport.

use mqtt_core::{Buffer, Payload, Sink};

use crate::waiting::sealed;

/// Room for packets of `BYTES` bytes altogether, which is also the most that one may have. Payloads that are
/// [streamed](crate::Client::publish_streamed) pass through it.
#[derive(Debug)]
pub struct Outbox<const BYTES: usize>(Buffer<BYTES>);

/// How much can be sent: [`Outbox`].
pub trait OutboxSize: sealed::Sealed + Sink {
    #[doc(hidden)]
    const NEW: Self;
    /// Moves as much as fits to the front of `to`. How much.
    #[doc(hidden)]
    fn take(&mut self, to: &mut [u8]) -> usize;
    #[doc(hidden)]
    fn clear(&mut self);
    #[doc(hidden)]
    fn is_empty(&self) -> bool;
}

impl<const BYTES: usize> sealed::Sealed for Outbox<BYTES> {}

impl<const BYTES: usize> OutboxSize for Outbox<BYTES> {
    const NEW: Self = Self(Buffer::new());

    fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.0.len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), self.0.as_bytes().get(..count)) {
            to.copy_from_slice(from);
        }
        self.0.consume(count);
        count
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const BYTES: usize> Sink for Outbox<BYTES> {
    fn room(&self) -> usize {
        self.0.room()
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.span(len)
    }

    fn payload(&mut self, payload: Payload<'_>) {
        self.0.payload(payload);
    }
}
