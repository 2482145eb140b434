//! The session in flash: power cut at every write.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};
use mqtt_core::{
    Buffer, Client, Connect, Instant, PacketId, Publish, QoS, Topic, Version,
    store::{Arrival, Flight, Outgoing, Stage, Store},
};
use transport_embassy::flash::Flash;

const PAGE: usize = 512;
const PAGES: usize = 4;

/// A flash that loses its power after so many words.
#[derive(Clone)]
struct Simulated(Rc<RefCell<Inner>>);

struct Inner {
    bytes: Vec<u8>,
    /// Words that can still be written or pages erased.
    power: usize,
    /// How many were.
    used: usize,
}

#[derive(Debug)]
struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl From<NorFlashErrorKind> for NoPower {
    fn from(kind: NorFlashErrorKind) -> Self {
        panic!("{kind:?}")
    }
}

impl Inner {
    /// `Err` if there is no power for the next word.
    fn spend(&mut self) -> Result<(), NoPower> {
        self.used += 1;
        self.power = self.power.checked_sub(1).ok_or(NoPower)?;
        Ok(())
    }
}

impl ErrorType for Simulated {
    type Error = NoPower;
}

impl ReadNorFlash for Simulated {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NoPower> {
        check_read(self, offset, bytes.len())?;
        let at = offset as usize;
        bytes.copy_from_slice(&self.0.borrow().bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        PAGE * PAGES
    }
}

impl NorFlash for Simulated {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        check_erase(self, from, to)?;
        let inner = &mut *self.0.borrow_mut();
        for page in inner.bytes[from as usize..to as usize].chunks_mut(PAGE) {
            inner.used += 1;
            let Some(left) = inner.power.checked_sub(1) else {
                page[..PAGE / 2].fill(0xff); // by half
                return Err(NoPower);
            };
            inner.power = left;
            page.fill(0xff);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NoPower> {
        check_write(self, offset, bytes.len())?;
        let inner = &mut *self.0.borrow_mut();
        for (index, word) in bytes.chunks(4).enumerate() {
            let at = offset as usize + index * 4;
            let lit = inner.spend();
            let written = if lit.is_ok() { 4 } else { 2 }; // by half
            for (kept, new) in inner.bytes[at..at + written].iter_mut().zip(word) {
                *kept &= new;
            }
            lit?;
        }
        Ok(())
    }
}

impl Simulated {
    fn new() -> Self {
        let bytes = vec![0xff; PAGE * PAGES];
        Self(Rc::new(RefCell::new(Inner { bytes, power: usize::MAX, used: 0 })))
    }

    fn load(&self) -> Flash<Self, 8, 512> {
        Flash::load(self.clone(), 0..(PAGE * PAGES) as u32, Version::V5).unwrap()
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn push(store: &mut impl Store, number: u16, qos: QoS) -> bool {
    let payload = vec![number as u8; 20 + usize::from(number) % 30];
    let topic = Topic::new("readings").unwrap();
    let publish = Publish { qos, ..Publish::new(topic, &payload[..]) };
    let outgoing = Outgoing::new(Version::V5, id(number), &publish).unwrap();
    store.push(id(number), qos, Some(&outgoing)).is_ok()
}

/// What is under way.
type Known = BTreeMap<u16, Flight>;

/// What a store says is under way, in order, and whether messages are whole.
fn under_way(store: &mut impl Store) -> Vec<(u16, Flight)> {
    let mut found = Vec::new();
    store.rewind();
    while let Some(unsent) = store.unsent() {
        let (number, flight) = (unsent.id.get(), unsent.flight);
        if matches!(flight, Flight::AwaitAck | Flight::AwaitRec) {
            let (publish, rest) = unsent.decode(Version::V5).expect("the packet");
            assert!(rest.is_empty());
            let payload = publish.payload.as_bytes();
            assert!(payload.iter().all(|byte| *byte == number as u8));
            assert_eq!(payload.len(), 20 + usize::from(number) % 30);
        }
        found.push((number, flight));
        store.mark_sent(id(number));
    }
    found
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u16, QoS),
    Release(u16),
    Finish(u16),
}

/// Publishes, releases and finishes.
fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for number in 1..70_u16 {
        let qos = if number % 3 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        steps.push(Step::Push(number, qos));
        if number % 3 == 0 {
            steps.push(Step::Release(number));
        }
        if number > 4 {
            steps.push(Step::Finish(number - 4));
        }
    }
    steps
}

impl Step {
    /// What is known after it.
    fn apply(self, known: &mut Known) {
        match self {
            Self::Push(number, qos) => drop(known.insert(number, Flight::new(qos))),
            Self::Release(number) => drop(known.insert(number, Flight::AwaitComp)),
            Self::Finish(number) => drop(known.remove(&number)),
        }
    }

