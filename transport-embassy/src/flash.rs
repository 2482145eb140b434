//! A session in flash memory: messages at QoS 1 and 2 that a device has accepted survive a reset.
//!
//! ```
//! use embedded_storage::nor_flash::NorFlash;
//! use mqtt_core::Version;
//! use transport_embassy::{Resources, Sizes, flash::{Error, Flash}};
//!
//! fn resources<F: NorFlash, R>(flash: F) -> Result<Resources<R>, Error>
//! where
//!     R: Sizes<Store = Flash<F, 8, 2048>>, // 8 messages, of 2,048 bytes altogether
//! {
//!     let store = Flash::load(flash, 0x10_0000..0x10_4000, Version::V5)?; // four pages of 4 KB
//!     Ok(Resources::new(Version::V5, store))
//! }
//! ```
//!
//! Each message takes two writes, one when it is accepted and one when it has its outcome; at QoS 2 three. They are
//! made at once, by whoever publishes or receives: a flash that takes long to write or to erase keeps the client
//! waiting, and with `CriticalSectionRawMutex` everybody else. Wear is spread over the range by
//! `sequential-storage`, which also repairs what a loss of power has left half-written.

use core::{
    fmt,
    future::Future,
    ops::Range,
    pin::pin,
    task::{Context, Poll, Waker},
};

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use embedded_storage_async::nor_flash as asynch;
use heapless::Vec;
use mqtt_core::{
    Message, PacketId, Publish, QoS, ReasonCode, Version,
    store::{Arrival, Capacity, Fixed, Flight, Full, Outgoing, Stage, Store, Unsent},
};
use sequential_storage::{
    cache::{Cache, Uncached},
    map::{MapConfig, MapStorage},
};

/// Keeps up to `FLIGHTS` outgoing publishes in `BYTES` bytes, and up to `FLIGHTS` incoming ones, in memory and in
/// flash. Needs `BYTES` bytes twice, and a range of flash of at least as much and two pages more.
pub struct Flash<F: NorFlash, const FLIGHTS: usize, const BYTES: usize> {
    memory: Fixed<FLIGHTS, BYTES>,
    storage: MapStorage<u8, Blocking<F>, Cache<Uncached, Uncached, Uncached, u8>>,
    /// What is in the flash, by key.
    places: [Option<PacketId>; FLIGHTS],
    arrivals: [Option<PacketId>; FLIGHTS],
    /// Numbers what is stored, in order.
    next: u32,
    failed: bool,
    buffer: [u8; BYTES],
}

/// The flash cannot be read, or its range is none: not of whole pages, or of fewer than two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the flash cannot be used")
    }
}

impl core::error::Error for Error {}

/// What is before the packet: what it is, its number, its identifier.
const HEAD: usize = 7;

const GONE: u8 = 0;
const PUBLISH: u8 = 1;
const RELEASED: u8 = 2;
const GIVEN_UP: u8 = 3;
const RECEIVED: u8 = 4;

/// What is stored of one publish.
#[derive(Clone, Copy)]
struct Record {
    kind: u8,
    number: u32,
    id: PacketId,
}

impl Record {
    fn to_bytes(self) -> [u8; HEAD] {
        let ([a, b, c, d], [e, f]) = (self.number.to_be_bytes(), self.id.get().to_be_bytes());
        [self.kind, a, b, c, d, e, f]
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [kind, a, b, c, d, e, f] = *bytes.first_chunk()?;
        let id = PacketId::new(u16::from_be_bytes([e, f]))?;
        Some(Self { kind, number: u32::from_be_bytes([a, b, c, d]), id })
    }
}

