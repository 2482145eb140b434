//! A store like the heap in it, whose journal tells what is in it.

use bytes::Bytes;
use mqtt_core::{Payload, ReasonCode};
use proptest::{collection::vec, prelude::*};

use super::*;

pub(crate) const IDS: u16 = 8;
pub(crate) const VERSION: Version = Version::V5;
pub(crate) const LIMITS: Limits = Limits {
    flights: 6,
    arrivals: 5,
    bytes: 2000,
    inbound_aliases: 0,
    outbound_aliases: 0,
    alias_bytes: 0,
};

/// What a session, a client and a driver do.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Push(PacketId, QoS, Option<usize>),
    Release(PacketId, Flight),
    Finish(PacketId),
    MarkSent,
    Rewind,
    PushArrival(Arrival),
    SetArrival(Arrival),
    RemoveArrival(PacketId),
    Retain(fn(&mut Arrival) -> bool),
    /// The session is lost.
    Clear,
    Queue(usize),
    /// The first that was queued leaves the queue: at once if it is dropped, else to be sent.
    Unqueue {
        send: bool,
    },
    Commit,
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=IDS).prop_map(|id| PacketId::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let stage = prop_oneof![
        Just(Stage::Held),
        Just(Stage::Answer(ReasonCode::Success)),
        Just(Stage::Answer(ReasonCode::QuotaExceeded)),
        Just(Stage::AwaitRel),
        Just(Stage::Complete),
    ];
    (id(), qos(), stage, any::<(u32, bool)>())
        .prop_map(|(id, qos, stage, (number, live))| Arrival { id, qos, stage, number, live })
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let to = [Flight::AwaitComp, Flight::GivenUp(ReasonCode::PacketTooLarge)];
    let keep: [fn(&mut Arrival) -> bool; 3] = [
        |arrival| {
            arrival.live = false;
            if arrival.stage == Stage::Complete {
                arrival.stage = Stage::AwaitRel;
            }
            arrival.qos == QoS::ExactlyOnce
        },
        |arrival| arrival.live,
        |arrival| arrival.stage != Stage::Held,
    ];
    let length = || prop_oneof![0..80_usize, 300..400_usize];
    prop_oneof![
        12 => (id(), qos(), prop::option::weighted(0.9, length()))
            .prop_map(|(id, qos, length)| Op::Push(id, qos, length)),
        5 => (id(), prop::sample::select(to.to_vec())).prop_map(|(id, to)| Op::Release(id, to)),
        7 => id().prop_map(Op::Finish),
        6 => Just(Op::MarkSent),
        2 => Just(Op::Rewind),
        6 => arrival().prop_map(Op::PushArrival),
        5 => arrival().prop_map(Op::SetArrival),
        4 => id().prop_map(Op::RemoveArrival),
        1 => prop::sample::select(keep.to_vec()).prop_map(Op::Retain),
        1 => prop::bool::weighted(0.3).prop_map(|clear| if clear { Op::Clear } else { Op::Rewind }),
        4 => length().prop_map(Op::Queue),
        3 => any::<bool>().prop_map(|send| Op::Unqueue { send }),
        8 => Just(Op::Commit),
    ]
}

