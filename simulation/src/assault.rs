//! Hostile clients: anything on any of several connections, in any interleaving.

mod observer;

use mqtt_core::{
    Connect, Instant, Properties, Property, Publish, QoS, Subscribe, Subscription, Version, Will,
    broker::{Broker, Config, ConnectionId, Verdict},
    wire::{Decoded, Delivery, Packet},
};

use crate::{
    Outbox,
    party::{Desk, Kind, named},
    story::message,
};
use observer::{Observer, check_limits};

/// How many hostile connections there are.
const HOSTILE: usize = 3;

/// What the witness asks for, and waits for.
const WITNESSED: &str = "witness/a";

/// A broker among hostile clients, and a client that must not notice.
struct Siege<M: Kind> {
    broker: Broker<M>,
    desk: Desk,
    now: Instant,
    hostile: [Option<ConnectionId>; HOSTILE],
    received: [Vec<u8>; HOSTILE],
    witness: ConnectionId,
    config: Config,
    observer: Observer,
}

/// Lets hostile clients do what `script` says, whatever it is.
///
/// # Panics
///
/// If the broker breaks a rule: writes anything but whole packets, or to a connection that has ended;
/// tells a client what it has not asked for, or what nobody has published; lets the witness notice; has more
/// of anything than its limit; has something to do that is overdue; keeps messages for nobody.
pub fn assault<M: Kind>(script: &[u8]) {
    let mut siege = Siege::<M>::new();
    let mut rest = script;
    while let Some((step, after)) = rest.split_first() {
        rest = siege.step(*step, after);
    }
    siege.lift();
}

impl<M: Kind> Siege<M> {
    fn new() -> Self {
        let config = Config {
            maximum_packet_size: 512,
            receive_maximum: 3,
            queue_messages: 4,
            in_flight: 5,
            retained_messages: 3,
            queue_bytes: 2_000,
            sessions: 6,
            session_expiry_maximum: 600,
            ..Config::default()
        };
        let mut broker = M::broker(config);
        let mut desk = Desk::new(|_| Verdict::Allow, 600);
        let now = Instant::from_millis(1_000);
        let witness = broker.open(now).expect("room");
        desk.begin(witness);
        let mut siege = Self {
            broker,
            desk,
            now,
            hostile: [None; HOSTILE],
            received: [const { Vec::new() }; HOSTILE],
            witness,
            config,
            observer: Observer::default(),
        };
        let version = Version::V5;
        siege.hear(&bytes(version, &Packet::Connect(version, named(version, "witness", false))));
        let filter = mqtt_core::Filter::new("witness/+").expect("a filter");
        let wanted = [Subscription::new(filter, QoS::AtMostOnce)];
        let id = mqtt_core::PacketId::FIRST;
        siege.hear(&bytes(version, &Packet::Subscribe(id, Subscribe::from(&wanted))));
        siege
    }

    /// The witness says something; gives what it is told.
    fn hear(&mut self, said: &[u8]) -> Vec<u8> {
        let mut input = said;
        let result = self.broker.poll(self.now, self.witness, &mut input, &mut self.desk);
        self.observer.taken(self.witness, said);
        self.observe();
        assert_eq!((result, input), (Ok(()), &[][..]), "the witness is not heard");
        let heard = self.sink(self.witness).as_bytes().to_vec();
        self.sink(self.witness).clear_sent(heard.len());
        heard
    }

    fn sink(&mut self, of: ConnectionId) -> &mut Outbox {
        &mut self.desk.sinks[of.index()]
    }

    /// What was written are whole packets, for those whom it may concern, and nothing is too much.
    fn observe(&mut self) {
        M::keep(&self.broker, &mut self.desk, true);
        for connection in self.hostile.into_iter().flatten().chain([self.witness]) {
            let sink = &mut self.desk.sinks[connection.index()];
            self.observer.written(connection, sink.fresh());
            sink.check(0);
        }
        check_limits(&self.broker, &self.config, 1 << 20);
    }

    fn tick(&mut self) {
        self.broker.tick(self.now, &mut self.desk);
        self.observe();
        let due = self.broker.deadline();
        assert!(due.is_none_or(|due| due >= self.now), "{due:?} is past at {:?}", self.now);
    }

