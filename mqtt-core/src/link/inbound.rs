//! Publishes that arrive, and the acknowledgements that leave for them.

use super::{Acknowledgement, Link, Overrun, Place, Role, Taken, outbound::ACK_WITH_REASON};
use crate::{
    error::{DecodeError, EncodeError, Error, SendError, Violation},
    event::{Event, Message, Receipt, TopicName},
    reason::ReasonCode,
    session::{Receiving, Releasing},
    sink::Sink,
    store::{Arrival, Stage, Store},
    time::Instant,
    wire::{self, Header, PacketId, PacketType, Publish, QoS, SMALL},
};

/// A message that arrives in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    /// What it will be answered by, above QoS 0.
    arrival: Option<Arriving>,
    /// Its length without the fixed header.
    size: u32,
    /// How much of that is still to come.
    remaining: u32,
    part: Part,
}

/// A message at QoS 1 or 2 that is arriving: its stage is yet to be decided.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    id: PacketId,
    qos: QoS,
    number: u32,
}

impl Arriving {
    const fn is(self, stage: Stage) -> Arrival {
        let Self { id, qos, number } = self;
        Arrival { id, qos, stage, number, live: true }
    }
}

/// Which part of it comes next. A head that is too long to be seen whole is passed over piece by
/// piece, up to the identifier that the acknowledgement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    TopicLength(QoS),
    Topic { remaining: u16, qos: QoS },
    Identifier(QoS),
    Rest(Fate),
}

/// What becomes of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The application gets it.
    Deliver,
    /// The application is told that it was discarded.
    Skip,
    /// The application has had it before.
    Repeated,
}

/// What is to be done with a message at QoS 1 or 2.
enum Admission {
    /// It is new.
    New,
    /// It has been here before.
    Repeated,
    /// There is no room to remember it now.
    Later,
}

