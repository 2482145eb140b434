//! Streams of messages, and the subscriptions behind them.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_core::Stream;
use mqtt_core::{Filter, QoS, ReasonCode, Receipt, RetainHandling, TopicError, Version};
use tokio::sync::oneshot;

use crate::{
    error::{Invalid, SubscribeError},
    inbox::{Delivery, Inbox, StreamLimits},
    message::Message,
    routes::{Interest, StreamId, local},
    shared::Shared,
    subscriptions::{Answer, Terms},
};

/// Messages as they arrive, in order: a [`Stream`].
///
/// Where filters overlap, a server may send a message once for each. On 5.0, if the server has
/// subscription identifiers, the copies are told apart and every stream gets one; otherwise every stream
/// gets all of them. Another subscription to the same filter brings retained messages once more, to all of
/// its streams.
///
/// Taking a message out acknowledges it. As long as messages at QoS 1 and 2 are not taken, the server
/// is not told that they arrived, and [holds back](crate::Options::receive_maximum) when there are too
/// many; those at QoS 0 are dropped and [counted](Self::dropped) when there are
/// [too many](StreamLimits). The connection and other streams go on, with one limit that is MQTT's
/// own: acknowledgements leave in the order of arrival, so that a stream that is never read
/// uses up, in the end, all that the server sends unacknowledged, for all streams. A server before 5.0
/// cannot be told how much that is; beyond it [nothing is read](crate::Options::receive_maximum).
///
/// When the last stream of a filter is dropped, the client unsubscribes, and what was not read counts
/// as read.
#[derive(Debug)]
pub struct Messages {
    inbox: Arc<Inbox>,
    /// What it is subscribed to.
    filters: Vec<Box<str>>,
    /// At which QoS, as far as the server has said.
    granted: Vec<QoS>,
    client: Arc<Attachment>,
}

/// The client of a stream: it comes when it is made, for streams declared before, and never to one that
/// was dropped by then.
#[derive(Debug, Default)]
struct Attachment(OnceLock<Option<(Arc<Shared>, StreamId)>>);

impl Attachment {
    fn get(&self) -> Option<&(Arc<Shared>, StreamId)> {
        self.0.get()?.as_ref()
    }
}

impl Messages {
    /// The next message; `None` when there will be none any more: see [`error`](Self::error).
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.poll_take(cx)).await
    }

    /// The next message, and what has to acknowledge it.
    ///
    /// The message is delivered again, after the connection or to the next program, unless
    /// [`Ack::accept`] says that it need not be. Acknowledgements leave in the order of arrival,
    /// in whichever order they are given.
    ///
    /// ```no_run
    /// # async fn example(mut jobs: transport_tokio::Messages) {
    /// # async fn done(_: &transport_tokio::Message) -> bool { true }
    /// while let Some((message, ack)) = jobs.next_unacknowledged().await {
    ///     if done(&message).await {
    ///         ack.accept();
    ///     } else {
    ///         ack.refuse(transport_tokio::ReasonCode::ImplementationSpecificError);
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn next_unacknowledged(&mut self) -> Option<(Message, Ack)> {
        let delivery = std::future::poll_fn(|cx| self.inbox.poll(cx)).await?;
        Some((delivery.message, Ack { shared: self.shared(), receipt: delivery.receipt }))
    }

    /// The next message, if there is one already.
    pub fn try_next(&mut self) -> Option<Message> {
        let delivery = self.inbox.pop()?;
        Some(self.take(delivery))
    }

    /// The QoS that the server has granted for each filter, in their order; it may be lower than what was
    /// asked for. Empty for a stream that was declared before there was a client, or only listens.
    pub fn granted(&self) -> &[QoS] {
        &self.granted
    }

    /// Changes how much the stream keeps while it is not read. What it has it keeps.
    pub fn set_limits(&mut self, limits: StreamLimits) {
        self.inbox.set_limits(limits);
    }

    /// Why there will be no more messages, once there are none.
    pub fn error(&self) -> Option<SubscribeError> {
        self.inbox.error()
    }

    /// How many messages at QoS 0 were dropped because the stream was not read.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    /// How many messages wait to be read.
    pub fn len(&self) -> usize {
        self.inbox.len()
    }

    /// Whether no message waits to be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the stream, and waits until the server has confirmed that it ends the subscription, if
    /// nobody else needs it. Dropping the stream does the same without waiting.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Closed`] if the client is closed before.
    pub async fn unsubscribe(mut self) -> Result<(), SubscribeError> {
        let Some((shared, _)) = self.client.get().cloned() else { return Ok(()) };
        let left = self.leave();
        drop(self);
        for left in left {
            let _ = left.await; // the sender says it by being dropped
        }
        if shared.with(|state| state.closed) { Err(SubscribeError::Closed) } else { Ok(()) }
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.inbox.poll(cx).map(|delivery| delivery.map(|delivery| self.take(delivery)))
    }

    fn take(&self, delivery: Delivery) -> Message {
        if let (Some(receipt), Some((shared, _))) = (delivery.receipt, self.client.get()) {
            shared.acknowledge(receipt, ReasonCode::Success);
        }
        delivery.message
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.client.get().map(|(shared, _)| Arc::clone(shared))
    }

    /// Reads and wants no more.
    fn leave(&mut self) -> Vec<oneshot::Receiver<()>> {
        let Some((shared, id)) = self.client.get() else { return Vec::new() };
        let filters = std::mem::take(&mut self.filters);
        shared.act(|state| {
            state.routes.remove(*id);
            filters.iter().filter_map(|filter| state.subscriptions.remove(filter)).collect()
        })
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_take(cx)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.client.0.get_or_init(|| None);
        drop(self.leave());
        while let Some(delivery) = self.inbox.pop() {
            self.take(delivery);
        }
        if let Some((shared, _)) = self.client.get() {
            let now = shared.now();
            shared.act(|state| state.release(now));
        }
    }
}