    /// Does one thing, and gives the rest of the script.
    fn step<'s>(&mut self, step: u8, after: &'s [u8]) -> &'s [u8] {
        let who = usize::from(step & 3) % HOSTILE;
        let argument = after.first().copied().unwrap_or(0);
        let rest = after.get(1..).unwrap_or_default();
        match step >> 2 & 7 {
            0 => {
                let (raw, rest) = rest.split_at(rest.len().min(argument.into()));
                self.say(who, raw);
                return rest;
            }
            1 => self.leave(who),
            2 => {
                self.now = self.now + (u64::from(argument) << (argument & 7));
                self.tick();
            }
            3 => self.attend(),
            _ => {
                // Mostly they come properly first, to go further.
                if self.hostile[who].is_none() && step & 128 == 0 {
                    let version = Version::V5;
                    let connect = named(version, ["a", "b", "c"][who], true);
                    self.say(who, &bytes(version, &Packet::Connect(version, connect)));
                }
                let packet = packet(step, argument);
                self.say(who, &packet);
            }
        }
        rest
    }

    fn say(&mut self, who: usize, bytes: &[u8]) {
        let connection = match self.hostile[who] {
            Some(connection) => connection,
            None => {
                let connection = self.broker.open(self.now).expect("room");
                self.desk.begin(connection);
                self.hostile[who] = Some(connection);
                connection
            }
        };
        self.received[who].extend_from_slice(bytes);
        let mut input = &self.received[who][..];
        let result = self.broker.poll(self.now, connection, &mut input, &mut self.desk);
        let taken = self.received[who].len() - input.len();
        self.observer.taken(connection, &self.received[who][..taken]);
        self.received[who].drain(..taken);
        self.observe();
        assert!(result.is_ok() || self.desk.closing[connection.index()]);
        if self.desk.closing[connection.index()] {
            self.leave(who);
        }
    }

    fn leave(&mut self, who: usize) {
        self.received[who].clear();
        if let Some(connection) = self.hostile[who].take() {
            self.sink(connection).clear();
            self.desk.closing[connection.index()] = true;
            self.broker.closed(self.now, connection, &mut self.desk);
            self.observer.closed(connection);
            self.observe();
        }
    }

    /// Sinks are emptied, and the broker goes on.
    fn attend(&mut self) {
        for who in 0..HOSTILE {
            if let Some(connection) = self.hostile[who] {
                self.sink(connection).clear();
                self.say(who, &[]);
            }
        }
    }

    /// Everybody leaves, and nothing is left.
    fn lift(mut self) {
        self.hear(&[0xc0, 0x00]);
        let version = Version::V5;
        let said = message(WITNESSED, "still here", QoS::AtMostOnce);
        let heard = self.hear(&bytes(version, &Packet::Publish(Delivery::default(), said)));
        let Ok(Decoded::Packet { packet, .. }) = Packet::decode(version, &heard) else {
            panic!("the witness hears {heard:02x?}");
        };
        let Packet::Publish(_, heard) = packet else { panic!("{packet:?}") };
        assert_eq!(heard.payload.as_bytes(), b"still here");
        (0..HOSTILE).for_each(|who| self.leave(who));
        for _ in 0..3 {
            self.now = self.now + 700_000;
            self.tick();
        }
        assert_eq!(self.broker.sessions(), 1, "sessions have expired");
        assert!(self.broker.retained() > 0 || self.broker.bytes() == 0, "messages for nobody");
    }
}

/// A packet that makes some sense.
fn packet(step: u8, argument: u8) -> Vec<u8> {
    let version = if step & 128 == 0 { Version::V5 } else { Version::V3_1_1 };
    let name = ["a", "b", "", "witness-to-be"][usize::from(argument & 3)];
    let id = mqtt_core::PacketId::new(u16::from(argument >> 4) + 1).expect("not 0");
    let qos = QoS::from_u8(argument >> 2 & 3).unwrap_or_default();
    let topic = ["a", "a/b", "witness", "$SYS"][usize::from(argument & 3)];
    let packet_id = (qos > QoS::AtMostOnce).then_some(id);
    let delivery = Delivery { packet_id, dup: argument & 128 != 0 && packet_id.is_some() };
    let filter = ["#", "a/+", "$share/g/a", "a"][usize::from(argument & 3)];
    let wanted = [Subscription::new(mqtt_core::Filter::new(filter).expect("a filter"), qos)];
    let expiry = [Property::MessageExpiryInterval(argument.into())];
    let packet = match step >> 2 & 3 | (step >> 3 & 4) {
        0 => {
            let keeps = argument & 4 != 0 && !name.is_empty();
            let topic = mqtt_core::Topic::new("a/will").expect("a topic");
            let will = Will { topic, payload: b"gone", qos, retain: false, ..Will::default() };
            let connect = Connect {
                will: (argument & 8 != 0).then_some(will),
                keep_alive: u16::from(argument >> 6),
                ..named(version, name, keeps)
            };
            Packet::Connect(version, connect)
        }
        1 => Packet::Subscribe(id, Subscribe::from(&wanted)),
        2 | 3 => {
            let expires = version.is_v5() && argument & 64 != 0;
            let properties = if expires { (&expiry).into() } else { Properties::EMPTY };
            let retain = argument & 32 != 0 && argument & 3 < 2;
            Packet::Publish(delivery, Publish { retain, properties, ..message(topic, "x", qos) })
        }
        4 => Packet::PubAck(id, Default::default()),
        5 => Packet::PubRec(id, Default::default()),
        6 => Packet::PubComp(id, Default::default()),
        _ if argument & 1 == 0 => Packet::PubRel(id, Default::default()),
        _ => Packet::Disconnect(Default::default()),
    };
    bytes(version, &packet)
}

fn bytes(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len(version).expect("a packet")];
    packet.encode(version, &mut &mut bytes[..]).expect("room");
    bytes
}
