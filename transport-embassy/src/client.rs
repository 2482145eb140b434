//! The handle.

use core::{
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use mqtt_core::{Filter, Limits, Publish, QoS, ReasonCode, Receipt, Subscription};

use crate::{
    error::{AcknowledgeError, PublishError, SubscribeError},
    message::Message,
    publish::Publication,
    resources::{Resources, Sizes, now},
    state::{Refused, State},
    status::Status,
    subscriptions::Ask,
    waiting::{Key, Outcome, Queue, WaitingSize},
};

/// A client's handle: to be copied to every task that publishes, subscribes or receives.
///
/// The [`Runner`](crate::Runner) does the IO. Handles act on the client themselves, and wait for nothing that
/// another one does; futures can be dropped at any time, which undoes nothing and loses nothing.
///
/// ```
/// # use mqtt_core::{Filter, Publish, QoS, Topic};
/// # use transport_embassy::{Client, Sizes};
/// # async fn example<R: Sizes>(client: Client<'_, R>) -> Result<(), Box<dyn std::error::Error>> {
/// client.subscribe(Filter::new("valve/7/set")?, QoS::AtLeastOnce).await?;
/// while let Some(message) = client.receive().await {
///     let open = message.payload() == b"open";
///     drop(message); // acknowledged
///     let state = Publish {
///         qos: QoS::AtLeastOnce,
///         ..Publish::new(Topic::new("valve/7/state")?, if open { "open" } else { "shut" })
///     };
///     client.publish(&state).await?; // the server has it
/// }
/// # Ok(())
/// # }
/// ```
pub struct Client<'a, R: Sizes> {
    resources: &'a Resources<R>,
}

impl<'a, R: Sizes> Client<'a, R> {
    pub(crate) const fn new(resources: &'a Resources<R>) -> Self {
        Self { resources }
    }

    /// Publishes a message, and waits until the server has it: [`send`](Self::send), then
    /// [`outcome`](Publication::outcome). At QoS 0 until it is on its way.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn publish(&self, message: &Publish<'_>) -> Result<ReasonCode, PublishError> {
        self.send(message).await?.outcome().await
    }

    /// Publishes a message without waiting for its outcome. Waits for a connection, and for room in the
    /// [store](Sizes::Store), the [outbox](Sizes::Outbox) and the server's quota.
    ///
    /// Dropped before, nothing has been published. Afterwards the message is delivered, on whichever
    /// connection that succeeds at QoS 1 and 2, whatever becomes of the [`Publication`].
    ///
    /// # Errors
    ///
    /// [`PublishError`] if it will never be accepted.
    pub async fn send(&self, message: &Publish<'_>) -> Result<Publication<'a, R>, PublishError> {
        let accepted = self.room(|state| state.publish(now(), message, None)).await?;
        Ok(Publication::new(self.resources, accepted))
    }

    /// Publishes a message if that is possible at once.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with [`Busy`](PublishError::Busy) if it is not.
    pub fn try_publish(&self, message: &Publish<'_>) -> Result<Publication<'a, R>, PublishError> {
        match self.resources.with(|state| state.publish(now(), message, None)) {
            Ok(accepted) => Ok(Publication::new(self.resources, accepted)),
            Err(Refused::ForNow) => Err(PublishError::Busy),
            Err(Refused::ForEver(error)) => Err(error),
        }
    }

    /// Subscribes, and waits for the QoS that the server grants. The subscription is kept, and made again
    /// when the server has lost the session. Subscribing again replaces it.
    ///
    /// It is made also if the future is dropped when it has been polled once and there was a place for it.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub async fn subscribe(&self, filter: Filter<'_>, qos: QoS) -> Result<QoS, SubscribeError> {
        self.subscribe_with(Subscription::new(filter, qos)).await
    }

    /// Subscribes with [options](Subscription).
    ///
    /// # Errors
    ///
    /// [`SubscribeError`], as [`subscribe`](Self::subscribe).
    pub async fn subscribe_with(
        &self,
        subscription: Subscription<'_>,
    ) -> Result<QoS, SubscribeError> {
        self.ask(Ask { subscription, end: false }).await
    }

    /// Ends a subscription, whoever has made it, and waits until the server has done so.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]; [`Full`](SubscribeError::Full) if it is not one of ours and there is no place to
    /// note it.
    pub async fn unsubscribe(&self, filter: Filter<'_>) -> Result<(), SubscribeError> {
        let subscription = Subscription::new(filter, QoS::AtMostOnce);
        self.ask(Ask { subscription, end: true }).await.map(drop)
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<QoS, SubscribeError> {
        let key = self.room(|state| state.ask(now(), ask)).await?;
        let awaited = Awaited { resources: self.resources, key: Some(key) };
        match awaited.outcome().await {
            Outcome::Subscribed(answer) => answer,
            _ => Err(SubscribeError::Closed), // never: it is no publish
        }
    }

    /// The QoS at which the server sends what matches a filter that was subscribed to; `None` if it has not
    /// said so, or has refused.
    pub fn granted(&self, filter: Filter<'_>) -> Option<QoS> {
        self.resources.with(|state| state.granted(filter.as_str()))
    }

    /// The next message, for one of those who wait for one. `None` when the client has ended and all
    /// have been taken.
    ///
    /// Dropping the future loses nothing.
    pub async fn receive(&self) -> Option<Message<'a, R>> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Option<Message<'a, R>>> {
        let taken = self.resources.with(|state| {
            let Some(delivery) = state.take_ready(None) else {
                state.waiting.register(Queue::Readers, cx.waker());
                return if state.has_ended() { Poll::Ready(None) } else { Poll::Pending };
            };
            Poll::Ready(Some((delivery, state.machine.version())))
        });
        taken.map(|taken| {
            taken.map(|(delivery, version)| Message::new(self.resources, &delivery, version))
        })
    }

    /// Acknowledges a message that was [held](Message::hold), or (5.0) refuses it, with a reason of 0x80 or
    /// above. Waits for room.
    ///
    /// # Errors
    ///
    /// [`AcknowledgeError`]; [`Stale`](AcknowledgeError::Stale) at QoS 1 when the connection on which it came
    /// is over: then it comes again.
    pub async fn acknowledge(
        &self,
        receipt: Receipt,
        reason: ReasonCode,
    ) -> Result<(), AcknowledgeError> {
        self.room(|state| state.acknowledge(now(), receipt, reason)).await
    }

    /// How the connection stands.
    pub fn status(&self) -> Status {
        self.resources.with(|state| state.status)
    }

    /// How the connection stands, now and whenever it changes.
    pub const fn watch(&self) -> Watch<'a, R> {
        Watch { resources: self.resources, seen: None }
    }

    /// Resolves when there is a connection, at once if there is one. Whether there is; not if the client has
    /// ended.
    pub async fn connected(&self) -> bool {
        let mut watch = self.watch();
        loop {
            match watch.next().await {
                Status::Connected { .. } => return true,
                Status::Ended(_) => return false,
                _ => {}
            }
        }
    }

    /// What the server has told that it takes; without a connection, and before 5.0, nothing is limited.
    pub fn limits(&self) -> Limits {
        self.resources.with(|state| state.machine.limits())
    }

    /// How many messages at QoS 0 were dropped because they were not taken in
    /// [time](crate::Options::patience).
    pub fn dropped(&self) -> u32 {
        self.resources.with(|state| state.dropped)
    }

    /// Ends the client: nothing more is accepted, what has been accepted is sent, DISCONNECT said. Resolves
    /// when the runner has ended, which dropping the future does not prevent. What has no outcome yet has
    /// none; it stays in the store.
    pub async fn disconnect(&self) {
        self.resources.with(|state| {
            state.closing = !state.has_ended();
            state.wake_runner();
        });
        let mut watch = self.watch();
        while !matches!(watch.next().await, Status::Ended(_)) {}
    }

    /// Tries whenever there may be room.
    pub(crate) async fn room<T, E>(
        &self,
        mut attempt: impl FnMut(&mut State<R>) -> Result<T, Refused<E>>,
    ) -> Result<T, E> {
        poll_fn(|cx| {
            self.resources.with(|state| match attempt(state) {
                Ok(done) => Poll::Ready(Ok(done)),
                Err(Refused::ForEver(error)) => Poll::Ready(Err(error)),
                Err(Refused::ForNow) => {
                    state.wait_for_room(cx.waker());
                    Poll::Pending
                }
            })
        })
        .await
    }

    pub(crate) const fn resources(&self) -> &'a Resources<R> {
        self.resources
    }
}

