//! Random runs of clients and a broker that is killed again and again, and restored from what its host has
//! kept: only what must be kept before anything is sent. Nothing acknowledged is lost, nothing at QoS 2
//! doubled, and the order is kept.
//!
//! A run that fails prints its seed; to see it again:
//! `SEED=17 cargo test -p simulation --test broker_restarts runs`. `RUNS` sets how many there are.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{
    Acknowledgement, Config as ClientConfig, Connect, Event, PacketId, PublishError, QoS,
    ReasonCode, Receipt, RetainHandling, SendError, Subscribe, Text, Version,
    broker::{Config, Key, Large, RestoreError, Takeover},
    store::Heap,
};
use proptest::prelude::*;
use simulation::{
    Direction, Party, Rng, Weather, Wire,
    ledger::records,
    party::{Kind, handling, named},
    story::message,
};

const RUNS: u64 = 300;
const NAMES: [&str; 3] = ["one", "two", "three"];
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A client, as the test knows it.
struct Guest {
    version: Version,
    /// At which QoS it subscribes to everything, once that is granted.
    level: QoS,
    granted: bool,
    asked: Option<PacketId>,
    live: BTreeMap<PacketId, usize>,
    got: Vec<usize>,
    receipts: Vec<Receipt>,
}

struct Sent {
    by: usize,
    qos: QoS,
    accepted: bool,
    /// Who subscribed to it then.
    due: Vec<usize>,
}