impl<S: Store, R: Role> Link<S, R> {
    /// A PUBLISH that is there, but for what `body` lacks of its payload.
    #[inline]
    pub(crate) fn on_publish<'b, E: From<Event<'b>>>(
        &mut self,
        header: Header,
        body: &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> Result<Taken, Error> {
        let read = Publish::read(self.version, header.flags, body);
        let (delivery, publish) = read.as_ref().map_err(|error| *error)?; // by itself `?` would copy it
        let topic = self.topic_name(publish)?;
        let remaining = header.remaining_length - body.len() as u32;
        let (mut arrival, mut receipt, mut fate) = (None, None, Fate::Deliver);
        if let Some(id) = delivery.packet_id
            && (SMALL || remaining > 0 || !self.answer_at_once(id, publish.qos, out))
        {
            let admission = self.admit(id, publish.qos, out)?;
            if let Admission::Later = admission {
                return Ok(Taken::Later);
            }
            let new = self.arriving(id, publish.qos);
            arrival = Some(new);
            match admission {
                Admission::New => receipt = self.receipt(new),
                _ => fate = Fate::Repeated,
            }
        }
        if remaining == 0 {
            self.end(arrival, fate, out)?;
        } else {
            let size = header.remaining_length;
            self.incoming = Some(Incoming { arrival, size, remaining, part: Part::Rest(fate) });
        }
        if fate == Fate::Repeated {
            return Ok(Taken::Done);
        }
        *event =
            Some(Event::Message(Message::new(delivery, publish, topic, remaining, receipt)).into());
        Ok(Taken::Event)
    }

    /// Answers a new message at QoS 1 if nothing has to be remembered of it, nor is of any other: what
    /// most messages undergo. Whether it has.
    #[inline(always)]
    fn answer_at_once(&mut self, id: PacketId, qos: QoS, out: &mut impl Sink) -> bool {
        let at_once = qos == QoS::AtLeastOnce
            && self.config.acknowledgement == Acknowledgement::Automatic
            && self.session.store().arrivals() == 0
            && self.room(out) >= ACK_WITH_REASON;
        if at_once {
            self.write_ack(PacketType::PubAck, id, ReasonCode::Success, out);
        }
        at_once
    }

    /// Decides about a message at QoS 1 or 2.
    fn admit(&mut self, id: PacketId, qos: QoS, out: &impl Sink) -> Result<Admission, Violation> {
        match self.session.on_publish(id, qos) {
            Receiving::Deliver if self.has_place(qos, out)? => Ok(Admission::New),
            Receiving::Deliver => Ok(Admission::Later),
            Receiving::Repeated | Receiving::AnswerAgain => Ok(Admission::Repeated),
            Receiving::Violation => Err(Violation::PacketIdInUse),
        }
    }

    /// Whether a new message can be remembered. More than the peer may send is its fault; but before
    /// 5.0 it does not know, and may have to wait for us. It cannot wait for itself: what frees a
    /// QoS 2 message's place is behind the one that would wait.
    fn has_place(&self, qos: QoS, out: &impl Sink) -> Result<bool, Violation> {
        if !self.session.is_full() {
            return Ok(true);
        }
        let exceeded = self.session.is_receive_full();
        let strict = self.version.is_v5() && self.config.overrun == Overrun::Disconnect;
        if !(exceeded && strict) {
            if self.session.store().oldest_unanswered().is_some() {
                return Ok(false);
            }
            // One that is answered at once leaves no trace.
            if qos == QoS::AtLeastOnce && self.config.acknowledgement == Acknowledgement::Automatic
            {
                return Ok(self.room(out) >= ACK_WITH_REASON);
            }
            // What frees a place is behind this one; but there may be more than the peer was told of.
            let store = self.session.store();
            if exceeded && store.arrivals() < store.capacity().arrivals.into() {
                return Ok(true);
            }
        }
        if exceeded { Err(Violation::ReceiveMaximumExceeded) } else { Ok(true) }
    }

    /// A new message.
    fn arriving(&mut self, id: PacketId, qos: QoS) -> Arriving {
        Arriving { id, qos, number: self.session.number() }
    }

    /// What the application is to acknowledge it with, if that is left to it.
    fn receipt(&self, Arriving { id, number, .. }: Arriving) -> Option<Receipt> {
        let manual = self.config.acknowledgement == Acknowledgement::Manual;
        manual.then_some(Receipt { id, number })
    }

    /// A new message has arrived whole: it is answered, or held until the application does.
    fn accept(&mut self, arrival: Arriving, out: &mut impl Sink) -> Result<(), Violation> {
        let arrival = arrival.is(Stage::Held);
        match self.config.acknowledgement {
            Acknowledgement::Automatic => self.answer(arrival, out),
            Acknowledgement::Manual => self.session.keep(arrival),
        }
    }

    /// A message that the application has had. If it was received on an earlier connection, its turn
    /// comes by its place on this one.
    fn repeat(&mut self, id: PacketId, out: &mut impl Sink) -> Result<(), Violation> {
        match self.session.store().arrival(id) {
            Some(kept) if kept.stage == Stage::AwaitRel => self.answer(kept, out),
            Some(kept) if !kept.live => {
                self.due = true;
                self.session.keep(kept)
            }
            _ => Ok(()),
        }
    }

    /// Acknowledges a message: now, if it is its turn and there is room, or else later.
    fn answer(&mut self, arrival: Arrival, out: &mut impl Sink) -> Result<(), Violation> {
        let reason = ReasonCode::Success;
        let waits = self.session.store().oldest_unanswered().is_some();
        if waits || self.room(out) < ACK_WITH_REASON {
            self.due = true;
            return self.session.keep(Arrival { stage: Stage::Answer(reason), ..arrival });
        }
        if arrival.qos == QoS::ExactlyOnce {
            self.session.keep(Arrival { stage: Stage::AwaitRel, ..arrival })?;
        }
        self.write_ack(acknowledgement(arrival.qos), arrival.id, reason, out);
        Ok(())
    }

    /// Writes the acknowledgements whose turn it is, in order of arrival: [MQTT-4.6.0-2],
    /// [MQTT-4.6.0-3]. Whether all for which the application does not have to decide.
    pub(super) fn write_answers(&mut self, out: &mut impl Sink) -> bool {
        while let Some(arrival) = self.session.store().oldest_unanswered() {
            if arrival.stage == Stage::Held {
                return true;
            }
            if self.room(out) < ACK_WITH_REASON {
                return false;
            }
            if let Stage::Answer(reason) = arrival.stage {
                self.write_ack(acknowledgement(arrival.qos), arrival.id, reason, out);
                self.session.acknowledged(arrival, reason);
            } else {
                self.complete(arrival.id, out);
            }
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
        let held = held.filter(|kept| kept.number == receipt.number && kept.stage == Stage::Held);
        let Some(arrival) = held else { return Err(SendError::StaleReceipt) };
        if !reason.is_legal_in(acknowledgement(arrival.qos)) {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        if reason != ReasonCode::Success && !self.version.is_v5() {
            return Err(SendError::Invalid(EncodeError::Version));
        }
        if reason != ReasonCode::Success && !self.has_reasons() {
            return Err(SendError::TooLarge);
        }
        let first = self.session.store().oldest_unanswered().map(|first| first.id);
        if first == Some(receipt.id) && self.room(out) < ACK_WITH_REASON {
            return Err(if self.role.owed() > 0 {
                SendError::Streaming
            } else {
                SendError::NoRoom
            });
        }
        let answer = Arrival { stage: Stage::Answer(reason), ..arrival };
        self.session.store_mut().set_arrival(answer);
        self.due |= !self.write_answers(out);
        self.stamp(now);
        Ok(())
    }

    /// A PUBREL. What cannot be answered now is remembered, so that reading goes on.
    pub(super) fn on_release(&mut self, id: PacketId, out: &mut impl Sink) -> Result<Taken, Error> {
        match self.session.on_release(id) {
            Releasing::Violation => return Err(Violation::WrongAcknowledgement.into()),
            Releasing::Unknown => {
                let reason = ReasonCode::PacketIdentifierNotFound;
                return Ok(self.reply(PacketType::PubComp, id, reason, out));
            }
            Releasing::Complete if self.room(out) >= ACK_WITH_REASON => self.complete(id, out),
            Releasing::Complete => {
                // In its place, which is before all that waits for the application.
                if let Some(kept) = self.session.store().arrival(id) {
                    let complete = Arrival { stage: Stage::Complete, ..kept };
                    self.session.store_mut().set_arrival(complete);
                    self.due = true;
                }
            }
        }
        Ok(Taken::Done)
    }

    fn complete(&mut self, id: PacketId, out: &mut impl Sink) {
        self.write_ack(PacketType::PubComp, id, ReasonCode::Success, out);
        self.session.forget(id);
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
impl<S: Store, R: Role> Link<S, R> {
    pub(crate) const fn is_receiving(&self) -> bool {
        self.incoming.is_some()
    }

    /// Discards the rest of the message that is arriving. Whether one is.
    pub(crate) fn skip(&mut self) -> bool {
        match &mut self.incoming {
            Some(Incoming { part: Part::Rest(fate), .. }) if *fate == Fate::Deliver => {
                *fate = Fate::Skip;
                true
            }
            _ => false,
        }
    }

    /// A PUBLISH of which `input` has only the beginning, and whose whole the caller cannot hold.
    /// `body` is what follows the fixed header.
    pub(crate) fn begin<'b, E: From<Event<'b>>>(
        &mut self,
        header: Header,
        input: &mut &'b [u8],
        body: &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> Result<Taken, Error> {
        let head_len = wire::head_len(self.version, &header, body)?;
        if head_len.is_none_or(|len| len > body.len()) {
            if input.len() < self.config.whole() {
                return Ok(Taken::More);
            }
            if let Some(aliases) = self.session.store_mut().inbound_aliases() {
                // It might have set one, and the name of any alias is no longer sure.
                aliases.clear();
            }
            let qos = QoS::from_u8(header.flags >> 1 & 0b11).unwrap_or_default();
            let size = header.remaining_length;
            let part = Part::TopicLength(qos);
            self.incoming = Some(Incoming { arrival: None, size, remaining: size, part });
            *input = body;
            return Ok(Taken::Done);
        }
        let taken = self.on_publish(header, body, out, event)?;
        if taken != Taken::Later {
            *input = &[];
        }
        Ok(taken)
    }

    /// More of the message that is arriving.
    pub(crate) fn advance<'b, E: From<Event<'b>>>(
        &mut self,
        input: &mut &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, E>,
    ) -> Result<Taken, Error> {
        let Some(Incoming { arrival, size, remaining, part }) = self.incoming else {
            return Ok(Taken::Done);
        };
        let Part::Rest(fate) = part else {
            return self.pass_head(part, size, input, out);
        };
        // It ends where it can be answered, or the answer be remembered.
        let stuck = arrival.is_some() && self.room(out) < ACK_WITH_REASON && self.session.is_full();
        let wanted = remaining.saturating_sub(stuck.into());
        let len = input.len().min(wanted as usize);
        let (bytes, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
        let remaining = remaining - len as u32;
        let ended = remaining == 0 && !stuck;
        if bytes.is_empty() && !ended {
            let waits = stuck && (remaining == 0 || !input.is_empty());
            return Ok(if waits { Taken::Later } else { Taken::More });
        }
        if ended {
            self.end(arrival, fate, out)?;
            self.incoming = None;
        } else if let Some(incoming) = &mut self.incoming {
            incoming.remaining = remaining;
        }
        *input = rest;
        *event = match fate {
            Fate::Deliver => Some(Event::Payload { bytes, remaining }.into()),
            Fate::Skip if ended => Some(Event::Skipped { size }.into()),
            _ => None,
        };
        Ok(if event.is_some() { Taken::Event } else { Taken::Done })
    }

    /// Passes over the head of a message that is being skipped, up to its identifier.
    fn pass_head(
        &mut self,
        part: Part,
        size: u32,
        input: &mut &[u8],
        out: &impl Sink,
    ) -> Result<Taken, Error> {
        let before = *input;
        let mut arrival = None;
        let part = match part {
            Part::TopicLength(qos) => {
                let Some(len) = input.split_off(..2) else { return Ok(Taken::More) };
                let remaining = len.iter().fold(0, |len, byte| len << 8 | u16::from(*byte));
                let identifier = if qos == QoS::AtMostOnce { 0 } else { 2 };
                if 2 + u32::from(remaining) + identifier > size {
                    return Err(DecodeError::Truncated.into());
                }
                Part::Topic { remaining, qos }
            }
            Part::Topic { remaining: 0, qos: QoS::AtMostOnce } => Part::Rest(Fate::Skip),
            Part::Topic { remaining: 0, qos } => Part::Identifier(qos),
            Part::Topic { remaining, qos } => {
                let len = input.len().min(remaining.into());
                if input.split_off(..len).is_none_or(<[u8]>::is_empty) {
                    return Ok(Taken::More);
                }
                Part::Topic { remaining: remaining - len as u16, qos }
            }
            Part::Identifier(qos) => {
                let Some((&[high, low], rest)) = input.split_first_chunk() else {
                    return Ok(Taken::More);
                };
                let id = PacketId::new(u16::from_be_bytes([high, low]));
                let id = id.ok_or(DecodeError::PacketId)?;
                let fate = match self.admit(id, qos, out)? {
                    Admission::New => Fate::Skip,
                    Admission::Repeated => Fate::Repeated,
                    Admission::Later => return Ok(Taken::Later),
                };
                *input = rest;
                arrival = Some(self.arriving(id, qos));
                Part::Rest(fate)
            }
            Part::Rest(_) => part,
        };
        if let Some(incoming) = &mut self.incoming {
            incoming.arrival = arrival;
            incoming.remaining -= (before.len() - input.len()) as u32;
            incoming.part = part;
        }
        Ok(Taken::Done)
    }

    /// All of it has arrived: what a message that arrives whole undergoes at once.
    fn end(
        &mut self,
        arrival: Option<Arriving>,
        fate: Fate,
        out: &mut impl Sink,
    ) -> Result<(), Violation> {
        let Some(arrival) = arrival else { return Ok(()) };
        match fate {
            Fate::Deliver => self.accept(arrival, out),
            Fate::Skip => self.answer(arrival.is(Stage::Held), out),
            Fate::Repeated => self.repeat(arrival.id, out),
        }
    }
}

const fn acknowledgement(qos: QoS) -> PacketType {
    match qos {
        QoS::ExactlyOnce => PacketType::PubRec,
        _ => PacketType::PubAck,
    }
}
