//! How the connection stands.

use embassy_time::Duration;

use crate::error::ConnectionError;

/// How the connection stands.
///
/// ```
/// use transport_embassy::Status;
///
/// fn led(status: Status) -> bool {
///     matches!(status, Status::Connected { .. })
/// }
/// assert!(!led(Status::Idle));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Status {
    /// The [runner](crate::Runner) does not run.
    #[default]
    Idle,
    /// A connection is being made.
    Connecting,
    /// The server has accepted the connection.
    Connected {
        /// It still had the session.
        session_present: bool,
    },
    /// There is no connection; the next attempt comes after a delay.
    Waiting {
        /// How many attempts in a row have failed, or 1 after a connection was lost.
        attempt: u32,
        /// Why.
        cause: ConnectionError,
        /// How long to wait.
        delay: Duration,
    },
    /// The client has ended: without a cause, because it was [told to](crate::Client::disconnect).
    Ended(Option<ConnectionError>),
}
