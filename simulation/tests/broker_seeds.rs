//! Random runs of clients and a broker on hostile wires, and in the end a calm in which everything
//! must come to its end.
//!
//! A run that fails prints its seed; to see it again:
//! `SEED=17 cargo test -p simulation --test broker_seeds large`. `RUNS` sets how many there are.

use std::collections::BTreeMap;

use mqtt_core::{
    Acknowledgement, Config as ClientConfig, Connect, Event, Filter, PacketId, PublishError, QoS,
    ReasonCode, Receipt, SendError, Subscribe, Subscription, TopicName, Version,
    broker::{Config, Large, Overflow},
    store::{Heap, Limits},
};
use simulation::{
    Direction, Party, Pocket, Rng, Weather,
    party::{Kind, named},
    story::message,
};

/// Of each of the two tests.
const RUNS: u64 = 500;

/// So many that those which come again, too, can wait for one session of the small broker.
const MESSAGES: usize = 20;

const NAMES: [&str; 4] = ["one", "two", "three", "four"];
const TOPICS: [&str; 3] = ["a", "b/c", "b/d/e"];
const FILTERS: [&str; 5] = ["#", "a", "b/+", "b/#", "+/d/e"];

fn runs<M: Kind>() {
    let number =
        |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        let named = Named(seed);
        Run::<M>::new(seed).run();
        drop(named);
    }
}

/// Prints the seed when a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={}", self.0);
        }
    }
}

/// A message that a client has published.
struct Sent {
    by: usize,
    topic: &'static str,
    qos: QoS,
    accepted: Option<bool>,
    /// Who must get it, at which QoS.
    due: Vec<(usize, QoS)>,
}

