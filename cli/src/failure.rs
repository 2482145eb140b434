//! How a command fails: what people are told, and the exit code for programs.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use transport_tokio::{
    ConnectError, ConnectionError, PublishError, ReasonCode, Refusal, SubscribeError, Version,
    transport::rustls,
};

/// What `--help` of the clients says.
pub(crate) const CODES: &str = "\
Exit codes, as mosquitto's where it has one:
  0       done
  1       wrong arguments, or any other error
  2       the server broke the protocol, or has fallen silent
  7       the connection was lost
  8       TLS failed
  14      no connection could be made
  27      timed out (-W)
  1-5     the server refused the connection, before MQTT 5.0: its return code
  128-    the server refused: its reason code, such as 135 for not authorized";

pub(crate) const USAGE: u8 = 1;
const PROTOCOL: u8 = 2;
const LOST: u8 = 7;
const TLS: u8 = 8;
const NETWORK: u8 = 14;
pub(crate) const TIMEOUT: u8 = 27;

/// Writes to standard output, unless whoever reads has read enough.
pub(crate) fn say(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Why a command ends without having done what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// One without a code of its own.
    pub(crate) fn other(message: impl fmt::Display) -> Self {
        Self::new(USAGE, message.to_string())
    }

    /// A client has no connection, or has it no longer.
    pub(crate) fn connection(error: &ConnectionError, version: Version) -> Self {
        let code = match error {
            ConnectionError::Refused(refusal) if !version.is_v5() => return_code(refusal.reason),
            ConnectionError::Refused(refusal) | ConnectionError::Disconnected(refusal) => {
                refusal.reason.as_u8()
            }
            ConnectionError::Transport(error) if is_tls(error) => TLS,
            ConnectionError::Transport(error) if is_lost(error) => LOST,
            ConnectionError::Transport(_) | ConnectionError::Timeout => NETWORK,
            ConnectionError::Closed => LOST,
            ConnectionError::Protocol(_) => PROTOCOL,
            _ => USAGE,
        };
        Self::new(code, error.to_string())
    }

    /// A client was not made.
    pub(crate) fn connect(error: &ConnectError, version: Version) -> Self {
        match error {
            ConnectError::Connection(error) => Self::connection(error, version),
            error => Self::other(error),
        }
    }

    /// A message was not published.
    pub(crate) fn publish(error: &PublishError) -> Self {
        let code = match error {
            PublishError::Refused(Refusal { reason, .. }) | PublishError::Unsupported(reason) => {
                reason.as_u8()
            }
            PublishError::TooLarge => ReasonCode::PacketTooLarge.as_u8(),
            PublishError::SessionLost | PublishError::Closed => LOST,
            _ => USAGE,
        };
        Self::new(code, format!("not published: {error}"))
    }

    /// There is no subscription.
    pub(crate) fn subscribe(error: &SubscribeError) -> Self {
        let code = match error {
            SubscribeError::Refused(Refusal { reason, .. })
            | SubscribeError::Unsupported(reason) => reason.as_u8(),
            SubscribeError::TooLarge => ReasonCode::PacketTooLarge.as_u8(),
            SubscribeError::Closed => LOST,
            SubscribeError::Invalid(_) | _ => USAGE,
        };
        Self::new(code, format!("not subscribed: {error}"))
    }
}

/// The return code of a 3.1.1 server, which has been taken for a reason code.
fn return_code(reason: ReasonCode) -> u8 {
    match reason {
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::ServerUnavailable => 3,
        ReasonCode::BadUserNameOrPassword => 4,
        ReasonCode::NotAuthorized => 5,
        _ => USAGE,
    }
}

fn is_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Whether there had been a connection.
fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
