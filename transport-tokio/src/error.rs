//! Errors, one per operation.

use std::{fmt, io, sync::Arc};

use mqtt_core::{EncodeError, ReasonCode, TextError, TopicError};

use crate::{message::PropertyError, transport::EndpointError};

/// Why a server says no.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The reason code.
    pub reason: ReasonCode,
    /// What the server adds for people (5.0).
    pub explanation: Option<Arc<str>>,
    /// Another server to use (5.0).
    pub server_reference: Option<Arc<str>>,
}

impl From<ReasonCode> for Refusal {
    fn from(reason: ReasonCode) -> Self {
        Self { reason, explanation: None, server_reference: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (0x{:02x})", self.reason, self.reason.as_u8())?;
        if let Some(explanation) = &self.explanation {
            write!(f, ", {explanation:?}")?;
        }
        match &self.server_reference {
            Some(server) => write!(f, ", use {server:?}"),
            None => Ok(()),
        }
    }
}

/// Why a connection could not be made, or has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The transport could not be opened, or has failed: the network's fault, or a certificate's.
    Transport(Arc<io::Error>),
    /// The transport was not open within [`connect_timeout`](crate::Options::connect_timeout).
    Timeout,
    /// The server has closed the connection without a word.
    Closed,
    /// The server has refused the connection [MQTT-3.2.2-7].
    Refused(Refusal),
    /// The server has ended the connection (5.0).
    Disconnected(Refusal),
    /// The server broke the protocol, or has fallen silent.
    Protocol(mqtt_core::Error),
    /// The [authenticator](crate::Authenticator) gave up, or does not trust the server.
    NotTrusted,
    /// The options make no valid CONNECT: the caller's fault.
    Options(Invalid),
    /// The session's file failed; nothing has been sent of which it does not know.
    #[cfg(feature = "persistence")]
    SessionFile(Arc<crate::SessionFileError>),
}

impl ConnectionError {
    /// Whether trying again would meet the same answer. A server that has accepted the client before may
    /// have trouble with whom it asks.
    pub(crate) fn is_permanent(&self, accepted_before: bool) -> bool {
        match self {
            Self::Refused(refusal) | Self::Disconnected(refusal) => match refusal.reason {
                ReasonCode::Banned | ReasonCode::ServerMoved => true,
                ReasonCode::UnsupportedProtocolVersion
                | ReasonCode::ClientIdentifierNotValid
                | ReasonCode::BadUserNameOrPassword
                | ReasonCode::NotAuthorized
                | ReasonCode::BadAuthenticationMethod
                | ReasonCode::UseAnotherServer => !accepted_before,
                _ => false,
            },
            Self::NotTrusted | Self::Options(_) => true,
            #[cfg(feature = "persistence")]
            Self::SessionFile(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "transport: {error}"),
            Self::Timeout => f.write_str("the transport did not open in time"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Disconnected(refusal) => write!(f, "disconnected by the server: {refusal}"),
            Self::Protocol(error) => error.fmt(f),
            Self::NotTrusted => f.write_str("the server is not trusted"),
            Self::Options(error) => write!(f, "the options make no valid CONNECT: {error}"),
            #[cfg(feature = "persistence")]
            Self::SessionFile(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Transport(error) => error.source(),
            #[cfg(feature = "persistence")]
            Self::SessionFile(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Transport(Arc::new(error))
    }
}

impl From<mqtt_core::Error> for ConnectionError {
    fn from(error: mqtt_core::Error) -> Self {
        Self::Protocol(error)
    }
}

/// Why a client was not made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server's address makes no sense.
    Endpoint(EndpointError),
    /// The first connection failed.
    Connection(ConnectionError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => error.fmt(f),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => error.source(),
            Self::Connection(error) => error.source(),
        }
    }
}

impl From<EndpointError> for ConnectError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

impl From<ConnectionError> for ConnectError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

/// What is wrong with something an application wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// A topic name or filter.
    Topic(TopicError),
    /// A string property.
    Text(TextError),
    /// Something else; [`EncodeError::Version`] for what 3.1.1 does not have.
    Packet(EncodeError),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => write!(f, "topic: {error}"),
            Self::Text(error) => error.fmt(f),
            Self::Packet(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Invalid {}

impl From<EncodeError> for Invalid {
    fn from(error: EncodeError) -> Self {
        Self::Packet(error)
    }
}

impl From<TextError> for Invalid {
    fn from(error: TextError) -> Self {
        Self::Text(error)
    }
}

impl From<TopicError> for Invalid {
    fn from(error: TopicError) -> Self {
        Self::Topic(error)
    }
}

impl From<PropertyError> for Invalid {
    fn from(error: PropertyError) -> Self {
        match error {
            PropertyError::Text(error) => Self::Text(error),
            PropertyError::Topic(error) => Self::Topic(error),
        }
    }
}

/// Why a message was not delivered, or not accepted for delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// It can stand in no packet: the caller's fault.
    Invalid(Invalid),
    /// It is larger than the server takes [MQTT-3.2.2-15], than a packet can be, or than
    /// [may be in flight](crate::Options::in_flight).
    TooLarge,
    /// The server has told that it would refuse it: its QoS [MQTT-3.2.2-11] or that it is retained
    /// [MQTT-3.2.2-14].
    Unsupported(ReasonCode),
    /// The server has refused it (5.0).
    Refused(Refusal),
    /// Its expiry interval passed before it could be sent; told when there is a connection to send it on.
    Expired,
    /// The server has forgotten the session in the middle of a QoS 2 delivery: it may have had the
    /// message or not. (One at QoS 1 is published again instead.)
    SessionLost,
    /// As much waits as may; only [`try_publish`](crate::Publish::try_publish) says so.
    Full,
    /// The client has been disconnected. A message that had been accepted may have been delivered;
    /// with a session file it is kept there.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::TooLarge => f.write_str("larger than the server takes, or than may be in flight"),
            Self::Unsupported(reason) => write!(f, "not supported by the server: {reason:?}"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Expired => f.write_str("expired before it could be sent"),
            Self::SessionLost => f.write_str("the session was lost"),
            Self::Full => f.write_str("too much waits to be sent"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<Invalid> for PublishError {
    fn from(error: Invalid) -> Self {
        Self::Invalid(error)
    }
}

impl From<PropertyError> for PublishError {
    fn from(error: PropertyError) -> Self {
        Self::Invalid(error.into())
    }
}

/// Why there is no subscription, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The filter or what goes with it can stand in no packet: the caller's fault.
    Invalid(Invalid),
    /// Larger than the server takes [MQTT-3.2.2-15].
    TooLarge,
    /// The server has told that it would refuse it: wildcards or sharing.
    Unsupported(ReasonCode),
    /// The server has refused it.
    Refused(Refusal),
    /// The client has been disconnected.
    Closed,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::TooLarge => f.write_str("larger than the server takes"),
            Self::Unsupported(reason) => write!(f, "not supported by the server: {reason:?}"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for SubscribeError {}

impl From<TopicError> for SubscribeError {
    fn from(error: TopicError) -> Self {
        Self::Invalid(Invalid::Topic(error))
    }
}
