//! Publishes that arrive, and the acknowledgements that leave for them.

use super::{Acknowledgement, Link, Place, Taken, outbound::ACK_WITH_REASON};
use crate::{
    error::{DecodeError, EncodeError, Error, SendError, Violation},
    event::{Event, Message, Receipt, TopicName},
    reason::ReasonCode,
    session::{Receiving, Releasing},
    sink::Sink,
    store::{Arrival, Stage, Store},
    time::Instant,
    wire::{self, Delivery, Header, PacketId, PacketType, Publish, QoS},
};

/// A message whose payload arrives in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    /// Its identifier and QoS, above QoS 0.
    identity: Option<(PacketId, QoS)>,
    /// Its length without the fixed header.
    size: u32,
    /// How much of that is still to come.
    remaining: u32,
    fate: Fate,
}

/// What becomes of such a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The application gets it.
    Deliver,
    /// The application is told that it was discarded.
    Skip,
    /// The application has had it before.
    Repeated,
    /// Its head is too long to be seen whole: the bytes before the identifier are passed over, then
    /// it is skipped.
    Headless { before_id: u32, qos: QoS },
}

/// What is to be done with a message at QoS 1 or 2.
enum Admission {
    Deliver,
    /// Not to the application.
    Silent,
    /// There is no room to remember it now.
    Later,
}

