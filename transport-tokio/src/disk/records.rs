//! Records as they are in the file, and what they must be to be believed.
//!
//! | table | key | value |
//! |---|---|---|
//! | `identity` | `format`, `client`, `version` | what the file is, and whose |
//! | `sending` | packet identifier | order (8 bytes), state, reason code; the PUBLISH until released |
//! | `arrivals` | packet identifier | state, reason code |
//! | `queue` | number | a PUBLISH whose packet identifier stands for none |
//!
//! Numbers are big-endian.

use mqtt_core::{
    PacketId, ReasonCode, Version,
    store::{Flight, Stage},
    wire::PacketType,
};

use crate::kept::{Packet, Queued, Sending};

/// What is wrong with a record.
pub(super) type Problem = &'static str;

/// Orders and numbers in the queue are below this, so that adding to them never overflows.
const LIMIT: u64 = 1 << 62;

/// The bytes of a record of `sending` before the packet.
const HEAD: usize = 10;

const AWAIT_ACK: u8 = 1;
const AWAIT_REC: u8 = 2;
const AWAIT_COMP: u8 = 3;
const GIVEN_UP: u8 = 4;

const ANSWER: u8 = 1;
const AWAIT_REL: u8 = 2;

/// What can be written into a place of its length.
pub(super) trait Record {
    fn len(&self) -> usize;

    fn write(&self, to: &mut [u8]);
}

impl Record for Packet {
    fn len(&self) -> usize {
        self.len()
    }

    fn write(&self, to: &mut [u8]) {
        let (first, rest) = to.split_at_mut(self.first.len());
        first.copy_from_slice(&self.first);
        rest.copy_from_slice(&self.rest);
    }
}

impl Record for Sending {
    fn len(&self) -> usize {
        HEAD + self.packet.len()
    }

    fn write(&self, to: &mut [u8]) {
        let (state, reason) = match self.flight {
            Flight::AwaitAck => (AWAIT_ACK, 0),
            Flight::AwaitRec => (AWAIT_REC, 0),
            Flight::AwaitComp => (AWAIT_COMP, 0),
            Flight::GivenUp(reason) => (GIVEN_UP, reason.as_u8()),
        };
        let (head, packet) = to.split_at_mut(HEAD);
        head[..8].copy_from_slice(&self.order.to_be_bytes());
        head[8..].copy_from_slice(&[state, reason]);
        self.packet.write(packet);
    }
}

/// Nothing else is ever kept than these two stages.
impl Record for Stage {
    fn len(&self) -> usize {
        2
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(&match self {
            Self::Answer(reason) => [ANSWER, reason.as_u8()],
            Self::Held | Self::AwaitRel | Self::Complete => [AWAIT_REL, 0],
        });
    }
}

pub(super) fn read_sending(
    version: Version,
    key: u16,
    value: &[u8],
) -> Result<(PacketId, Sending), Problem> {
    let id = PacketId::new(key).ok_or("no packet identifier is 0")?;
    let Some((order, [state, reason, packet @ ..])) = value.split_first_chunk() else {
        return Err("too short");
    };
    let flight = match (*state, *reason) {
        (AWAIT_ACK, 0) => Flight::AwaitAck,
        (AWAIT_REC, 0) => Flight::AwaitRec,
        (AWAIT_COMP, 0) => Flight::AwaitComp,
        (GIVEN_UP, code) => Flight::GivenUp(ReasonCode::from_u8(code).ok_or("no such reason")?),
        _ => return Err("no such state"),
    };
    let released = matches!(flight, Flight::AwaitComp | Flight::GivenUp(_));
    let packet = match packet {
        [] => Packet::default(),
        _ if released => return Err("a message that has been released"),
        packet => {
            Packet::read(version, id, flight, packet).ok_or("not the PUBLISH it should be")?
        }
    };
    let order = Some(u64::from_be_bytes(*order)).filter(|order| *order < LIMIT);
    Ok((id, Sending { flight, order: order.ok_or("an order out of range")?, packet }))
}

pub(super) fn read_arrival(
    version: Version,
    key: u16,
    value: &[u8],
) -> Result<(PacketId, Stage), Problem> {
    let id = PacketId::new(key).ok_or("no packet identifier is 0")?;
    let stage = match value {
        [ANSWER, code] => ReasonCode::from_u8(*code)
            .filter(|reason| version.is_v5() || *reason == ReasonCode::Success)
            .filter(|reason| reason.is_legal_in(PacketType::PubRec))
            .map(Stage::Answer)
            .ok_or("no such reason")?,
        [AWAIT_REL, 0] => Stage::AwaitRel,
        _ => return Err("no such state"),
    };
    Ok((id, stage))
}

pub(super) fn read_queued(version: Version, key: u64, value: &[u8]) -> Result<Queued, Problem> {
    let number = Some(key).filter(|key| *key < LIMIT).ok_or("a number out of range")?;
    Queued::read(version, number, value).ok_or("not the PUBLISH it should be")
}

/// The versions as CONNECT has them.
pub(super) const fn version_number(version: Version) -> u8 {
    match version {
        Version::V3_1 => 3,
        Version::V3_1_1 => 4,
        Version::V5 => 5,
    }
}