/// Acknowledges one message, once.
///
/// Dropped without a word, the message stays unacknowledged, which is logged: the server sends it again after
/// the connection (QoS 1) or to the next program (QoS 2, with its session). Until then acknowledgements of
/// all later messages wait for it, those of other streams, too; the server stops after
/// [`receive_maximum`](crate::Options::receive_maximum) of them.
#[derive(Debug)]
#[must_use = "the message stays unacknowledged"]
pub struct Ack {
    shared: Option<Arc<Shared>>,
    receipt: Option<Receipt>,
}

impl Ack {
    /// The message need not be sent again. At QoS 0 this means nothing.
    pub fn accept(self) {
        self.give(ReasonCode::Success);
    }

    /// The message is not wanted, for a reason of 0x80 or above; it is not sent again either.
    /// Servers before 5.0 cannot be told, and take it for accepted, as they do with a reason that
    /// is none for a PUBACK or PUBREC.
    pub fn refuse(self, reason: ReasonCode) {
        self.give(reason);
    }

    fn give(mut self, reason: ReasonCode) {
        if let (Some(shared), Some(receipt)) = (&self.shared, self.receipt.take()) {
            shared.acknowledge(receipt, reason);
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if self.receipt.is_some() {
            tracing::warn!("a message stays unacknowledged: its `Ack` was dropped");
        }
    }
}

/// A subscription to be made; awaiting it makes it and gives its stream. Made by
/// [`Client::subscribe`](crate::Client::subscribe).
///
/// It resolves when the server has granted the subscription, however many connections that takes.
/// Dropping the future unsubscribes.
///
/// ```no_run
/// # async fn example(client: transport_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use transport_tokio::{QoS, RetainHandling};
///
/// let mut doors = client
///     .subscribe("doors/+/open", QoS::AtLeastOnce)
///     .and("doors/+/closed", QoS::AtLeastOnce)
///     .retain_handling(RetainHandling::DoNotSend)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is subscribed to unless it is awaited"]
pub struct Subscribe<'a> {
    shared: &'a Arc<Shared>,
    wanted: Wanted,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, filter: &str, qos: QoS) -> Self {
        let mut wanted = Wanted::default();
        wanted.add(filter, qos);
        Self { shared, wanted }
    }

    /// Another filter for the same stream, which gets a message that matches both only once if the server
    /// tells for which it was sent (5.0). If the server refuses one of them, now or when it has lost the
    /// session, the stream ends.
    pub fn and(mut self, filter: &str, qos: QoS) -> Self {
        self.wanted.add(filter, qos);
        self
    }

    /// Whether to leave out the messages that this client publishes (5.0).
    pub fn no_local(mut self, no_local: bool) -> Self {
        self.wanted.options.no_local = no_local;
        self
    }

    /// Whether messages keep the RETAIN flag with which they were published (5.0).
    pub fn retain_as_published(mut self, retain_as_published: bool) -> Self {
        self.wanted.options.retain_as_published = retain_as_published;
        self
    }

    /// Which retained messages to send (5.0); all of them unless said otherwise.
    pub fn retain_handling(mut self, retain_handling: RetainHandling) -> Self {
        self.wanted.options.retain_handling = retain_handling;
        self
    }

    /// How much the stream keeps while it is not read.
    pub fn limits(mut self, limits: StreamLimits) -> Self {
        self.wanted.options.limits = limits;
        self
    }

    async fn make(self) -> Result<Messages, SubscribeError> {
        let Self { shared, wanted } = self;
        wanted.check(shared.with(|state| state.machine.version()))?;
        let mut messages = wanted.stream();
        let interest = wanted.interest();
        let answers = wanted.attach(interest, &messages.inbox, &messages.client, shared);
        for answer in answers {
            messages.granted.push(answer.await.map_err(|_| SubscribeError::Closed)??);
        }
        Ok(messages)
    }
}

