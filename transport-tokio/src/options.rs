//! What a client asks for, and how it behaves.

use std::{fmt, time::Duration};

use bytes::Bytes;
use mqtt_core::{
    Authentication, Config, Connect, EncodeError, List, Overrun, Properties, Property, QoS,
    SendError, Text, Topic, UserProperty, Version, store, wire::Packet,
};

use crate::{
    error::Invalid,
    message::{PropertyError, PublishProperties},
    queue::QueueLimits,
    stream::Streams,
};

/// How a client connects and behaves.
///
/// A literal should end with `..Options::default()`: features add fields.
///
/// The defaults speak MQTT 5.0, begin with a new session that outlives outages of up to five minutes,
/// and reconnect for ever once the first connection has succeeded.
///
/// ```
/// use transport_tokio::{Options, Version};
///
/// let options = Options {
///     client_id: "sensor-7".into(),
///     version: Version::V3_1_1,
///     clean_start: false, // the session is resumed after an outage, and after a restart
///     ..Options::default()
/// };
/// assert_eq!(options.keep_alive, 30);
/// ```
pub struct Options {
    /// The protocol's version. A server that does not know it refuses the connection.
    pub version: Version,
    /// What identifies the session. If empty, the server chooses, and the client keeps what a 5.0
    /// server has chosen.
    pub client_id: String,
    /// Begin with a new session, and end one that the server has kept from before.
    ///
    /// On 5.0 this is so for the first connection; the next ones resume the session as long as the
    /// server keeps it, which is
    /// [`session_expiry_interval`](Self::session_expiry_interval). Before 5.0 there is no such
    /// difference: with `true` every connection has a session of its own, with `false` the session
    /// outlives connections and programs. With a `session_file` this has no
    /// effect: the session is resumed.
    pub clean_start: bool,
    /// Seconds between packets at most, after which the server is asked for a sign of life. It then has
    /// half as long to give one. 0 is for ever. By default 30.
    pub keep_alive: u16,
    /// Seconds that the server keeps the session after a connection is lost; `u32::MAX` is for ever.
    /// 5.0 only. By default 300.
    pub session_expiry_interval: u32,
    /// The user, if the server asks for one. One in the URL comes first.
    pub user_name: Option<String>,
    /// The user's password, at most 65,535 bytes. One in the URL comes first.
    pub password: Option<Bytes>,
    /// Asked for user and password before each connection, for those that expire; what it says comes
    /// first. Must not block.
    pub credentials: Option<Box<dyn FnMut() -> Credentials + Send>>,
    /// What the server publishes when the connection is lost.
    pub will: Option<Will>,
    /// How many QoS 1 and 2 messages may be unread at a time, at least 1. By default 256.
    ///
    /// A 5.0 server sends no more. An earlier one cannot be told, and some exceed it: what is beyond stays
    /// in the socket, with everything behind it, until something has been read.
    pub receive_maximum: u16,
    /// The longest packet to receive, in bytes. By default 16 MiB. A longer one ends the connection.
    ///
    /// Unread messages take at most `receive_maximum` times as much, and what
    /// [`StreamLimits`](crate::StreamLimits) allow.
    pub maximum_packet_size: u32,
    /// How many topic aliases the server may set; 5.0 only. By default 16.
    pub topic_alias_maximum: u16,
    /// How many topic aliases to set for the server, if it takes as many; 5.0 only. By default 0.
    pub outbound_topic_aliases: u16,
    /// For CONNECT; 5.0 only.
    pub user_properties: Vec<(String, String)>,
    /// Enhanced authentication; 5.0 only.
    pub authenticator: Option<Box<dyn Authenticator>>,
    /// How many publishes at QoS 1 and 2 may be unacknowledged where the server cannot tell how many
    /// it takes: before 5.0. By default 20, which is what common servers take.
    pub assumed_receive_maximum: u16,
    /// Publishes at QoS 1 and 2 that are sent and not acknowledged: how many, and how many bytes. More
    /// wait in the [queue](Self::queue). By default 32,767 and 16 MiB.
    pub in_flight: InFlight,
    /// Publishes that wait to be sent.
    pub queue: QueueLimits,
    /// How long a connection may take to open, apart from MQTT's own handshake, which may take as long
    /// again. By default 10 s.
    pub connect_timeout: Duration,
    /// What happens when a connection is lost.
    pub reconnect: Reconnect,
    /// Whether the first connection is tried as often as later ones. By default its failure is the
    /// caller's.
    pub retry_first: bool,
    /// Streams to be there before the first message can arrive.
    pub streams: Streams,
    /// How TLS is done for `mqtts://` and `wss://`.
    #[cfg(feature = "tls")]
    pub tls: crate::transport::TlsOptions,
    /// How a WebSocket is opened for `ws://` and `wss://`.
    #[cfg(feature = "websocket")]
    pub websocket: crate::transport::WebSocketOptions,
    /// Where the session is kept, so that it survives the program.
    #[cfg(feature = "persistence")]
    pub session_file: Option<crate::SessionFile>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: Version::V5,
            client_id: String::new(),
            clean_start: true,
            keep_alive: 30,
            session_expiry_interval: 300,
            user_name: None,
            password: None,
            credentials: None,
            will: None,
            receive_maximum: 256,
            maximum_packet_size: 16 * 1024 * 1024,
            topic_alias_maximum: 16,
            outbound_topic_aliases: 0,
            user_properties: Vec::new(),
            authenticator: None,
            assumed_receive_maximum: Config::DEFAULT.assumed_receive_maximum,
            in_flight: InFlight::default(),
            queue: QueueLimits::default(),
            connect_timeout: Duration::from_secs(10),
            reconnect: Reconnect::default(),
            retry_first: false,
            streams: Streams::default(),
            #[cfg(feature = "tls")]
            tls: Default::default(),
            #[cfg(feature = "websocket")]
            websocket: Default::default(),
            #[cfg(feature = "persistence")]
            session_file: None,
        }
    }
}

