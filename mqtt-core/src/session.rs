//! The session: packet identifiers, flights, quotas, and the one table of QoS transitions.
//!
//! Knows no bytes, no role and no time. What it remembers across connections is in its [`Store`];
//! requests (SUBSCRIBE, UNSUBSCRIBE) end with the connection and are remembered here.

use heapless::Vec;

use crate::{
    error::Violation,
    reason::ReasonCode,
    store::{Arrival, Flight, Stage, Store},
    wire::{PacketId, QoS, SMALL},
};

/// How many requests may be unanswered.
const REQUESTS: usize = 16;

/// What the peer answers a publish with: PUBACK, PUBREC, PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ack,
    Rec,
    Comp,
}

/// What a sender does on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// The publish has its outcome.
    Finish,
    /// Forget the message, send PUBREL.
    Release,
    /// Send PUBREL again.
    ReleaseAgain,
    /// Send PUBREL with the reason *packet identifier not found*.
    ReleaseUnknown,
    /// The publish has its outcome: given up for this reason.
    Drop(ReasonCode),
    /// Nothing: an answer to something long finished.
    Ignore,
    /// The identifier is in use for something else.
    Violation,
}

/// The sender's half of QoS 1 and 2: [MQTT-4.3.2-3], [MQTT-4.3.3-3] to [MQTT-4.3.3-6],
/// [MQTT-4.4.0-2].
pub(crate) const fn sending(flight: Option<Flight>, answer: Answer, failed: bool) -> Sending {
    match (flight, answer, failed) {
        (Some(Flight::AwaitAck), Answer::Ack, _) => Sending::Finish,
        (Some(Flight::AwaitRec), Answer::Rec, false) => Sending::Release,
        (Some(Flight::AwaitRec), Answer::Rec, true) => Sending::Finish,
        (Some(Flight::AwaitComp | Flight::GivenUp(_)), Answer::Rec, false) => Sending::ReleaseAgain,
        (Some(Flight::AwaitComp), Answer::Comp, _) => Sending::Finish,
        (Some(Flight::GivenUp(reason)), Answer::Comp, _) => Sending::Drop(reason),
        (None, Answer::Rec, false) => Sending::ReleaseUnknown,
        (None, _, _) => Sending::Ignore,
        (Some(_), _, _) => Sending::Violation,
    }
}

/// What a receiver does with a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Hand it to the application, then answer.
    Deliver,
    /// The application has it; answer when it is its turn.
    Repeated,
    /// The application has it and it was answered; answer again.
    AnswerAgain,
    /// The identifier is in use for something else.
    Violation,
}

/// The receiver's half of QoS 1 and 2. Keyed by identifier, never by DUP: [MQTT-4.3.2-5],
/// [MQTT-4.3.3-10], [MQTT-4.3.3-12].
pub(crate) const fn receiving(kept: Option<(QoS, Stage)>, qos: QoS) -> Receiving {
    match (kept, qos) {
        (None, _) => Receiving::Deliver,
        (Some((QoS::ExactlyOnce, Stage::AwaitRel)), QoS::ExactlyOnce) => Receiving::AnswerAgain,
        (Some((QoS::ExactlyOnce, Stage::Held | Stage::Answer(_))), QoS::ExactlyOnce)
        | (Some((QoS::AtLeastOnce, _)), QoS::AtLeastOnce) => Receiving::Repeated,
        (Some(_), _) => Receiving::Violation,
    }
}

/// What a receiver does on a PUBREL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Releasing {
    /// Forget the identifier, send PUBCOMP.
    Complete,
    /// Send PUBCOMP with the reason *packet identifier not found*.
    Unknown,
    /// The message has not been answered yet, or is not at QoS 2.
    Violation,
}

/// The receiver's last step of QoS 2 [MQTT-4.3.3-11]. A PUBREC that is owed once more, because the
/// PUBLISH was repeated, is owed no longer.
pub(crate) const fn releasing(kept: Option<(QoS, Stage)>) -> Releasing {
    match kept {
        Some((QoS::ExactlyOnce, Stage::AwaitRel | Stage::Complete)) => Releasing::Complete,
        Some((QoS::ExactlyOnce, Stage::Answer(reason))) if !reason.is_error() => {
            Releasing::Complete
        }
        Some(_) => Releasing::Violation,
        None => Releasing::Unknown,
    }
}

/// A packet that is answered with one reason code per filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Subscribe,
    Unsubscribe,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: PacketId,
    request: Request,
    /// As many as fit, which nobody asks for.
    filters: u16,
}

/// The requests of a role that are unanswered.
pub(crate) trait Requests {
    fn len(&self) -> usize;

    fn has(&self, id: PacketId) -> bool;

    fn clear(&mut self);
}

