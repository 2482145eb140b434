//! What a broker's host keeps of it, in memory.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{
    Instant,
    broker::{Broker, Haste, Key, Large},
};

use crate::party::Desk;

/// One call into the broker in so many is followed by a check; in more if there is much to look through.
const CHECKS: usize = 16;

/// The records of a broker as they were at the last commit, and which have changed since.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The records by their keys.
    pub records: BTreeMap<Box<[u8]>, Vec<u8>>,
    changed: BTreeSet<Box<[u8]>>,
    /// Something has changed that must be kept before anything is sent.
    pub is_urgent: bool,
    calls: usize,
}

impl Ledger {
    pub(crate) fn change(&mut self, key: Key<'_>, haste: Haste) {
        self.changed.insert(key.to_bytes());
        self.is_urgent |= haste == Haste::Urgent;
    }

    /// Whether it is time for a [`check`](Self::check), which looks through everything.
    pub(crate) fn is_due(&mut self) -> bool {
        self.calls += 1;
        self.calls > CHECKS + self.records.len()
    }

    /// Keeps what has changed.
    pub fn commit(&mut self, broker: &Broker<Large>) {
        self.is_urgent = false;
        for key in std::mem::take(&mut self.changed) {
            let mut record = Vec::new();
            match broker.record(Key::from_bytes(&key).expect("a key"), &mut record) {
                true => self.records.insert(key, record),
                false => self.records.remove(&key),
            };
        }
    }

    /// Looks whether everything that has changed was told.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn check(&mut self, broker: &Broker<Large>) {
        self.calls = 0;
        let now = records(broker);
        for key in now.keys().chain(self.records.keys()) {
            let (kept, is) = (self.records.get(key), now.get(key));
            // The group of a delivery is forgotten when it has no members any more.
            let is_same = match (Key::from_bytes(key), kept, is) {
                (Some(Key::Delivery(..)), Some(kept), Some(is)) => kept.starts_with(is),
                _ => kept == is,
            };
            let key = Key::from_bytes(key).expect("a key");
            let known = self.changed.contains(&key.to_bytes());
            assert!(is_same || known, "{key:?} has become {is:02x?} from {kept:02x?}");
        }
    }

    /// Gives a new broker what was kept at the last commit; what has changed since is lost.
    ///
    /// # Panics
    ///
    /// If it does not take it, or does not have it afterwards.
    pub fn restore(broker: &mut Broker<Large>, desk: &mut Desk, now: Instant) {
        desk.ledger.changed.clear();
        for (key, record) in &desk.ledger.records {
            let result = broker.restore(now, key, record);
            assert_eq!(result, Ok(()), "{:?} {record:02x?}", Key::from_bytes(key));
        }
        broker.restored(now, desk);
        desk.ledger.check(broker);
        desk.ledger.commit(broker);
    }
}

/// All records of a broker.
///
/// # Panics
///
/// If it names one that it does not have, or one twice.
pub fn records(broker: &Broker<Large>) -> BTreeMap<Box<[u8]>, Vec<u8>> {
    let mut records = BTreeMap::new();
    broker.records(|key| {
        let mut record = Vec::new();
        assert!(broker.record(key, &mut record), "there is no {key:?}");
        assert!(records.insert(key.to_bytes(), record).is_none(), "{key:?} is there twice");
    });
    records
}
