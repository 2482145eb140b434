//! All stores against one naive model: the same operations, the same answers.
#![cfg(feature = "v5")]

use mqtt_core::{
    PacketId, Payload, Publish, QoS, ReasonCode, Topic, Version,
    store::{
        Alias, Aliased, Aliases, Arrival, Capacity, Fixed, Flight, Full, Outgoing, Records, Stage,
        Store,
    },
    wire::{Delivery, Packet},
};
use proptest::{collection::vec, prelude::*};

const IDS: u16 = 10;

#[derive(Clone, Debug)]
enum Op {
    Push {
        id: PacketId,
        qos: QoS,
        topic: usize,
        payload: Option<usize>,
        shared: bool,
    },
    Release(PacketId),
    Finish(PacketId),
    MarkSent,
    /// A reconnection, and so many packets of the replay.
    Rewind(usize),
    PushArrival(Arrival),
    SetArrival(Arrival),
    RemoveArrival(PacketId),
    Retain(fn(&mut Arrival) -> bool),
    Clear,
}

/// A vector of everything, looked through from the front.
#[derive(Default)]
struct Model {
    publishes: Vec<(PacketId, Flight, bool, Vec<u8>)>,
    released: Vec<(PacketId, bool)>,
    arrivals: Vec<Arrival>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.publishes.iter().map(|(.., packet)| packet.len()).sum()
    }

    fn flights(&self) -> usize {
        self.publishes.len() + self.released.len()
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        let publish = self.publishes.iter().find(|publish| publish.0 == id);
        let released = self.released.iter().any(|released| released.0 == id);
        publish.map(|publish| publish.1).or(released.then_some(Flight::AwaitComp))
    }

    fn unsent(&self) -> Option<(PacketId, Flight, &[u8])> {
        let released = self.released.iter().find(|(_, sent)| !sent);
        let publish = || self.publishes.iter().find(|(_, _, sent, _)| !sent);
        match released {
            Some((id, _)) => Some((*id, Flight::AwaitComp, &[])),
            None => publish().map(|(id, flight, _, packet)| (*id, *flight, &packet[..])),
        }
    }

    fn unsent_publishes(&self) -> usize {
        self.publishes.iter().filter(|publish| !publish.2).count()
    }

    fn finish(&mut self, id: PacketId) {
        self.publishes.retain(|publish| publish.0 != id);
        self.released.retain(|released| released.0 != id);
    }
}

/// Everything a store tells.
fn compare(store: &mut impl Store, model: &Model) {
    assert_eq!(store.flights(), model.flights());
    assert_eq!(store.arrivals(), model.arrivals.len());
    assert_eq!(store.unsent_publishes(), model.unsent_publishes());
    for id in (1..=IDS).filter_map(PacketId::new) {
        assert_eq!(store.flight(id), model.flight(id), "{id}");
        let arrival = model.arrivals.iter().find(|arrival| arrival.id == id);
        assert_eq!(store.arrival(id).as_ref(), arrival, "{id}");
    }
    let oldest = model.arrivals.iter().find(|arrival| arrival.is_unanswered());
    assert_eq!(store.oldest_unanswered().as_ref(), oldest);
    let unsent = store.unsent().map(|unsent| {
        let (head, payload) = unsent.packet;
        let decoded = unsent.decode(Version::V5);
        assert_eq!(decoded.is_none(), head.is_empty(), "a record, or what was given");
        if let Some((publish, rest)) = decoded {
            assert_eq!(Flight::new(publish.qos), unsent.flight);
            let packet = [head, payload.as_bytes()].concat();
            let payload = [publish.payload.as_bytes(), rest.as_bytes()].concat();
            assert!(publish.topic.as_str().starts_with("topic/") && packet.ends_with(&payload));
            let head_len = publish.topic.len() + if packet.len() > 129 { 8 } else { 7 };
            assert_eq!(packet.len(), head_len + payload.len());
        }
        (unsent.id, unsent.flight, [head, payload.as_bytes()].concat())
    });
    let expected = model.unsent().map(|(id, flight, packet)| (id, flight, packet.to_vec()));
    assert_eq!(unsent, expected);
}