/// A client with its store, and how its queue should be.
pub(crate) struct Scene {
    pub(crate) kept: Kept,
    queue: BTreeMap<u64, Vec<u8>>,
    /// Counts messages: no two are alike.
    number: u64,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { kept: Kept::new(LIMITS, true), queue: BTreeMap::new(), number: 0 }
    }

    /// Gives a new message to `with`.
    fn message<T>(
        &mut self,
        id: PacketId,
        qos: QoS,
        length: usize,
        with: impl FnOnce(&mut Self, &Outgoing<'_>) -> T,
    ) -> T {
        self.number += 1;
        let topic = format!("pump/{}", self.number);
        let payload = Bytes::from(vec![self.number as u8; length]);
        let payload = match self.number % 2 {
            0 => Payload::shared(&payload),
            _ => Payload::new(&payload),
        };
        let publish = Publish { qos, ..Publish::new(Topic::new(&topic).unwrap(), payload) };
        with(self, &Outgoing::new(VERSION, id, &publish).unwrap())
    }

    fn queue(&mut self, qos: QoS, length: usize) {
        self.message(QUEUED, qos, length, |scene, message| scene.requeue(message));
    }

    fn requeue(&mut self, message: &Outgoing<'_>) {
        let number = self.queue.keys().last().map_or(1, |last| last + 1);
        self.kept.queue(number, message);
        self.queue.insert(number, encoded(message));
    }

    /// Does what the operation says, if it is possible, and the same to `heap`. Whether the changes
    /// are to be committed.
    pub(crate) fn apply(&mut self, heap: &mut Heap, op: &Op) -> bool {
        let kept = &mut self.kept;
        match *op {
            Op::Push(id, qos, length) => self.push(heap, id, qos, length),
            Op::Release(id, to) if kept.flight(id) != Some(Flight::AwaitAck) => {
                kept.release(id, to);
                heap.release(id, to);
            }
            Op::Release(..) => {}
            Op::Finish(id) => {
                kept.finish(id);
                heap.finish(id);
            }
            Op::MarkSent => {
                if let Some(id) = heap.unsent().map(|unsent| unsent.id) {
                    kept.mark_sent(id);
                    heap.mark_sent(id);
                }
            }
            Op::Rewind => {
                kept.rewind();
                heap.rewind();
            }
            Op::PushArrival(arrival) => {
                assert_eq!(kept.push_arrival(arrival), heap.push_arrival(arrival));
            }
            Op::SetArrival(arrival) => {
                kept.set_arrival(arrival);
                heap.set_arrival(arrival);
            }
            Op::RemoveArrival(id) => {
                kept.remove_arrival(id);
                heap.remove_arrival(id);
            }
            Op::Retain(keep) => {
                kept.retain_arrivals(keep);
                heap.retain_arrivals(keep);
            }
            Op::Clear => self.clear(heap),
            Op::Queue(length) => self.queue(QoS::AtLeastOnce, length),
            Op::Unqueue { send } => {
                if let Some((number, _)) = self.queue.pop_first() {
                    self.kept.unqueue(number);
                    let id = (1..=IDS).filter_map(PacketId::new);
                    let free = id.clone().find(|id| heap.flight(*id).is_none());
                    if let Some(id) = free.filter(|_| send) {
                        self.push(heap, id, QoS::ExactlyOnce, Some(30));
                    }
                }
            }
            Op::Commit => return true,
        }
        false
    }

    fn push(&mut self, heap: &mut Heap, id: PacketId, qos: QoS, length: Option<usize>) {
        if heap.flight(id).is_some() || heap.unsent_publishes() > 0 {
            return;
        }
        match length {
            Some(length) => self.message(id, qos, length, |scene, message| {
                let pushed = scene.kept.push(id, qos, Some(message));
                assert_eq!(pushed, heap.push(id, qos, Some(message)));
            }),
            None => assert_eq!(self.kept.push(id, qos, None), heap.push(id, qos, None)),
        }
    }

    /// As the client does: what was lost at QoS 1 is queued before anything is committed.
    fn clear(&mut self, heap: &mut Heap) {
        self.kept.clear();
        let lost = self.kept.take_lost();
        let publishes = lost.iter().map(|lost| {
            (lost.id, lost.flight, [&lost.packet.first[..], &lost.packet.rest[..]].concat())
        });
        assert_eq!(Vec::from_iter(publishes), in_order(heap));
        heap.clear();
        for lost in lost.iter().filter(|lost| lost.flight == Flight::AwaitAck) {
            if let Some(publish) = lost.publish(VERSION) {
                self.requeue(&Outgoing::new(VERSION, QUEUED, &publish).unwrap());
            }
        }
    }

    /// What is to survive.
    pub(crate) fn observe(&self) -> Observed {
        observe(&self.kept, self.queue.clone().into_iter().collect())
    }
}

/// What survives: outgoing publishes in their order, incoming identifiers, the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) sending: Vec<(PacketId, Flight, Vec<u8>)>,
    pub(crate) arrivals: Vec<(PacketId, Stage)>,
    pub(crate) queue: Vec<(u64, Vec<u8>)>,
}

