//! What a broker is to be like: by a file, and by the command line before it.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZero,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use transport_tokio::{
    Durability,
    broker::{Broker, Builder, Config, ServeError, Takeover},
    transport::{Endpoint, Scheme, rustls::ServerConfig},
};

use super::{
    document::Document,
    tls::{self, Tls},
};
use crate::{connection::Quality, failure::Failure};

/// Settings as a file has them, and as options on the command line.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Settings {
    /// Where to listen: ADDRESS:PORT, or mqtt://, mqtts://, ws://, wss://, unix:///PATH; may be given again
    #[arg(short, long, value_name = "URL")]
    listen: Vec<String>,
    /// Let in who does not say who he is; without a password file on public addresses, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_anonymous: Option<bool>,
    /// Users and the hashes of their passwords
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Who may publish and subscribe to what
    #[arg(long, value_name = "FILE")]
    pub(super) acl_file: Option<PathBuf>,
    /// Who may take over a session by its client identifier
    #[arg(long, value_name = "WHO")]
    takeover: Option<Whose>,
    /// The longest packet to take, in bytes
    #[arg(long, value_name = "BYTES")]
    max_packet_size: Option<u32>,
    /// How many publishes at QoS 1 and 2 a client may have unacknowledged
    #[arg(long, value_name = "NUMBER")]
    receive_maximum: Option<NonZero<u16>>,
    /// The longest keep alive in seconds (5.0)
    #[arg(long, value_name = "SECONDS")]
    max_keep_alive: Option<u16>,
    /// How many topic aliases a client may set (5.0)
    #[arg(long, value_name = "NUMBER")]
    topic_alias_maximum: Option<u16>,
    /// The highest QoS to publish at
    #[arg(long, value_name = "QOS")]
    max_qos: Option<Quality>,
    /// How many clients may be connected at a time
    #[arg(long, value_name = "NUMBER")]
    max_connections: Option<NonZero<usize>>,
    /// How many messages may wait for one client
    #[arg(long, value_name = "NUMBER")]
    max_queued_messages: Option<usize>,
    /// How many bytes of them
    #[arg(long, value_name = "BYTES")]
    max_queued_bytes: Option<usize>,
    /// Where sessions, their messages and retained messages are kept, so that they survive the broker
    #[arg(long, value_name = "DIR")]
    persistence: Option<PathBuf>,
    /// What they survive besides: that the process ends, or that the power fails
    #[arg(long, value_name = "EVENT")]
    durability: Option<Survives>,
    /// How often the broker's numbers are published on $SYS/broker, in seconds; 0 for never
    #[arg(long, value_name = "SECONDS")]
    sys_interval: Option<u32>,
    /// Where to serve them for Prometheus, at /metrics; nobody is asked who he is
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// What is told on standard error
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
    #[arg(skip)]
    tls: Option<Tls>,
}

/// Whose client gets a session that there is.
#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whose {
    /// The user's whose client has made it, or nobody's if nobody's has: unless changed
    Owner,
    /// Anybody's who may connect
    Anybody,
}

impl Whose {
    const fn takeover(self) -> Takeover {
        match self {
            Self::Owner => Takeover::Owner,
            Self::Anybody => Takeover::Anybody,
        }
    }
}

/// What a change that a client was told of survives.
#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Survives {
    Process,
    Power,
}

/// How much is told.
#[derive(Clone, Copy, Debug, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// The shortest that the longest packet may be, in bytes: all but publishes fit in practice.
const LEAST_PACKET: u32 = 256;

/// Settings that make sense, and where they come from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) log_level: LevelFilter,
    file: Option<Document>,
    /// The keys that the command line has given.
    given: Vec<&'static str>,
    urls: Vec<String>,
    tls: Option<Arc<ServerConfig>>,
}

/// Takes what the command line says, and remembers of which keys it says something.
macro_rules! take {
    ($given:ident, $from:ident => $to:ident: $($field:ident $key:literal,)+) => {
        $(if $from.$field.is_some() {
            $given.push($key);
            $to.$field = $from.$field;
        })+
    };
}

impl Plan {
    /// Reads the file, if there is one, and whatever it names.
    pub(super) fn new(path: Option<PathBuf>, line: Settings) -> Result<Self, Failure> {
        let file = path.map(|path| Document::read(&path)).transpose()?;
        let mut settings = match &file {
            Some(file) => file.parse::<Settings>()?.beside(file),
            None => Settings::default(),
        };
        let mut given = Vec::new();
        if !line.listen.is_empty() {
            given.push("listen");
            settings.listen = line.listen;
        }
        take! { given, line => settings:
            allow_anonymous "allow-anonymous", password_file "password-file", acl_file "acl-file",
            takeover "takeover", max_packet_size "max-packet-size", receive_maximum "receive-maximum",
            max_keep_alive "max-keep-alive", topic_alias_maximum "topic-alias-maximum",
            max_qos "max-qos", max_connections "max-connections",
            max_queued_messages "max-queued-messages", max_queued_bytes "max-queued-bytes",
            persistence "persistence", durability "durability", sys_interval "sys-interval", metrics "metrics", log_level "log-level",
        }
        if settings.listen.is_empty() {
            settings.listen.push("mqtt://127.0.0.1:1883".into());
        }
        let urls = settings.listen.iter().map(|url| whole_url(url)).collect();
        let log_level = settings.log_level.unwrap_or(Level::Info).filter();
        let mut plan = Self { settings, log_level, file, given, urls, tls: None };
        plan.check()?;
        if let Some(tls) = &plan.settings.tls {
            let config = tls::server(tls);
            plan.tls = Some(config.map_err(|(key, what)| plan.wrong(&format!("tls.{key}"), what))?);
        }
        Ok(plan)
    }

