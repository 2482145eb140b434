//! Who may connect, and what they may do.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use mqtt_core::{
    Filter, Properties, QoS, ReasonCode, Topic, Version, broker::access::is_same, wire::Connect,
};
use tokio::{task::JoinSet, time};

use super::{
    exchange::{Conduct, Deciding, Decision},
    origin::Origin,
};

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
    /// The URL that it connects to, as in [`Broker::urls`](super::Broker::urls); none within the
    /// process.
    pub listener: Option<Arc<str>>,
    /// The certificates that it has shown, in DER, its own first: empty unless
    /// [TLS](super::Builder::listen) is set up to ask for them. TLS has verified them by then.
    pub certificates: Vec<Vec<u8>>,
}

impl Login {
    pub(super) fn new(version: Version, connect: &Connect<'_>, origin: Origin) -> Self {
        Self {
            version,
            client_id: connect.client_id.as_str().to_owned(),
            user_name: connect.user_name.map(|name| name.as_str().to_owned()),
            password: connect.password.map(<[u8]>::to_vec),
            address: origin.address,
            listener: origin.listener.as_deref().cloned(),
            certificates: origin.certificates,
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
            .field("listener", &self.listener)
            .field("certificates", &self.certificates.len())
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

/// A message that passes by: a client has published it and may do so, or leaves it as its will.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Passing<'a> {
    /// The client's identifier; empty for the will of one whose identifier the broker chooses.
    pub client_id: &'a str,
    /// Its user name, as it was let in with.
    pub user_name: Option<&'a str>,
    /// It is a will, which may be published one day.
    pub is_will: bool,
    /// Where to.
    pub topic: Topic<'a>,
    /// At which QoS.
    pub qos: QoS,
    /// To be kept for future subscribers.
    pub retain: bool,
    /// The message.
    pub payload: &'a [u8],
    /// What else is said about it (5.0).
    pub properties: Properties<'a>,
}

/// What becomes of a message that passes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It goes on to the subscribers.
    On,
    /// It goes to nobody and is not retained; the publisher does not learn it. A will is forgotten.
    Dropped,
    /// The same, and a 5.0 client is told the reason. A client with such a will is refused.
    Denied(ReasonCode),
}

/// What has been found out about a client that is let in. `()` will do if that is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authenticated {
    /// Who it is, in place of the user name that it gave: the name in its certificate, perhaps.
    pub user_name: Option<String>,
    /// The last step of enhanced authentication, for the client to check.
    pub data: Option<Vec<u8>>,
}

impl Authenticated {
    /// It is this user.
    pub fn user(name: impl Into<String>) -> Self {
        Self { user_name: Some(name.into()), data: None }
    }

    /// With this last step.
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = Some(data.into());
        self
    }
}

impl From<()> for Authenticated {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// Whether a client may connect, when that is known.
type Authenticating = Pin<Box<dyn Future<Output = Result<Authenticated, ReasonCode>> + Send>>;

type Authenticate = dyn Fn(Login) -> Authenticating + Send + Sync;
type Authorize = dyn Fn(&Access<'_>) -> bool + Send + Sync;
type Inspect = dyn Fn(&Passing<'_>) -> Pass + Send + Sync;

/// What decides.
#[derive(Default)]
pub(super) struct Guards {
    pub(super) authenticate: Option<Arc<Authenticate>>,
    pub(super) authorize: Option<Box<Authorize>>,
    pub(super) inspect: Option<Box<Inspect>>,
    /// Enhanced authentication, by method.
    pub(super) methods: Vec<(String, Arc<Conduct>)>,
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards")
            .field("authenticate", &self.authenticate.is_some())
            .field("authorize", &self.authorize.is_some())
            .field("inspect", &self.inspect.is_some())
            .field("methods", &self.methods.len())
            .finish()
    }
}

impl Guards {
    /// Who panics does not allow it.
    pub(super) fn allows(&self, access: &Access<'_>) -> bool {
        let Some(authorize) = &self.authorize else { return true };
        contained("authorize", || authorize(access)).unwrap_or(false)
    }

    /// Who conducts enhanced authentication by this method.
    pub(super) fn method(&self, name: &str) -> Option<&Arc<Conduct>> {
        self.methods.iter().find(|(known, _)| known == name).map(|(_, conduct)| conduct)
    }

    /// Who panics denies it.
    pub(super) fn inspect(&self, passing: &Passing<'_>) -> Pass {
        let Some(inspect) = &self.inspect else { return Pass::On };
        let denied = Pass::Denied(ReasonCode::ImplementationSpecificError);
        contained("inspect", || inspect(passing)).unwrap_or(denied)
    }
}

/// Calls what the program has given, in the task that serves everybody: a panic ends the call alone.
/// The panic hook has told what there is to be told about it.
pub(super) fn contained<T>(what: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!(what, "a function of the program panicked");
    }
    result.ok()
}

/// Finds out whether a client may connect, in a task by itself: it may take long, or panic.
pub(super) fn decide(
    authenticate: &Arc<Authenticate>,
    login: Login,
    patience: Duration,
) -> Deciding {
    let authenticate = Arc::clone(authenticate);
    Box::pin(async move {
        let mut task = JoinSet::new();
        task.spawn(async move { authenticate(login).await });
        Decision::Known(match time::timeout(patience, task.join_next()).await {
            Ok(Some(Ok(decision))) => decision,
            Ok(_) => Err(ReasonCode::UnspecifiedError),
            Err(_) => Err(ReasonCode::ServerBusy),
        })
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_does_not_show_its_password() {
        let connect = Connect { password: Some(b"hunter2"), ..Connect::default() };
        let login = Login::new(Version::V5, &connect, Origin::default());
        assert_eq!(login.password.as_deref(), Some(&b"hunter2"[..]));
        assert!(!format!("{login:?}").contains("104, 117"));
    }
}
