//! Who comes and goes, for the program to know.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_core::Stream;
use mqtt_core::{QoS, ReasonCode, Version, broker::End};
use tokio::sync::mpsc;

use super::access::contained;

/// Something that has happened at a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client has been let in.
    Connected {
        /// Its name; the one it has been given, if it came without.
        client_id: Arc<str>,
        /// Who it is, if it has said so.
        user_name: Option<Arc<str>>,
        /// The protocol it speaks.
        version: Version,
        /// Where it connects from, if that is a network.
        address: Option<SocketAddr>,
        /// The URL that it has come by; none within the process.
        listener: Option<Arc<str>>,
        /// The keep alive that counts, in seconds; 0 for none.
        keep_alive: u16,
        /// It wants to begin anew.
        clean_start: bool,
        /// It has found its session.
        session_present: bool,
    },
    /// A client has not been let in.
    Refused {
        /// Its name, as it said.
        client_id: Arc<str>,
        /// Where it connects from, if that is a network.
        address: Option<SocketAddr>,
        /// Why.
        reason: ReasonCode,
    },
    /// A client that had been let in is gone.
    Disconnected {
        /// Its name.
        client_id: Arc<str>,
        /// Why.
        end: End,
    },
    /// A client has subscribed.
    Subscribed {
        /// Its name.
        client_id: Arc<str>,
        /// To what.
        filter: Arc<str>,
        /// The highest QoS granted.
        qos: QoS,
    },
    /// A client has given up a subscription that it had.
    Unsubscribed {
        /// Its name.
        client_id: Arc<str>,
        /// Which.
        filter: Arc<str>,
    },
    /// A session is over.
    SessionEnded {
        /// Whose it was.
        client_id: Arc<str>,
    },
}

/// Events as they come.
///
/// At most as many wait to be read as [was asked for](super::Broker::events). When there are as many,
/// what happens next is dropped, and counted in [`missed`](Self::missed): the broker waits for nobody.
#[derive(Debug)]
pub struct Events {
    waiting: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// The next event; `None` when the broker has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.waiting.recv().await
    }

    /// The next event, if it has happened already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.waiting.try_recv().ok()
    }

    /// How many events were dropped because as many as there may be waited to be read.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.waiting.poll_recv(cx)
    }
}

type Observe = dyn Fn(&Event) + Send + Sync;

/// Who wants to know.
#[derive(Default)]
pub(super) struct Observers {
    pub(super) function: Option<Box<Observe>>,
    streams: Vec<(mpsc::Sender<Event>, Arc<AtomicU64>)>,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("function", &self.function.is_some())
            .field("streams", &self.streams.len())
            .finish()
    }
}

impl Observers {
    /// Whether anybody does.
    pub(super) const fn are_there(&self) -> bool {
        self.function.is_some() || !self.streams.is_empty()
    }

    /// Adds a stream on which so many events may wait, at least one.
    pub(super) fn stream(&mut self, most: usize) -> Events {
        let (sender, waiting) = mpsc::channel(most.max(1));
        let missed = Arc::new(AtomicU64::new(0));
        self.streams.push((sender, Arc::clone(&missed)));
        Events { waiting, missed }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if let Some(observe) = &self.function {
            contained("on_event", || observe(event));
        }
        self.streams.retain(|(stream, missed)| match stream.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }
}
