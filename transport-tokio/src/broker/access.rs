//! Who may connect, and what they may do.

use std::{collections::HashMap, fmt, net::SocketAddr, pin::Pin, sync::Arc};

use mqtt_core::{Filter, QoS, ReasonCode, Topic, Version, wire::Connect};

/// What a client says who wants to connect.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// The protocol version it speaks.
    pub version: Version,
    /// Its client identifier; empty if the broker is to choose one.
    pub client_id: String,
    /// Who it says it is.
    pub user_name: Option<String>,
    /// How it proves that.
    pub password: Option<Vec<u8>>,
    /// Where it connects from, if that is a network.
    pub address: Option<SocketAddr>,
}

impl Login {
    pub(super) fn new(
        version: Version,
        connect: &Connect<'_>,
        address: Option<SocketAddr>,
    ) -> Self {
        Self {
            version,
            client_id: connect.client_id.as_str().to_owned(),
            user_name: connect.user_name.map(|name| name.as_str().to_owned()),
            password: connect.password.map(<[u8]>::to_vec),
            address,
        }
    }
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Access<'a> {
    /// Its client identifier; empty for the will of a client whose identifier the broker chooses.
    pub client_id: &'a str,
    /// Its user name, as it was let in with.
    pub user_name: Option<&'a str>,
    /// What it wants to do.
    pub wish: Wish<'a>,
}

impl<'a> Access<'a> {
    pub(super) const fn new(
        client_id: &'a str,
        user_name: Option<&'a str>,
        wish: Wish<'a>,
    ) -> Self {
        Self { client_id, user_name, wish }
    }
}

/// To publish or to subscribe.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Wish<'a> {
    /// To publish a message, or to leave it as a will.
    Publish {
        /// Where to.
        topic: Topic<'a>,
        /// At which QoS.
        qos: QoS,
        /// To be kept for future subscribers.
        retain: bool,
        /// The message.
        payload: &'a [u8],
    },
    /// To subscribe.
    Subscribe {
        /// To what.
        filter: Filter<'a>,
        /// The highest QoS wanted.
        qos: QoS,
    },
}

/// Whether a client may connect, when that is known.
pub(super) type Deciding = Pin<Box<dyn Future<Output = Result<(), ReasonCode>> + Send>>;

type Authenticate = dyn Fn(Login) -> Deciding + Send + Sync;
type Authorize = dyn Fn(&Access<'_>) -> bool + Send + Sync;

/// What decides.
#[derive(Default)]
pub(super) struct Guards {
    pub(super) authenticate: Option<Box<Authenticate>>,
    pub(super) authorize: Option<Box<Authorize>>,
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards")
            .field("authenticate", &self.authenticate.is_some())
            .field("authorize", &self.authorize.is_some())
            .finish()
    }
}

impl Guards {
    pub(super) fn allows(&self, access: &Access<'_>) -> bool {
        self.authorize.as_ref().is_none_or(|authorize| authorize(access))
    }
}

/// Lets in who is in the table and knows the password.
pub(super) fn table(
    users: HashMap<String, Vec<u8>>,
) -> impl Fn(Login) -> std::future::Ready<Result<(), ReasonCode>> + Send + Sync + 'static {
    let users = Arc::new(users);
    move |login| {
        let known = login.user_name.as_ref().and_then(|name| users.get(name));
        let given = login.password.as_deref().unwrap_or_default();
        let same = known.is_some_and(|known| is_same(known, given));
        std::future::ready(if same { Ok(()) } else { Err(ReasonCode::BadUserNameOrPassword) })
    }
}

/// Whether two passwords are the same, in a time that tells no more than their lengths.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let differences = known.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
    known.len() == given.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_compared_whole() {
        assert!(is_same(b"secret", b"secret"));
        assert!(is_same(b"", b""));
        for other in [&b""[..], b"secre", b"secrets", b"Secret", b"secreT"] {
            assert!(!is_same(b"secret", other), "{other:?}");
        }
    }

    #[test]
    fn a_login_does_not_show_its_password() {
        let connect = Connect { password: Some(b"hunter2"), ..Connect::default() };
        let login = Login::new(Version::V5, &connect, None);
        assert_eq!(login.password.as_deref(), Some(&b"hunter2"[..]));
        assert!(!format!("{login:?}").contains("104, 117"));
    }
}
