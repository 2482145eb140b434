//! Errors, one per operation.

use core::{error::Error, fmt};

use embedded_io::ErrorKind;
use mqtt_core::{EncodeError, ReasonCode};

/// Why a connection could not be made, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConnectionError {
    /// The transport could not be opened, or has failed: the network's fault.
    Transport(ErrorKind),
    /// The transport was not open within [`connect_timeout`](crate::Options::connect_timeout).
    Timeout,
    /// The server has closed the connection without a word.
    Closed,
    /// The server has refused the connection [MQTT-3.2.2-7].
    Refused(ReasonCode),
    /// The server has ended the connection (5.0).
    Disconnected(ReasonCode),
    /// The server broke the protocol, or has fallen silent.
    Protocol(mqtt_core::Error),
    /// The options make no valid CONNECT, or none that fits the [outbox](crate::Outbox): the caller's
    /// fault.
    Options(EncodeError),
    /// A payload that was being [streamed](crate::Client::publish_streamed) was left incomplete by this
    /// side, and with it the connection.
    Incomplete,
}

impl ConnectionError {
    /// Whether another client has connected under the same identifier (5.0; before, servers only close).
    pub const fn is_takeover(&self) -> bool {
        matches!(self, Self::Disconnected(ReasonCode::SessionTakenOver))
    }

    /// Whether trying again would meet the same answer. A server that has accepted the client before may
    /// have trouble with whom it asks.
    pub(crate) const fn is_permanent(&self, accepted_before: bool) -> bool {
        match self {
            Self::Refused(reason) | Self::Disconnected(reason) => match reason {
                ReasonCode::Banned | ReasonCode::ServerMoved | ReasonCode::SessionTakenOver => true,
                ReasonCode::UnsupportedProtocolVersion
                | ReasonCode::ClientIdentifierNotValid
                | ReasonCode::BadUserNameOrPassword
                | ReasonCode::NotAuthorized
                | ReasonCode::BadAuthenticationMethod
                | ReasonCode::UseAnotherServer => !accepted_before,
                _ => false,
            },
            Self::Options(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(kind) => write!(f, "transport: {kind:?}"),
            Self::Timeout => f.write_str("the transport did not open in time"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Refused(reason) => write!(f, "refused: {reason:?}"),
            Self::Disconnected(reason) => write!(f, "disconnected by the server: {reason:?}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Options(error) => write!(f, "the options make no valid CONNECT: {error}"),
            Self::Incomplete => f.write_str("a streamed payload was left incomplete"),
        }
    }
}

impl Error for ConnectionError {}

impl From<mqtt_core::Error> for ConnectionError {
    fn from(error: mqtt_core::Error) -> Self {
        Self::Protocol(error)
    }
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PublishError {
    /// The server has refused it (5.0).
    Refused(ReasonCode),
    /// It could not be sent again to a server that takes less than the one before. At QoS 2 that one may
    /// have it.
    Dropped(ReasonCode),
    /// The server has lost the session: whether it had the message, at QoS 2, nobody knows.
    SessionLost,
    /// It will never fit: the store, the outbox, or what the server takes.
    TooLarge,
    /// The server has told that it would refuse it.
    Unsupported(ReasonCode),
    /// It makes no packet: the caller's fault.
    Invalid(EncodeError),
    /// There is no room, quota or connection now: only from [`try_publish`](crate::Client::try_publish).
    Busy,
    /// What the payload is read from has failed, or ended early.
    Source,
    /// The client has ended.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "refused: {reason:?}"),
            Self::Dropped(reason) => write!(f, "not sent again: {reason:?}"),
            Self::SessionLost => f.write_str("the server has lost the session"),
            Self::TooLarge => f.write_str("too large for the server, the outbox or the store"),
            Self::Unsupported(reason) => write!(f, "not supported by the server: {reason:?}"),
            Self::Invalid(error) => write!(f, "invalid message: {error}"),
            Self::Busy => f.write_str("not now"),
            Self::Source => f.write_str("the payload could not be read"),
            Self::Closed => f.write_str("the client has ended"),
        }
    }
}

impl Error for PublishError {}

/// Why there is no subscription, or why it could not be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SubscribeError {
    /// The server has refused it.
    Refused(ReasonCode),
    /// The filter is longer than the [places for subscriptions](crate::Subscriptions), or all of these
    /// are taken.
    Full,
    /// It was subscribed to, or unsubscribed from, anew before there was an answer.
    Superseded,
    /// The packet will never fit: the outbox, or what the server takes.
    TooLarge,
    /// The server has told that it would refuse it.
    Unsupported(ReasonCode),
    /// It makes no packet: the caller's fault.
    Invalid(EncodeError),
    /// The client has ended.
    Closed,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "refused: {reason:?}"),
            Self::Full => f.write_str("no place for the subscription"),
            Self::Superseded => f.write_str("asked for anew"),
            Self::TooLarge => f.write_str("too large for the server or the outbox"),
            Self::Unsupported(reason) => write!(f, "not supported by the server: {reason:?}"),
            Self::Invalid(error) => write!(f, "invalid subscription: {error}"),
            Self::Closed => f.write_str("the client has ended"),
        }
    }
}

impl Error for SubscribeError {}

/// Why a message was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AcknowledgeError {
    /// It was acknowledged before, or comes again on another connection.
    Stale,
    /// The server cannot be told this: there are no reasons before 5.0, and not all are for this.
    Invalid(EncodeError),
    /// The client has ended.
    Closed,
}

impl fmt::Display for AcknowledgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str("the receipt is stale"),
            Self::Invalid(error) => write!(f, "invalid reason: {error}"),
            Self::Closed => f.write_str("the client has ended"),
        }
    }
}

impl Error for AcknowledgeError {}

/// A message ended before its payload did: the connection was lost, or the payload skipped. At QoS 1 and 2
/// it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message was cut off")
    }
}

impl Error for Cut {}

impl embedded_io::Error for Cut {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ConnectionAborted
    }
}
