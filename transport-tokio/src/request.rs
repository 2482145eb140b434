//! Requests and their responses (5.0).

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use mqtt_core::{QoS, ReasonCode};
use tokio::{sync::oneshot, task::AbortHandle};

use crate::{
    client::Client,
    error::{PublishError, SubscribeError},
    message::Message,
    publish::Publish,
    stream::Messages,
};

/// Asks and gets answers: publishes requests with a response topic and correlation data, and tells
/// responses apart by these. MQTT 5.0 only. Made by [`Client::requester`].
///
/// ```no_run
/// # async fn example(client: transport_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use transport_tokio::QoS;
///
/// let requester = client.requester("panel-1/responses").await?;
/// let request = client.publish("lamps/7/state", "?").qos(QoS::AtLeastOnce);
/// let answer = tokio::time::timeout(Duration::from_secs(5), requester.request(request)).await??;
/// println!("{:?}", answer.payload);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Requester {
    topic: String,
    asked: Arc<Asked>,
    reader: AbortHandle,
}

/// The requests that have no response yet.
#[derive(Debug)]
struct Asked {
    /// Tells this requester's requests from those of earlier ones with the same topic.
    name: u64,
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    last: u64,
    /// `None` when no response can come any more.
    waiting: Option<HashMap<u64, oneshot::Sender<Message>>>,
}

impl Requester {
    pub(crate) async fn new(client: &Client, topic: &str) -> Result<Self, SubscribeError> {
        mqtt_core::Topic::new(topic)?;
        let responses = client.subscribe(topic, QoS::AtLeastOnce).await?;
        let requests = Requests { last: 0, waiting: Some(HashMap::new()) };
        let asked = Arc::new(Asked { name: fastrand::u64(..), requests: Mutex::new(requests) });
        let reader = tokio::spawn(Arc::clone(&asked).read(responses)).abort_handle();
        Ok(Self { topic: topic.into(), asked, reader })
    }

    /// Publishes a request and waits for the response, for as long as the caller does. What the request
    /// says about its response topic and correlation data is replaced.
    ///
    /// Dropping the future forgets the request; a response that comes later is discarded.
    ///
    /// # Errors
    ///
    /// [`RequestError`]; at QoS 1 a server may know that nobody is there to answer.
    pub async fn request(&self, request: Publish<'_>) -> Result<Message, RequestError> {
        let (number, response) = self.asked.ask().ok_or(RequestError::Closed)?;
        let waiting = Waiting { asked: &self.asked, number };
        let mut response = pin!(response);
        let published = request
            .response_topic(self.topic.as_str())
            .correlation_data(self.asked.correlation(number));
        let response = tokio::select! {
            published = published.into_future() => {
                if published?.reason == ReasonCode::NoMatchingSubscribers {
                    return Err(RequestError::NobodyThere);
                }
                response.await
            }
            response = &mut response => response, // so it was delivered
        };
        drop(waiting);
        response.map_err(|_| RequestError::Closed)
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.reader.abort(); // unsubscribes
    }
}

impl Asked {
    fn ask(&self) -> Option<(u64, oneshot::Receiver<Message>)> {
        let mut requests = self.lock();
        let number = requests.last + 1;
        let (sender, receiver) = oneshot::channel();
        requests.waiting.as_mut()?.insert(number, sender);
        requests.last = number;
        Some((number, receiver))
    }

    fn correlation(&self, number: u64) -> Bytes {
        [self.name.to_be_bytes(), number.to_be_bytes()].concat().into()
    }

    /// Whose response has this correlation data.
    fn number(&self, correlation: &[u8]) -> Option<u64> {
        let (name, number) = correlation.split_first_chunk()?;
        let ours = u64::from_be_bytes(*name) == self.name;
        ours.then(|| number.try_into().map(u64::from_be_bytes).ok())?
    }

    async fn read(self: Arc<Self>, mut responses: Messages) {
        while let Some(message) = responses.next().await {
            let correlation = message.properties().correlation_data.as_deref();
            let number = correlation.and_then(|correlation| self.number(correlation));
            let mut requests = self.lock();
            let waiting = requests.waiting.as_mut();
            if let Some(sender) = waiting.and_then(|waiting| waiting.remove(&number?)) {
                let _ = sender.send(message); // or nobody waits any more
            }
        }
        self.lock().waiting = None;
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is forgotten when nobody waits for its response.
struct Waiting<'a> {
    asked: &'a Asked,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = &mut self.asked.lock().waiting {
            waiting.remove(&self.number);
        }
    }
}

/// Why a request has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not delivered.
    Publish(PublishError),
    /// The server had nobody to give the request to.
    NobodyThere,
    /// The client is closed, or the subscription to responses has ended.
    Closed,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(error) => write!(f, "the request was not delivered: {error}"),
            Self::NobodyThere => f.write_str("nobody is there to answer"),
            Self::Closed => f.write_str("no response can come any more"),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<PublishError> for RequestError {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}
