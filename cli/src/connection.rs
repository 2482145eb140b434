//! To which server clients connect, and as whom: what `pub`, `sub` and `bench` have in common.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum, builder::PossibleValue};
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use transport_tokio::{
    Client, Options, QoS, Version, Will,
    transport::{Identity, Roots, Source, TlsOptions},
};

use crate::{failure::Failure, properties::Properties};

/// Where the server is, and how to be let in.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The server's name or address
    #[arg(short = 'h', long, value_name = "NAME", default_value = "localhost")]
    host: String,
    /// The server's port: 1883, or with TLS 8883, unless given
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    // With brackets, which documentation would take for links.
    #[arg(
        help = "Where the server is, instead: mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC], mqtts://, ws://, wss://, unix:///PATH"
    )]
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port", "unix"])]
    url: Option<String>,
    /// A Unix socket, instead
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    unix: Option<String>,
    /// The protocol's version
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5")]
    protocol_version: Protocol,
    /// The user's name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The user's password; others on this machine may see it
    #[arg(short = 'P', long, value_name = "WORD", allow_hyphen_values = true)]
    password: Option<String>,
    /// Seconds between packets at most, 0 for ever
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    keepalive: u16,
    /// Certificates of the authorities to trust, PEM; turns TLS on
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Trust the authorities that the system trusts; turns TLS on
    #[arg(long, conflicts_with = "cafile")]
    tls_use_os_certs: bool,
    /// The certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Who the client is, and what it leaves behind.
#[derive(Debug, Args)]
#[command(next_help_heading = "Session")]
pub(crate) struct Session {
    /// The client identifier; the server chooses one unless given
    #[arg(short, long, value_name = "NAME", conflicts_with = "id_prefix")]
    id: Option<String>,
    /// What the client identifier begins with; the number of the process follows
    #[arg(short = 'I', long, value_name = "PREFIX")]
    id_prefix: Option<String>,
    /// Go on with the session that the server has kept, and let it be kept
    #[arg(short = 'c', long, requires = "id")]
    disable_clean_session: bool,
    /// Seconds that the server keeps the session afterwards (5.0); with -c for ever unless given
    #[arg(short = 'x', long, value_name = "SECONDS")]
    session_expiry_interval: Option<u32>,
    /// Where the will goes, which the server publishes when the connection is lost
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// The will
    #[arg(long, value_name = "MESSAGE", requires = "will_topic", allow_hyphen_values = true)]
    will_payload: Option<String>,
    /// The will's QoS
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0")]
    will_qos: Quality,
    /// The server keeps the will for subscribers to come
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    /// A property (5.0): the packet's kind (connect, publish, will, disconnect), the property's name, and its value; twice that for user-property
    #[arg(short = 'D', long, num_args = 3..=4, action = ArgAction::Append, allow_negative_numbers = true)]
    #[arg(value_names = ["COMMAND", "PROPERTY", "VALUE"])]
    property: Vec<String>,
}

/// How much a client says about what it does.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Talk {
    /// Tell what the connection does
    #[arg(short, long)]
    debug: bool,
    /// Do not even tell what goes wrong
    #[arg(long, conflicts_with = "debug")]
    pub(crate) quiet: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// A version of the protocol, by the names that people give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol(pub(crate) Version);

impl ValueEnum for Protocol {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Version::V5), Self(Version::V3_1_1), Self(Version::V3_1)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Version::V5 => PossibleValue::new("5").aliases(["5.0", "mqttv5"]),
            Version::V3_1_1 => PossibleValue::new("311").aliases(["3.1.1", "mqttv311"]),
            Version::V3_1 => PossibleValue::new("31").aliases(["3.1", "mqttv31"]),
        })
    }
}

/// A QoS, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub(crate) struct Quality(pub(crate) QoS);

impl ValueEnum for Quality {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(QoS::AtMostOnce), Self(QoS::AtLeastOnce), Self(QoS::ExactlyOnce)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(["0", "1", "2"][self.0 as usize]))
    }
}

impl TryFrom<u8> for Quality {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, &'static str> {
        QoS::from_u8(number).map(Self).ok_or("not 0, 1 or 2")
    }
}

impl Talk {
    /// Writes what the client tells about itself to standard error.
    pub(crate) fn begin(self) {
        let level = match (self.debug, self.quiet) {
            (true, _) => LevelFilter::DEBUG,
            (_, true) => LevelFilter::OFF,
            _ => LevelFilter::WARN,
        };
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
        log.log_internal_errors(false).init();
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As `transport_tokio` takes it.
    pub(crate) url: String,
    /// The topic that the URL has named.
    pub(crate) topic: Option<String>,
}

impl Connection {
    pub(crate) const fn version(&self) -> Version {
        self.protocol_version.0
    }