/// Applies the operations that a session may make; `bytes` is what the store has for packets.
fn run(mut store: impl Store, bytes: usize, ops: &[Op]) {
    let store = &mut store;
    let Capacity { flights, arrivals } = store.capacity();
    let mut model = Model::default();
    for (number, op) in ops.iter().enumerate() {
        match *op {
            Op::Push { id, qos, topic, payload, shared } => {
                if model.flight(id).is_none() && model.unsent_publishes() == 0 {
                    let topic = "topic/".repeat(topic + 1);
                    let payload = payload.map(|len| vec![number as u8; len]);
                    let full = model.flights() == flights.into();
                    push(store, &mut model, (id, qos, &topic, payload, shared), bytes, full);
                }
            }
            Op::Release(id) => {
                if model.flight(id) != Some(Flight::AwaitAck) {
                    store.release(id, Flight::AwaitComp);
                    if model.flight(id) == Some(Flight::AwaitRec) {
                        model.finish(id);
                        model.released.push((id, false));
                    }
                }
            }
            Op::Finish(id) => {
                store.finish(id);
                model.finish(id);
            }
            Op::MarkSent => mark_sent(store, &mut model),
            Op::Rewind(count) => {
                store.rewind();
                model.released.iter_mut().for_each(|released| released.1 = false);
                model.publishes.iter_mut().for_each(|publish| publish.2 = false);
                for _ in 0..count {
                    compare(store, &model);
                    mark_sent(store, &mut model);
                }
            }
            Op::PushArrival(arrival) => {
                let known = model.arrivals.iter().any(|kept| kept.id == arrival.id);
                if known || model.arrivals.len() < arrivals.into() {
                    assert_eq!(store.push_arrival(arrival), Ok(()));
                    model.arrivals.retain(|kept| kept.id != arrival.id);
                    model.arrivals.push(arrival);
                } else {
                    assert_eq!(store.push_arrival(arrival), Err(Full::ForNow));
                }
            }
            Op::SetArrival(arrival) => {
                store.set_arrival(arrival);
                let mut kept = model.arrivals.iter_mut();
                if let Some(kept) = kept.find(|kept| kept.id == arrival.id) {
                    *kept = arrival;
                }
            }
            Op::RemoveArrival(id) => {
                store.remove_arrival(id);
                model.arrivals.retain(|kept| kept.id != id);
            }
            Op::Retain(keep) => {
                store.retain_arrivals(keep);
                model.arrivals.retain_mut(keep);
            }
            Op::Clear => {
                store.clear();
                model = Model::default();
            }
        }
        compare(store, &model);
        assert_eq!(store.capacity(), Capacity { flights, arrivals });
    }
    // What has been kept is intact.
    run_out(store, &mut model);
}

fn push(
    store: &mut impl Store,
    model: &mut Model,
    (id, qos, topic, payload, shared): (PacketId, QoS, &str, Option<Vec<u8>>, bool),
    bytes: usize,
    full: bool,
) {
    let Some(payload) = payload else {
        let result = store.push(id, qos, None);
        assert_eq!(result, if full { Err(Full::ForNow) } else { Ok(()) });
        if !full {
            model.publishes.push((id, Flight::new(qos), true, Vec::new()));
        }
        return;
    };
    #[cfg(feature = "alloc")]
    let owner = bytes::Bytes::from(payload.clone());
    let payload = match shared {
        #[cfg(feature = "alloc")]
        true => Payload::shared(&owner),
        _ => Payload::new(&payload),
    };
    let publish = Publish { qos, ..Publish::new(Topic::new(topic).unwrap(), payload) };
    let mut packet = [0; 1024];
    let mut rest = &mut packet[..];
    let delivery = Delivery { packet_id: Some(id), dup: false };
    Packet::Publish(delivery, publish).encode(Version::V5, &mut rest).unwrap();
    let len = 1024 - rest.len();
    let packet = if bytes == 0 { Vec::new() } else { packet[..len].to_vec() };

    let message = Outgoing::new(Version::V5, id, &publish).unwrap();
    assert_eq!(message.packet_len(), len);
    let result = store.push(id, qos, Some(&message));
    let too_long = packet.len() > bytes;
    match (too_long, full || !too_long && model.bytes() + packet.len() > bytes) {
        (false, false) => {
            assert_eq!(result, Ok(()));
            model.publishes.push((id, Flight::new(qos), true, packet));
        }
        (false, true) => assert_eq!(result, Err(Full::ForNow)),
        (true, _) => assert_eq!(result, Err(Full::ForEver)),
    }
}

fn mark_sent(store: &mut impl Store, model: &mut Model) {
    let Some((id, ..)) = model.unsent() else { return };
    store.mark_sent(id);
    let released = model.released.iter_mut().map(|(id, sent)| (id, sent));
    let publishes = model.publishes.iter_mut().map(|(id, _, sent, _)| (id, sent));
    if let Some((_, sent)) = released.chain(publishes).find(|publish| *publish.0 == id) {
        *sent = true;
    }
}

