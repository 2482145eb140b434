//! What a client tells about itself.

use std::time::Duration;

use mqtt_core::ReasonCode;

use crate::error::ConnectionError;

/// What a client has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that the server has accepted.
    pub connections: u64,
    /// Bytes received and sent, packets' headers included.
    pub bytes_received: u64,
    /// See [`bytes_received`](Self::bytes_received).
    pub bytes_sent: u64,
    /// Messages that have arrived.
    pub received: u64,
    /// Messages that were given to the connection, by QoS. What is sent again counts once.
    pub published: [u64; 3],
    /// Publishes at QoS 1 and 2 that the server has taken.
    pub acknowledged: u64,
    /// Accepted publishes that were not delivered: refused, expired, lost with the session.
    pub undelivered: u64,
    /// QoS 0 messages that were dropped because a stream was not read.
    pub dropped: u64,
    /// Messages that no stream wanted.
    pub unclaimed: u64,
    /// Publishes that wait to be sent, now.
    pub queued: usize,
    /// Bytes of these.
    pub queued_bytes: usize,
    /// Publishes at QoS 1 and 2 that are sent and have no outcome yet, now.
    pub in_flight: usize,
    /// Filters subscribed to, or about to be, now.
    pub filters: usize,
}

/// Where a client stands with its server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// The first connection is being made.
    Connecting,
    /// The server has accepted the connection.
    Connected {
        /// Whether the server had kept the session. Without it, subscriptions have been made anew, QoS 1
        /// messages are published again, and QoS 2 messages on their way are lost.
        session_present: bool,
    },
    /// The connection is lost, or not made yet, and will be tried again.
    Reconnecting {
        /// Which attempt it will be since the last connection; the first is 1.
        attempt: u32,
        /// Why.
        cause: ConnectionError,
        /// How long the client waits before it.
        delay: Duration,
    },
    /// The end: [`disconnect`](crate::Client::disconnect) was called, or no handle is left.
    Closed,
    /// The end: another client has connected with the same client identifier (5.0; earlier servers do
    /// not say so). This one does not fight for it.
    TakenOver,
    /// The end: the server, or the network as often as was agreed, does not let the client in.
    Failed(ConnectionError),
}

impl Status {
    /// What a final status means.
    pub(crate) fn result(&self) -> Result<(), ConnectionError> {
        match self {
            Self::Failed(error) => Err(error.clone()),
            Self::TakenOver => {
                Err(ConnectionError::Disconnected(ReasonCode::SessionTakenOver.into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the client is over.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Closed | Self::TakenOver | Self::Failed(_))
    }
}