impl<F: NorFlash, const FLIGHTS: usize, const BYTES: usize> Flash<F, FLIGHTS, BYTES> {
    /// Reads what the flash has in a range, which is this store's alone. Messages are of the version that was
    /// spoken when they were stored; one of another version, or that is damaged, is dropped.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn load(flash: F, range: Range<u32>, version: Version) -> Result<Self, Error> {
        const { assert!(FLIGHTS <= 127, "keys are bytes") };
        const { assert!(BYTES >= 64, "room for a packet and what is stored with it") };
        let config = MapConfig::try_new(range).map_err(|_| Error)?;
        let mut store = Self {
            memory: Fixed::new(),
            storage: MapStorage::new(Blocking(flash), config, Cache::new_uncached()),
            places: [None; FLIGHTS],
            arrivals: [None; FLIGHTS],
            next: 0,
            failed: false,
            buffer: [0; BYTES],
        };
        let mut records = store.records()?;
        // What was released comes in the order of release, before all others: its number is of then.
        records.sort_unstable_by_key(|(_, record)| record.number);
        for (key, record) in records {
            store.restore(key, record, version)?;
        }
        Ok(store)
    }

    /// Whether the flash has failed. What has been accepted since may not survive a reset.
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.storage.destroy().0.0
    }

    /// What is stored, by key.
    fn records(&mut self) -> Result<Vec<(u8, Record), 254>, Error> {
        let mut records = Vec::new();
        for key in 0..2 * FLIGHTS as u8 {
            let value =
                now(self.storage.fetch_item::<&[u8]>(&mut self.buffer, &key)).ok_or(Error)?;
            if let Some(record) = value.and_then(Record::from_bytes) {
                let _ = records.push((key, record)); // there are no more keys
            }
        }
        Ok(records)
    }

    fn restore(&mut self, key: u8, record: Record, version: Version) -> Result<(), Error> {
        let Record { kind, number, id } = record;
        let place = usize::from(key);
        self.next = self.next.max(number.wrapping_add(1));
        let restored = match kind {
            PUBLISH => {
                let fetched = now(self.storage.fetch_item::<&[u8]>(&mut self.buffer, &key));
                let value = fetched.ok_or(Error)?.unwrap_or_default();
                push(&mut self.memory, id, value.get(HEAD..).unwrap_or_default(), version)
            }
            RELEASED | GIVEN_UP => {
                let to = match kind {
                    RELEASED => Flight::AwaitComp,
                    _ => Flight::GivenUp(ReasonCode::UnspecifiedError),
                };
                let pushed = self.memory.push(id, QoS::ExactlyOnce, None).is_ok();
                self.memory.release(id, to);
                pushed
            }
            RECEIVED => {
                let arrival = Arrival {
                    id,
                    qos: QoS::ExactlyOnce,
                    stage: Stage::AwaitRel,
                    number,
                    live: false,
                };
                self.memory.push_arrival(arrival).is_ok()
            }
            _ => return Ok(()),
        };
        let places = match place.checked_sub(FLIGHTS) {
            Some(place) => self.arrivals.get_mut(place),
            None => self.places.get_mut(place),
        };
        if let Some(place) = places.filter(|_| restored) {
            *place = Some(id);
        }
        Ok(())
    }

    /// Stores a record, and a packet of which this is the front.
    fn store(&mut self, key: usize, record: Record, packet: Option<&Outgoing<'_>>) -> bool {
        let mut value: Vec<u8, BYTES> = Vec::new();
        let mut complete = value.extend_from_slice(&record.to_bytes()).is_ok();
        if let Some(packet) = packet {
            complete &= value.resize_default(HEAD + packet.head_len()).is_ok();
            if let Some(head) = value.get_mut(HEAD..).filter(|_| complete) {
                packet.write_head(head);
            }
            complete &= value.extend_from_slice(packet.payload().as_bytes()).is_ok();
        }
        complete && self.write(key, &value)
    }

    fn write(&mut self, key: usize, value: &[u8]) -> bool {
        let stored = now(self.storage.store_item(&mut self.buffer, &(key as u8), &value)).is_some();
        self.failed |= !stored;
        stored
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// A publish has its outcome.
    fn forget(&mut self, id: PacketId) {
        if let Some(key) = self.places.iter().position(|place| *place == Some(id)) {
            self.write(key, &[GONE]);
            if let Some(place) = self.places.get_mut(key) {
                *place = None;
            }
        }
    }

    /// Incoming messages that are in the flash and not in memory any more are over.
    fn forget_arrivals(&mut self) {
        for index in 0..FLIGHTS {
            let Some(Some(id)) = self.arrivals.get(index).copied() else { continue };
            if self.memory.arrival(id).is_none() {
                self.write(FLIGHTS + index, &[GONE]);
                if let Some(place) = self.arrivals.get_mut(index) {
                    *place = None;
                }
            }
        }
    }

    /// An incoming message has been answered, or will be: it must not be delivered again.
    fn remember(&mut self, arrival: &Arrival) {
        let answered = arrival.qos == QoS::ExactlyOnce && arrival.stage != Stage::Held;
        if !answered || self.arrivals.contains(&Some(arrival.id)) {
            return;
        }
        if let Some(index) = self.arrivals.iter().position(Option::is_none) {
            let number = self.number();
            let record = Record { kind: RECEIVED, number, id: arrival.id };
            if self.store(FLIGHTS + index, record, None)
                && let Some(place) = self.arrivals.get_mut(index)
            {
                *place = Some(arrival.id);
            }
        }
    }
}