impl fmt::Debug for Options {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("session_expiry_interval", &self.session_expiry_interval)
            .field("user_name", &self.user_name)
            .field("will", &self.will)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}

/// Who the client is.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The user, if the server asks for one.
    pub user_name: Option<String>,
    /// The user's password or token, at most 65,535 bytes.
    pub password: Option<Bytes>,
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user_name", &self.user_name).finish_non_exhaustive()
    }
}

/// How many publishes may be sent and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// How many; 0 is taken for 1.
    pub messages: u16,
    /// Bytes of their packets. A longer message is [too large](crate::PublishError::TooLarge).
    pub bytes: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        let store::Limits { flights, bytes, .. } = store::Limits::default();
        Self { messages: flights, bytes }
    }
}

/// The message a server publishes for a client that is lost.
///
/// ```
/// use transport_tokio::{QoS, Will};
///
/// let will = Will { retain: true, ..Will::new("pumps/7/state", "lost") };
/// assert_eq!(will.qos, QoS::AtMostOnce);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// The message, at most 65,535 bytes.
    pub payload: Bytes,
    /// How hard the server tries.
    pub qos: QoS,
    /// Whether the server keeps it for subscribers to come.
    pub retain: bool,
    /// Seconds that the server waits for the client to come back; 5.0 only.
    pub delay_interval: u32,
    /// 5.0 only.
    pub properties: PublishProperties,
}

impl Will {
    /// A message at QoS 0, not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), payload: payload.into(), ..Self::default() }
    }

    fn properties(&self) -> Result<Vec<Property<'_>>, PropertyError> {
        let mut list = self.properties.for_packet(self.properties.message_expiry_interval)?;
        if self.delay_interval > 0 {
            list.push(Property::WillDelayInterval(self.delay_interval));
        }
        Ok(list)
    }
}

/// How a lost connection is replaced: the first attempt waits a random time of up to `first`, each further
/// one of up to twice as much as the one before and at most `longest`, so that a crowd of clients does not
/// come back at once. A connection that has not lasted as long as `longest` counts as an attempt in this.
///
/// ```
/// use std::time::Duration;
/// use transport_tokio::Reconnect;
///
/// let twice = Reconnect { attempts: Some(2), ..Reconnect::default() };
/// assert_eq!(twice.longest, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How many attempts in a row may fail; `None` is for ever, 0 none at all. By default for ever.
    pub attempts: Option<u32>,
    /// By default 500 ms.
    pub first: Duration,
    /// By default a minute.
    pub longest: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { attempts: None, first: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Reconnect {
    /// How long to wait before an attempt, the first of which is 1; `random` is from 0 to 1.
    pub(crate) fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(attempt - 1));
        doubled.min(self.longest).mul_f64(random)
    }
}