impl<R: Sizes> Clone for Client<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Sizes> Copy for Client<'_, R> {}

impl<R: Sizes> fmt::Debug for Client<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// How the connection stands, whenever it changes: for an LED, or a watchdog.
pub struct Watch<'a, R: Sizes> {
    resources: &'a Resources<R>,
    seen: Option<u32>,
}

impl<R: Sizes> Watch<'_, R> {
    /// The status, when it is not the one that this has told last. What was in between is not told.
    pub async fn next(&mut self) -> Status {
        poll_fn(|cx| {
            self.resources.with(|state| {
                if self.seen == Some(state.changes) {
                    state.waiting.register(Queue::Watchers, cx.waker());
                    return Poll::Pending;
                }
                self.seen = Some(state.changes);
                Poll::Ready(state.status)
            })
        })
        .await
    }
}

impl<R: Sizes> fmt::Debug for Watch<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Somebody who waits for an outcome. Without them it is not kept.
pub(crate) struct Awaited<'a, R: Sizes> {
    pub(crate) resources: &'a Resources<R>,
    pub(crate) key: Option<Key>,
}

impl<R: Sizes> Awaited<'_, R> {
    /// Resolves to the next word about it.
    pub(crate) async fn next(&mut self) -> Outcome {
        let outcome = poll_fn(|cx| match self.key {
            Some(key) => self.resources.with(|state| state.poll_outcome(key, cx)),
            None => Poll::Ready(Outcome::Published(Ok(ReasonCode::Success))),
        });
        let outcome = outcome.await;
        if outcome != Outcome::Again {
            self.key = None;
        }
        outcome
    }

    /// Resolves to the last word.
    pub(crate) async fn outcome(mut self) -> Outcome {
        loop {
            match self.next().await {
                Outcome::Again => {} // nothing is streamed
                outcome => return outcome,
            }
        }
    }
}

impl<R: Sizes> Drop for Awaited<'_, R> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.resources.with(|state| state.forget(key));
        }
    }
}