fn run_out(store: &mut impl Store, model: &mut Model) {
    store.rewind();
    model.released.iter_mut().for_each(|released| released.1 = false);
    model.publishes.iter_mut().for_each(|publish| publish.2 = false);
    for turn in 0.. {
        compare(store, model);
        let Some((id, ..)) = model.unsent() else { break };
        match turn % 2 {
            0 => mark_sent(store, model),
            _ => {
                store.finish(id);
                model.finish(id);
            }
        }
    }
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
        Just(Stage::Answer(ReasonCode::QuotaExceeded)),
        Just(Stage::AwaitRel)
    ];
    (id(), qos(), stage, any::<(u32, bool)>())
        .prop_map(|(id, qos, stage, (number, live))| Arrival { id, qos, stage, number, live })
}

fn op() -> impl Strategy<Value = Op> {
    let push = (id(), qos(), 0..4_usize, prop::option::weighted(0.8, 0..200_usize), any::<bool>());
    let push = push.prop_map(|(id, qos, topic, payload, shared)| Op::Push {
        id,
        qos,
        topic,
        payload: payload.map(|len| len.saturating_sub(40)),
        shared,
    });
    let keep: [fn(&mut Arrival) -> bool; 3] = [
        |arrival| {
            arrival.live = false;
            arrival.qos == QoS::ExactlyOnce
        },
        |arrival| {
            arrival.live = true;
            true
        },
        |arrival| arrival.stage != Stage::Held,
    ];
    prop_oneof![
        12 => push,
        4 => id().prop_map(Op::Release),
        6 => id().prop_map(Op::Finish),
        6 => Just(Op::MarkSent),
        2 => (0..20_usize).prop_map(Op::Rewind),
        8 => arrival().prop_map(Op::PushArrival),
        4 => arrival().prop_map(Op::SetArrival),
        4 => id().prop_map(Op::RemoveArrival),
        1 => prop::sample::select(keep.to_vec()).prop_map(Op::Retain),
        1 => (0..20_u8).prop_map(|n| if n == 0 { Op::Clear } else { Op::MarkSent }),
    ]
}

proptest! {
    #[test]
    fn fixed(ops in vec(op(), 0..120)) {
        run(Fixed::<4, 256>::new(), 256, &ops);
        run(Fixed::<8, 64>::new(), 64, &ops);
        run(&mut Fixed::<1, 100>::new() as &mut dyn Store, 100, &ops);
    }

    #[test]
    fn records(ops in vec(op(), 0..120)) {
        run(Records::<4>::new(), 0, &ops);
    }

    #[test]
    fn aliased(ops in vec(op(), 0..120)) {
        run(Aliased::<_, 4, 16>::new(Fixed::<6, 128>::new()), 128, &ops);
    }
}

#[derive(Clone, Debug)]
enum AliasOp {
    /// Sets an alias to a topic, as the peer may.
    Set(u16, String),
    /// Publishes to a topic; the other side takes aliases up to the number.
    Publish(String, u16),
    Clear,
}

fn alias_op() -> impl Strategy<Value = AliasOp> {
    let topic = || "[a-d]/(|pump/7|longer/than/the/others)";
    prop_oneof![
        4 => (0..8_u16, topic()).prop_map(|(alias, topic)| AliasOp::Set(alias, topic)),
        16 => (topic(), 0..8_u16).prop_map(|(topic, max)| AliasOp::Publish(topic, max)),
        1 => Just(AliasOp::Clear),
    ]
}

