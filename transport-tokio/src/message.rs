//! Messages as applications hold them.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_core::{Properties, Property, QoS, Text, TextError, Topic, TopicError, UserProperty};

/// A message that has arrived.
///
/// Cloning it copies no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is about. A topic alias has been replaced by its name.
    pub topic: Arc<str>,
    /// The message itself. From 4 KiB on it is a slice of the buffer it was read into, and keeps up
    /// to 64 KiB alive; shorter ones have memory of their own.
    pub payload: Bytes,
    /// The QoS at which it was sent to this client.
    pub qos: QoS,
    /// The server had kept it for subscribers to come.
    pub retain: bool,
    /// The server may have sent it before. Says nothing about whether it arrived before.
    pub dup: bool,
    pub(crate) properties: Option<Box<PublishProperties>>,
}

impl Message {
    /// A message as it might arrive, at QoS 0 and with these properties: to try out what handles
    /// messages.
    ///
    /// ```
    /// use transport_tokio::{Message, PublishProperties, QoS};
    ///
    /// let message = Message::new("sensors/7", "21.5", PublishProperties::default());
    /// assert_eq!(&*message.topic, "sensors/7");
    /// assert_eq!(message.qos, QoS::AtMostOnce);
    /// ```
    pub fn new(
        topic: impl Into<Arc<str>>,
        payload: impl Into<Bytes>,
        properties: PublishProperties,
    ) -> Self {
        let properties = (properties != PublishProperties::NONE).then(|| Box::new(properties));
        let (topic, payload, qos) = (topic.into(), payload.into(), QoS::AtMostOnce);
        Self { topic, payload, qos, retain: false, dup: false, properties }
    }

    /// Its properties; those of a message without any are all absent.
    pub fn properties(&self) -> &PublishProperties {
        self.properties.as_deref().unwrap_or(const { &PublishProperties::NONE })
    }
}

/// What an application can say about a message in MQTT 5.0. Before, there is nothing of it.
///
/// ```
/// use transport_tokio::PublishProperties;
///
/// let properties = PublishProperties {
///     content_type: Some("application/json".into()),
///     message_expiry_interval: Some(60),
///     ..PublishProperties::default()
/// };
/// assert!(properties.user_properties.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// The payload is UTF-8 text; this is not checked.
    pub payload_format_indicator: Option<bool>,
    /// Seconds after which the message is no longer worth delivering. Waiting to be sent counts; it
    /// begins anew when the message has to be published again, or by the next program.
    pub message_expiry_interval: Option<u32>,
    /// What the payload is, in terms that sender and receiver agree on.
    pub content_type: Option<String>,
    /// Where an answer should be published.
    pub response_topic: Option<String>,
    /// What tells the requester which request an answer is for.
    pub correlation_data: Option<Bytes>,
    /// Names and values for applications to agree on, in order.
    pub user_properties: Vec<(String, String)>,
}

impl PublishProperties {
    const NONE: Self = Self {
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };

    /// About how many bytes it takes.
    pub(crate) fn len(&self) -> usize {
        let texts = [&self.content_type, &self.response_topic];
        let pairs = self.user_properties.iter().map(|(name, value)| name.len() + value.len());
        texts.into_iter().flatten().map(String::len).chain(pairs).sum::<usize>()
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + size_of::<Self>()
    }

    /// Copies what a packet has; `None` if that is nothing. Topic aliases and subscription identifiers
    /// are the client's own affair.
    pub(crate) fn from_packet(properties: Properties<'_>) -> Option<Box<Self>> {
        let own = |property| {
            !matches!(property, Property::TopicAlias(_) | Property::SubscriptionIdentifier(_))
        };
        if properties.is_empty() || !properties.iter().any(own) {
            return None;
        }
        let mut own = Self::NONE;
        for property in properties {
            match property {
                Property::PayloadFormatIndicator(text) => own.payload_format_indicator = Some(text),
                Property::MessageExpiryInterval(s) => own.message_expiry_interval = Some(s),
                Property::ContentType(name) => own.content_type = Some(name.as_str().into()),
                Property::ResponseTopic(topic) => own.response_topic = Some(topic.as_str().into()),
                Property::CorrelationData(data) => {
                    own.correlation_data = Some(Bytes::copy_from_slice(data));
                }
                Property::UserProperty(UserProperty { name, value }) => {
                    own.user_properties.push((name.as_str().into(), value.as_str().into()));
                }
                _ => {}
            }
        }
        Some(Box::new(own))
    }

    /// As a packet has them, with this much of the expiry interval left.
    pub(crate) fn for_packet(
        &self,
        expiry: Option<u32>,
    ) -> Result<Vec<Property<'_>>, PropertyError> {
        let mut list = Vec::new();
        list.extend(self.payload_format_indicator.map(Property::PayloadFormatIndicator));
        list.extend(expiry.map(Property::MessageExpiryInterval));
        if let Some(content_type) = &self.content_type {
            list.push(Property::ContentType(Text::new(content_type)?));
        }
        if let Some(topic) = &self.response_topic {
            list.push(Property::ResponseTopic(Topic::new(topic)?));
        }
        if let Some(data) = &self.correlation_data {
            list.push(Property::CorrelationData(data));
        }
        for (name, value) in &self.user_properties {
            list.push(Property::UserProperty(UserProperty::new(name, value)?));
        }
        Ok(list)
    }
}

/// The subscriptions for which a server says that it has sent a message; mostly one, or none.
#[derive(Debug, Default)]
pub(crate) struct Identifiers {
    first: Option<u32>,
    more: Vec<u32>,
}

impl Identifiers {
    pub(crate) fn from_packet(properties: Properties<'_>) -> Self {
        let mut identifiers = Self::default();
        if properties.is_empty() {
            return identifiers;
        }
        for property in properties {
            match (property, identifiers.first) {
                (Property::SubscriptionIdentifier(id), None) => identifiers.first = Some(id),
                (Property::SubscriptionIdentifier(id), _) => identifiers.more.push(id),
                _ => {}
            }
        }
        identifiers
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.first == Some(id) || self.more.contains(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// A property that cannot stand in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PropertyError {
    Text(TextError),
    Topic(TopicError),
}

impl From<TextError> for PropertyError {
    fn from(error: TextError) -> Self {
        Self::Text(error)
    }
}

impl From<TopicError> for PropertyError {
    fn from(error: TopicError) -> Self {
        Self::Topic(error)
    }
}