fn observe(kept: &Kept, queue: Vec<(u64, Vec<u8>)>) -> Observed {
    let sending = in_order(&mut kept.heap.clone());
    let mut arrivals = Vec::new();
    for arrival in (1..=IDS).filter_map(PacketId::new).filter_map(|id| kept.arrival(id)) {
        match arrival.stage {
            _ if arrival.qos == QoS::AtLeastOnce => {}
            Stage::Held => {}
            Stage::Complete => arrivals.push((arrival.id, Stage::AwaitRel)),
            stage => arrivals.push((arrival.id, stage)),
        }
    }
    Observed { sending, arrivals, queue }
}

/// What a new client would have.
pub(crate) fn restored(restored: Restored) -> Observed {
    let (kept, queue) = Kept::restore(LIMITS, VERSION, restored).unwrap();
    let queue = queue.iter().map(|queued| {
        let publish = queued.publish(VERSION).unwrap();
        (queued.number, encoded(&Outgoing::new(VERSION, QUEUED, &publish).unwrap()))
    });
    observe(&kept, queue.collect())
}

fn in_order(heap: &mut Heap) -> Vec<(PacketId, Flight, Vec<u8>)> {
    let mut sending = Vec::new();
    heap.rewind();
    while let Some(Unsent { id, flight, packet }) = heap.unsent() {
        sending.push((id, flight, [packet.0, packet.1.as_bytes()].concat()));
        heap.mark_sent(id);
    }
    sending
}

fn encoded(message: &Outgoing<'_>) -> Vec<u8> {
    let mut packet = vec![0; message.head_len()];
    message.write_head(&mut packet);
    packet.extend(message.payload().as_bytes());
    packet
}

/// Everything a store tells.
fn compare(kept: &mut Kept, heap: &mut Heap) {
    assert_eq!(kept.capacity(), heap.capacity());
    assert_eq!(kept.flights(), heap.flights());
    assert_eq!(kept.arrivals(), heap.arrivals());
    assert_eq!(kept.unsent_publishes(), heap.unsent_publishes());
    assert_eq!(kept.oldest_unanswered(), heap.oldest_unanswered());
    for id in (1..=IDS).filter_map(PacketId::new) {
        assert_eq!(kept.flight(id), heap.flight(id));
        assert_eq!(kept.arrival(id), heap.arrival(id));
    }
    let told = |unsent: Unsent<'_>| {
        (unsent.id, unsent.flight, [unsent.packet.0, unsent.packet.1.as_bytes()].concat())
    };
    assert_eq!(kept.unsent().map(told), heap.unsent().map(told));
}

/// A file as the journal makes it.
#[derive(Default)]
struct File {
    sending: BTreeMap<PacketId, Sending>,
    arrivals: BTreeMap<PacketId, Stage>,
    queue: BTreeMap<u64, Packet>,
}

impl File {
    fn commit(&mut self, changes: &Changes) {
        put(&mut self.sending, &changes.sending);
        put(&mut self.arrivals, &changes.arrivals);
        put(&mut self.queue, &changes.queue);
    }

    fn restore(&self) -> Restored {
        let mut sending = Vec::from_iter(self.sending.clone());
        sending.sort_by_key(|(_, sending)| sending.order);
        let queue = self.queue.iter().map(|(number, packet)| {
            let packet = [&packet.first[..], &packet.rest[..]].concat();
            Queued::read(VERSION, *number, &packet).unwrap()
        });
        let arrivals = Vec::from_iter(self.arrivals.clone());
        Restored { sending, arrivals, queue: queue.collect() }
    }
}

fn put<K: Copy + Ord, V: Clone>(records: &mut BTreeMap<K, V>, changes: &Table<K, V>) {
    for (key, change) in changes.iter() {
        let before = match change {
            Change::Put { value, .. } => records.insert(key, value.clone()),
            Change::Delete => records.remove(&key),
        };
        let new = matches!(change, Change::Put { new: true, .. });
        assert_eq!(
            before.is_none(),
            new,
            "what is deleted or replaced is there, what is new is not"
        );
    }
}

