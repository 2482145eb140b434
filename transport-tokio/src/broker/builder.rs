//! How a broker is set up, and why it does not listen.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "persistence")]
use std::path::PathBuf;

use mqtt_core::{ReasonCode, broker::Config, router::Limits};
use tokio::{sync::mpsc, task::JoinSet};
#[cfg(feature = "tls")]
use tokio_rustls::rustls::ServerConfig;

#[cfg(feature = "metrics")]
use super::metrics;
#[cfg(feature = "persistence")]
use super::saver;
use super::{
    Access, Authenticated, Broker, Event, Exchange, Login, Pass, Passing, WAITING,
    access::{self, Guards},
    events::Observers,
    exchange::Conduct,
    host::{Budget, Connections},
    listener::{Listener, Terms},
    shard::{Clock, Shard},
    sys::Sys,
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
    observers: Observers,
    sys_interval: Duration,
    #[cfg(feature = "metrics")]
    metrics: Option<std::net::SocketAddr>,
    #[cfg(feature = "persistence")]
    persistence: Option<saver::Terms>,
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
            observers: Observers::default(),
            sys_interval: Duration::from_secs(10),
            #[cfg(feature = "metrics")]
            metrics: None,
            #[cfg(feature = "persistence")]
            persistence: None,
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
    /// - `unix:///run/broker.sock`, a name that is removed in the end, and may be there if it is that of a socket
    ///   at which nobody listens any more.
    ///
    /// A public address lets everybody in, unless [they are asked who they are](Self::users).
    pub fn listen(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The protocol's limits. A seed of 0 leaves it random.
    pub fn config(mut self, config: Config) -> Self {
        let seed = if config.seed == 0 { self.config.seed } else { config.seed };
        self.config = Config { seed, ..config };
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

    /// Keeps sessions, their messages and retained messages in a file in this directory, which is made if
    /// there is none, so that they survive the broker: see [there](super#persistence).
    ///
    /// ```
    /// use transport_tokio::{Durability, broker::Broker};
    ///
    /// # let directory = std::env::temp_dir().join("a-broker-that-is-not-served");
    /// let builder = Broker::builder().persistence(directory, Durability::Power);
    /// ```
    #[cfg(feature = "persistence")]
    pub fn persistence(
        mut self,
        directory: impl Into<PathBuf>,
        durability: crate::Durability,
    ) -> Self {
        self.persistence = Some(saver::Terms { directory: directory.into(), durability });
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
    /// Others are served meanwhile, and the future is dropped if the client hangs up. It may take as long as
    /// CONNECT may, or the client is told that the server is busy.
    ///
    /// Instead of `Ok(())` it may say [who that is](Authenticated::user).
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
    pub fn authenticate<F, A>(
        mut self,
        authenticate: impl Fn(Login) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<A, ReasonCode>> + Send + 'static,
        A: Into<Authenticated>,
    {
        self.guards.authenticate = Some(Arc::new(move |login| {
            let decision = authenticate(login);
            Box::pin(async { decision.await.map(Into::into) })
        }));
        self
    }

    /// Lets 5.0 clients in by enhanced authentication with this method, in place of
    /// [`authenticate`](Self::authenticate): `Ok`, perhaps with the last step for the client to check, or
    /// the reason why not. Others are served meanwhile. The function may take as long for each step as
    /// CONNECT may take, and so may the client. It is asked again when the client authenticates anew.
    ///
    /// A method that is not known here is refused with
    /// [`BadAuthenticationMethod`](ReasonCode::BadAuthenticationMethod).
    ///
    /// ```
    /// # use transport_tokio::{ReasonCode, broker::{Authenticated, Broker, Exchange}};
    /// # fn nonce() -> Vec<u8> { Vec::new() }
    /// # fn proves(nonce: &[u8], said: Option<&[u8]>) -> bool { true }
    /// let builder = Broker::builder().authentication_method("NONCE", async |mut with: Exchange| {
    ///     let nonce = nonce();
    ///     match with.challenge(nonce.clone()).await? {
    ///         said if proves(&nonce, said) => Ok(Authenticated::default().data("welcome")),
    ///         _ => Err(ReasonCode::NotAuthorized),
    ///     }
    /// });
    /// ```
    pub fn authentication_method<F, A>(
        mut self,
        method: impl Into<String>,
        conduct: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<A, ReasonCode>> + Send + 'static,
        A: Into<Authenticated>,
    {
        let conduct: Arc<Conduct> = Arc::new(move |exchange| {
            let decision = conduct(exchange);
            Box::pin(async { decision.await.map(Into::into) })
        });
        self.guards.methods.push((method.into(), conduct));
        self
    }

    /// Asks whether a client may publish a message, leave it as its will, or subscribe. What it may
    /// not is refused with [`NotAuthorized`](ReasonCode::NotAuthorized); before 5.0 a message is
    /// acknowledged and dropped. It is asked for each message, in the task that serves everybody: let it be
    /// quick. If it panics, that is not allowed.
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

    /// Shows each message that a client publishes, and may, and each will that it leaves: to be counted,
    /// copied, dropped or denied. It is called for each message, in the task that serves everybody: let it
    /// be quick. If it panics, the message is denied.
    ///
    /// ```
    /// # use transport_tokio::broker::{Broker, Pass, Passing};
    /// let builder = Broker::builder().inspect(|message: &Passing<'_>| match message.payload {
    ///     [] => Pass::Dropped,
    ///     _ => Pass::On,
    /// });
    /// ```
    pub fn inspect(
        mut self,
        inspect: impl Fn(&Passing<'_>) -> Pass + Send + Sync + 'static,
    ) -> Self {
        self.guards.inspect = Some(Box::new(inspect));
        self
    }

    /// Tells who comes and goes, in the task that serves everybody: let it be quick. [`Broker::events`] is
    /// for those who take their time.
    pub fn on_event(mut self, observe: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observers.function = Some(Box::new(observe));
        self
    }

    /// Serves the [statistics](super::Statistics) over HTTP as well, at `/metrics` of this port of the
    /// loopback address, for Prometheus; 0 for any that is free.
    /// [`Broker::metrics_url`] says where.
    #[cfg(feature = "metrics")]
    pub fn metrics(self, port: u16) -> Self {
        self.metrics_at((std::net::Ipv4Addr::LOCALHOST, port))
    }

    /// The same at any address. Nobody is asked who they are.
    #[cfg(feature = "metrics")]
    pub fn metrics_at(mut self, address: impl Into<std::net::SocketAddr>) -> Self {
        self.metrics = Some(address.into());
        self
    }

    /// How often the [statistics](super::Statistics) are published on `$SYS/broker/...`, those of them
    /// that have changed, under the names that mosquitto gives them: every ten seconds unless changed,
    /// not at all if 0. They are retained messages like others, and count as such.
    pub fn sys_interval(mut self, interval: Duration) -> Self {
        self.sys_interval = interval;
        self
    }

    /// Begins to listen, and to serve in a task of the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if it cannot listen at one of the URLs, or cannot use the file of what was kept; then
    /// it listens at none.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO and time enabled, as everything in tokio.
    pub async fn serve(self) -> Result<Broker, ServeError> {
        let terms = Terms {
            #[cfg(feature = "tls")]
            tls: self.tls,
            #[cfg(feature = "websocket")]
            max_message_size: self.config.maximum_packet_size as usize,
            #[cfg(any(feature = "tls", feature = "websocket"))]
            patience: Duration::from_millis(self.config.connect_timeout.into()),
        };
        let (config, kept_bytes, limits) = (self.config, self.kept_bytes, self.limits);
        let make = move || mqtt_core::broker::Broker::large(config, kept_bytes, random(), limits);
        let clock = Clock::start();
        #[cfg(not(feature = "persistence"))]
        let core = make();
        #[cfg(feature = "persistence")]
        let (core, saver) = match self.persistence {
            Some(terms) => saver::open(terms, clock.now(), make).await?,
            None => (make(), None),
        };
        let mut bound = Vec::new();
        for url in &self.urls {
            bound.push(Listener::bind(url, &terms).await?);
        }
        #[cfg(feature = "metrics")]
        let served = match self.metrics {
            Some(address) => Some(metrics::bind(address).await?),
            None => None,
        };
        // Each listener has a place for the next, whether somebody comes or not.
        let (pipes, accepted) = mpsc::channel(WAITING + bound.len());
        let (commands, asked) = mpsc::channel(WAITING);
        let mut listeners = JoinSet::new();
        let mut urls = Vec::new();
        for listener in bound {
            tracing::info!(url = &**listener.url, "listening");
            urls.push(String::from(&**listener.url));
            listeners.spawn(listener.run(pipes.clone()));
        }
        #[cfg(feature = "metrics")]
        let metrics = served.map(|(listener, url)| {
            listeners.spawn(metrics::serve(listener, commands.downgrade()));
            url
        });
        let host = Connections::new(self.guards, self.observers, &config, self.budget, clock);
        let sys = Sys::new(self.sys_interval, &config);
        let most = self.max_connections;
        #[cfg_attr(
            not(feature = "persistence"),
            expect(unused_mut, reason = "nothing is restored")
        )]
        let mut shard = Shard::new(core, host, accepted, asked, listeners, most, sys);
        #[cfg(feature = "persistence")]
        if let Some((saver, bad)) = saver {
            shard.restored(saver, bad);
        }
        tokio::spawn(shard.run());
        Ok(Broker {
            commands,
            pipes,
            urls,
            #[cfg(feature = "metrics")]
            metrics,
        })
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
    /// What was kept cannot be used. It is as it was.
    #[cfg(feature = "persistence")]
    Persistence {
        /// The file.
        file: PathBuf,
        /// Why.
        error: PersistenceError,
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
            #[cfg(feature = "persistence")]
            Self::Persistence { file, error } => write!(f, "{}: {error}", file.display()),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address { error, .. } => Some(error),
            Self::Bind { error, .. } => Some(error),
            #[cfg(feature = "persistence")]
            Self::Persistence { error, .. } => Some(error),
            Self::Certificate { .. } => None,
        }
    }
}

/// Why what was kept cannot be used.
#[cfg(feature = "persistence")]
#[derive(Debug)]
#[non_exhaustive]
pub enum PersistenceError {
    /// The file, or its directory, cannot be read or written.
    Io(io::Error),
    /// It is open already, here or in another program.
    InUse,
    /// It was made by a version of this crate that writes it differently.
    Format(u32),
    /// What is in it is more than the limits allow, which were larger once. Nothing has been touched: with
    /// those it is served, and what has been acknowledged is not lost.
    Limits,
}

#[cfg(feature = "persistence")]
impl fmt::Display for PersistenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::InUse => f.write_str("in use"),
            Self::Format(format) => write!(f, "the unknown format {format}"),
            Self::Limits => f.write_str("more than the limits allow"),
        }
    }
}

#[cfg(feature = "persistence")]
impl std::error::Error for PersistenceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A number that nobody can foresee.
fn random() -> u128 {
    let random = RandomState::new();
    u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1))
}