    /// Where to connect to.
    pub(crate) fn target(&self) -> Target {
        if let Some(url) = &self.url {
            return split(url);
        }
        if let Some(path) = &self.unix {
            return Target { url: format!("unix://{}", escape(path)), topic: None };
        }
        let is_tls = self.cafile.is_some() || self.tls_use_os_certs || self.cert.is_some();
        let (scheme, usual) = if is_tls { ("mqtts", 8883) } else { ("mqtt", 1883) };
        let port = self.port.unwrap_or(usual);
        let host = &self.host;
        let url = match host.contains(':') && !host.starts_with('[') {
            true => format!("{scheme}://[{host}]:{port}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        Target { url, topic: None }
    }

    /// How to connect, as anybody.
    pub(crate) fn options(&self) -> Options {
        let mut tls = TlsOptions::default();
        if let Some(file) = &self.cafile {
            tls.roots = Roots::Only(vec![Source::file(file)]);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls.identity =
                Some(Identity { certificates: Source::file(cert), key: Source::file(key) });
        }
        Options {
            version: self.version(),
            keep_alive: self.keepalive,
            user_name: self.username.clone(),
            password: self.password.clone().map(Into::into),
            session_expiry_interval: 0,
            tls,
            ..Options::default()
        }
    }
}

impl Session {
    /// How to connect as this client, and what it says besides.
    pub(crate) fn options(
        &self,
        connection: &Connection,
    ) -> Result<(Options, Properties), Failure> {
        let version = connection.version();
        let properties = Properties::parse(&self.property)?;
        let kept = if self.disable_clean_session { u32::MAX } else { 0 };
        let mut options = Options {
            client_id: self.client_id(version),
            clean_start: !self.disable_clean_session,
            session_expiry_interval: self.session_expiry_interval.unwrap_or(kept),
            ..connection.options()
        };
        if !version.is_v5() && (self.session_expiry_interval.is_some() || properties.any()) {
            return Err(Failure::other("-x and -D need MQTT 5.0: -V 5"));
        }
        if let Some(topic) = &self.will_topic {
            let payload = self.will_payload.clone().unwrap_or_default();
            options.will = Some(Will {
                qos: self.will_qos.0,
                retain: self.will_retain,
                ..Will::new(topic, payload)
            });
        }
        properties.apply(&mut options)?;
        Ok((options, properties))
    }

    fn client_id(&self, version: Version) -> String {
        match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
            // 3.1 has no empty one.
            _ if version == Version::V3_1 => format!("mqtt-{}", std::process::id()),
            _ => String::new(),
        }
    }
}

/// Connects.
pub(crate) async fn connect(target: &Target, options: Options) -> Result<Client, Failure> {
    let version = options.version;
    let client = Client::connect(&target.url, options).await;
    client.map_err(|error| {
        let Failure { code, message } = Failure::connect(&error, version);
        Failure::new(code, format!("{}: {message}", without_user(&target.url)))
    })
}

/// Takes the topic off a URL that may have one.
fn split(url: &str) -> Target {
    let whole = || Target { url: url.to_owned(), topic: None };
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let names_topic = ["mqtt", "tcp", "mqtts", "ssl", "tls"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme));
    match rest.split_once('/') {
        Some((server, topic)) if names_topic => Target {
            url: format!("{scheme}://{server}"),
            topic: (!topic.is_empty()).then(|| topic.to_owned()),
        },
        _ => whole(),
    }
}

/// A URL as it may be shown: without user and password.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[start..])
        }
        None => url.to_owned(),
    }
}

/// A path as it stands in a URL.
fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let absolute = std::path::absolute(path).map_or_else(|_| path.into(), PathBuf::into_os_string);
    let mut escaped = String::new();
    for &byte in absolute.as_encoded_bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_name_a_topic() {
        for (url, server, topic) in [
            ("mqtt://host", "mqtt://host", None),
            ("mqtt://host/", "mqtt://host", None),
            ("mqtt://a:b@host:1/x/+/#", "mqtt://a:b@host:1", Some("x/+/#")),
            ("MQTTS://host//x", "MQTTS://host", Some("/x")),
            ("ws://host/mqtt", "ws://host/mqtt", None),
            ("unix:///run/x", "unix:///run/x", None),
            ("host/x", "host/x", None),
        ] {
            let expected = Target { url: server.into(), topic: topic.map(Into::into) };
            assert_eq!(split(url), expected, "{url}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_user() {
        assert_eq!(without_user("mqtt://a:b%40@host:1"), "mqtt://host:1");
        assert_eq!(without_user("ws://a:b@host/x@y"), "ws://host/x@y");
        assert_eq!(without_user("mqtt://host"), "mqtt://host");
    }

    #[test]
    fn a_path_stands_in_a_url() {
        assert_eq!(escape("/run/a b#.sock"), "/run/a%20b%23.sock");
    }
}