fn run(ops: &[Op]) {
    let (mut scene, mut heap) = (Scene::new(), Heap::with_limits(LIMITS));
    let mut file = File::default();
    for op in ops {
        let commit = scene.apply(&mut heap, op);
        compare(&mut scene.kept, &mut heap);
        if commit {
            if let Some(changes) = scene.kept.take_changes() {
                file.commit(&changes);
            }
            assert_eq!(restored(file.restore()), scene.observe());
            assert!(!scene.kept.is_urgent() && scene.kept.take_changes().is_none());
        } else if !scene.kept.is_urgent() {
            // All that may wait is that a publish has had its outcome.
            let (mut before, after) = (restored(file.restore()), scene.observe());
            before.sending.retain(|kept| {
                after.sending.contains(kept) || {
                    assert_ne!(kept.1, Flight::AwaitRec);
                    false
                }
            });
            assert_eq!(before, after);
        }
    }
}

proptest! {
    #[test]
    fn the_journal_tells_what_is_in_the_store(ops in vec(op(), 0..150)) {
        run(&ops);
    }
}

#[test]
fn what_came_and_went_leaves_no_trace() {
    let (mut scene, mut heap) = (Scene::new(), Heap::with_limits(LIMITS));
    let id = PacketId::FIRST;
    scene.push(&mut heap, id, QoS::ExactlyOnce, Some(3));
    scene.kept.release(id, Flight::AwaitComp);
    scene.kept.finish(id);
    let arrival =
        Arrival { id, qos: QoS::ExactlyOnce, stage: Stage::AwaitRel, number: 1, live: true };
    scene.kept.push_arrival(arrival).unwrap();
    scene.kept.remove_arrival(id);
    scene.queue(QoS::AtLeastOnce, 3);
    scene.kept.unqueue(1);
    assert!(scene.kept.is_urgent());
    assert_eq!(scene.kept.take_changes(), None);
    assert!(!scene.kept.is_urgent());
}

#[test]
fn payloads_are_shared_with_the_journal() {
    let payload = Bytes::from(vec![7; 1000]);
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        ..Publish::new(Topic::new("a").unwrap(), Payload::shared(&payload))
    };
    let mut kept = Kept::new(Limits::default(), true);
    let message = Outgoing::new(VERSION, PacketId::FIRST, &publish).unwrap();
    kept.push(PacketId::FIRST, QoS::AtLeastOnce, Some(&message)).unwrap();
    let changes = kept.take_changes().unwrap();
    let pushed = changes.sending.iter().find_map(|(_, change)| match change {
        Change::Put { value, .. } => Some(value.packet.rest.as_ptr()),
        Change::Delete => None,
    });
    assert_eq!(pushed, Some(payload.as_ptr()));
    kept.clear();
    let lost = kept.take_lost();
    let again = lost[0].publish(VERSION).unwrap();
    assert_eq!(again, publish);
    assert_eq!(again.payload.owner().map(|owner| owner.as_ptr()), Some(payload.as_ptr()));
}

#[test]
fn without_a_journal_nothing_is_collected() {
    let mut kept = Kept::new(LIMITS, false);
    kept.push(PacketId::FIRST, QoS::AtLeastOnce, None).unwrap();
    assert!(!kept.is_urgent() && kept.take_changes().is_none());
    kept.clear();
    let lost = kept.take_lost();
    assert_eq!((lost.len(), lost[0].publish(VERSION)), (1, None));
}

#[test]
fn more_than_the_limits_allow_is_not_restored() {
    let (mut scene, mut heap) = (Scene::new(), Heap::with_limits(LIMITS));
    let mut file = File::default();
    for id in [1, 2].into_iter().filter_map(PacketId::new) {
        scene.push(&mut heap, id, QoS::AtLeastOnce, Some(3));
    }
    file.commit(&scene.kept.take_changes().unwrap());
    let restore = |limits| Kept::restore(limits, VERSION, file.restore()).map(|_| ()).err();
    assert_eq!(restore(Limits { flights: 2, ..LIMITS }), None);
    assert_eq!(restore(Limits { flights: 1, ..LIMITS }), Some(Full::ForNow));
    assert_eq!(restore(Limits { bytes: 5, ..LIMITS }), Some(Full::ForEver));
}
