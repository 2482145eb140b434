//! Publishing: what can be said about a message, and what comes of it.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use mqtt_core::QoS;

use crate::{
    error::PublishError,
    message::PublishProperties,
    outcome::{Key, Outcome, Published},
    queue::Draft,
    shared::Shared,
    state::{Accepted, Ticket},
};

/// A message to be published; awaiting it publishes it. Made by
/// [`Client::publish`](crate::Client::publish).
///
/// - At QoS 1 and 2 it resolves when the server has taken the message or has not, however many
///   connections that takes.
/// - At QoS 0 it resolves when the message has been accepted for sending; nobody ever tells more.
///
/// It is accepted at once, unless [as much waits as may](crate::Options::queue): then it waits for its
/// turn. Dropping the future before takes it back; dropping it afterwards does not: the message
/// is delivered, and nobody is told.
///
/// ```no_run
/// # async fn example(client: transport_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use transport_tokio::QoS;
///
/// client.publish("valve/3", "open").qos(QoS::ExactlyOnce).await?;
/// client.publish("valve/3/state", "open").retain(true).message_expiry_interval(3600).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is published unless it is awaited"]
pub struct Publish<'a> {
    shared: &'a Arc<Shared>,
    draft: Draft<'a>,
}

impl<'a> Publish<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, topic: Cow<'a, str>, payload: Bytes) -> Self {
        Self { shared, draft: Draft { topic, payload, ..Draft::default() } }
    }

    /// How hard to try; 0 unless said otherwise.
    pub fn qos(mut self, qos: QoS) -> Self {
        self.draft.qos = qos;
        self
    }

    /// Whether the server keeps it for subscribers to come.
    pub fn retain(mut self, retain: bool) -> Self {
        self.draft.retain = retain;
        self
    }

    /// What else there is to say, in place of everything said before (5.0).
    pub fn properties(mut self, properties: PublishProperties) -> Self {
        self.draft.properties = Some(Box::new(properties));
        self
    }

    /// Seconds after which it is no longer worth delivering (5.0).
    pub fn message_expiry_interval(mut self, seconds: u32) -> Self {
        self.with_properties().message_expiry_interval = Some(seconds);
        self
    }

    /// What the payload is (5.0).
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.with_properties().content_type = Some(content_type.into());
        self
    }

    /// Where an answer should be published (5.0).
    pub fn response_topic(mut self, topic: impl Into<String>) -> Self {
        self.with_properties().response_topic = Some(topic.into());
        self
    }

    /// What tells which request an answer is for (5.0).
    pub fn correlation_data(mut self, data: impl Into<Bytes>) -> Self {
        self.with_properties().correlation_data = Some(data.into());
        self
    }

    /// A name and a value for applications to agree on, after those given before (5.0).
    pub fn user_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with_properties().user_properties.push((name.into(), value.into()));
        self
    }

    /// Resolves as soon as the message is accepted; the outcome can be had later, or never. With a
    /// [session file](crate::Options) the message is on disk by then (at QoS 1 and 2).
    ///
    /// ```no_run
    /// # async fn example(client: transport_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use transport_tokio::QoS;
    ///
    /// let delivery = client.publish("log", "entry").qos(QoS::AtLeastOnce).accepted().await?;
    /// // ...something else, perhaps for hours without a network
    /// delivery.await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PublishError`]; it was not accepted.
    pub async fn accepted(self) -> Result<Delivery, PublishError> {
        let Self { shared, draft } = self;
        let offering = Offering { shared, draft, ticket: None };
        let (accepted, batch) = offering.await?;
        let delivery = Delivery::new(shared, accepted);
        if let Some(batch) = batch.filter(|_| accepted.key.is_some()) {
            let mut durable = shared.durable.subscribe();
            let durable = durable.wait_for(|durable| durable.batch >= batch || durable.over).await;
            if durable.is_ok_and(|durable| durable.batch < batch) {
                return Err(PublishError::Closed);
            }
        }
        Ok(delivery)
    }

    /// Publishes without waiting for anything: the message is accepted now, or not at all. What becomes of
    /// it can be awaited.
    ///
    /// ```no_run
    /// # fn example(client: transport_tokio::Client) {
    /// use transport_tokio::{PublishError, QoS};
    ///
    /// match client.publish("sensors/7", "21.5").qos(QoS::AtLeastOnce).try_publish() {
    ///     Ok(delivery) => drop(delivery), // it is on its way
    ///     Err(PublishError::Full) => {}   // the next reading will do
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PublishError::Full`] if [as much waits as may](crate::Options::queue), and what awaiting it gives.
    pub fn try_publish(mut self) -> Result<Delivery, PublishError> {
        let now = self.shared.now();
        let accepted = self.shared.act(|state| state.offer(now, &mut self.draft))?;
        let accepted = accepted.ok_or(PublishError::Full)?;
        Ok(Delivery::new(self.shared, accepted))
    }

    fn with_properties(&mut self) -> &mut PublishProperties {
        self.draft.properties.get_or_insert_default()
    }
}

impl<'a> IntoFuture for Publish<'a> {
    type Output = Outcome;
    type IntoFuture = Publishing<'a>;

    fn into_future(self) -> Publishing<'a> {
        let Self { shared, draft } = self;
        Publishing(Stage::Offering(Offering { shared, draft, ticket: None }))
    }
}

/// A message being published: [`Publish`], awaited. Polled again afterwards, it says the same again.
#[derive(Debug)]
#[must_use = "nothing is published unless it is awaited"]
pub struct Publishing<'a>(Stage<'a>);

#[derive(Debug)]
enum Stage<'a> {
    Offering(Offering<'a>),
    Accepted { shared: &'a Arc<Shared>, key: Key },
    Over(Outcome),
}

impl Future for Publishing<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            match &mut self.0 {
                Stage::Offering(offering) => {
                    let shared = offering.shared;
                    self.0 = match ready!(Pin::new(offering).poll(cx)) {
                        Ok((Accepted { key: Some(key) }, _)) => Stage::Accepted { shared, key },
                        Ok(_) => Stage::Over(Ok(Published::SUCCESS)),
                        Err(error) => Stage::Over(Err(error)),
                    };
                }
                Stage::Accepted { shared, key } => {
                    let polled = shared.with(|state| state.outcomes.poll(*key, cx));
                    self.0 = Stage::Over(ready!(polled));
                }
                Stage::Over(outcome) => return Poll::Ready(outcome.clone()),
            }
        }
    }
}

// Not of `Stage`: one that goes on to its outcome would take the lock once more.
impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if let Stage::Accepted { shared, key } = &self.0 {
            shared.with(|state| state.outcomes.detach(*key));
        }
    }
}

/// A message that waits to be accepted.
#[derive(Debug)]
struct Offering<'a> {
    shared: &'a Arc<Shared>,
    draft: Draft<'a>,
    /// Its place in the line.
    ticket: Option<Ticket>,
}

impl Future for Offering<'_> {
    /// And the number of a batch of changes by which it is on disk, if there is a journal.
    type Output = Result<(Accepted, Option<u64>), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, draft, ticket } = &mut *self;
        let now = shared.now();
        let polled = shared.with(|state| {
            let accepted = match *ticket {
                Some(waiting) => ready!(state.poll_ticket(waiting, cx))?,
                None => match state.offer(now, draft)? {
                    Some(accepted) => accepted,
                    None => {
                        *ticket = Some(state.wait(now, draft, cx.waker().clone()));
                        return Poll::Pending;
                    }
                },
            };
            Poll::Ready(Ok((accepted, state.latest_batch())))
        });
        if let Poll::Ready(accepted) = &polled {
            *ticket = None;
            if accepted.is_ok() {
                shared.driver.wake();
            }
        }
        polled
    }
}

impl Drop for Offering<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.act(|state| state.withdraw(ticket));
        }
    }
}

/// The outcome of a message that was [accepted](Publish::accepted), to be awaited.
///
/// Dropping it does not take the message back. Polled again afterwards, it says the same again.
#[derive(Debug)]
pub struct Delivery {
    shared: Arc<Shared>,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Accepted(Key),
    Over(Outcome),
}

impl Delivery {
    fn new(shared: &Arc<Shared>, Accepted { key }: Accepted) -> Self {
        let progress = key.map_or(Progress::Over(Ok(Published::SUCCESS)), Progress::Accepted);
        Self { shared: Arc::clone(shared), progress }
    }
}

impl Future for Delivery {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = match &self.progress {
            Progress::Accepted(key) => {
                ready!(self.shared.with(|state| state.outcomes.poll(*key, cx)))
            }
            Progress::Over(outcome) => return Poll::Ready(outcome.clone()),
        };
        self.progress = Progress::Over(outcome.clone());
        Poll::Ready(outcome)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Progress::Accepted(key) = self.progress {
            self.shared.with(|state| state.outcomes.detach(key));
        }
    }
}
