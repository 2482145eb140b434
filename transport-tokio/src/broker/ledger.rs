//! What of the broker has changed and is not saved, and what waits for that.

// Without a file nothing is saved.
#![cfg_attr(not(feature = "persistence"), allow(dead_code))]

use std::{collections::BTreeSet, mem};

use mqtt_core::broker::{Haste, Key};
use tokio::sync::oneshot;

/// Changes since the last batch, and who waits for them.
///
/// *No byte leaves before the changes that it follows from are saved.* Which these are is told by the
/// call into the broker that wrote it: whatever a call has written that told of an urgent change waits for
/// the batch that has it, and so does what is written to the same connections, and to the one whose input
/// it took, until then. What other calls write to others waits for nothing.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The keys of the records that have changed.
    changed: Keys,
    /// Something waits for these.
    pub(super) is_urgent: bool,
    /// The call that is going on has told of an urgent change.
    urges: bool,
    /// The connections that it has written to, by their places.
    written: Vec<usize>,
    /// Those of which something waits.
    waiting: Vec<usize>,
    /// Who else waits for the next batch, and for the one that is being saved.
    waiters: [Vec<oneshot::Sender<()>>; 2],
}

/// The keys of records, in order.
pub(super) type Keys = BTreeSet<Box<[u8]>>;

/// How much of what is written to a connection may not leave yet: so many of the last bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    bytes: u32,
    /// Of these, so many of the first wait for the batch that is being saved, the others for the next.
    sealed: u32,
    /// Of these, so many of the last have been written by the call that is going on.
    fresh: u32,
    /// It follows from something that is not in a batch yet, or is being saved.
    depends: Depends,
    is_listed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Depends {
    #[default]
    No,
    /// On the batch that is being saved.
    Sealed,
    /// On the next.
    Open,
}

/// Connections by their places.
pub(super) trait Holders {
    fn held(&mut self, place: usize) -> Option<&mut Held>;
}

/// With more changes than this that are not saved, nothing more is taken in.
const MOST: usize = 1 << 18;

impl Held {
    /// How many bytes these are.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// What was written is gone, and does not leave any more.
    pub(super) fn clear(&mut self) {
        *self = Self { is_listed: self.is_listed, ..Self::default() };
    }
}

impl Ledger {
    /// The broker tells of a change.
    pub(super) fn change(&mut self, key: Key<'_>, haste: Haste) {
        self.changed.insert(key.to_bytes());
        self.urges |= haste == Haste::Urgent;
    }

    /// Tells when what has been urgent so far is saved; nothing if nothing has been.
    pub(super) fn until_saved(&mut self) -> Option<oneshot::Receiver<()>> {
        let (waiter, saved) = oneshot::channel();
        self.is_urgent.then(|| {
            self.waiters[0].push(waiter);
            saved
        })
    }

    /// A record is not as it should be.
    pub(super) fn mend(&mut self, key: Box<[u8]>) {
        self.changed.insert(key);
    }

    /// So many bytes have been written to a connection: they are held until the call has ended.
    pub(super) fn wrote(&mut self, place: usize, held: &mut Held, count: u32) {
        if count > 0 {
            if held.fresh == 0 {
                self.written.push(place);
            }
            held.fresh += count;
            held.bytes += count;
        }
    }

    /// The call has ended in which the input of `from` was taken. Decides what of it waits.
    pub(super) fn end_call(&mut self, from: Option<usize>, all: &mut impl Holders) {
        let urges = mem::take(&mut self.urges);
        self.is_urgent |= urges;
        let mut written = mem::take(&mut self.written);
        if urges {
            written.extend(from);
        }
        for place in written.drain(..) {
            let Some(held) = all.held(place) else { continue };
            if urges {
                held.depends = Depends::Open;
                if !mem::replace(&mut held.is_listed, true) {
                    self.waiting.push(place);
                }
            } else if held.depends == Depends::No {
                held.bytes -= held.fresh;
            }
            held.fresh = 0;
        }
        self.written = written;
    }

    /// Everything so far is to be saved in one batch: gives the keys.
    pub(super) fn seal(&mut self, all: &mut impl Holders) -> Keys {
        for place in &self.waiting {
            if let Some(held) = all.held(*place) {
                held.sealed = held.bytes;
                held.depends = Depends::Sealed;
            }
        }
        self.is_urgent = false;
        let [open, sealed] = &mut self.waiters;
        sealed.append(open);
        mem::take(&mut self.changed)
    }

