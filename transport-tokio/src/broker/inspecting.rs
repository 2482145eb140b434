//! What a handle asks and does without a connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use mqtt_core::{
    Disconnect, Filter, Payload, Publish, QoS, ReasonCode, Topic, Version,
    broker::{Client, Retained},
};

use tokio::sync::oneshot;

use super::{Broker, Events, Statistics, ledger::Ledger, shard::Shard};
use crate::message::{Message, PublishProperties};

/// How many items an answer has at most.
const PAGE: usize = 100;

/// How many retained messages are looked at for one answer, and about how many bytes it has at most.
const LOOKS: usize = 10_000;
const PAGE_BYTES: usize = 1024 * 1024;

/// A part of a list: the next begins where it says.
///
/// What comes and goes between two parts may be in neither of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items, at most 100.
    pub items: Vec<T>,
    /// Where the next part begins, if there may be one.
    pub next: Option<usize>,
}

/// A client that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its name.
    pub client_id: String,
    /// Who it is, if it has said so.
    pub user_name: Option<Arc<str>>,
    /// The protocol it speaks.
    pub version: Version,
    /// Where it connects from, if that is a network.
    pub address: Option<SocketAddr>,
    /// The URL that it has come by; none within the process.
    pub listener: Option<Arc<str>>,
    /// Since when.
    pub since: SystemTime,
    /// The keep alive that counts, in seconds; 0 for none.
    pub keep_alive: u16,
    /// It wanted to begin anew.
    pub clean_start: bool,
    /// How many messages are on their way to it unacknowledged.
    pub in_flight: usize,
    /// How many wait for it.
    pub waiting: usize,
    /// How many bytes wait to be written to it.
    pub outgoing_bytes: usize,
}

/// What is known of a client, connected or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its name.
    pub client_id: String,
    /// Whose it is, by the user name that was [found out](super#whose-a-session-is); nobody's, if none.
    pub owner: Option<String>,
    /// The protocol it speaks, or spoke last.
    pub version: Version,
    /// Whether it is connected.
    pub is_connected: bool,
    /// For how long its session outlives the connection, in seconds; `u32::MAX` is for ever.
    pub session_expiry_interval: u32,
    /// How many messages are on their way to it unacknowledged.
    pub in_flight: usize,
    /// How many wait for it.
    pub waiting: usize,
    /// How many bytes these have.
    pub waiting_bytes: usize,
}

/// What a client subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// The filter.
    pub filter: String,
    /// The highest QoS granted.
    pub qos: QoS,
    /// Not the messages that the client publishes itself.
    pub no_local: bool,
    /// Messages keep the RETAIN flag with which they were published.
    pub retain_as_published: bool,
    /// The subscription identifier.
    pub identifier: Option<u32>,
}

/// Why a broker has not published a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerPublishError {
    /// Its topic, or something else that is said about it, cannot stand in a packet.
    Invalid,
    /// It was to be retained, and there are as many as there may be, or it may not have this topic.
    Refused(ReasonCode),
    /// The broker has ended.
    Ended,
}

impl fmt::Display for BrokerPublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("the topic or a property is not well-formed"),
            Self::Refused(reason) => write!(f, "refused: {reason:?}"),
            Self::Ended => f.write_str("the broker has ended"),
        }
    }
}

impl std::error::Error for BrokerPublishError {}

impl Broker {
    /// What the broker has done and has. `None` if it has ended.
    pub async fn statistics(&self) -> Option<Statistics> {
        self.ask(|shard| shard.statistics()).await
    }

    /// Publishes a message without a connection: to any topic, also those that begin with `$`, which
    /// clients cannot publish to. Nobody is asked whether it may. Whether somebody subscribes to it. What is
    /// to be [kept](super#persistence) of it is, when this returns.
    ///
    /// ```
    /// use transport_tokio::{Message, PublishProperties, broker::Broker};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let broker = Broker::builder().serve().await?;
    /// let mut message = Message::new("status", "up", PublishProperties::default());
    /// message.retain = true;
    /// assert!(!broker.publish(message).await?);
    /// assert_eq!(&broker.retained("status").await.unwrap().payload[..], b"up");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BrokerPublishError`].
    pub async fn publish(&self, message: Message) -> Result<bool, BrokerPublishError> {
        let result = self.ask(move |shard| shard.publish(&message)).await;
        let (reason, saved) = result.unwrap_or(Err(BrokerPublishError::Ended))?;
        if let Some(saved) = saved {
            saved.await.map_err(|_| BrokerPublishError::Ended)?;
        }
        match reason {
            ReasonCode::Success => Ok(true),
            ReasonCode::NoMatchingSubscribers => Ok(false),
            reason => Err(BrokerPublishError::Refused(reason)),
        }
    }