    /// What is wrong with the value of a key, wherever that stands.
    pub(super) fn wrong(&self, key: &str, what: impl std::fmt::Display) -> Failure {
        let name = key.split('.').next().unwrap_or(key);
        match &self.file {
            Some(file) if !self.given.contains(&name) => file.wrong(key, what),
            _ => Failure::other(format!("--{name}: {what}")),
        }
    }

    /// Whether clients may say nothing about themselves.
    pub(super) fn allows_anonymous(&self) -> bool {
        self.settings.allow_anonymous.unwrap_or(self.settings.password_file.is_none())
    }

    fn check(&self) -> Result<(), Failure> {
        for (index, url) in self.urls.iter().enumerate() {
            let wrong = |what: &dyn std::fmt::Display| {
                self.wrong(&format!("listen.{index}"), format_args!("{url}: {what}"))
            };
            let endpoint = Endpoint::to_listen(url).map_err(|error| wrong(&error))?;
            let is_encrypted = matches!(endpoint.scheme(), Scheme::Mqtts | Scheme::Wss);
            if is_encrypted && self.settings.tls.is_none() {
                return Err(wrong(&"there is no certificate to show: [tls] in a --config file"));
            }
            let tls = self.settings.tls.as_ref();
            let knows_who = self.settings.password_file.is_some()
                || is_encrypted && tls.is_some_and(Tls::demands_certificates);
            if is_public(&endpoint) && !knows_who && self.settings.allow_anonymous != Some(true) {
                return Err(wrong(
                    &"a public address, and nobody is asked who he is: password-file, or allow-anonymous",
                ));
            }
        }
        if self.settings.allow_anonymous == Some(false) && self.settings.password_file.is_none() {
            let what = "nobody could connect: there is no password-file";
            return Err(self.wrong("allow-anonymous", what));
        }
        if self.settings.durability.is_some() && self.settings.persistence.is_none() {
            return Err(self.wrong("durability", "of what? there is no persistence"));
        }
        if self.settings.max_packet_size.is_some_and(|size| size < LEAST_PACKET) {
            return Err(self.wrong("max-packet-size", format_args!("less than {LEAST_PACKET}")));
        }
        Ok(())
    }

    /// The broker, but for who may do what.
    pub(super) fn builder(&self) -> Builder {
        let settings = &self.settings;
        let mut config = Config::DEFAULT;
        set(&mut config.takeover, settings.takeover.map(Whose::takeover));
        set(&mut config.maximum_packet_size, settings.max_packet_size);
        set(&mut config.receive_maximum, settings.receive_maximum.map(NonZero::get));
        set(&mut config.keep_alive_maximum, settings.max_keep_alive);
        set(&mut config.topic_alias_maximum, settings.topic_alias_maximum);
        set(&mut config.maximum_qos, settings.max_qos.map(|quality| quality.0));
        set(&mut config.queue_messages, settings.max_queued_messages);
        set(&mut config.queue_bytes, settings.max_queued_bytes);
        let mut builder = Broker::builder().config(config);
        if let Some(most) = settings.max_connections {
            builder = builder.max_connections(most.get());
        }
        if let Some(directory) = &settings.persistence {
            let durability = match settings.durability {
                Some(Survives::Process) => Durability::Process,
                Some(Survives::Power) | None => Durability::Power,
            };
            builder = builder.persistence(directory, durability);
        }
        if let Some(seconds) = settings.sys_interval {
            builder = builder.sys_interval(Duration::from_secs(seconds.into()));
        }
        if let Some(address) = settings.metrics {
            builder = builder.metrics_at(address);
        }
        if let Some(tls) = &self.tls {
            builder = builder.tls(Arc::clone(tls));
        }
        for url in &self.urls {
            builder = builder.listen(url);
        }
        builder
    }

    /// Why the broker does not listen.
    pub(super) fn not_served(&self, error: &ServeError) -> Failure {
        let of = |url: &String| match self.urls.iter().position(|other| other == url) {
            Some(index) => self.wrong(&format!("listen.{index}"), error),
            None => self.wrong("metrics", error),
        };
        match error {
            ServeError::Address { url, .. }
            | ServeError::Certificate { url }
            | ServeError::Bind { url, .. } => of(url),
            ServeError::Persistence { .. } => self.wrong("persistence", error),
            error => Failure::other(error),
        }
    }
}

impl Settings {
    /// With all paths relative to the file.
    fn beside(mut self, file: &Document) -> Self {
        let paths = [&mut self.password_file, &mut self.acl_file, &mut self.persistence];
        for path in paths.into_iter().flatten() {
            *path = file.beside(path);
        }
        self.tls = self.tls.map(|tls| tls.beside(file));
        self
    }
}

/// A URL, be the scheme left out.
fn whole_url(url: &str) -> String {
    match url.contains("://") {
        true => url.to_owned(),
        false => format!("mqtt://{url}"),
    }
}

/// Whether others than those on this machine can connect.
fn is_public(endpoint: &Endpoint) -> bool {
    let host = endpoint.host();
    let is_loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    endpoint.scheme() != Scheme::Unix && !is_loopback
}

fn set<T>(option: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *option = value;
    }
}
