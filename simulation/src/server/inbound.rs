//! What the client publishes: at least once, exactly once, and in the right order.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{QoS, ReasonCode, wire::Delivery};

use super::{Answer, Note};

/// The server's memory of a client's messages, by their identifiers.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    seen: BTreeMap<u16, Seen>,
    numbers: u64,
    /// QoS 2 identifiers whose PUBREC was sent on an earlier connection, in order.
    old_records: Vec<u16>,
    /// Those among them that the client does not know.
    lost_records: BTreeSet<u16>,
    /// The same on this connection.
    records: Vec<u16>,
    resumed: bool,
    /// A new message at QoS 1 or 2 came on this connection.
    fresh: bool,
    /// The number of the message that came last.
    last: u64,
}

/// The last message under an identifier.
#[derive(Debug)]
struct Seen {
    note: Note,
    /// The order in which it was sent first.
    number: u64,
    stage: Stage,
    /// Its PUBLISH came on this connection: it counts until it is finished.
    counted: bool,
    /// Its PUBREL came on this connection.
    released: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has come, and was not answered.
    Unanswered,
    /// PUBREC sent.
    Recorded,
    /// PUBREL has come, and was not answered.
    Released,
    /// Nothing more is to come.
    Finished,
    /// The same, because it was refused.
    Refused,
}

/// What becomes of a PUBLISH.
pub(super) struct Taken {
    pub(super) is_new: bool,
    pub(super) answer: Option<Answer>,
}

impl Inbound {
    pub(super) fn begin(&mut self, resumed: bool) {
        self.old_records.append(&mut self.records);
        self.resumed = resumed;
        (self.fresh, self.last) = (false, 0);
        for seen in self.seen.values_mut() {
            (seen.counted, seen.released) = (false, false);
        }
    }

    /// Whether an identifier may be given to a new message. Of a message at QoS 1 the client may have
    /// given up sending it again, and a server does not notice.
    pub(super) fn is_free(&self, id: u16) -> bool {
        let is_over = |seen: &Seen| match seen.stage {
            Stage::Finished | Stage::Refused => true,
            Stage::Unanswered => seen.note.qos == QoS::AtLeastOnce && !seen.counted,
            Stage::Recorded | Stage::Released => false,
        };
        self.seen.get(&id).is_none_or(is_over)
    }

    pub(super) fn publish(
        &mut self,
        delivery: Delivery,
        note: &Note,
        quota: usize,
        refuse: Option<ReasonCode>,
    ) -> Result<Taken, String> {
        let Some(id) = delivery.packet_id.map(|id| id.get()) else {
            return Ok(Taken { is_new: refuse.is_none(), answer: None });
        };
        let known = self.seen.get(&id).filter(|seen| delivery.dup && seen.note == *note);
        let known = known.map(|seen| (seen.number, seen.stage, seen.counted));
        let mut is_new = refuse.is_none();
        if delivery.dup {
            self.check_again(id, note.qos, known)?;
            let kept = matches!(known, Some((_, Stage::Unanswered | Stage::Recorded, _)));
            is_new &= !(kept && note.qos == QoS::ExactlyOnce);
        } else if !self.is_free(id) {
            return Err(format!("uses {id}, which is in use [MQTT-2.2.1-3]"));
        } else {
            self.fresh = true;
        }
        let number = known.map_or(self.numbers + 1, |(number, ..)| number);
        if number <= self.last {
            return Err(format!("sends {id} again out of order [MQTT-4.6.0-1]"));
        }
        self.last = number;
        self.numbers = self.numbers.max(number);
        self.old_records.retain(|record| *record != id);
        self.lost_records.remove(&id);
        let stage = Stage::Unanswered;
        let seen = Seen { note: note.clone(), number, stage, counted: true, released: false };
        self.seen.insert(id, seen);
        if self.seen.values().filter(|seen| seen.counted).count() > quota {
            return Err("sends more than Receive Maximum [MQTT-3.3.4-7]".into());
        }
        let reason = refuse.unwrap_or_default();
        let answer = match note.qos {
            QoS::ExactlyOnce => Answer::Rec(id, reason),
            _ => Answer::Ack(id, reason),
        };
        Ok(Taken { is_new, answer: Some(answer) })
    }

    /// Whether a message may come with DUP.
    fn check_again(
        &self,
        id: u16,
        qos: QoS,
        known: Option<(u64, Stage, bool)>,
    ) -> Result<(), String> {
        if !self.resumed {
            return Err(format!("sends {id} again without a session [MQTT-4.4.0-1]"));
        }
        if self.fresh {
            return Err(format!("sends {id} again after a new message [MQTT-4.6.0-1]"));
        }
        match known {
            Some((_, _, true)) => Err(format!("sends {id} twice on a connection")),
            Some((_, Stage::Released | Stage::Finished, _)) if qos == QoS::ExactlyOnce => {
                Err(format!("publishes {id} after PUBREL [MQTT-4.3.3-6]"))
            }
            None if !self.is_free(id) => {
                Err(format!("gives {id} to another message [MQTT-2.2.1-3]"))
            }
            _ => Ok(()),
        }
    }

    /// PUBREL: with what to answer it.
    pub(super) fn release(&mut self, id: u16) -> Result<ReasonCode, String> {
        let seen = self.seen.get_mut(&id);
        let Some(seen) = seen.filter(|seen| seen.note.qos == QoS::ExactlyOnce) else {
            if self.resumed {
                // Given up, without knowing whether it had ever arrived.
                return Ok(ReasonCode::PacketIdentifierNotFound);
            }
            return Err(format!("releases {id}, which was never published"));
        };
        if seen.released {
            return Err(format!("releases {id} twice on a connection"));
        }
        seen.released = true;
        match seen.stage {
            Stage::Finished | Stage::Refused => return Ok(ReasonCode::PacketIdentifierNotFound),
            Stage::Released => {}
            // Given up, without knowing that it had arrived.
            Stage::Unanswered if self.resumed && !seen.counted => {}
            Stage::Recorded => {
                if let Some(place) = self.old_records.iter().position(|record| *record == id) {
                    // The client did not get the PUBRECs before: it publishes those again, or gives
                    // them up.
                    let lost = self.old_records.drain(..=place);
                    self.lost_records.extend(lost.filter(|record| *record != id));
                } else if self.lost_records.remove(&id) {
                    // Given up.
                } else if self.records.first() == Some(&id) {
                    self.records.remove(0);
                } else {
                    let records = &self.records;
                    return Err(format!("releases {id} before {records:?} [MQTT-4.6.0-4]"));
                }
            }
            stage => return Err(format!("releases {id}, which is {stage:?}")),
        }
        seen.stage = Stage::Released;
        Ok(ReasonCode::Success)
    }

    pub(super) fn acked(&mut self, id: u16) {
        self.set(id, Stage::Finished);
    }

    pub(super) fn recorded(&mut self, id: u16, reason: ReasonCode) {
        if reason.is_error() {
            self.set(id, Stage::Refused);
        } else {
            self.records.push(id);
            self.set(id, Stage::Recorded);
        }
    }

    pub(super) fn completed(&mut self, id: u16) {
        self.set(id, Stage::Finished);
    }

    fn set(&mut self, id: u16, stage: Stage) {
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.stage = stage;
            seen.counted &= stage == Stage::Recorded;
        }
    }
}