    /// What happens from now on. Up to `most` events wait to be read; what is [more](Events::missed) is
    /// dropped and counted. `None` if the broker has ended.
    pub async fn events(&self, most: usize) -> Option<Events> {
        self.ask(move |shard| shard.host.observers.stream(most)).await
    }

    /// The clients that are connected: the first of them from 0, the next as the answer
    /// [says](Page::next). `None` if the broker has ended.
    pub async fn connections(&self, from: usize) -> Option<Page<ConnectionInfo>> {
        self.ask(move |shard| shard.connections(from)).await
    }

    /// The clients that are known, connected or not, in parts as [`connections`](Self::connections).
    pub async fn sessions(&self, from: usize) -> Option<Page<SessionInfo>> {
        self.ask(move |shard| {
            page(
                from,
                |_| 0,
                |place| {
                    let (place, client) = shard.core.next_session(place)?;
                    Some((place, Some(SessionInfo::new(&client))))
                },
            )
        })
        .await
    }

    /// The client of this name. `None` if there is none, or the broker has ended.
    pub async fn session(&self, client_id: impl Into<String>) -> Option<SessionInfo> {
        let client_id = client_id.into();
        let session = move |shard: &mut Shard| {
            shard.core.session(client_id.as_bytes()).map(|client| SessionInfo::new(&client))
        };
        self.ask(session).await?
    }

    /// What the client of this name subscribes to, in parts as [`connections`](Self::connections).
    pub async fn subscriptions(
        &self,
        client_id: impl Into<String>,
        from: usize,
    ) -> Option<Page<SubscriptionInfo>> {
        let client_id = client_id.into();
        self.ask(move |shard| {
            let mut rest = shard.core.subscriptions(client_id.as_bytes()).enumerate().skip(from);
            page(
                from,
                |_| 0,
                |_| {
                    let (place, (filter, options)) = rest.next()?;
                    let filter = filter.as_str().to_owned();
                    Some((
                        place,
                        Some(SubscriptionInfo {
                            filter,
                            qos: options.qos,
                            no_local: options.no_local,
                            retain_as_published: options.retain_as_published,
                            identifier: options.identifier,
                        }),
                    ))
                },
            )
        })
        .await
    }

    /// The message that is retained for a topic. `None` if there is none, or the broker has ended.
    pub async fn retained(&self, topic: impl Into<String>) -> Option<Message> {
        let topic = topic.into();
        let retained = move |shard: &mut Shard| {
            let topic = Topic::new(&topic).ok()?;
            shard.core.retained_message(shard.host.now, topic).map(message)
        };
        self.ask(retained).await?
    }

    /// The messages that are retained for the topics that a filter matches, in parts as
    /// [`connections`](Self::connections): of no more than about 1 MiB, and perhaps empty though there
    /// are more. `None` also if that is no filter.
    pub async fn retained_matching(
        &self,
        filter: impl Into<String>,
        from: usize,
    ) -> Option<Page<Message>> {
        let filter = filter.into();
        self.ask(move |shard| Some(shard.retained_matching(Filter::new(&filter).ok()?, from)))
            .await?
    }

    /// Sends a client away: on 5.0 it is told the reason. Its will is published, its session lives on.
    /// Whether it was connected.
    pub async fn disconnect(&self, client_id: impl Into<String>, reason: ReasonCode) -> bool {
        let client_id = client_id.into();
        self.ask(move |shard| shard.disconnect(&client_id, reason)).await.unwrap_or(false)
    }
}

impl SessionInfo {
    fn new(client: &Client<'_>) -> Self {
        Self {
            client_id: text(client.client_id),
            owner: client.owner.map(text),
            version: client.version,
            is_connected: client.connection.is_some(),
            session_expiry_interval: client.session_expiry_interval,
            in_flight: client.in_flight,
            waiting: client.waiting,
            waiting_bytes: client.waiting_bytes,
        }
    }
}