impl<S: Store> Link<S> {
    /// A PUBLISH that is there whole.
    #[inline]
    pub(crate) fn on_publish<'b>(
        &mut self,
        now: Instant,
        header: Header,
        body: &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, 'b>,
    ) -> Result<Taken, Error> {
        let (delivery, publish) = Publish::read(self.version, header.flags, body)?;
        let topic = self.topic_name(&publish)?;
        let receipt = match delivery.packet_id {
            None => None,
            Some(id) => match self.admit(now, id, publish.qos, out)? {
                Admission::Deliver => self.take(now, id, publish.qos, out)?,
                Admission::Silent => return Ok(Taken::Done),
                Admission::Later => return Ok(Taken::Later),
            },
        };
        *event = Some(Event::Message(message(delivery, publish, topic, 0, receipt)));
        Ok(Taken::Event)
    }

    /// Decides about a message at QoS 1 or 2; one that has been here before is answered, too.
    fn admit(
        &mut self,
        now: Instant,
        id: PacketId,
        qos: QoS,
        out: &mut impl Sink,
    ) -> Result<Admission, Error> {
        match self.session.on_publish(id, qos) {
            Receiving::Deliver if self.has_place(qos, out)? => Ok(Admission::Deliver),
            Receiving::Deliver => Ok(Admission::Later),
            step => self.repeat(now, id, qos, step, out).map(|()| Admission::Silent),
        }
    }

    /// Whether a new message may be taken. More than the peer may send is its fault; but before 5.0
    /// it does not know, and QoS 1 messages only wait for us.
    fn has_place(&self, qos: QoS, out: &impl Sink) -> Result<bool, Violation> {
        if !self.session.is_receive_full() {
            return Ok(true);
        }
        let waits_for_us = self.session.store().oldest_unanswered().is_some();
        let needs_no_place = self.config.acknowledgement == Acknowledgement::Automatic;
        if self.version.is_v5() || qos != QoS::AtLeastOnce || !waits_for_us && !needs_no_place {
            return Err(Violation::ReceiveMaximumExceeded);
        }
        Ok(!waits_for_us && self.room(out) >= ACK_WITH_REASON)
    }

    /// A message that the application has had.
    fn repeat(
        &mut self,
        now: Instant,
        id: PacketId,
        qos: QoS,
        step: Receiving,
        out: &mut impl Sink,
    ) -> Result<(), Error> {
        let Some(kept) = self.session.store().arrival(id) else { return Ok(()) };
        match step {
            Receiving::Violation => Err(Violation::PacketIdInUse.into()),
            Receiving::AnswerAgain => self.answer(now, id, qos, ReasonCode::Success, out),
            _ if kept.live => Ok(()),
            _ => {
                // Received on an earlier connection: its turn comes by its place on this one.
                // It was in the store before, so it still fits.
                let _ = self.session.store_mut().push_arrival(Arrival { live: true, ..kept });
                self.due = true;
                Ok(())
            }
        }
    }

    /// Takes a new message that has arrived whole: answers it, or hands out a receipt.
    fn take(
        &mut self,
        now: Instant,
        id: PacketId,
        qos: QoS,
        out: &mut impl Sink,
    ) -> Result<Option<Receipt>, Error> {
        match self.config.acknowledgement {
            Acknowledgement::Automatic => {
                self.answer(now, id, qos, ReasonCode::Success, out)?;
                Ok(None)
            }
            Acknowledgement::Manual => {
                let arrival = self.session.arrival(id, qos, Stage::Held);
                self.keep(arrival)?;
                Ok(Some(self.receipt(id)))
            }
        }
    }

    fn receipt(&self, id: PacketId) -> Receipt {
        Receipt { id, epoch: self.session.epoch() }
    }

    fn keep(&mut self, arrival: Arrival) -> Result<(), Error> {
        let kept = self.session.store_mut().push_arrival(arrival);
        kept.map_err(|_| Violation::ReceiveMaximumExceeded.into())
    }

    /// Acknowledges a message: now, if it is its turn and there is room, or else later.
    fn answer(
        &mut self,
        now: Instant,
        id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        out: &mut impl Sink,
    ) -> Result<(), Error> {
        let store = self.session.store();
        if self.room(out) < ACK_WITH_REASON || store.oldest_unanswered().is_some() {
            self.due = true;
            let arrival = self.session.arrival(id, qos, Stage::Answer(reason));
            return self.keep(arrival);
        }
        if qos == QoS::ExactlyOnce {
            let arrival = self.session.arrival(id, qos, Stage::AwaitRel);
            self.keep(arrival)?;
        }
        self.write_ack(now, acknowledgement(qos), id, reason, out);
        Ok(())
    }

    /// Writes the acknowledgements whose turn it is, in order of arrival: [MQTT-4.6.0-2],
    /// [MQTT-4.6.0-3]. Whether all for which the application does not have to decide.
    pub(super) fn write_answers(&mut self, now: Instant, out: &mut impl Sink) -> bool {
        while let Some(arrival) = self.session.store().oldest_unanswered() {
            let Stage::Answer(reason) = arrival.stage else { return true };
            if self.room(out) < ACK_WITH_REASON {
                return false;
            }
            self.write_ack(now, acknowledgement(arrival.qos), arrival.id, reason, out);
            self.session.acknowledged(arrival, reason);
        }
        true
    }

    /// The application acknowledges a message.
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        receipt: Receipt,
        reason: ReasonCode,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        let held = self.session.store().arrival(receipt.id);
        let held = held.filter(|kept| kept.epoch == receipt.epoch && kept.stage == Stage::Held);
        let Some(arrival) = held else { return Err(SendError::StaleReceipt) };
        if !reason.is_legal_in(acknowledgement(arrival.qos)) {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        if reason != ReasonCode::Success && !self.version.is_v5() {
            return Err(SendError::Invalid(EncodeError::Version));
        }
        let first = self.session.store().oldest_unanswered().map(|first| first.id);
        if first == Some(receipt.id) && self.room(out) < ACK_WITH_REASON {
            return Err(if self.outgoing > 0 { SendError::Streaming } else { SendError::NoRoom });
        }
        let answer = Arrival { stage: Stage::Answer(reason), ..arrival };
        self.session.store_mut().set_arrival(answer);
        self.due |= !self.write_answers(now, out);
        Ok(())
    }

    /// A PUBREL.
    pub(crate) fn on_release(
        &mut self,
        now: Instant,
        id: PacketId,
        out: &mut impl Sink,
    ) -> Result<Taken, Error> {
        let reason = match self.session.on_release(id) {
            Releasing::Violation => return Err(Violation::WrongAcknowledgement.into()),
            Releasing::Complete => ReasonCode::Success,
            Releasing::Unknown => ReasonCode::PacketIdentifierNotFound,
        };
        let taken = self.reply(now, PacketType::PubComp, id, reason, out);
        if let Taken::Done = taken {
            self.session.store_mut().remove_arrival(id);
        }
        Ok(taken)
    }

    /// The topic of a publish, after its alias has been set or found [MQTT-3.3.2-10].
    #[inline]
    fn topic_name<'b>(&mut self, publish: &Publish<'b>) -> Result<TopicName<'b>, Violation> {
        if publish.properties.is_empty() {
            return Ok(TopicName::Name(publish.topic));
        }
        let Some(alias) = publish.properties.topic_alias() else {
            return Ok(TopicName::Name(publish.topic));
        };
        if alias > self.inbound_alias_maximum {
            return Err(Violation::TopicAliasInvalid);
        }
        let store = self.session.store_mut();
        if publish.topic.is_empty() {
            return match store.inbound_topic(alias) {
                Some(_) => Ok(TopicName::Alias(alias)),
                None => Err(Violation::TopicAliasUnknown),
            };
        }
        match store.inbound_aliases().map(|aliases| aliases.set(alias, publish.topic)) {
            Some(Ok(())) => Ok(TopicName::Name(publish.topic)),
            _ => Err(Violation::TopicAliasInvalid),
        }
    }
}