struct Run {
    rng: Rng,
    config: Config,
    party: Party<Large>,
    guests: Vec<Guest>,
    sent: Vec<Sent>,
    restarts: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = Config {
            receive_maximum: rng.pick(&[1, 2, 16]),
            assumed_receive_maximum: rng.pick(&[1, 3, 20]),
            ..Config::default()
        };
        let mut party = Party::new(config);
        party.desk.names_users = true;
        let mut guests = Vec::new();
        for who in 0..NAMES.len() {
            let version = rng.pick(&[Version::V3_1_1, Version::V5]);
            let acknowledgement = rng.pick(&[Acknowledgement::Automatic, Acknowledgement::Manual]);
            let client = ClientConfig { acknowledgement, ..ClientConfig::default() };
            party.invite_with(version, Heap::new(), client);
            let weather = Weather {
                piece: rng.pick(&[1, 20, usize::MAX]),
                delay: rng.pick(&[0, 5, 50]),
                window: rng.pick(&[64, usize::MAX]),
            };
            party.lines[who].wire = Wire::new(rng.any(), weather);
            party.lines[who].app.out.capacity = rng.pick(&[150, 4_096]);
            guests.push(Guest {
                version,
                level: rng.pick(&LEVELS),
                granted: false,
                asked: None,
                live: BTreeMap::new(),
                got: Vec::new(),
                receipts: Vec::new(),
            });
        }
        Self { rng, config, party, guests, sent: Vec::new(), restarts: 0 }
    }

    fn run(mut self) -> usize {
        for _ in 0..150 {
            let who = self.rng.below(NAMES.len() as u64) as usize;
            if !self.party.lines[who].wire.is_open() {
                self.connect(who);
            }
            match self.rng.below(16) {
                0..5 => self.publish(who),
                5..7 => self.acknowledge(who),
                7..13 => (0..self.rng.below(20)).for_each(|_| _ = self.party.step()),
                13 => self.party.cut(who),
                // What nobody waits for is kept, too, now and then.
                14 => Large::keep(&self.party.broker, &mut self.party.desk, true),
                _ => self.restart(),
            }
            (0..NAMES.len()).for_each(|who| self.handle(who));
        }
        self.calm_down();
        self.judge();
        self.restarts
    }

    fn restart(&mut self) {
        let after = self.rng.pick(&[0, 10, 60_000]);
        self.party.restart(self.config, after);
        self.restarts += 1;
        (0..NAMES.len()).for_each(|who| self.handle(who));
    }

    fn connect(&mut self, who: usize) {
        if self.party.lines[who].connection.is_some() {
            self.party.cut(who);
        }
        let guest = &mut self.guests[who];
        guest.asked = None;
        let user_name = Text::new(NAMES[who]).ok().filter(|_| who > 0);
        let connect =
            Connect { receive_maximum: 4, user_name, ..named(guest.version, NAMES[who], true) };
        self.party.desk.capacity = self.rng.pick(&[128, 256, 4_096]);
        self.party.connect(who, &connect).expect("a connection");
        if self.rng.once_in(4) {
            let after = self.rng.below(300) as usize;
            self.party.lines[who].wire.cut_after(Direction::Up, after);
        }
    }

    fn publish(&mut self, who: usize) {
        let qos = self.rng.pick(&LEVELS);
        let number = self.sent.len();
        match self.party.publish(who, &message("a/b", &number.to_string(), qos)) {
            Ok(id) => {
                self.guests[who].live.extend(id.map(|id| (id, number)));
                let due = (0..NAMES.len()).filter(|who| self.guests[*who].granted).collect();
                self.sent.push(Sent { by: who, qos, accepted: false, due });
            }
            Err(PublishError::NotConnected | PublishError::NoRoom | PublishError::InFlightFull) => {
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn acknowledge(&mut self, who: usize) {
        let now = self.party.clock.now();
        let app = &mut self.party.lines[who].app;
        self.guests[who].receipts.retain(|receipt| {
            let acknowledged = app
                .command(|client, out| client.acknowledge(now, *receipt, ReasonCode::Success, out));
            // A stale one is of a message that comes again.
            !matches!(acknowledged, Ok(()) | Err(SendError::StaleReceipt))
        });
    }

    fn handle(&mut self, who: usize) {
        let guest = &mut self.guests[who];
        let app = &mut self.party.lines[who].app;
        let mut subscribes = false;
        while let Some(event) = app.events.pop_front() {
            match event {
                Event::Connected(ack) => {
                    let known = guest.granted || !guest.live.is_empty();
                    assert!(ack.session_present || !known, "{} is not known", NAMES[who]);
                    subscribes = !guest.granted;
                }
                Event::Subscribed(id, _) if guest.asked == Some(id) => guest.granted = true,
                Event::Acknowledged(id, ack) => {
                    assert!(!ack.reason.is_error(), "{ack:?}");
                    if let Some(number) = guest.live.remove(&id) {
                        self.sent[number].accepted = true;
                    }
                }
                Event::Message(message) => {
                    let text = String::from_utf8_lossy(message.payload).into_owned();
                    guest.got.push(text.parse().expect("a number"));
                    guest.receipts.extend(message.receipt);
                }
                Event::Disconnected(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if subscribes {
            let wanted = [mqtt_core::Subscription {
                qos: guest.level,
                ..handling("a/#", RetainHandling::Send)
            }];
            guest.asked = self.party.ask(who, &Subscribe::from(&wanted)).ok();
        }
    }

    fn calm_down(&mut self) {
        for round in 0..200 {
            for who in 0..NAMES.len() {
                self.party.lines[who].wire.weather = Weather::CALM;
                self.party.lines[who].app.out.capacity = 4_096;
                if round == 0 || !self.party.lines[who].wire.is_open() {
                    self.connect(who);
                }
            }
            self.party.run(100);
            (0..NAMES.len()).for_each(|who| self.handle(who));
            (0..NAMES.len()).for_each(|who| self.acknowledge(who));
        }
    }

    fn judge(&self) {
        for (number, sent) in self.sent.iter().enumerate() {
            assert!(sent.qos == QoS::AtMostOnce || sent.accepted, "{number} has no outcome");
            for who in sent.due.iter().filter(|_| sent.accepted) {
                let guest = &self.guests[*who];
                let times = guest.got.iter().filter(|got| **got == number).count();
                let qos = sent.qos.min(guest.level);
                assert!(qos == QoS::AtMostOnce || times > 0, "{number} did not come to {who}");
                if sent.qos == QoS::ExactlyOnce && guest.level == QoS::ExactlyOnce {
                    assert_eq!(times, 1, "{number} came {times} times to {who}");
                }
            }
        }
        for guest in &self.guests {
            for by in 0..NAMES.len() {
                for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    let is_such = |sent: &Sent| sent.by == by && sent.qos == qos;
                    let mut seen = BTreeSet::new();
                    let first = guest.got.iter().filter(|number| seen.insert(**number));
                    let order = first.filter(|number| is_such(&self.sent[**number]));
                    assert!(guest.level == QoS::AtMostOnce || order.is_sorted());
                }
            }
        }
        assert_eq!(self.party.broker.bytes(), 0, "everything has come to its end");
    }
}

#[test]
fn runs() {
    let number =
        |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUNS").unwrap_or(RUNS),
    };
    let mut restarts = 0;
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| Run::new(seed).run());
        restarts += std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("SEED={seed}"));
    }
    assert!(restarts > 0);
}

/// What a broker writes to a client that has just come and says this, before it is killed.
fn life(party: &mut Party<Large>, said: &[u8]) -> Vec<u8> {
    let now = party.clock.now();
    let connection = party.broker.open(now).expect("room");
    party.desk.begin(connection);
    for packet in [b"\x10\x0d\0\x04MQTT\x04\0\0\0\0\x01c".as_slice(), said] {
        let mut input = packet;
        party.broker.poll(now, connection, &mut input, &mut party.desk).expect("a connection");
        Large::keep(&party.broker, &mut party.desk, false);
    }
    let written = party.desk.sinks[connection.index()].as_bytes().to_vec();
    party.restart(Config::default(), 0);
    written
}

