//! How a broker is set up, and why it does not listen.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    time::Duration,
};

#[cfg(feature = "tls")]
use std::sync::Arc;

use mqtt_core::{ReasonCode, broker::Config, router::Limits};
use tokio::{sync::mpsc, task::JoinSet};
#[cfg(feature = "tls")]
use tokio_rustls::rustls::ServerConfig;

use super::{
    Access, Broker, Login, WAITING,
    access::{self, Guards},
    host::{Budget, Connections},
    listener::{Listener, Terms},
    shard::Shard,
};
use crate::transport::EndpointError;

/// How a broker is to be.
#[derive(Debug)]
#[must_use = "nothing happens before it is served"]
pub struct Builder {
    urls: Vec<String>,
    config: Config,
    limits: Limits,
    kept_bytes: usize,
    budget: Budget,
    max_connections: usize,
    guards: Guards,
    #[cfg(feature = "tls")]
    tls: Option<Arc<ServerConfig>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            config: Config { seed: random(), ..Config::DEFAULT },
            limits: Limits::default(),
            kept_bytes: 256 << 20,
            budget: Budget { outgoing: 64 << 20, incoming: 64 << 20 },
            max_connections: 10_000,
            guards: Guards::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Builder {
    /// Also listens there. The schemes are those that [clients connect to](crate::transport):
    ///
    /// - `mqtt://127.0.0.1:1883`, with port 0 for any that is free;
    /// - `mqtts://` and `wss://` with [`tls`](Self::tls), where the host is the address to listen at;
    /// - `ws://127.0.0.1:8080/mqtt`, at no other path;
    /// - `unix:///run/broker.sock`, a name that must not be there yet and is removed in the end.
    ///
    /// A public address lets everybody in, unless [they are asked who they are](Self::users).
    pub fn listen(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The protocol's limits. Its seed is random unless this is called.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The certificate to show on `mqtts://` and `wss://`, whether to demand those of clients, and all
    /// else about TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// How many subscriptions there may be.
    pub fn subscriptions(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many bytes of messages are kept, in all: 256 MiB unless changed.
    pub fn kept_bytes(mut self, most: usize) -> Self {
        self.kept_bytes = most;
        self
    }

    /// How many bytes may wait to be written to all connections together before each can have no more
    /// than one packet waiting: 64 MiB unless changed.
    pub fn outgoing_bytes(mut self, most: usize) -> Self {
        self.budget.outgoing = most;
        self
    }

    /// How many bytes of packets that have not come whole are kept for all connections together: 64 MiB
    /// unless changed. When there are more, the connection that has sent most of them is closed.
    pub fn incoming_bytes(mut self, most: usize) -> Self {
        self.budget.incoming = most;
        self
    }

    /// How many connections there may be: 10,000 unless changed.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// Only lets these in, names and passwords. In place of
    /// [`authenticate`](Self::authenticate).
    ///
    /// ```
    /// # use transport_tokio::broker::Broker;
    /// let builder = Broker::builder().users([("alice", "secret"), ("bob", "hidden")]);
    /// ```
    pub fn users<N, P>(self, users: impl IntoIterator<Item = (N, P)>) -> Self
    where
        N: Into<String>,
        P: Into<Vec<u8>>,
    {
        let users = users.into_iter().map(|(name, password)| (name.into(), password.into()));
        self.authenticate(access::table(HashMap::from_iter(users)))
    }

    /// Asks whether a client may connect: `Ok`, or the reason why not, which a 5.0 client is told.
    /// Others are served meanwhile; nothing is read from the client, so whether it has gone is found out
    /// afterwards. It may take as long as CONNECT may, or the client is told that the server is busy.
    ///
    /// ```
    /// # use transport_tokio::{ReasonCode, broker::{Broker, Login}};
    /// # async fn look_up(name: &str) -> Option<Vec<u8>> { None }
    /// let builder = Broker::builder().authenticate(async |login: Login| {
    ///     let name = login.user_name.as_deref().ok_or(ReasonCode::NotAuthorized)?;
    ///     match look_up(name).await {
    ///         Some(password) if login.password.as_ref() == Some(&password) => Ok(()),
    ///         _ => Err(ReasonCode::BadUserNameOrPassword),
    ///     }
    /// });
    /// ```
    pub fn authenticate<F>(
        mut self,
        authenticate: impl Fn(Login) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), ReasonCode>> + Send + 'static,
    {
        self.guards.authenticate = Some(Box::new(move |login| Box::pin(authenticate(login))));
        self
    }

    /// Asks whether a client may publish a message, leave it as its will, or subscribe. What it may
    /// not is refused with [`NotAuthorized`](ReasonCode::NotAuthorized); before 5.0 a message is
    /// acknowledged and dropped. It is asked for each message: let it be quick.
    ///
    /// ```
    /// # use transport_tokio::broker::{Access, Broker, Wish};
    /// let builder = Broker::builder().authorize(|access: &Access<'_>| match access.wish {
    ///     Wish::Publish { topic, .. } => topic.as_str().starts_with("public/"),
    ///     _ => true,
    /// });
    /// ```
    pub fn authorize(
        mut self,
        authorize: impl Fn(&Access<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.guards.authorize = Some(Box::new(authorize));
        self
    }

    /// Begins to listen, and to serve in a task of the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if it cannot listen at one of the URLs; then it listens at none.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO and time enabled, as everything in tokio.
    pub async fn serve(self) -> Result<Broker, ServeError> {
        let patience = Duration::from_millis(self.config.connect_timeout.into());
        let terms = Terms {
            #[cfg(feature = "tls")]
            tls: self.tls,
            #[cfg(feature = "websocket")]
            max_message_size: self.config.maximum_packet_size as usize,
            #[cfg(any(feature = "tls", feature = "websocket"))]
            patience,
        };
        let mut bound = Vec::new();
        for url in &self.urls {
            bound.push(Listener::bind(url, &terms).await?);
        }
        let (pipes, accepted) = mpsc::channel(WAITING);
        let (commands, asked) = mpsc::channel(WAITING);
        let mut listeners = JoinSet::new();
        let mut urls = Vec::new();
        for (listener, url) in bound {
            tracing::info!(url, "listening");
            listeners.spawn(listener.run(pipes.clone()));
            urls.push(url);
        }
        let core =
            mqtt_core::broker::Broker::large(self.config, self.kept_bytes, random(), self.limits);
        let host = Connections::new(self.guards, patience, self.budget);
        let shard = Shard::new(core, host, accepted, asked, listeners, self.max_connections);
        tokio::spawn(shard.run());
        Ok(Broker { commands, pipes, urls })
    }
}

/// Why a broker does not listen.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// A URL makes no sense.
    Address {
        /// The URL.
        url: String,
        /// Why.
        error: EndpointError,
    },
    /// There is no [certificate](Builder::tls) to show.
    Certificate {
        /// The URL.
        url: String,
    },
    /// The system does not let it listen there.
    Bind {
        /// The URL.
        url: String,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { url, error } => write!(f, "{url}: {error}"),
            Self::Certificate { url } => write!(f, "{url}: no certificate to show"),
            Self::Bind { url, error } => write!(f, "{url}: {error}"),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { error, .. } => Some(error),
            Self::Bind { error, .. } => Some(error),
            Self::Certificate { .. } => None,
        }
    }
}

/// A number that nobody can foresee.
fn random() -> u128 {
    let random = RandomState::new();
    u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1))
}
