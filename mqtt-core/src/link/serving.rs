//! What only a server does at its end of a connection: it asks for no sign of life, but waits for
//! one.

use super::Link;
use crate::{
    error::{EncodeError, Error, PublishError},
    event::Receipt,
    reason::ReasonCode,
    sink::{MIN_SINK, Sink},
    store::{Arrival, Stage, Store},
    time::Instant,
    wire::{self, Delivery, Encode, Head, PacketId, QoS, Relay},
};

impl<S: Store> Link<S, ()> {
    /// When the client has been silent for too long: one and a half times the keep alive
    /// [MQTT-3.1.2-22]. Not while what it sent waits for the application.
    fn silence_due(&self) -> Option<Instant> {
        let patience = u64::from(self.keep_alive) * 1_500;
        (patience > 0 && !self.stalled).then(|| self.last_received + patience)
    }

    /// Judges the client's silence, once all of its complete packets have been taken.
    #[inline]
    pub(crate) fn judge_client(&self, now: Instant) -> Result<(), Error> {
        if self.is_late(now) {
            return Err(Error::HandshakeTimeout);
        }
        match self.silence_due() {
            Some(due) if due <= now => Err(Error::KeepAliveTimeout),
            _ => Ok(()),
        }
    }

    /// When the clock alone will end the connection.
    pub(crate) fn patience(&self) -> Option<Instant> {
        let handshake = Some(self.handshake).filter(|at| *at != Instant::NEVER);
        [handshake, self.silence_due()].into_iter().flatten().min()
    }
}

/// Relaying.
impl<S: Store> Link<S, ()> {
    /// Sends a message that is kept elsewhere, as far as the client takes it; of one at QoS 1 or 2
    /// the session keeps a record.
    #[inline]
    pub(crate) fn relay(
        &mut self,
        relay: &Relay<'_>,
        out: &mut impl Sink,
    ) -> Result<Option<PacketId>, PublishError> {
        let qos = relay.head.publish.qos;
        if qos == QoS::AtMostOnce {
            self.transmit_relay(relay, false, out)?;
            return Ok(None);
        }
        if !self.session.has_quota() || self.session.store().unsent_publishes() > 0 {
            return Err(PublishError::InFlightFull);
        }
        let id = self.session.free_id().ok_or(PublishError::InFlightFull)?;
        let delivery = Delivery { packet_id: Some(id), dup: false };
        let relay = Relay { head: Head { delivery, ..relay.head }, ..*relay };
        self.transmit_relay(&relay, true, out)?;
        Ok(Some(id))
    }

    /// Sends a message again that was asked for.
    pub(crate) fn relay_again(
        &mut self,
        id: PacketId,
        relay: &Relay<'_>,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        if self.asked != Some(id) {
            return Err(PublishError::Invalid(EncodeError::Delivery));
        }
        let delivery = Delivery { packet_id: Some(id), dup: true };
        let relay = Relay { head: Head { delivery, ..relay.head }, ..*relay };
        self.transmit_relay(&relay, false, out)?;
        self.session.store_mut().mark_sent(id);
        self.asked = None;
        Ok(())
    }

    #[inline]
    fn transmit_relay(
        &mut self,
        relay: &Relay<'_>,
        new: bool,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        let version = self.version;
        let measured = |relay: &Relay<'_>| {
            let remaining_length =
                relay.remaining_length(version).map_err(PublishError::Invalid)?;
            let len = wire::packet_len(remaining_length).map_err(PublishError::Invalid)?;
            Ok::<_, PublishError>((remaining_length, len))
        };
        let (mut remaining_length, mut len) = measured(relay)?;
        self.check_room(len, len + MIN_SINK, out)?;
        let id = relay.head.delivery.packet_id;
        if let (true, Some(id)) = (new, id) {
            match self.session.store_mut().push(id, relay.head.publish.qos, None) {
                Ok(()) => self.session.taken(id),
                Err(_) => return Err(PublishError::InFlightFull),
            }
        }
        let mut written = *relay;
        // What is to be sent again is named, so that it is the same whatever came in between.
        if let Some(head) = self.aliased(&relay.head)
            && let aliased = (Relay { head, ..*relay })
            && let Ok((remaining, length)) = measured(&aliased)
            && self.check_room(length, length + MIN_SINK, out).is_ok()
            && self.set_alias(&head)
        {
            (written, remaining_length, len) = (aliased, remaining, length);
        }
        wire::write(&written, version, remaining_length, len, out);
        Ok(())
    }

    /// Acknowledges a message: now, or when its turn has come and there is room.
    pub(crate) fn settle(&mut self, receipt: Receipt, reason: ReasonCode, out: &mut impl Sink) {
        let held = self.session.store().arrival(receipt.id);
        let held = held.filter(|kept| kept.number == receipt.number && kept.stage == Stage::Held);
        let Some(arrival) = held else { return };
        let reason = if self.version.is_v5() { reason } else { ReasonCode::Success };
        let answer = Arrival { stage: Stage::Answer(reason), ..arrival };
        self.session.store_mut().set_arrival(answer);
        self.due |= !self.write_answers(out);
    }

    /// Forgets that a message has come: it is given again.
    pub(crate) fn untake(&mut self, receipt: Option<Receipt>, stalled: bool) {
        self.stalled = stalled;
        if let Some(Receipt { id, .. }) = receipt {
            self.session.forget(id);
        }
    }
}