/// A table of up to `maximum` topics of up to `max_len` bytes, against a list of alias and topic
/// in the order of use.
fn run_aliases(table: &mut dyn Aliases, maximum: u16, max_len: usize, ops: &[AliasOp]) {
    let mut model = Vec::<(u16, String)>::new();
    assert_eq!(table.maximum(), maximum);
    for op in ops {
        match op {
            AliasOp::Set(alias, topic) => {
                let fits = (1..=maximum).contains(alias) && topic.len() <= max_len;
                let result = table.set(*alias, Topic::new(topic).unwrap());
                assert_eq!(result, if fits { Ok(()) } else { Err(Full::ForEver) });
                model.retain(|(taken, _)| taken != alias);
                if fits {
                    model.push((*alias, topic.clone()));
                }
            }
            AliasOp::Publish(name, accepted) => {
                let topic = Topic::new(name).unwrap();
                let usable = maximum.min(*accepted);
                let found = table.find(topic, *accepted);
                let known = |entry: &(u16, String)| entry.0 <= usable && entry.1 == *name;
                match found {
                    Some(Alias::Known(alias)) => {
                        let place = model.iter().position(|e| known(e) && e.0 == alias).unwrap();
                        let used = model.remove(place);
                        model.push(used);
                    }
                    Some(Alias::New(alias)) => {
                        assert!(!model.iter().any(known));
                        assert!(name.len() <= max_len && (1..=usable).contains(&alias));
                        let mut in_use = model.iter().filter(|entry| entry.0 <= usable);
                        let oldest = in_use.next().map(|entry| entry.0);
                        if oldest.is_some() && in_use.count() + 1 == usable.into() {
                            assert_eq!(Some(alias), oldest);
                        } else {
                            assert!(!model.iter().any(|entry| entry.0 == alias), "free ones first");
                        }
                        assert_eq!(table.find(topic, *accepted), found, "not before it is set");
                        table.set(alias, topic).unwrap();
                        model.retain(|entry| entry.0 != alias);
                        model.push((alias, name.clone()));
                    }
                    None => {
                        assert!(!model.iter().any(known));
                        assert!(usable == 0 || name.len() > max_len);
                    }
                }
            }
            AliasOp::Clear => {
                table.clear();
                model.clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn aliases(ops in vec(alias_op(), 0..100)) {
        let mut store = Aliased::<_, 5, 10>::new(Records::<1>::new());
        run_aliases(store.outbound_aliases().unwrap(), 5, 10, &ops);
        run_aliases(store.inbound_aliases().unwrap(), 5, 10, &ops);
        run_aliases(Aliased::<_, 1, 64>::new(store).outbound_aliases().unwrap(), 1, 64, &ops);
    }
}

fn run_inbound(store: &mut impl Store) {
    let topic = |name| Topic::new(name).unwrap();
    assert_eq!(store.inbound_topic(1), None);
    let aliases = store.inbound_aliases().unwrap();
    aliases.set(3, topic("a")).unwrap();
    aliases.set(1, topic("b")).unwrap();
    aliases.set(3, topic("c")).unwrap();
    assert_eq!(aliases.set(4, topic("d")), Err(Full::ForEver));
    let all = |store: &dyn Store| [0, 1, 2, 3, 4].map(|alias| store.inbound_topic(alias).is_some());
    assert_eq!(all(store), [false, true, false, true, false]);
    assert_eq!(store.inbound_topic(3), Some(topic("c")));
    // The directions have nothing to do with each other.
    let outbound = store.outbound_aliases().unwrap();
    assert_eq!(outbound.find(topic("c"), 3), Some(Alias::New(1)));
    outbound.clear();
    assert_eq!(store.inbound_topic(1), Some(topic("b")));
    store.inbound_aliases().unwrap().clear();
    assert_eq!(all(store), [false; 5]);
    // A session that ends takes them along.
    store.inbound_aliases().unwrap().set(1, topic("e")).unwrap();
    store.outbound_aliases().unwrap().set(1, topic("e")).unwrap();
    store.clear();
    assert_eq!(all(store), [false; 5]);
    assert_eq!(store.outbound_aliases().unwrap().find(topic("e"), 1), Some(Alias::New(1)));
}

#[test]
fn an_inbound_alias_stands_for_the_last_topic_it_was_set_to() {
    let mut store = Aliased::<_, 3, 8>::new(Records::<1>::new());
    run_inbound(&mut store);
    run_inbound(&mut (&mut store as &mut dyn Store));
    let aliases = store.inbound_aliases().unwrap();
    aliases.set(1, Topic::new("short").unwrap()).unwrap();
    assert_eq!(aliases.set(1, Topic::new("too long for it").unwrap()), Err(Full::ForEver));
    assert_eq!(store.inbound_topic(1), None);
    assert_eq!(store.into_inner().inbound_topic(1), None);
}

#[cfg(feature = "alloc")]
mod heap {
    use mqtt_core::store::{Heap, Limits};

    use super::*;

    const LIMITS: Limits = Limits {
        flights: 6,
        arrivals: 5,
        bytes: 300,
        inbound_aliases: 0,
        outbound_aliases: 0,
        alias_bytes: usize::MAX,
    };

    proptest! {
        #[test]
        fn heap(ops in vec(op(), 0..120)) {
            run(Heap::with_limits(LIMITS), 300, &ops);
            run(Heap::with_limits(Limits { bytes: 100, ..LIMITS }), 100, &ops);
            run(Heap::with_limits(Limits { bytes: 0, ..LIMITS }), 0, &ops);
            run(&mut Heap::new() as &mut dyn Store, Limits::default().bytes, &ops);
            run(Aliased::<_, 4, 16>::new(Heap::with_limits(LIMITS)), 300, &ops);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        /// Many, finished in any order: those that are left keep theirs.
        #[test]
        fn finished_in_any_order(order in Just((1..=500).collect::<Vec<u16>>()).prop_shuffle()) {
            let mut heap = Heap::new();
            let mut left = Vec::from_iter((1..=500).filter_map(PacketId::new));
            for id in &left {
                heap.push(*id, QoS::AtLeastOnce, None).unwrap();
            }
            for (count, id) in order.into_iter().filter_map(PacketId::new).enumerate() {
                heap.finish(id);
                left.retain(|kept| *kept != id);
                if count % 50 == 0 {
                    heap.rewind();
                    for id in &left {
                        assert_eq!(heap.unsent().map(|unsent| unsent.id), Some(*id));
                        heap.mark_sent(*id);
                    }
                    assert!(heap.unsent().is_none());
                }
            }
            assert_eq!(heap.flights(), 0);
        }
    }

    proptest! {
        #[test]
        fn aliases(ops in vec(alias_op(), 0..100)) {
            let limits = Limits { inbound_aliases: 3, outbound_aliases: 5, ..LIMITS };
            let mut heap = Heap::with_limits(limits);
            run_aliases(heap.inbound_aliases().unwrap(), 3, usize::MAX, &ops);
            run_aliases(heap.outbound_aliases().unwrap(), 5, usize::MAX, &ops);
        }
    }

    #[test]
    fn aliases_are_off_unless_asked_for() {
        let mut heap = Heap::new();
        assert!(heap.inbound_aliases().is_none() && heap.outbound_aliases().is_none());
        assert_eq!(heap.inbound_topic(1), None);
        let limits = Limits { inbound_aliases: 3, outbound_aliases: 3, ..LIMITS };
        run_inbound(&mut Heap::with_limits(limits));
    }

    #[test]
    fn all_identifiers() {
        let limits = Limits { flights: u16::MAX, ..Limits::default() };
        let mut heap = Heap::with_limits(limits);
        let ids = || (1..=u16::MAX).filter_map(PacketId::new);
        let arrival =
            |id| Arrival { id, qos: QoS::ExactlyOnce, stage: Stage::Held, number: 1, live: true };
        for id in ids() {
            assert_eq!(heap.push(id, QoS::ExactlyOnce, None), Ok(()));
            assert_eq!(heap.push_arrival(arrival(id)), Ok(()));
        }
        assert_eq!(heap.push(PacketId::FIRST, QoS::AtLeastOnce, None), Err(Full::ForNow));
        for id in ids().filter(|id| id.get() % 2 == 0) {
            heap.release(id, Flight::AwaitComp);
            heap.set_arrival(Arrival { stage: Stage::AwaitRel, ..arrival(id) });
        }
        heap.rewind();
        assert_eq!(heap.unsent_publishes(), 32_768);
        let even = ids().filter(|id| id.get() % 2 == 0);
        for id in even.chain(ids().filter(|id| id.get() % 2 == 1)) {
            assert_eq!(heap.unsent().map(|unsent| unsent.id), Some(id));
            heap.mark_sent(id);
        }
        for id in ids().filter(|id| id.get() % 2 == 1) {
            assert_eq!(heap.oldest_unanswered(), Some(arrival(id)));
            heap.remove_arrival(id);
        }
        assert_eq!((heap.oldest_unanswered(), heap.arrivals()), (None, 32_767));
    }

    #[test]
    fn large_payloads_are_shared_and_small_ones_copied() {
        for (len, is_shared) in [(64, false), (65, true), (1_000_000, true)] {
            let owner = bytes::Bytes::from(vec![7; len]);
            let payload = Payload::shared(&owner);
            let publish = Publish {
                qos: QoS::AtLeastOnce,
                ..Publish::new(Topic::new("a").unwrap(), payload)
            };
            let message = Outgoing::new(Version::V5, PacketId::FIRST, &publish).unwrap();
            let mut heap = Heap::new();
            heap.push(PacketId::FIRST, QoS::AtLeastOnce, Some(&message)).unwrap();
            assert_eq!(heap.bytes(), message.packet_len());
            heap.rewind();
            let (head, payload) = heap.unsent().unwrap().packet;
            assert_eq!([head, payload.as_bytes()].concat().len(), message.packet_len());
            assert_eq!(payload.owner().is_some(), is_shared);
            assert_eq!(payload.as_bytes().as_ptr() == owner.as_ptr(), is_shared);
            heap.finish(PacketId::FIRST);
            assert_eq!(heap.bytes(), 0);
            assert!(owner.is_unique());
        }
    }
}