    /// The batch is saved. Gives the connections of which something may leave.
    pub(super) fn saved(&mut self, all: &mut impl Holders) -> Vec<usize> {
        for waiter in self.waiters[1].drain(..) {
            // Who waited may have gone.
            let _ = waiter.send(());
        }
        let waiting = mem::take(&mut self.waiting);
        for place in &waiting {
            let Some(held) = all.held(*place) else { continue };
            if held.depends == Depends::Open {
                held.bytes -= mem::take(&mut held.sealed);
                self.waiting.push(*place);
            } else {
                // What was written since follows from nothing else.
                *held = Held::default();
            }
        }
        waiting
    }

    /// The batch could not be saved: it belongs to the next.
    pub(super) fn failed(&mut self, keys: Keys) {
        self.changed.extend(keys);
        self.is_urgent = true;
    }

    /// A connection is gone, and nothing of it waits any more.
    pub(super) fn forget(&mut self, place: usize, held: &Held) {
        if held.is_listed {
            self.waiting.retain(|waiting| *waiting != place);
        }
    }

    /// Whether nothing more is to be taken in before something has been saved.
    pub(super) fn is_full(&self) -> bool {
        self.changed.len() > MOST
    }

    /// Whether there is anything to be saved.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Holders for Vec<Held> {
        fn held(&mut self, place: usize) -> Option<&mut Held> {
            self.get_mut(place)
        }
    }

    /// How much is held of what was written to each.
    fn bytes(all: &[Held]) -> Vec<u32> {
        all.iter().map(|held| held.bytes).collect()
    }

    fn change(ledger: &mut Ledger, number: u32, haste: Haste) {
        ledger.change(Key::Message(number), haste);
    }

    #[test]
    fn what_an_urgent_call_writes_waits_for_its_batch() {
        let (mut ledger, mut all) = (Ledger::default(), vec![Held::default(); 3]);
        change(&mut ledger, 1, Haste::Urgent);
        ledger.wrote(0, &mut all[0], 10);
        ledger.end_call(Some(1), &mut all);
        // Another call, to which nothing is urgent; the one whose input was taken waits, too.
        for (place, held) in all.iter_mut().enumerate() {
            ledger.wrote(place, held, 1);
        }
        ledger.end_call(Some(2), &mut all);
        assert_eq!(bytes(&all), [11, 1, 0]);

        assert_eq!(ledger.seal(&mut all).len(), 1);
        change(&mut ledger, 2, Haste::Urgent);
        ledger.wrote(0, &mut all[0], 5);
        ledger.end_call(None, &mut all);
        ledger.wrote(1, &mut all[1], 7);
        ledger.end_call(None, &mut all);
        assert_eq!(bytes(&all), [16, 8, 0]);
        assert_eq!(ledger.saved(&mut all), [0, 1]);
        assert_eq!(bytes(&all), [5, 0, 0], "only what the next batch is waited for");
        assert!(ledger.is_urgent);
        assert_eq!(ledger.seal(&mut all).len(), 1);
        assert_eq!(ledger.saved(&mut all), [0]);
        assert_eq!(bytes(&all), [0, 0, 0]);
    }

    #[test]
    fn nothing_waits_for_what_is_not_urgent() {
        let (mut ledger, mut all) = (Ledger::default(), vec![Held::default(); 1]);
        change(&mut ledger, 1, Haste::None);
        ledger.wrote(0, &mut all[0], 10);
        ledger.end_call(Some(0), &mut all);
        assert_eq!((bytes(&all), ledger.is_urgent, ledger.is_empty()), (vec![0], false, false));
    }

    #[test]
    fn who_comes_and_goes_while_nothing_is_saved_is_forgotten() {
        let (mut ledger, mut all) = (Ledger::default(), vec![Held::default(); 2]);
        for _ in 0..3 {
            change(&mut ledger, 1, Haste::Urgent);
            ledger.wrote(0, &mut all[0], 10);
            ledger.wrote(1, &mut all[1], 10);
            ledger.end_call(None, &mut all);
            all[0].clear();
            ledger.forget(0, &all[0]);
            all[0] = Held::default();
        }
        assert_eq!((bytes(&all), &ledger.waiting), (vec![0, 30], &vec![1]));
    }

    #[test]
    fn what_could_not_be_saved_is_waited_for_still() {
        let (mut ledger, mut all) = (Ledger::default(), vec![Held::default(); 1]);
        change(&mut ledger, 1, Haste::Urgent);
        ledger.wrote(0, &mut all[0], 10);
        ledger.end_call(Some(0), &mut all);
        let keys = ledger.seal(&mut all);
        change(&mut ledger, 2, Haste::None);
        ledger.wrote(0, &mut all[0], 1);
        ledger.end_call(Some(0), &mut all);
        ledger.failed(keys);
        assert_eq!((bytes(&all), ledger.is_urgent), (vec![11], true));
        assert_eq!(ledger.seal(&mut all).len(), 2);
        ledger.saved(&mut all);
        assert_eq!(bytes(&all), [0]);
    }
}