    fn run(self, store: &mut impl Store) -> bool {
        match self {
            Self::Push(number, qos) => return push(store, number, qos),
            Self::Release(number) => store.release(id(number), Flight::AwaitComp),
            Self::Finish(number) => store.finish(id(number)),
        }
        true
    }
}

#[test]
fn power_lost_at_any_write_loses_nothing_that_was_accepted() {
    let flash = Simulated::new();
    let mut known = Known::new();
    for step in steps() {
        let image = flash.0.borrow().bytes.clone();
        let before = known.clone();
        step.apply(&mut known);
        let used = flash.0.borrow().used;
        let mut store = flash.load();
        assert!(step.run(&mut store) && !store.has_failed());
        let writes = flash.0.borrow().used - used;
        for power in 0..writes {
            let cut = Simulated::new();
            cut.0.borrow_mut().bytes.clone_from(&image);
            let mut store = cut.load();
            cut.0.borrow_mut().power = power;
            let accepted = step.run(&mut store);
            assert!(store.has_failed());
            drop(store);
            cut.0.borrow_mut().power = usize::MAX;
            let mut again = cut.load();
            let found = under_way(&mut again);
            let all: Known = found.iter().copied().collect();
            assert_eq!(all.len(), found.len(), "each once");
            let right =
                all == known || all == before && !(accepted && matches!(step, Step::Push(..)));
            assert!(right, "{step:?} cut after {power} of {writes}: {all:?}, not {known:?}");
            let publishes = found.iter().filter(|(_, flight)| *flight != Flight::AwaitComp);
            assert!(publishes.map(|(number, _)| number).is_sorted(), "in order");
            // And it goes on.
            assert!(push(&mut again, 999, QoS::AtLeastOnce));
        }
    }
    let written = flash.0.borrow().used * 4;
    assert!(written > 2 * PAGE * PAGES, "{written}: all pages, more than twice");
}

#[test]
fn a_message_at_qos_2_that_was_taken_before_the_reset_is_known_after_it() {
    let flash = Simulated::new();
    let mut store = flash.load();
    let arrival = |number, stage| Arrival {
        id: id(number),
        qos: QoS::ExactlyOnce,
        stage,
        number: u32::from(number),
        live: true,
    };
    for number in 1..=3 {
        store.push_arrival(arrival(number, Stage::Held)).unwrap();
    }
    store.set_arrival(arrival(1, Stage::AwaitRel));
    store.set_arrival(arrival(2, Stage::AwaitRel));
    store.remove_arrival(id(1));
    drop(store);
    let mut again = flash.load();
    assert_eq!(again.arrival(id(1)), None);
    assert_eq!(again.arrival(id(2)).map(|kept| kept.stage), Some(Stage::AwaitRel));
    assert_eq!(again.arrival(id(3)), None, "it comes again");
    again.clear();
    drop(again);
    assert_eq!(flash.load().arrivals(), 0);
}

#[test]
fn a_message_survives_a_reset() {
    let flash = Simulated::new();
    let mut out = Buffer::<512>::new();
    let now = Instant::default();
    let connect = Connect { clean_start: false, session_expiry_interval: 60, ..Connect::default() };
    let mut client = Client::new(Version::V5, flash.load());
    client.connect(now, &connect, &mut out).unwrap();
    client.poll(now, &mut &b"\x20\x03\0\0\0"[..], &mut out).unwrap();
    let topic = Topic::new("t").unwrap();
    let message = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, "kept") };
    client.publish(now, &message, &mut out).unwrap();
    drop(client); // and all that was in memory

    let mut client = Client::new(Version::V5, flash.load());
    client.connect(now, &connect, &mut out).unwrap();
    out.clear();
    client.poll(now, &mut &b"\x20\x03\x01\0\0"[..], &mut out).unwrap();
    client.poll(now, &mut &b""[..], &mut out).unwrap();
    assert_eq!(out.as_bytes(), b"\x3a\x0a\0\x01t\0\x01\0kept");
    client.poll(now, &mut &b"\x40\x02\0\x01"[..], &mut out).unwrap();
    assert_eq!(flash.load().flights(), 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let flash = Simulated::new();
    let mut store = flash.load();
    let payload = [0; 500];
    let topic = Topic::new("t").unwrap();
    let publish = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, &payload) };
    let outgoing = Outgoing::new(Version::V5, id(1), &publish).unwrap();
    assert_eq!(
        store.push(id(1), QoS::AtLeastOnce, Some(&outgoing)),
        Err(mqtt_core::store::Full::ForEver)
    );
    assert!(Flash::<_, 8, 512>::load(flash, 0..PAGE as u32, Version::V5).is_err());
}