impl<'a> IntoFuture for Subscribe<'a> {
    type Output = Result<Messages, SubscribeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.make())
    }
}

/// What a stream is to be subscribed to.
#[derive(Clone, Debug, Default)]
struct Wanted {
    filters: Vec<(Box<str>, QoS)>,
    options: SubscribeOptions,
}

/// What there is to say about a subscription besides filter and QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Leave out the messages that this client publishes; 5.0 only.
    pub no_local: bool,
    /// Messages keep the RETAIN flag with which they were published; 5.0 only.
    pub retain_as_published: bool,
    /// Which retained messages to send; 5.0 only.
    pub retain_handling: RetainHandling,
    /// How much the stream keeps while it is not read.
    pub limits: StreamLimits,
}

impl Wanted {
    fn add(&mut self, filter: &str, qos: QoS) {
        self.filters.retain(|(other, _)| **other != *filter);
        self.filters.push((filter.into(), qos));
    }

    /// Whether all that can be asked for.
    fn check(&self, version: Version) -> Result<(), SubscribeError> {
        for (filter, qos) in &self.filters {
            let checked = self.terms(*qos).check(version, Filter::new(filter)?);
            checked.map_err(|error| SubscribeError::Invalid(Invalid::Packet(error)))?;
        }
        Ok(())
    }

    fn terms(&self, qos: QoS) -> Terms {
        let SubscribeOptions { no_local, retain_as_published, retain_handling, .. } = self.options;
        Terms { qos, no_local, retain_as_published, retain_handling }
    }

    /// A stream without a client.
    fn stream(&self) -> Messages {
        Messages {
            inbox: Arc::new(Inbox::new(self.options.limits)),
            filters: self.filters.iter().map(|(filter, _)| filter.clone()).collect(),
            granted: Vec::new(),
            client: Arc::default(),
        }
    }

    /// Which messages that brings.
    fn interest(&self) -> Interest {
        Interest::Filters(self.filters.iter().map(|(filter, _)| local(filter).into()).collect())
    }

    /// Gives a stream its client, and asks for what it wants.
    fn attach(
        &self,
        interest: Interest,
        inbox: &Arc<Inbox>,
        client: &Arc<Attachment>,
        shared: &Arc<Shared>,
    ) -> Vec<oneshot::Receiver<Answer>> {
        let (id, answers) = shared.act(|state| {
            let mut subscribed = Vec::with_capacity(self.filters.len());
            let mut answers = Vec::with_capacity(self.filters.len());
            for (filter, qos) in &self.filters {
                let (identifier, answer) = state.subscriptions.add(filter, self.terms(*qos));
                subscribed.push((filter.clone(), identifier));
                answers.push(answer);
            }
            if state.closed {
                state.subscriptions.close();
            }
            (state.listen(interest, subscribed, inbox), answers)
        });
        if client.0.set(Some((Arc::clone(shared), id))).is_err() {
            // It was dropped meanwhile. Another that is dropped undoes what it has not.
            let filters = self.filters.iter().map(|(filter, _)| filter.clone()).collect();
            let client = Attachment(OnceLock::from(Some((Arc::clone(shared), id))));
            let (inbox, client) = (Arc::clone(inbox), Arc::new(client));
            drop(Messages { inbox, filters, granted: Vec::new(), client });
        }
        answers
    }
}