/// A server makes none.
impl Requests for () {
    fn len(&self) -> usize {
        0
    }

    fn has(&self, _: PacketId) -> bool {
        false
    }

    fn clear(&mut self) {}
}

/// Those of a client.
#[derive(Debug)]
pub(crate) struct Asking(Vec<Pending, REQUESTS>);

impl Asking {
    /// None so far. An associated constant would be copied, with the room for them.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl Requests for Asking {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn has(&self, id: PacketId) -> bool {
        self.0.iter().any(|request| request.id == id)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// See the [module](self). The small fields come first, as in [`Link`](crate::link::Link).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Session<S, R> {
    /// Counts arrivals, so that receipts can be told apart.
    arrived: u32,
    /// How many arrivals of earlier connections have not been heard of on this one.
    carried: u32,
    /// Whether there has been a connection.
    opened: bool,
    next_id: PacketId,
    /// How many publishes the peer takes unacknowledged.
    send_maximum: u16,
    /// How many we take.
    receive_maximum: u16,
    store: S,
    requests: R,
}

impl<S, R: Requests> Session<S, R> {
    pub(crate) const fn new(store: S, requests: R) -> Self {
        Self {
            store,
            next_id: PacketId::FIRST,
            requests,
            opened: false,
            arrived: 0,
            carried: 0,
            send_maximum: u16::MAX,
            receive_maximum: u16::MAX,
        }
    }

    /// A number for a new arrival.
    pub(crate) const fn number(&mut self) -> u32 {
        self.arrived = self.arrived.wrapping_add(1);
        self.arrived
    }

    pub(crate) const fn store(&self) -> &S {
        &self.store
    }

    pub(crate) const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    pub(crate) fn into_store(self) -> S {
        self.store
    }
}

impl<S: Store, R: Requests> Session<S, R> {
    /// A connection begins, which takes `receive_maximum` publishes; with `clean` so does a new
    /// session.
    pub(crate) fn open(&mut self, clean: bool, receive_maximum: u16) {
        if !self.opened {
            // A store that outlived its program: nobody has the receipts any more.
            self.store.retain_arrivals(|arrival| arrival.stage != Stage::Held);
        }
        self.opened = true;
        self.receive_maximum = receive_maximum;
        self.close();
        if clean {
            self.store.clear();
        }
        self.carried = self.store.arrivals() as u32;
        self.forget_aliases();
    }

    /// Topic aliases are the connection's.
    pub(crate) fn forget_aliases(&mut self) {
        self.store.clear_aliases();
    }

    /// The peer has accepted the connection and takes `send_maximum` publishes.
    pub(crate) const fn set_send_maximum(&mut self, send_maximum: u16) {
        self.send_maximum = send_maximum;
    }

    /// The connection has ended: requests have, too; QoS 1 messages that were not answered come
    /// again; everything outgoing is to be sent again.
    pub(crate) fn close(&mut self) {
        self.requests.clear();
        self.store.rewind();
        self.store.retain_arrivals(|arrival| {
            arrival.live = false;
            if arrival.stage == Stage::Complete {
                arrival.stage = Stage::AwaitRel; // the PUBREL comes again
            }
            arrival.qos == QoS::ExactlyOnce
        });
    }

    /// The session's state is lost or ended.
    pub(crate) fn clear(&mut self) {
        self.store.clear();
        self.carried = 0;
    }

    /// An identifier that is not in use by any flight or request [MQTT-2.2.1-3]. It is given again
    /// until it has been [taken](Self::taken).
    pub(crate) fn free_id(&self) -> Option<PacketId> {
        let in_use = self.store.flights() + self.requests.len();
        if in_use == 0 && !SMALL {
            return Some(self.next_id);
        }
        let mut id = self.next_id;
        for _ in 0..=in_use.min(u16::MAX.into()) {
            if self.store.flight(id).is_none() && !self.requests.has(id) {
                return Some(id);
            }
            id = id.next();
        }
        None
    }

    /// The identifier is in use from now on.
    pub(crate) const fn taken(&mut self, id: PacketId) {
        self.next_id = id.next();
    }

    /// How many publishes count against the peer's Receive Maximum.
    pub(crate) fn in_flight(&self) -> usize {
        self.store.flights().saturating_sub(self.store.unsent_publishes())
    }

    /// Whether the peer takes another publish at QoS 1 or 2 [MQTT-4.9.0-2].
    pub(crate) fn has_quota(&self) -> bool {
        self.in_flight() < self.send_maximum.into()
    }