/// Speaks for the client in enhanced authentication [MQTT-4.12.0-1].
///
/// Steps must not block, nor use their client: they are taken by the task that drives the connection,
/// and while it does so.
pub trait Authenticator: Send {
    /// The method's name, the same for the whole connection.
    fn method(&self) -> &str;

    /// A connection begins: the data for CONNECT, if there is any.
    fn start(&mut self) -> Option<Bytes>;

    /// The server has sent this. What to answer; `None` gives up, and ends the connection.
    fn step(&mut self, data: &[u8]) -> Option<Bytes>;

    /// The server has accepted, with this last word. Whether it is to be trusted; if not, the connection
    /// ends.
    fn finish(&mut self, data: &[u8]) -> bool {
        let _ = data;
        true
    }
}

impl Options {
    pub(crate) fn config(&self, whole: usize) -> Config {
        let handshake_timeout = self.connect_timeout.as_millis().try_into().unwrap_or(u32::MAX);
        Config {
            whole,
            acknowledgement: mqtt_core::Acknowledgement::Manual,
            handshake_timeout,
            assumed_receive_maximum: self.assumed_receive_maximum,
            // Brokers that catch up send more than they may; to hang up on them would be for ever.
            overrun: Overrun::Wait,
            topic_aliases: self.outbound_topic_aliases > 0,
        }
    }

    pub(crate) fn store_limits(&self) -> store::Limits {
        store::Limits {
            flights: self.in_flight.messages,
            bytes: self.in_flight.bytes.max(1), // without any, only records are kept
            inbound_aliases: self.topic_alias_maximum,
            outbound_aliases: self.outbound_topic_aliases,
            ..store::Limits::default()
        }
    }

    /// Whether they make a CONNECT.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.with_connect(self.clean_start, None, |connect| {
            if connect.receive_maximum == 0 || connect.maximum_packet_size == Some(0) {
                return Err(EncodeError::Property.into());
            }
            let packet = Packet::Connect(self.version, *connect);
            Ok(packet.encoded_len(self.version).map(drop)?)
        })
    }

    /// Gives CONNECT to `send`.
    pub(crate) fn connect(
        &mut self,
        clean_start: bool,
        send: impl FnOnce(&Connect<'_>) -> Result<(), SendError>,
    ) -> Result<(), Invalid> {
        if let Some(credentials) = &mut self.credentials {
            let Credentials { user_name, password } = credentials();
            (self.user_name, self.password) = (user_name, password);
        }
        let data = self.authenticator.as_mut().and_then(|authenticator| authenticator.start());
        self.with_connect(clean_start, data.as_deref(), |connect| {
            send(connect).map_err(|error| match error {
                SendError::Invalid(error) => error.into(),
                _ => EncodeError::TooLong.into(), // there is room for every CONNECT
            })
        })
    }

    fn with_connect(
        &self,
        clean_start: bool,
        data: Option<&[u8]>,
        act: impl FnOnce(&Connect<'_>) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        let will_properties = self.will.as_ref().map_or(Ok(Vec::new()), Will::properties)?;
        let will = match &self.will {
            Some(will) => Some(mqtt_core::Will {
                topic: Topic::new(&will.topic)?,
                payload: &will.payload,
                qos: will.qos,
                retain: will.retain,
                properties: Properties::from(&will_properties[..]),
            }),
            None => None,
        };
        let mut user_properties = Vec::with_capacity(self.user_properties.len());
        for (name, value) in &self.user_properties {
            user_properties.push(UserProperty::new(name, value)?);
        }
        let authentication = match &self.authenticator {
            Some(authenticator) => {
                Some(Authentication { method: Text::new(authenticator.method())?, data })
            }
            None => None,
        };
        let v5 = self.version.is_v5();
        act(&Connect {
            client_id: Text::new(&self.client_id)?,
            clean_start,
            keep_alive: self.keep_alive,
            will,
            user_name: self.user_name.as_deref().map(Text::new).transpose()?,
            password: self.password.as_deref(),
            session_expiry_interval: if v5 { self.session_expiry_interval } else { 0 },
            receive_maximum: self.receive_maximum,
            maximum_packet_size: Some(self.maximum_packet_size),
            topic_alias_maximum: self.topic_alias_maximum,
            request_response_information: v5,
            authentication,
            user_properties: List::from(&user_properties[..]),
            ..Connect::default()
        })
    }
}
