//! A broker within the program.
//!
//! ```
//! use transport_tokio::{Client, Options, QoS, broker::Broker};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let broker = Broker::builder().listen("mqtt://127.0.0.1:0").serve().await?;
//!
//! let client = Client::connect(&broker.urls()[0], Options::default()).await?;
//! let mut news = client.subscribe("news/#", QoS::AtLeastOnce).await?;
//! client.publish("news/today", "rain").qos(QoS::AtLeastOnce).await?;
//! assert_eq!(&news.next().await.unwrap().payload[..], b"rain");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`mqtt_core::broker`] is the broker; this gives it sockets and time. One task serves all
//! connections, so nothing is locked.
//!
//! # What is bounded
//!
//! - An idle connection has no buffers. One that has sent a part of a packet keeps that part, up to
//!   [`maximum_packet_size`](Config::maximum_packet_size) and 16 KiB, and
//!   [`incoming_bytes`](Builder::incoming_bytes) with all others.
//! - 256 KiB and one packet may wait in the process to be written to a connection, and
//!   [`outgoing_bytes`](Builder::outgoing_bytes) to all together. Beyond, messages at QoS 0 are dropped
//!   and counted; those at QoS 1 and 2 wait in the session within the limits of [`Config`], which also
//!   say what is dropped then.
//! - From 64 KiB on, whoever publishes to that connection is not read from until all who are that far
//!   behind have caught up: nothing is lost between those who are fast enough. One that has made no
//!   progress for 200 ms, or has kept others waiting for a second, is not waited for.
//! - Connections are bounded by [`max_connections`](Builder::max_connections); one more is closed at
//!   once. How long CONNECT may take is in [`Config`].
//!
//! TLS and WebSocket connections have buffers of their own on top, idle ones, too.
//!
//! There is no persistence: sessions and retained messages end with the broker. Enhanced authentication
//! is refused.

mod access;
mod connection;
mod host;
mod listener;
mod ready;
mod shard;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    time::Duration,
};

#[cfg(feature = "tls")]
use std::sync::Arc;

use mqtt_core::ReasonCode;
use tokio::{
    io::duplex,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
#[cfg(feature = "tls")]
use tokio_rustls::rustls::ServerConfig;

pub use access::{Access, Login, Wish};
pub use mqtt_core::{
    broker::{Config, Crowding, Overflow, Statistics as Messages},
    router::Limits,
};

use crate::transport::{Connector, EndpointError};
use access::Guards;
use host::{Budget, Connections};
use listener::{Accepted, Listener, Stream, Terms};
use shard::{Command, Shard};

/// How many connections wait to be taken in, and how many commands.
const WAITING: usize = 64;

/// How much is on its way in each direction of a connection within the process, in bytes.
const PIPE: usize = 64 * 1024;

/// A broker that is being served. The handle can be cloned; when the last is dropped, the broker ends
/// at once. The [module](self) has an example.
#[derive(Clone, Debug)]
pub struct Broker {
    commands: mpsc::Sender<Command>,
    pipes: mpsc::Sender<Accepted>,
    urls: Vec<String>,
}

impl Broker {
    /// A broker to be set up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, in the order in which it was told to: with the ports that were free where 0
    /// was asked for.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Connections to the broker without a socket: to publish, to subscribe and to look around within
    /// the program, with a [`Client`](crate::Client) like any other.
    ///
    /// ```
    /// use transport_tokio::{Client, Options, broker::Broker};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let broker = Broker::builder().serve().await?; // nobody else can connect
    /// let client = Client::connect_with(broker.connector(), Options::default()).await?;
    /// client.publish("status", "up").retain(true).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connector(&self) -> impl Connector + Clone + 'static {
        let broker = self.pipes.downgrade();
        move || {
            let broker = broker.clone();
            async move {
                let gone = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let broker = broker.upgrade().ok_or_else(gone)?;
                let (ours, theirs) = duplex(PIPE);
                broker.send((Stream::Pipe(theirs), None)).await.map_err(|_| gone())?;
                Ok(ours)
            }
        }
    }

    /// What the broker has done and has. `None` if it has ended.
    pub async fn statistics(&self) -> Option<Statistics> {
        let (asker, answer) = oneshot::channel();
        self.commands.send(Command::Statistics(asker)).await.ok()?;
        answer.await.ok()
    }

    /// Shuts the broker down, and returns when it has ended, at the latest after `within`.
    ///
    /// It no longer listens. Clients are told, on 5.0 with the reason
    /// [`ServerShuttingDown`](ReasonCode::ServerShuttingDown), and may take note until then; one that
    /// does not hang up by itself is waited for no longer than a second. Their wills are published to
    /// those whose connections are not closed yet.
    pub async fn shutdown(&self, within: Duration) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown(within, done)).await.is_ok() {
            let _ = ended.await; // it is dropped in the end
        }
    }
}

/// What a broker has done and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How many connections there are, also those without CONNECT yet.
    pub connections: usize,
    /// How many there have been since it began, those refused included.
    pub connections_accepted: u64,
    /// How many were closed at once because there were too many.
    pub connections_refused: u64,
    /// How many sessions there are, with and without a connection.
    pub sessions: usize,
    /// How many messages are retained.
    pub retained: usize,
    /// How many bytes of messages are kept: retained, waiting, on their way at QoS 1 and 2, wills.
    pub kept_bytes: usize,
    /// How many bytes wait to be written to connections.
    pub outgoing_bytes: usize,
    /// What became of messages.
    pub messages: Messages,
}

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
            config: Config { seed: RandomState::new().hash_one(0), ..Config::DEFAULT },
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
        let random = RandomState::new();
        let seed = u128::from(random.hash_one(1)) << 64 | u128::from(random.hash_one(2));
        let core =
            mqtt_core::broker::Broker::large(self.config, self.kept_bytes, seed, self.limits);
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