/// A stream that only listens.
pub(crate) fn listen(shared: &Arc<Shared>, interest: Interest) -> Messages {
    let wanted = Wanted::default();
    let messages = wanted.stream();
    wanted.attach(interest, &messages.inbox, &messages.client, shared);
    messages
}

/// Streams to be there before the first connection, so that messages of a session that is resumed find
/// their readers.
///
/// ```
/// use transport_tokio::{Options, QoS, Streams};
///
/// let mut streams = Streams::default();
/// let mut jobs = streams.subscribe("jobs/#", QoS::ExactlyOnce)?;
/// let mut rest = streams.unclaimed();
/// let options = Options { streams, clean_start: false, ..Options::default() };
/// // Client::connect(url, options).await?, then jobs.next().await
/// assert!(jobs.is_empty() && rest.is_empty());
/// # Ok::<(), transport_tokio::TopicError>(())
/// ```
#[derive(Debug, Default)]
pub struct Streams(Vec<Declared>);

#[derive(Debug)]
struct Declared {
    wanted: Wanted,
    interest: Interest,
    inbox: Arc<Inbox>,
    client: Arc<Attachment>,
}

impl Drop for Declared {
    /// If it has no client by now it will have none.
    fn drop(&mut self) {
        if self.client.get().is_none()
            && let Some(reader) = self.inbox.end(Some(SubscribeError::Closed))
        {
            reader.wake();
        }
    }
}

impl Streams {
    /// A stream for one filter, which is subscribed to when the client connects.
    ///
    /// # Errors
    ///
    /// [`TopicError`] if it is no filter. A refusal by the server [ends](Messages::error) the stream.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<Messages, TopicError> {
        let mut wanted = Wanted::default();
        wanted.add(filter, qos);
        Filter::new(filter)?;
        Ok(self.declare(wanted.interest(), wanted))
    }

    /// A stream for what no other stream reads, as [`Client::unclaimed`](crate::Client::unclaimed).
    pub fn unclaimed(&mut self) -> Messages {
        self.declare(Interest::Unclaimed, Wanted::default())
    }

    /// The same with more to say: which filters, and on which terms.
    ///
    /// ```
    /// use transport_tokio::{QoS, RetainHandling, Streams, SubscribeOptions};
    ///
    /// let mut streams = Streams::default();
    /// let options = SubscribeOptions {
    ///     retain_handling: RetainHandling::DoNotSend, // 5.0 only
    ///     ..SubscribeOptions::default()
    /// };
    /// let filters = [("jobs/#", QoS::ExactlyOnce), ("plans/#", QoS::AtLeastOnce)];
    /// let mut work = streams.subscribe_with(&filters, options)?;
    /// # Ok::<(), transport_tokio::TopicError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TopicError`], as [`subscribe`](Self::subscribe).
    pub fn subscribe_with(
        &mut self,
        filters: &[(&str, QoS)],
        options: SubscribeOptions,
    ) -> Result<Messages, TopicError> {
        let mut wanted = Wanted { options, ..Wanted::default() };
        for (filter, qos) in filters {
            Filter::new(filter)?;
            wanted.add(filter, *qos);
        }
        Ok(self.declare(wanted.interest(), wanted))
    }

    fn declare(&mut self, interest: Interest, wanted: Wanted) -> Messages {
        let messages = wanted.stream();
        let (inbox, client) = (Arc::clone(&messages.inbox), Arc::clone(&messages.client));
        self.0.push(Declared { wanted, interest, inbox, client });
        messages
    }

    /// Gives the streams their client.
    pub(crate) fn attach(mut self, shared: &Arc<Shared>) {
        for Declared { wanted, interest, inbox, client } in &mut self.0 {
            let interest = std::mem::replace(interest, Interest::Unclaimed);
            drop(wanted.attach(interest, inbox, client, shared));
        }
    }
}