    /// A publish is answered: the step to take, taken as far as it concerns the store.
    pub(crate) fn on_answer(&mut self, id: PacketId, answer: Answer, failed: bool) -> Sending {
        let mut step = sending(self.store.flight(id), answer, failed);
        match step {
            Sending::Finish | Sending::Drop(_) => self.store.finish(id),
            Sending::Release => self.store.release(id, Flight::AwaitComp),
            Sending::Ignore | Sending::ReleaseUnknown if self.requests.has(id) => {
                step = Sending::Violation;
            }
            _ => {}
        }
        step
    }

    /// A publish is not sent again. Whether that is its outcome; of one that the peer may hold it is
    /// told when the peer has let it go.
    pub(crate) fn give_up(&mut self, id: PacketId, reason: ReasonCode) -> bool {
        let held = self.store.flight(id) == Some(Flight::AwaitRec);
        if held {
            self.store.release(id, Flight::GivenUp(reason));
        } else {
            self.store.finish(id);
        }
        !held
    }

    /// What is to be done with an incoming publish at QoS 1 or 2. Changes nothing, but forgets a
    /// message of an earlier connection whose identifier the peer has given to another.
    pub(crate) fn on_publish(&mut self, id: PacketId, qos: QoS) -> Receiving {
        let mut kept = self.store.arrival(id);
        if kept.is_some_and(|kept| !kept.live && kept.qos != qos) {
            self.forget(id);
            kept = None;
        }
        receiving(kept.map(|kept| (kept.qos, kept.stage)), qos)
    }

    /// What is to be done on a PUBREL. Changes nothing.
    pub(crate) fn on_release(&self, id: PacketId) -> Releasing {
        releasing(self.store.arrival(id).map(|kept| (kept.qos, kept.stage)))
    }

    /// Whether as many incoming messages are unfinished as the peer may send on this connection.
    pub(crate) fn is_receive_full(&self) -> bool {
        self.store.arrivals().saturating_sub(self.carried as usize) >= self.receive_maximum.into()
    }

    /// Whether there is no place for another, of these or of those of earlier connections.
    pub(crate) fn is_full(&self) -> bool {
        self.is_receive_full()
            || self.carried > 0 && self.store.arrivals() >= self.store.capacity().arrivals.into()
    }

    /// Keeps an arrival as the newest on this connection.
    pub(crate) fn keep(&mut self, arrival: Arrival) -> Result<(), Violation> {
        let carried = self.is_carried(arrival.id);
        let arrival = Arrival { live: true, ..arrival };
        if self.store.push_arrival(arrival).is_err() {
            // Those of earlier connections would have come again before anything new, did the peer
            // still know of them.
            self.carried = 0;
            self.store.retain_arrivals(|arrival| arrival.live);
            let kept = self.store.push_arrival(arrival);
            return kept.map_err(|_| Violation::ReceiveMaximumExceeded);
        }
        self.carried -= u32::from(carried);
        Ok(())
    }

    /// Forgets an arrival: it has come to its end.
    pub(crate) fn forget(&mut self, id: PacketId) {
        self.carried -= u32::from(self.is_carried(id));
        self.store.remove_arrival(id);
    }

    fn is_carried(&self, id: PacketId) -> bool {
        self.carried > 0 && self.store.arrival(id).is_some_and(|kept| !kept.live)
    }

    /// The acknowledgement `reason` of this arrival has been sent.
    pub(crate) fn acknowledged(&mut self, arrival: Arrival, reason: ReasonCode) {
        if arrival.qos == QoS::ExactlyOnce && !reason.is_error() {
            self.store.set_arrival(Arrival { stage: Stage::AwaitRel, ..arrival });
        } else {
            self.forget(arrival.id);
        }
    }
}

/// A client's requests.
impl<S: Store> Session<S, Asking> {
    /// Whether there is room for another request.
    pub(crate) fn can_request(&self) -> bool {
        self.requests.0.len() < REQUESTS
    }

    /// A request with this identifier, for so many filters, has been sent.
    pub(crate) fn request(&mut self, id: PacketId, request: Request, filters: usize) {
        // There was room.
        let _ = self.requests.0.push(Pending { id, request, filters: saturated(filters) });
        self.taken(id);
    }

    /// The request is answered, with one code per filter if there are any.
    pub(crate) fn answered(
        &mut self,
        id: PacketId,
        request: Request,
        reasons: usize,
    ) -> Result<(), Violation> {
        let found = self.requests.0.iter().position(|r| r.id == id && r.request == request);
        let Some(index) = found else { return Err(Violation::WrongAcknowledgement) };
        let pending = self.requests.0.swap_remove(index);
        if reasons != 0 && saturated(reasons) != pending.filters {
            return Err(Violation::ReasonCount);
        }
        Ok(())
    }
}

