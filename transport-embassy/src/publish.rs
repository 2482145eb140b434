//! Publishes that have been accepted, and those that are streamed.

use core::fmt;

use embedded_io_async::{Read, Seek, SeekFrom};
use mqtt_core::{PacketId, Publish, QoS, ReasonCode};

use crate::{
    client::{Awaited, Client},
    error::PublishError,
    resources::{Resources, Sizes, now},
    state::{Accepted, Refused},
    waiting::Outcome,
};

/// A message that is on its way. Dropping it changes nothing about that; its outcome is forgotten.
#[must_use = "at QoS 1 and 2 it has an outcome, which may be a failure"]
pub struct Publication<'a, R: Sizes> {
    awaited: Awaited<'a, R>,
    id: Option<PacketId>,
}

impl<'a, R: Sizes> Publication<'a, R> {
    pub(crate) const fn new(resources: &'a Resources<R>, accepted: Accepted) -> Self {
        Self { awaited: Awaited { resources, key: accepted.key }, id: accepted.id }
    }

    /// Its packet identifier, at QoS 1 and 2. Another message may have it after the outcome.
    pub const fn packet_id(&self) -> Option<PacketId> {
        self.id
    }

    /// Waits until the server has it: with a reason that is a success, such as that nobody has subscribed.
    /// At QoS 0 there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn outcome(self) -> Result<ReasonCode, PublishError> {
        match self.awaited.outcome().await {
            Outcome::Published(outcome) => outcome,
            _ => Err(PublishError::Closed), // never: it is no subscription
        }
    }
}

impl<R: Sizes> fmt::Debug for Publication<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication").field("packet_id", &self.id).finish_non_exhaustive()
    }
}

/// How much of a payload is read at once.
const PIECE: usize = 128;

impl<R: Sizes> Client<'_, R> {
    /// Publishes a message whose payload is in `source`, from its beginning on, `len` bytes of it. It does
    /// not have to fit anywhere; nothing else is sent meanwhile. Waits until the server has it.
    ///
    /// When the connection is lost at QoS 1 and 2, the payload is read again. At QoS 0 that is the end, and
    /// no failure. A payload in `head` is ignored.
    ///
    /// Dropped before the payload has been sent, it takes the connection with it, for the packet could not be
    /// completed; dropped later, it lets the server keep what it has.
    ///
    /// # Errors
    ///
    /// [`PublishError`], with [`Source`](PublishError::Source) if the payload cannot be read.
    ///
    /// ```
    /// # use mqtt_core::{Publish, QoS, Topic};
    /// # use transport_embassy::{Client, PublishError, Sizes};
    /// # use embedded_io_async::{Read, Seek};
    /// # async fn example<R: Sizes>(client: Client<'_, R>, file: impl Read + Seek) -> Result<(), PublishError> {
    /// let topic = Topic::new("camera/3/picture").unwrap();
    /// let head = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, "") };
    /// client.publish_streamed(&head, 300_000, file).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_streamed(
        &self,
        head: &Publish<'_>,
        len: usize,
        mut source: impl Read + Seek,
    ) -> Result<ReasonCode, PublishError> {
        let resources = self.resources();
        let begun = self.room(|state| {
            let accepted = state.publish(now(), head, Some(len))?;
            Ok((accepted, state.connection))
        });
        let (accepted, mut connection) = begun.await?;
        let mut awaited = Awaited { resources, key: accepted.key };
        loop {
            let mut stream = Streaming { client: *self, connection };
            stream.send(&mut source, len).await?;
            drop(stream);
            match awaited.next().await {
                Outcome::Published(outcome) => return outcome,
                Outcome::Again => {}
                Outcome::Subscribed(_) => return Err(PublishError::Closed), // never
            }
            let Some(id) = accepted.id.filter(|_| head.qos != QoS::AtMostOnce) else {
                return Ok(ReasonCode::Success);
            };
            let again = self.room(|state| {
                match state.publish_again(now(), id, head, len) {
                    // It is to be asked for once more.
                    Err(Refused::ForEver(PublishError::Invalid(_))) => Ok(None),
                    result => result.map(|()| Some(state.connection)),
                }
            });
            connection = match again.await? {
                Some(connection) => connection,
                None => connection.wrapping_sub(1),
            };
        }
    }
}

/// A payload on its way. Dropped half-way, it takes the connection with it.
struct Streaming<'a, R: Sizes> {
    client: Client<'a, R>,
    connection: u32,
}

impl<R: Sizes> Streaming<'_, R> {
    /// Sends the payload from its beginning on, as far as the connection lasts.
    async fn send(
        &mut self,
        source: &mut (impl Read + Seek),
        len: usize,
    ) -> Result<(), PublishError> {
        source.seek(SeekFrom::Start(0)).await.map_err(|_| PublishError::Source)?;
        let mut left = len;
        let mut piece = [0; PIECE];
        while left > 0 {
            let wanted = piece.get_mut(..left.min(PIECE)).unwrap_or_default();
            let count = source.read(wanted).await.map_err(|_| PublishError::Source)?;
            if count == 0 {
                return Err(PublishError::Source);
            }
            let mut rest = wanted.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                let taken = self.client.room(|state| {
                    if state.has_ended() {
                        return Err(Refused::ForEver(PublishError::Closed));
                    }
                    match state.payload(self.connection, rest) {
                        Some(0) => Err(Refused::ForNow),
                        taken => Ok(taken),
                    }
                });
                match taken.await? {
                    Some(taken) => rest = rest.get(taken..).unwrap_or_default(),
                    None => return Ok(()), // on another connection, perhaps
                }
            }
            left -= count;
        }
        Ok(())
    }
}

impl<R: Sizes> Drop for Streaming<'_, R> {
    fn drop(&mut self) {
        let connection = self.connection;
        self.client.resources().with(|state| state.abandon_payload(connection));
    }
}