/// An identifier whose PUBCOMP has been sent is free for another message; one whose PUBREC has been is not.
#[test]
fn what_was_said_about_an_identifier_holds() {
    let mut party = Party::<Large>::new(Config::default());
    let publish = b"\x34\x06\0\x01t\0\x07!";
    assert_eq!(life(&mut party, publish), b"\x20\x02\0\0\x50\x02\0\x07");
    let subscribe = b"\x82\x06\0\x01\0\x01t\0";
    let again = [&subscribe[..], publish].concat();
    let heard = b"\x20\x02\x01\0\x90\x03\0\x01\0\x50\x02\0\x07";
    assert_eq!(life(&mut party, &again), heard, "it is not delivered again");
    assert_eq!(life(&mut party, b"\x62\x02\0\x07"), b"\x20\x02\x01\0\x70\x02\0\x07");
    let heard = b"\x20\x02\x01\0\x30\x04\0\x01t!\x50\x02\0\x07";
    assert_eq!(life(&mut party, publish), heard, "it is another message");
}

/// The records of a broker that has some of everything, in the order of their keys.
fn example() -> Vec<(Box<[u8]>, Vec<u8>)> {
    let mut run = (0..).map(Run::new).find_map(|mut run| {
        for step in 0..400 {
            let who = step % NAMES.len();
            if !run.party.lines[who].wire.is_open() {
                run.connect(who);
            }
            run.publish(who);
            (0..3).for_each(|_| _ = run.party.step());
            (0..NAMES.len()).for_each(|who| run.handle(who));
            let kinds: BTreeSet<_> = records(&run.party.broker).keys().map(|key| key[0]).collect();
            if kinds.iter().eq(&[1, 3, 4, 5, 6]) {
                return Some(run);
            }
        }
        None
    });
    let run = run.as_mut().expect("one of so many");
    let retained = mqtt_core::Publish { retain: true, ..message("r/1", "kept", QoS::AtLeastOnce) };
    let now = run.party.clock.now();
    run.party.broker.publish(now, &retained, &mut run.party.desk);
    records(&run.party.broker).into_iter().collect()
}

/// Gives a broker records that may be anything. It takes what it takes, and is one that goes on.
fn restore(all: &[(Box<[u8]>, Vec<u8>)]) -> usize {
    // Whose a session is, is as good as anything else in them.
    let config = Config { takeover: Takeover::Anybody, ..Config::default() };
    let mut party = Party::<Large>::new(config);
    let now = party.clock.now();
    let mut taken = BTreeMap::new();
    for (key, record) in all {
        match party.broker.restore(now, key, record) {
            Ok(()) => assert_eq!(taken.insert(key.clone(), record.clone()), None),
            Err(RestoreError::Malformed | RestoreError::Unknown) => {}
            Err(RestoreError::Taken | RestoreError::Limit) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    party.broker.restored(now, &mut party.desk);
    // It can be recorded again, and be restored from that.
    let again = records(&party.broker);
    assert!(again.keys().all(|key| taken.contains_key(key)));
    let mut other = Large::broker(Config::default());
    for (key, record) in &again {
        let known = Key::from_bytes(key);
        assert_eq!(other.restore(now, key, record), Ok(()), "{known:?} {record:02x?}");
    }
    other.restored(now, &mut party.desk);
    assert_eq!(records(&other), again);
    party.desk.ledger.records = again;
    // Whoever comes is served. At QoS 2 a message may be taken for one that the records know to have come.
    let watcher = party.guest(Version::V5, "watcher", false);
    party.subscribe(watcher, "#", QoS::ExactlyOnce);
    for name in NAMES {
        let who = party.guest(Version::V3_1_1, name, true);
        party.say(who, "a/b", "hello", QoS::AtLeastOnce);
    }
    party.run(10_000_000);
    assert!(party.texts(watcher).iter().filter(|text| *text == "hello").count() >= NAMES.len());
    taken.len()
}

#[test]
fn what_is_whole_is_taken() {
    let all = example();
    assert_eq!(restore(&all), all.len());
}

/// Each byte of each key, changed: among these are keys of other records that make sense.
#[test]
fn no_key_breaks_it() {
    let all = example();
    for (which, (key, _)) in all.iter().enumerate() {
        for (at, byte) in (0..key.len()).flat_map(|at| (0..8).map(move |byte| (at, byte))) {
            let mut changed = all.clone();
            changed[which].0[at] = byte;
            restore(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_records_break_it(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..5_u8), 1..12),
    ) {
        let mut all = example();
        for (which, at, byte, how) in changes {
            if all.is_empty() {
                break;
            }
            let which = which.index(all.len());
            let (key, record) = &mut all[which];
            match how {
                0 if !record.is_empty() => { let at = at.index(record.len()); record[at] = byte }
                1 => record.truncate(at.index(record.len() + 1)),
                2 => record.push(byte),
                3 => { let at = at.index(key.len()); key[at] = byte }
                _ => { all.remove(which); }
            }
        }
        restore(&all);
    }
}
