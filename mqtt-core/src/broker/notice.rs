//! What a host is told about.

use super::ConnectionId;
use crate::{
    error::Error,
    reason::ReasonCode,
    topic::Filter,
    wire::{QoS, Version},
};

/// Something that has happened, for [`Host::notice`](super::Host::notice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Notice<'a> {
    /// A client has been let in.
    Connected {
        /// Its connection.
        connection: ConnectionId,
        /// Its name; the one it has been given, if it came without.
        client_id: &'a [u8],
        /// The protocol it speaks.
        version: Version,
        /// The keep alive that counts, in seconds; 0 for none.
        keep_alive: u16,
        /// It wants to begin anew.
        clean_start: bool,
        /// It has found its session.
        session_present: bool,
    },
    /// A CONNECT has been refused.
    Refused {
        /// The connection that it came by.
        connection: ConnectionId,
        /// The client's name, as it said.
        client_id: &'a [u8],
        /// Why.
        reason: ReasonCode,
    },
    /// A client that had been let in is gone.
    Disconnected {
        /// What was its connection.
        connection: ConnectionId,
        /// Its name.
        client_id: &'a [u8],
        /// Why.
        end: End,
    },
    /// A client has subscribed.
    Subscribed {
        /// Its name.
        client_id: &'a [u8],
        /// To what.
        filter: Filter<'a>,
        /// The highest QoS granted.
        qos: QoS,
    },
    /// A client has given up a subscription that it had.
    Unsubscribed {
        /// Its name.
        client_id: &'a [u8],
        /// Which.
        filter: Filter<'a>,
    },
    /// A session is over.
    SessionEnded {
        /// Whose it was.
        client_id: &'a [u8],
    },
    /// A message begins to wait for a connected client, behind others perhaps. Whoever publishes could
    /// be made to wait as well.
    Behind {
        /// The client's connection.
        connection: ConnectionId,
        /// How many messages wait, as [`Config::queue_messages`](super::Config::queue_messages)
        /// counts them.
        messages: usize,
        /// How many bytes they have.
        bytes: usize,
    },
}

/// Why a client's connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum End {
    /// The client has left, and said why.
    Left(ReasonCode),
    /// The transport is gone.
    Lost,
    /// Another connection has taken the session [MQTT-3.1.4-3].
    TakenOver,
    /// The host has [sent the client away](super::Broker::disconnect), and said why.
    SentAway(ReasonCode),
    /// The client broke the rules, or gave no sign of life.
    Error(Error),
}