fn saturated(count: usize) -> u16 {
    count.min(u16::MAX.into()) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Records;

    /// Every cell of the sender's table.
    #[test]
    fn sender() {
        use Answer::{Ack, Comp, Rec};
        use Flight::{AwaitAck, AwaitComp, AwaitRec, GivenUp};
        use Sending::{Drop, Finish, Ignore, Release, ReleaseAgain, ReleaseUnknown, Violation};
        let reason = ReasonCode::PacketTooLarge;
        // Rows: flight. Columns: PUBACK, PUBREC, PUBREC with an error, PUBCOMP.
        let table = [
            (None, [Ignore, ReleaseUnknown, Ignore, Ignore]),
            (Some(AwaitAck), [Finish, Violation, Violation, Violation]),
            (Some(AwaitRec), [Violation, Release, Finish, Violation]),
            (Some(AwaitComp), [Violation, ReleaseAgain, Violation, Finish]),
            (Some(GivenUp(reason)), [Violation, ReleaseAgain, Violation, Drop(reason)]),
        ];
        for (flight, row) in table {
            let columns = [(Ack, false), (Rec, false), (Rec, true), (Comp, false)];
            for ((answer, failed), step) in columns.into_iter().zip(row) {
                assert_eq!(sending(flight, answer, failed), step, "{flight:?} {answer:?} {failed}");
            }
        }
    }

    /// Every cell of the receiver's table.
    #[test]
    fn receiver() {
        use QoS::{AtLeastOnce, ExactlyOnce};
        use Receiving::{AnswerAgain, Deliver, Repeated, Violation};
        let answer = Stage::Answer(ReasonCode::Success);
        let refusal = Stage::Answer(ReasonCode::NotAuthorized);
        // Rows: what is kept. Columns: PUBLISH at QoS 1, at QoS 2, PUBREL.
        let table = [
            (None, [Deliver, Deliver], Releasing::Unknown),
            (Some((AtLeastOnce, Stage::Held)), [Repeated, Violation], Releasing::Violation),
            (Some((AtLeastOnce, answer)), [Repeated, Violation], Releasing::Violation),
            (Some((ExactlyOnce, Stage::Held)), [Violation, Repeated], Releasing::Violation),
            (Some((ExactlyOnce, answer)), [Violation, Repeated], Releasing::Complete),
            (Some((ExactlyOnce, refusal)), [Violation, Repeated], Releasing::Violation),
            (Some((ExactlyOnce, Stage::Complete)), [Violation, Violation], Releasing::Complete),
            (Some((ExactlyOnce, Stage::AwaitRel)), [Violation, AnswerAgain], Releasing::Complete),
        ];
        for (kept, row, release) in table {
            for (qos, step) in [AtLeastOnce, ExactlyOnce].into_iter().zip(row) {
                assert_eq!(receiving(kept, qos), step, "{kept:?} {qos:?}");
            }
            assert_eq!(releasing(kept), release, "{kept:?}");
        }
    }

    /// [MQTT-2.2.1-3]: across both kinds of user, and around the end of the numbers.
    #[test]
    fn identifiers_in_use_are_not_given_again() {
        let mut session = Session::new(Records::<4>::new(), Asking::new());
        let id = |id| PacketId::new(id).unwrap();
        assert_eq!(session.free_id(), Some(id(1)));
        session.request(id(1), Request::Subscribe, 1);
        assert_eq!(session.free_id(), Some(id(2)));
        session.store.push(id(2), QoS::AtLeastOnce, None).unwrap();
        session.taken(id(2));
        session.next_id = id(u16::MAX);
        assert_eq!(session.free_id(), Some(id(u16::MAX)));
        session.taken(id(u16::MAX));
        assert_eq!(session.free_id(), Some(id(3)));
        session.next_id = id(1);
        assert_eq!(session.on_answer(id(2), Answer::Ack, false), Sending::Finish);
        assert_eq!(session.free_id(), Some(id(2)));
        assert_eq!(session.on_answer(id(1), Answer::Ack, false), Sending::Violation);
        assert_eq!(session.answered(id(1), Request::Subscribe, 1), Ok(()));
        assert_eq!(session.free_id(), Some(id(1)));
    }

    #[test]
    fn requests_are_answered_once_and_in_kind() {
        let mut session = Session::new(Records::<1>::new(), Asking::new());
        let id = PacketId::FIRST;
        let wrong = Err(Violation::WrongAcknowledgement);
        assert_eq!(session.answered(id, Request::Subscribe, 1), wrong);
        session.request(id, Request::Subscribe, 2);
        assert_eq!(session.answered(id, Request::Unsubscribe, 2), wrong);
        assert_eq!(session.answered(id, Request::Subscribe, 2), Ok(()));
        session.request(id, Request::Subscribe, 2);
        assert_eq!(session.answered(id, Request::Subscribe, 1), Err(Violation::ReasonCount));
    }
}