/// What came of a message, and when it is saved.
type Published = (ReasonCode, Option<oneshot::Receiver<()>>);

impl Shard {
    /// What came of it, and when that is saved, if it is to be.
    fn publish(&mut self, message: &Message) -> Result<Published, BrokerPublishError> {
        let invalid = |_| BrokerPublishError::Invalid;
        let properties = message.properties();
        let list = properties.for_packet(properties.message_expiry_interval);
        let list = list.map_err(|_| BrokerPublishError::Invalid)?;
        let publish = Publish {
            topic: Topic::new(&message.topic).map_err(invalid)?,
            payload: Payload::shared(&message.payload),
            qos: message.qos,
            retain: message.retain,
            properties: list.as_slice().into(),
        };
        let reason = self.core.publish(self.host.now, &publish, &mut self.host);
        self.host.finish();
        let saved = self.host.ledger.as_mut().and_then(Ledger::until_saved);
        Ok((reason, saved))
    }

    fn connections(&mut self, from: usize) -> Page<ConnectionInfo> {
        let Self { core, host, .. } = self;
        let (now, clock) = (host.now, SystemTime::now());
        page(
            from,
            |_| 0,
            |place| {
                let (place, connection) = host.next(place)?;
                let info = connection.admitted.zip(core.client(connection.id));
                let info = info.map(|(admitted, client)| ConnectionInfo {
                    client_id: text(client.client_id),
                    user_name: connection.user_name.clone(),
                    version: admitted.version,
                    address: connection.address(),
                    listener: connection.listener(),
                    since: clock - Duration::from_millis(now.since(admitted.since)),
                    keep_alive: admitted.keep_alive,
                    clean_start: admitted.clean_start,
                    in_flight: client.in_flight,
                    waiting: client.waiting,
                    outgoing_bytes: connection.out.len(),
                });
                Some((place, info))
            },
        )
    }

    fn retained_matching(&self, filter: Filter<'_>, from: usize) -> Page<Message> {
        page(
            from,
            |message: &Message| message.payload.len(),
            |place| {
                let (place, retained) = self.core.next_retained_message(self.host.now, place)?;
                let matching = retained.filter(|retained| filter.matches(retained.topic));
                Some((place, matching.map(message)))
            },
        )
    }

    fn disconnect(&mut self, client_id: &str, reason: ReasonCode) -> bool {
        let client = self.core.session(client_id.as_bytes());
        let Some(connection) = client.and_then(|client| client.connection) else { return false };
        let now = self.host.now;
        let goodbye = Disconnect::from(reason);
        let mut sent = self.core.disconnect(now, connection, &goodbye, &mut self.host);
        if sent.is_err() {
            // A reason that DISCONNECT has no word for.
            let goodbye = Disconnect::from(ReasonCode::AdministrativeAction);
            sent = self.core.disconnect(now, connection, &goodbye, &mut self.host);
        }
        self.host.finish();
        sent.is_ok()
    }
}

/// Gathers items from a place on, each with its place.
fn page<T>(
    from: usize,
    size: impl Fn(&T) -> usize,
    mut next: impl FnMut(usize) -> Option<(usize, Option<T>)>,
) -> Page<T> {
    let (mut items, mut bytes, mut place) = (Vec::new(), 0, from);
    for _ in 0..LOOKS {
        let Some((found, item)) = next(place) else { return Page { items, next: None } };
        place = found + 1;
        if let Some(item) = item {
            bytes += size(&item);
            items.push(item);
        }
        if items.len() >= PAGE || bytes >= PAGE_BYTES {
            break;
        }
    }
    Page { items, next: Some(place) }
}

fn message(retained: Retained<'_>) -> Message {
    let Retained { topic, payload, qos, properties, .. } = retained;
    let payload = match payload.owner() {
        Some(owner) => owner.clone(),
        None => Bytes::copy_from_slice(payload.as_bytes()),
    };
    let properties = PublishProperties::from_packet(properties);
    let mut message = Message::new(topic.as_str(), payload, PublishProperties::default());
    (message.qos, message.retain, message.properties) = (qos, true, properties);
    message
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