/// A client, as the test knows it.
struct Guest {
    version: Version,
    receive_maximum: u16,
    /// What it subscribes to, since this was granted.
    granted: Vec<(&'static str, QoS)>,
    wanted: Vec<(&'static str, QoS)>,
    asked: Option<PacketId>,
    /// Which publish has which identifier.
    live: BTreeMap<PacketId, usize>,
    /// How often it has got which message.
    got: BTreeMap<usize, usize>,
    order: Vec<usize>,
    receipts: Vec<Receipt>,
}

struct Run<M: Kind> {
    rng: Rng,
    party: Party<M>,
    guests: Vec<Guest>,
    sent: Vec<Sent>,
    calm: bool,
}

impl<M: Kind> Run<M> {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = Config {
            topic_aliases: rng.once_in(2),
            assumed_receive_maximum: rng.pick(&[1, 3, 20]),
            receive_maximum: rng.pick(&[1, 2, 16]),
            overflow: rng.pick(&[Overflow::DropNewest, Overflow::DropOldest]),
            ..Config::default()
        };
        let mut party = Party::<M>::new(config);
        let mut guests = Vec::new();
        for name in NAMES {
            let version = rng.pick(&[Version::V3_1, Version::V3_1_1, Version::V5]);
            let aliases = rng.pick(&[0, 2]);
            let limits =
                Limits { inbound_aliases: aliases, outbound_aliases: 2, ..Limits::default() };
            let acknowledgements = [Acknowledgement::Automatic, Acknowledgement::Manual];
            let config = ClientConfig {
                acknowledgement: rng.pick(&acknowledgements),
                topic_aliases: rng.once_in(2),
                ..ClientConfig::default()
            };
            let who = party.invite_with(version, Heap::with_limits(limits), config);
            assert_eq!(NAMES[who], name);
            let line = &mut party.lines[who];
            line.app.out.capacity = rng.pick(&[90, 150, 4_096]);
            line.app.appetite = rng.pick(&[1, 3, usize::MAX]);
            let weather = Weather {
                piece: rng.pick(&[1, 3, 20, usize::MAX]),
                delay: rng.pick(&[0, 0, 5, 50]),
                window: rng.pick(&[7, 64, usize::MAX, usize::MAX]),
            };
            line.wire = simulation::Wire::new(rng.any(), weather);
            let filters = 1 + rng.below(2);
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
            // Each filter once: a later subscription replaces an earlier one.
            let wanted: BTreeMap<_, _> =
                (0..filters).map(|_| (rng.pick(&FILTERS), rng.pick(&qos))).collect();
            let wanted = wanted.into_iter().collect();
            guests.push(Guest {
                version,
                receive_maximum: rng.pick(&[1, 2, u16::MAX]),
                granted: Vec::new(),
                wanted,
                asked: None,
                live: BTreeMap::new(),
                got: BTreeMap::new(),
                order: Vec::new(),
                receipts: Vec::new(),
            });
        }
        Self { rng, party, guests, sent: Vec::new(), calm: false }
    }

    fn run(mut self) {
        for who in 0..NAMES.len() {
            self.connect(who);
        }
        for _ in 0..60 + self.rng.below(60) {
            let who = self.rng.below(NAMES.len() as u64) as usize;
            self.act(who);
            (0..NAMES.len()).for_each(|who| self.handle(who));
        }
        self.calm_down();
        self.judge();
    }

    fn act(&mut self, who: usize) {
        match self.rng.below(16) {
            0..6 => self.publish(who),
            6..8 => self.acknowledge(who),
            8..13 => {
                for _ in 0..self.rng.below(20) {
                    self.party.step();
                }
            }
            13 => {
                let millis = self.rng.pick(&[1, 20, 300]);
                self.party.run(millis);
            }
            14 if self.rng.once_in(3) => {
                self.party.cut(who);
            }
            15 if self.rng.once_in(3) => {
                self.party.abandon(who);
            }
            _ => {}
        }
        if !self.party.lines[who].wire.is_open() {
            self.handle(who);
            self.connect(who);
        }
    }

    fn connect(&mut self, who: usize) {
        let guest = &mut self.guests[who];
        guest.asked = None;
        let aliases = if guest.version.is_v5() { 2 } else { 0 };
        let connect = Connect {
            receive_maximum: guest.receive_maximum,
            topic_alias_maximum: aliases,
            ..named(guest.version, NAMES[who], true)
        };
        if self.party.lines[who].connection.is_some() {
            self.party.cut(who);
        }
        self.party.desk.capacity = self.rng.pick(&[128, 256, 4_096]);
        self.party.connect(who, &connect).expect("a connection");
        if !self.calm && self.rng.once_in(3) {
            let direction = self.rng.pick(&[Direction::Up, Direction::Down]);
            let after = self.rng.below(400) as usize;
            self.party.lines[who].wire.cut_after(direction, after);
        }
    }

    fn publish(&mut self, who: usize) {
        if self.sent.len() >= MESSAGES {
            return;
        }
        let qos = self.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let topic = self.rng.pick(&TOPICS);
        let number = self.sent.len();
        let payload = format!("{number} {}", "x".repeat(self.rng.below(30) as usize));
        match self.party.publish(who, &message(topic, &payload, qos)) {
            Ok(id) => {
                if let Some(id) = id {
                    let user = self.guests[who].live.insert(id, number);
                    assert_eq!(user, None, "{id} is in use");
                }
                let due = self.due(topic, qos);
                self.sent.push(Sent { by: who, topic, qos, accepted: None, due });
            }
            Err(PublishError::NotConnected | PublishError::NoRoom | PublishError::InFlightFull) => {
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Who must get a message published now.
    fn due(&self, topic: &'static str, qos: QoS) -> Vec<(usize, QoS)> {
        let topic = mqtt_core::Topic::new(topic).expect("a topic");
        let granted = |guest: &Guest| {
            let matches = |name: &str| Filter::new(name).expect("a filter").matches(topic);
            let granted = guest.granted.iter().filter(|(name, _)| matches(name));
            granted.map(|(_, granted)| qos.min(*granted)).max()
        };
        let guests = self.guests.iter().enumerate();
        let due = guests.filter_map(|(who, guest)| Some((who, granted(guest)?)));
        due.filter(|(_, qos)| *qos > QoS::AtMostOnce).collect()
    }

    fn acknowledge(&mut self, who: usize) {
        let guest = &mut self.guests[who];
        if guest.receipts.is_empty() {
            return;
        }
        let index = self.rng.below(guest.receipts.len() as u64) as usize;
        let receipt = guest.receipts.swap_remove(index);
        let now = self.party.clock.now();
        let app = &mut self.party.lines[who].app;
        let success = ReasonCode::Success;
        match app.call(|client, out| client.acknowledge(now, receipt, success, out)) {
            Ok(()) | Err(SendError::StaleReceipt) => {}
            Err(_) => self.guests[who].receipts.push(receipt),
        }
    }

    fn handle(&mut self, who: usize) {
        while let Some(event) = self.party.lines[who].app.told() {
            self.on_event(who, event);
        }
        let guest = &mut self.guests[who];
        if guest.asked.is_none()
            && !guest.wanted.is_empty()
            && self.party.lines[who].app.client.is_connected()
        {
            let list: Vec<_> = guest
                .wanted
                .iter()
                .map(|(name, qos)| Subscription::new(Filter::new(name).expect("a filter"), *qos))
                .collect();
            let subscribe = Subscribe {
                subscriptions: list[..].into(),
                properties: mqtt_core::Properties::EMPTY,
            };
            self.guests[who].asked = self.party.ask(who, &subscribe).ok();
        }
    }

    fn on_event(&mut self, who: usize, event: Event<'static>) {
        let guest = &mut self.guests[who];
        match event {
            Event::Connected(ack) => {
                assert!(ack.session_present || guest.granted.is_empty(), "the session is lost");
                if !ack.session_present && guest.version.is_v5() {
                    // Nothing is known of it yet: nothing has been answered.
                    for (_, number) in std::mem::take(&mut guest.live) {
                        self.sent[number].accepted = Some(false);
                    }
                }
            }
            Event::Message(message) => {
                let text = String::from_utf8_lossy(message.payload).into_owned();
                let number: usize = text.split(' ').next().expect("a number").parse().expect("one");
                let sent = &self.sent[number];
                if let TopicName::Name(topic) = message.topic {
                    assert_eq!(topic.as_str(), sent.topic, "cross-talk");
                }
                assert!(message.qos <= sent.qos);
                let matches = |name: &str| {
                    let topic = mqtt_core::Topic::new(sent.topic).expect("a topic");
                    Filter::new(name).expect("a filter").matches(topic)
                };
                let all = guest.wanted.iter().chain(&guest.granted);
                assert!(all.clone().any(|(name, _)| matches(name)), "it was not wanted");
                let times = guest.got.entry(number).or_default();
                *times += 1;
                if message.qos != QoS::AtLeastOnce && sent.qos != QoS::AtLeastOnce {
                    assert_eq!(*times, 1, "{number} came twice at {:?}", message.qos);
                }
                if *times == 1 {
                    guest.order.push(number);
                }
                guest.receipts.extend(message.receipt);
            }
            Event::Acknowledged(id, ack) => {
                let number = guest.live.remove(&id).expect("a publish of this identifier");
                assert!(!ack.reason.is_error(), "{ack:?}");
                self.sent[number].accepted = Some(true);
            }
            Event::Subscribed(id, ack) => {
                assert_eq!(guest.asked.take(), Some(id));
                assert!(!ack.reasons.iter().any(|reason| reason.is_error()));
                guest.granted = std::mem::take(&mut guest.wanted);
            }
            other => panic!("{other:?}"),
        }
    }

    fn calm_down(&mut self) {
        self.calm = true;
        for _ in 0..200 {
            for who in 0..NAMES.len() {
                let line = &mut self.party.lines[who];
                line.wire.weather = Weather::CALM;
                line.app.appetite = usize::MAX;
                line.app.out.capacity = line.app.out.capacity.max(4_096);
                if !line.wire.is_open() {
                    self.handle(who);
                    self.connect(who);
                }
            }
            self.party.run(100);
            for who in 0..NAMES.len() {
                self.handle(who);
                for _ in 0..self.guests[who].receipts.len() {
                    self.acknowledge(who);
                }
            }
        }
    }

    fn judge(&self) {
        for (number, sent) in self.sent.iter().enumerate() {
            if sent.qos > QoS::AtMostOnce {
                assert!(sent.accepted.is_some(), "{number} at {:?} has no outcome", sent.qos);
            }
            if sent.accepted != Some(true) {
                continue;
            }
            for (who, qos) in &sent.due {
                let times = self.guests[*who].got.get(&number).copied().unwrap_or(0);
                assert!(times >= 1, "{number} at {qos:?} did not come to {}", NAMES[*who]);
            }
        }
        for (who, guest) in self.guests.iter().enumerate() {
            for by in 0..NAMES.len() {
                for topic in TOPICS {
                    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                        let is_such =
                            |sent: &Sent| sent.by == by && sent.topic == topic && sent.qos == qos;
                        let granted =
                            |sent: &Sent| sent.due.iter().find(|due| due.0 == who).map(|due| due.1);
                        let order = guest.order.iter().map(|number| (number, &self.sent[*number]));
                        let order: Vec<_> = order
                            .filter(|(_, sent)| is_such(sent) && granted(sent) == Some(qos))
                            .map(|(number, _)| *number)
                            .collect();
                        assert!(order.is_sorted(), "{} got {order:?} of {by}", NAMES[who]);
                    }
                }
            }
            assert!(guest.live.is_empty() && guest.wanted.is_empty());
        }
        assert_eq!(self.party.broker.bytes(), 0, "everything has come to its end");
        assert_eq!(self.party.broker.statistics().dropped_overflow, 0);
        assert_eq!(self.party.broker.sessions(), NAMES.len());
    }
}

#[test]
fn small() {
    runs::<Pocket>();
}

#[test]
fn large() {
    runs::<Large>();
}
