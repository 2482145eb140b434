//! Publishes that leave, and the acknowledgements that come back for them.

use super::{Link, Place, Role, Taken};
use crate::{
    error::{EncodeError, Error, PublishError, Violation},
    event::Event,
    reason::ReasonCode,
    session::{Answer, Sending},
    sink::{MIN_SINK, Sink},
    slice,
    store::{Alias, Flight, Full, Outgoing, Store, Unsent},
    time::Instant,
    wire::{self, Ack, Delivery, Encode, Head, Naming, PacketId, PacketType, Publish, QoS},
};

/// The number of bytes of an acknowledgement with its reason left out, and with it.
pub(super) const ACK: usize = 4;
pub(super) const ACK_WITH_REASON: usize = 5;

impl<S: Store, R: Role> Link<S, R> {
    /// Publishes a message; with `streamed` without its payload, which has that length.
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        publish: &Publish<'_>,
        streamed: Option<usize>,
        out: &mut impl Sink,
    ) -> Result<Option<PacketId>, PublishError> {
        self.check_supported(publish.qos, publish.retain).map_err(PublishError::Unsupported)?;
        check_properties(publish, R::IDENTIFIES)?;
        let packet_id = match publish.qos {
            QoS::AtMostOnce => None,
            _ if !self.session.has_quota() => return Err(PublishError::InFlightFull),
            _ if self.session.store().unsent_publishes() > 0 => {
                return Err(PublishError::InFlightFull);
            }
            _ => Some(self.session.free_id().ok_or(PublishError::InFlightFull)?),
        };
        let delivery = Delivery { packet_id, dup: false };
        self.transmit(now, &Head { streamed, ..Head::new(delivery, publish) }, true, out)?;
        Ok(packet_id)
    }

    /// Publishes again what the application was asked for.
    pub(crate) fn publish_again(
        &mut self,
        now: Instant,
        id: PacketId,
        publish: &Publish<'_>,
        streamed: Option<usize>,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        let asked = self.asked == Some(id);
        if !asked || self.session.store().flight(id) != Some(Flight::new(publish.qos)) {
            return Err(PublishError::Invalid(EncodeError::Delivery));
        }
        self.check_supported(publish.qos, publish.retain).map_err(PublishError::Unsupported)?;
        check_properties(publish, R::IDENTIFIES)?;
        let delivery = Delivery { packet_id: Some(id), dup: true };
        self.transmit(now, &Head { streamed, ..Head::new(delivery, publish) }, false, out)?;
        self.session.store_mut().mark_sent(id);
        self.asked = None;
        Ok(())
    }

    /// The application will not publish again what it was asked for.
    pub(crate) fn abandon(&mut self, id: PacketId) -> bool {
        let asked = self.asked == Some(id);
        self.declined |= asked;
        asked
    }

    fn transmit(
        &mut self,
        now: Instant,
        head: &Head<'_>,
        new: bool,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        let version = self.version;
        let remaining_length = head.remaining_length(version).map_err(PublishError::Invalid)?;
        let len = wire::packet_len(remaining_length).map_err(PublishError::Invalid)?;
        let streamed = head.streamed.unwrap_or(0);
        let largest = self.limits.maximum_packet_size as usize;
        let fits = |len: usize| len <= largest && len - streamed + MIN_SINK <= out.capacity();
        if head.delivery.packet_id.is_some() && !fits(len) {
            return Err(PublishError::TooLarge); // it may have to be sent again, by its name
        }
        let mut written = (*head, remaining_length, len);
        if let Some(aliased) = self.aliased(head)
            && let Ok(remaining_length) = aliased.remaining_length(version)
            && let Ok(len) = wire::packet_len(remaining_length)
            && fits(len)
        {
            written = (aliased, remaining_length, len);
        }
        self.check_room(written.2, written.2 - streamed + MIN_SINK, out)?;
        if let (true, Some(id)) = (new, head.delivery.packet_id) {
            let message = Outgoing { head: *head, version, remaining_length, len };
            let message = head.streamed.is_none().then_some(&message);
            match self.session.store_mut().push(id, head.publish.qos, message) {
                Ok(()) => self.session.taken(id),
                Err(Full::ForNow) => return Err(PublishError::InFlightFull),
                Err(Full::ForEver) => return Err(PublishError::TooLarge),
            }
        }
        if !self.set_alias(&written.0) {
            written = (*head, remaining_length, len);
        }
        let (head, remaining_length, len) = written;
        wire::write(&head, version, remaining_length, len, out);
        self.role.owe(streamed);
        self.role.sent(now);
        Ok(())
    }

    /// The same publish with an alias for its topic, if there can be one.
    #[inline]
    pub(super) fn aliased<'p>(&mut self, head: &Head<'p>) -> Option<Head<'p>> {
        let maximum = self.limits.topic_alias_maximum;
        if !self.config.topic_aliases || maximum == 0 {
            return None;
        }
        let aliases = self.session.store_mut().outbound_aliases()?;
        let naming = match aliases.find(head.publish.topic, maximum)? {
            Alias::Known(alias) => Naming::Alias(alias),
            Alias::New(alias) => Naming::Set(alias),
        };
        Some(Head { naming, ..*head })
    }

    /// Remembers the alias that the publish sets. Whether it may be sent so.
    pub(super) fn set_alias(&mut self, head: &Head<'_>) -> bool {
        let Naming::Set(alias) = head.naming else { return true };
        let aliases = self.session.store_mut().outbound_aliases();
        aliases.is_some_and(|aliases| aliases.set(alias, head.publish.topic).is_ok())
    }

    /// What the peer would refuse [MQTT-3.2.2-11] [MQTT-3.2.2-14].
    fn check_supported(&self, qos: QoS, retain: bool) -> Result<(), ReasonCode> {
        if qos > self.limits.maximum_qos {
            return Err(ReasonCode::QoSNotSupported);
        }
        if retain && !self.limits.retain_available {
            return Err(ReasonCode::RetainNotSupported);
        }
        Ok(())
    }

    /// A PUBACK, PUBREC, PUBREL or PUBCOMP.
    #[inline]
    pub(crate) fn on_step<'b, E: From<Event<'b>>>(
        &mut self,
        packet: PacketType,
        body: &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> Result<Taken, Error> {
        let (id, ack) = Ack::read(self.version, packet, body)?;
        let answer = match packet {
            PacketType::PubAck => Answer::Ack,
            PacketType::PubRec => Answer::Rec,
            PacketType::PubComp => Answer::Comp,
            _ => return self.on_release(id, out),
        };
        self.on_ack(answer, id, ack, out, event)
    }

    /// A PUBACK, PUBREC or PUBCOMP.
    fn on_ack<'b, E: From<Event<'b>>>(
        &mut self,
        answer: Answer,
        id: PacketId,
        ack: Ack<'b>,
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> Result<Taken, Error> {
        let reply = match self.session.on_answer(id, answer, ack.reason.is_error()) {
            Sending::Drop(reason) => {
                self.answered(id);
                *event = Some(Event::Dropped(id, reason).into());
                return Ok(Taken::Event);
            }
            Sending::Finish => {
                self.answered(id);
                // A PUBCOMP comes of a PUBREC that has taken the message, whatever it says of the
                // identifier after a resume.
                let reason = if answer == Answer::Comp { ReasonCode::Success } else { ack.reason };
                *event = Some(Event::Acknowledged(id, Ack { reason, ..ack }).into());
                return Ok(Taken::Event);
            }
            Sending::Release => {
                self.answered(id);
                self.due = true;
                self.release(out);
                return Ok(Taken::Done);
            }
            Sending::Ignore => return Ok(Taken::Done),
            Sending::Violation => return Err(Violation::WrongAcknowledgement.into()),
            Sending::ReleaseAgain => ReasonCode::Success,
            Sending::ReleaseUnknown => ReasonCode::PacketIdentifierNotFound,
        };
        Ok(self.reply(PacketType::PubRel, id, reply, out))
    }

    /// A publish need not be sent again, and another may.
    fn answered(&mut self, id: PacketId) {
        if self.asked == Some(id) {
            self.asked = None;
        }
        self.due |= self.session.store().unsent_publishes() > 0;
    }

    /// Writes an acknowledgement that is kept nowhere, if there is room.
    pub(super) fn reply(
        &mut self,
        packet: PacketType,
        id: PacketId,
        reason: ReasonCode,
        out: &mut impl Sink,
    ) -> Taken {
        if self.room(out) < ACK_WITH_REASON {
            return Taken::Later;
        }
        self.write_ack(packet, id, reason, out);
        Taken::Done
    }

    /// Whether the peer takes acknowledgements with a reason: there are none before 5.0.
    pub(super) const fn has_reasons(&self) -> bool {
        self.version.is_v5() && self.limits.maximum_packet_size as usize >= ACK_WITH_REASON
    }

    /// Writes an acknowledgement for which there is room.
    #[inline]
    pub(super) fn write_ack(
        &mut self,
        packet: PacketType,
        id: PacketId,
        reason: ReasonCode,
        out: &mut impl Sink,
    ) {
        let plain = reason == ReasonCode::Success || !self.has_reasons();
        let len = if plain { ACK } else { ACK_WITH_REASON };
        if let Some(span) = out.span(len) {
            wire::write_ack(packet, id, reason, span);
        }
        self.role.wrote();
    }

    /// Writes what was held back: answers, releases, publishes to be sent again. Whether an
    /// event comes of it; without one there is nothing left, or no room, or no quota.
    #[inline]
    pub(crate) fn write_due<'b, E: From<Event<'b>>>(
        &mut self,
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> bool {
        self.due && self.role.owed() == 0 && self.write_held_back(out, event)
    }

    #[inline(never)]
    fn write_held_back<'b, E: From<Event<'b>>>(
        &mut self,
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> bool {
        let answered = self.write_answers(out);
        if !self.release(out) {
            return false;
        }
        match self.resend(out) {
            Resent::Event(resent) => *event = Some(resent.into()),
            Resent::Waiting => {}
            Resent::All => self.due = !answered,
        }
        event.is_some()
    }

    /// Sends the PUBRELs that are due, in order [MQTT-4.6.0-4]. Whether all of them.
    fn release(&mut self, out: &mut impl Sink) -> bool {
        while let Some(Unsent { id, flight: Flight::AwaitComp | Flight::GivenUp(_), .. }) =
            self.session.store_mut().unsent()
        {
            if self.room(out) < ACK {
                return false;
            }
            self.write_ack(PacketType::PubRel, id, ReasonCode::Success, out);
            self.session.store_mut().mark_sent(id);
        }
        true
    }

    /// Sends publishes again, in order [MQTT-4.4.0-1] [MQTT-4.6.0-1], within the peer's limits.
    fn resend<'b>(&mut self, out: &mut impl Sink) -> Resent<'b> {
        loop {
            if !self.session.has_quota() {
                let waiting = self.session.store().unsent_publishes() > 0;
                return if waiting { Resent::Waiting } else { Resent::All };
            }
            let (version, limits) = (self.version, self.limits);
            let Some(unsent) = self.session.store_mut().unsent() else { return Resent::All };
            let id = unsent.id;
            let (head, payload) = unsent.packet;
            let len = head.len() + payload.len();
            let refusal = if len == 0 {
                if self.asked != Some(id) {
                    (self.asked, self.declined) = (Some(id), false);
                    return Resent::Event(Event::Resend(id));
                }
                if !self.declined {
                    return Resent::Waiting;
                }
                Some(ReasonCode::UnspecifiedError)
            } else {
                match unsent.read(version, R::IDENTIFIES) {
                    None => Some(ReasonCode::ImplementationSpecificError),
                    Some((header, ..)) if (header.flags >> 1 & 3) > limits.maximum_qos as u8 => {
                        Some(ReasonCode::QoSNotSupported)
                    }
                    Some((header, ..)) if header.flags & 1 != 0 && !limits.retain_available => {
                        Some(ReasonCode::RetainNotSupported)
                    }
                    _ if len > limits.maximum_packet_size as usize
                        || len + MIN_SINK > out.capacity() =>
                    {
                        Some(ReasonCode::PacketTooLarge)
                    }
                    _ => None,
                }
            };
            if let Some(reason) = refusal {
                self.asked = None;
                if self.session.give_up(id, reason) {
                    return Resent::Event(Event::Dropped(id, reason));
                }
                if !self.release(out) {
                    return Resent::Waiting;
                }
                continue;
            }
            if len + MIN_SINK > out.room() {
                return Resent::Waiting;
            }
            if let Some(span) = out.span(head.len()) {
                slice::copy(span, head);
                if let Some(first) = span.first_mut() {
                    *first |= 1 << 3; // DUP [MQTT-3.3.1-1]
                }
            }
            if !payload.is_empty() {
                out.payload(payload);
            }
            self.session.store_mut().mark_sent(id);
            self.role.wrote();
        }
    }
}

enum Resent<'b> {
    Event(Event<'b>),
    Waiting,
    All,
}

/// Properties that are the machine's, or the server's, to set [MQTT-3.3.4-6].
fn check_properties(publish: &Publish<'_>, identifies: bool) -> Result<(), PublishError> {
    let Publish { properties, .. } = publish;
    let identified = || !identifies && properties.subscription_identifier().is_some();
    if !properties.is_empty() && (properties.topic_alias().is_some() || identified()) {
        return Err(PublishError::Invalid(EncodeError::Property));
    }
    Ok(())
}