/// In pieces.
impl<S: Store> Link<S> {
    pub(crate) const fn is_receiving(&self) -> bool {
        self.incoming.is_some()
    }

    /// Discards the rest of the message that is arriving. Whether one is.
    pub(crate) fn skip(&mut self) -> bool {
        match &mut self.incoming {
            Some(incoming) if incoming.fate == Fate::Deliver => {
                incoming.fate = Fate::Skip;
                true
            }
            _ => false,
        }
    }

    /// A PUBLISH of which `input` has only the beginning, and whose whole the caller cannot hold.
    /// `body` is what follows the fixed header.
    pub(crate) fn begin<'b>(
        &mut self,
        header: Header,
        input: &mut &'b [u8],
        body: &'b [u8],
        out: &impl Sink,
        event: Place<'_, 'b>,
    ) -> Result<Taken, Error> {
        let head_len = wire::head_len(self.version, &header, body)?;
        let Some((head, chunk)) = head_len.and_then(|len| body.split_at_checked(len)) else {
            if input.len() >= self.config.whole {
                self.begin_headless(header)?;
                *input = body;
                return Ok(Taken::Done);
            }
            return Ok(Taken::Later);
        };
        let (delivery, publish) = Publish::read(self.version, header.flags, head)?;
        let topic = self.topic_name(&publish)?;
        let size = header.remaining_length;
        let remaining = size - body.len() as u32;
        let mut incoming = Incoming { identity: None, size, remaining, fate: Fate::Deliver };
        let mut receipt = None;
        if let Some(id) = delivery.packet_id {
            incoming.identity = Some((id, publish.qos));
            match self.session.on_publish(id, publish.qos) {
                Receiving::Violation => return Err(Violation::PacketIdInUse.into()),
                Receiving::Deliver if self.has_place(publish.qos, out)? => {
                    let manual = self.config.acknowledgement == Acknowledgement::Manual;
                    receipt = manual.then(|| self.receipt(id));
                }
                Receiving::Deliver => return Ok(Taken::Later),
                Receiving::Repeated | Receiving::AnswerAgain => incoming.fate = Fate::Repeated,
            }
        }
        *input = &[];
        self.incoming = Some(incoming);
        if incoming.fate == Fate::Repeated {
            return Ok(Taken::Done);
        }
        let publish = Publish { payload: chunk.into(), ..publish };
        *event = Some(Event::Message(message(delivery, publish, topic, remaining, receipt)));
        Ok(Taken::Event)
    }

    fn begin_headless(&mut self, header: Header) -> Result<(), Violation> {
        // It might have set an alias.
        if self.inbound_alias_maximum > 0 {
            return Err(Violation::PacketTooLarge);
        }
        let qos = QoS::from_u8(header.flags >> 1 & 0b11).unwrap_or_default();
        let size = header.remaining_length;
        // The topic's length comes first and is not known yet: see `advance`.
        let fate = Fate::Headless { before_id: u32::MAX, qos };
        self.incoming = Some(Incoming { identity: None, size, remaining: size, fate });
        Ok(())
    }

    /// More of the message that is arriving.
    pub(crate) fn advance<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, 'b>,
    ) -> Result<Taken, Error> {
        let Some(mut incoming) = self.incoming else { return Ok(Taken::Done) };
        if let Fate::Headless { before_id, qos } = incoming.fate {
            return self.find_identity(incoming, before_id, qos, input, out);
        }
        // It ends where it can be answered, or the answer be remembered.
        let stuck = self.room(out) < ACK_WITH_REASON && self.session.is_receive_full();
        let wanted = incoming.remaining - u32::from(stuck && incoming.identity.is_some());
        let len = input.len().min(wanted as usize);
        let (bytes, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
        incoming.remaining -= len as u32;
        let ended = incoming.remaining == 0;
        if bytes.is_empty() && !ended {
            return Ok(Taken::Later);
        }
        if ended {
            self.end(now, incoming, out)?;
        }
        self.incoming = (!ended).then_some(incoming);
        *input = rest;
        *event = match incoming.fate {
            Fate::Deliver => Some(Event::Payload { bytes, remaining: incoming.remaining }),
            Fate::Skip if ended => Some(Event::Skipped { size: incoming.size }),
            _ => None,
        };
        Ok(if event.is_some() { Taken::Event } else { Taken::Done })
    }

    /// Passes over the topic of a message that is being skipped, up to its identifier.
    fn find_identity(
        &mut self,
        mut incoming: Incoming,
        before_id: u32,
        qos: QoS,
        input: &mut &[u8],
        out: &impl Sink,
    ) -> Result<Taken, Error> {
        let fate = if before_id == u32::MAX {
            let Some((len, rest)) = input.split_first_chunk::<2>() else {
                return Ok(Taken::Later);
            };
            *input = rest;
            incoming.remaining -= 2;
            Fate::Headless { before_id: u16::from_be_bytes(*len).into(), qos }
        } else if before_id > 0 {
            let len = input.len().min(before_id as usize);
            if len == 0 {
                return Ok(Taken::Later);
            }
            *input = input.get(len..).unwrap_or_default();
            incoming.remaining -= len as u32;
            Fate::Headless { before_id: before_id - len as u32, qos }
        } else if qos == QoS::AtMostOnce {
            Fate::Skip
        } else {
            let Some((id, rest)) = input.split_first_chunk::<2>() else {
                return Ok(Taken::Later);
            };
            let id = PacketId::new(u16::from_be_bytes(*id))
                .ok_or(Error::Malformed(DecodeError::PacketId))?;
            *input = rest;
            incoming.remaining -= 2;
            incoming.identity = Some((id, qos));
            match self.session.on_publish(id, qos) {
                Receiving::Violation => return Err(Violation::PacketIdInUse.into()),
                Receiving::Deliver if !self.has_place(qos, out)? => {
                    return Err(Violation::ReceiveMaximumExceeded.into());
                }
                Receiving::Deliver => Fate::Skip,
                Receiving::Repeated | Receiving::AnswerAgain => Fate::Repeated,
            }
        };
        self.incoming = Some(Incoming { fate, ..incoming });
        Ok(Taken::Done)
    }

    /// All of it has arrived: what a message that arrives whole undergoes at once.
    fn end(&mut self, now: Instant, incoming: Incoming, out: &mut impl Sink) -> Result<(), Error> {
        let Some((id, qos)) = incoming.identity else { return Ok(()) };
        match incoming.fate {
            Fate::Deliver => self.take(now, id, qos, out).map(drop),
            Fate::Skip => self.answer(now, id, qos, ReasonCode::Success, out),
            _ => {
                let step = self.session.on_publish(id, qos);
                self.repeat(now, id, qos, step, out)
            }
        }
    }
}

const fn acknowledgement(qos: QoS) -> PacketType {
    match qos {
        QoS::ExactlyOnce => PacketType::PubRec,
        _ => PacketType::PubAck,
    }
}

fn message<'b>(
    delivery: Delivery,
    publish: Publish<'b>,
    topic: TopicName<'b>,
    remaining: u32,
    receipt: Option<Receipt>,
) -> Message<'b> {
    Message {
        topic,
        payload: publish.payload.as_bytes(),
        remaining,
        qos: publish.qos,
        retain: publish.retain,
        dup: delivery.dup,
        properties: publish.properties,
        receipt,
    }
}
