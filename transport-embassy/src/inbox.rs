//! Messages on their way to the application.

use embassy_sync::{blocking_mutex::raw::RawMutex, mutex::Mutex};
use heapless::{Deque, Vec, VecView, deque::DequeView};
use mqtt_core::{QoS, Receipt};

use crate::waiting::sealed;

/// `BUFFERS` receive buffers of `BYTES` bytes, at least two.
///
/// One receives; the others hold messages until the application is done with them. So they are handed over
/// without being copied. A message longer than a buffer comes in parts.
#[derive(Debug)]
pub struct Inbox<const BUFFERS: usize, const BYTES: usize> {
    ready: Deque<Delivery, BUFFERS>,
    free: Vec<u8, BUFFERS>,
    answers: Vec<Answer, BUFFERS>,
}

/// How much can be received: [`Inbox`].
pub trait InboxSize<M: RawMutex>: sealed::Sealed {
    #[doc(hidden)]
    type Buffer: AsRef<[u8]> + AsMut<[u8]>;
    #[doc(hidden)]
    type Buffers: AsRef<[Mutex<M, Self::Buffer>]>;
    #[doc(hidden)]
    const BUFFERS: Self::Buffers;
    #[doc(hidden)]
    const BYTES: usize;
    #[doc(hidden)]
    const NEW: Self;
    #[doc(hidden)]
    fn queues(&mut self) -> Queues<'_>;
}

/// Which buffer is whose.
#[doc(hidden)]
#[derive(Debug)]
pub struct Queues<'i> {
    /// Messages that the application has not taken yet.
    pub(crate) ready: &'i mut DequeView<Delivery>,
    /// Buffers without a message.
    pub(crate) free: &'i mut VecView<u8>,
    /// Acknowledgements for which there is no room: a message's buffer is free only then.
    pub(crate) answers: &'i mut VecView<Answer>,
}

/// A message in a buffer, or a part of its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) buffer: u8,
    /// Where it is in the buffer.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// How much of the payload is still to come.
    pub(crate) remaining: u32,
    /// The number of the message, if it comes in parts.
    pub(crate) stream: Option<u32>,
    /// It is not the beginning.
    pub(crate) continued: bool,
    pub(crate) qos: QoS,
    pub(crate) receipt: Option<Receipt>,
    /// On which connection it came.
    pub(crate) connection: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) buffer: Option<u8>,
    pub(crate) receipt: Receipt,
}

impl<const BUFFERS: usize, const BYTES: usize> sealed::Sealed for Inbox<BUFFERS, BYTES> {}

impl<M: RawMutex, const BUFFERS: usize, const BYTES: usize> InboxSize<M> for Inbox<BUFFERS, BYTES> {
    type Buffer = [u8; BYTES];
    type Buffers = [Mutex<M, [u8; BYTES]>; BUFFERS];
    #[expect(clippy::declare_interior_mutable_const, reason = "it is what a constant begins with")]
    const BUFFERS: Self::Buffers = [const { Mutex::new([0; BYTES]) }; BUFFERS];
    const BYTES: usize = BYTES;
    const NEW: Self = {
        assert!(BUFFERS >= 2 && BUFFERS <= 255, "one buffer to receive, one for the application");
        assert!(BYTES >= mqtt_core::Config::MIN_WHOLE, "a buffer holds any acknowledgement");
        Self { ready: Deque::new(), free: Vec::new(), answers: Vec::new() }
    };

    fn queues(&mut self) -> Queues<'_> {
        Queues {
            ready: self.ready.as_mut_view(),
            free: self.free.as_mut_view(),
            answers: self.answers.as_mut_view(),
        }
    }
}