/// Puts a packet from the flash in memory, if it is one.
fn push<const FLIGHTS: usize, const BYTES: usize>(
    memory: &mut Fixed<FLIGHTS, BYTES>,
    id: PacketId,
    packet: &[u8],
    version: Version,
) -> bool {
    let Ok(Some(message)) = Message::decode(version, packet) else { return false };
    let Some(topic) = message.topic.name() else { return false };
    let publish = Publish {
        topic,
        payload: message.payload.into(),
        qos: message.qos,
        retain: message.retain,
        properties: message.properties,
    };
    let whole = message.remaining == 0 && message.qos != QoS::AtMostOnce;
    let outgoing = Outgoing::new(version, id, &publish);
    outgoing.is_ok_and(|outgoing| whole && memory.push(id, publish.qos, Some(&outgoing)).is_ok())
}

impl<F: NorFlash, const FLIGHTS: usize, const BYTES: usize> Store for Flash<F, FLIGHTS, BYTES> {
    fn capacity(&self) -> Capacity {
        self.memory.capacity()
    }

    fn clear(&mut self) {
        self.memory.clear();
        for key in 0..FLIGHTS {
            if let Some(Some(id)) = self.places.get(key).copied() {
                self.forget(id);
            }
        }
        self.forget_arrivals();
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        self.memory.flight(id)
    }

    fn flights(&self) -> usize {
        self.memory.flights()
    }

    fn unsent_publishes(&self) -> usize {
        self.memory.unsent_publishes()
    }

    /// A streamed message, of which there is only a record, does not survive a reset.
    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        if message.is_some_and(|message| message.packet_len() + HEAD + 8 > BYTES) {
            return Err(Full::ForEver);
        }
        self.memory.push(id, qos, message)?;
        let Some(message) = message else { return Ok(()) };
        let Some(key) = self.places.iter().position(Option::is_none) else {
            self.memory.finish(id);
            return Err(Full::ForNow);
        };
        let record = Record { kind: PUBLISH, number: self.number(), id };
        if !self.store(key, record, Some(message)) {
            self.memory.finish(id);
            return Err(Full::ForEver);
        }
        if let Some(place) = self.places.get_mut(key) {
            *place = Some(id);
        }
        Ok(())
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        self.memory.release(id, to);
        let kind = if matches!(to, Flight::GivenUp(_)) { GIVEN_UP } else { RELEASED };
        if let Some(key) = self.places.iter().position(|place| *place == Some(id)) {
            let record = Record { kind, number: self.number(), id };
            self.store(key, record, None);
        }
    }

    fn finish(&mut self, id: PacketId) {
        self.memory.finish(id);
        self.forget(id);
    }

    fn rewind(&mut self) {
        self.memory.rewind();
    }

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        self.memory.unsent()
    }

    fn mark_sent(&mut self, id: PacketId) {
        self.memory.mark_sent(id);
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.memory.arrival(id)
    }

    fn arrivals(&self) -> usize {
        self.memory.arrivals()
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.memory.oldest_unanswered()
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.memory.push_arrival(arrival)?;
        self.remember(&arrival);
        Ok(())
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        self.memory.set_arrival(arrival);
        self.remember(&arrival);
    }

    fn remove_arrival(&mut self, id: PacketId) {
        self.memory.remove_arrival(id);
        self.forget_arrivals();
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        self.memory.retain_arrivals(keep);
        self.forget_arrivals();
    }
}

impl<F: NorFlash, const FLIGHTS: usize, const BYTES: usize> fmt::Debug
    for Flash<F, FLIGHTS, BYTES>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash").field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// A flash that blocks, for those who would wait for one.
struct Blocking<F>(F);

impl<F: ErrorType> ErrorType for Blocking<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> asynch::ReadNorFlash for Blocking<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> asynch::NorFlash for Blocking<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.0.write(offset, bytes)
    }
}

/// What a future gives that does not wait. `None` if that is an error.
fn now<T, E>(future: impl Future<Output = Result<T, E>>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.ok(),
        Poll::Pending => None,
    }
}
