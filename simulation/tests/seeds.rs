//! Random runs on a hostile wire: everything that may happen to a session, in any order, and in the
//! end a calm in which everything must come to its end.
//!
//! A run that fails prints its seed; to see it again:
//! `SEED=17 cargo test -p simulation --test seeds fixed_on_5`. `RUNS` sets how many there are of each test,
//! `FIRST` where they begin: `RUNS=100000 cargo test --profile checked ...`.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{
    Acknowledgement, Client, Config, ConnAck, Connect, Event, Filter, PacketId, Publish,
    PublishError, QoS, ReasonCode, Receipt, SendError, Subscribe, Subscription, Topic, TopicName,
    Version,
    store::{Aliased, Fixed, Heap, Limits, Records, Store},
};
use simulation::{App, Direction, Manners, Note, Pair, Rng, Server, Weather, story::*};

/// Of each of the ten tests.
const RUNS: u64 = 1_500;

fn runs<S: Store>(version: Version, store: fn() -> S) {
    let number =
        |name| std::env::var(name).ok().map(|text: String| text.parse().expect("a number"));
    let first = number("FIRST").unwrap_or(0);
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("RUNS").unwrap_or(RUNS),
    };
    for seed in seeds {
        let named = Named(seed);
        Run::new(seed, version, store).run();
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

/// How a publish ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Refused,
    Dropped,
    Lost,
}

/// A message that the application has published.
struct Sent {
    note: Note,
    outcome: Option<Outcome>,
}

/// A message that the server has published.
struct Offered {
    note: Note,
    times: usize,
    /// It need not arrive: its session has ended, or nobody subscribes.
    lost: bool,
    /// The application has refused it.
    refused: bool,
}

struct Run<S> {
    rng: Rng,
    version: Version,
    config: Config,
    new_store: fn() -> S,
    pair: Meeting<S>,
    connect: Connect<'static>,
    sent: Vec<Sent>,
    /// Who uses which identifier.
    live: BTreeMap<PacketId, usize>,
    requests: BTreeSet<PacketId>,
    /// A payload that leaves in pieces, and how much of it has left.
    leaving: Option<(Vec<u8>, usize)>,
    asked: Option<PacketId>,
    offered: Vec<Offered>,
    /// A payload that arrives in pieces.
    arriving: Vec<u8>,
    arriving_topic: String,
    arriving_receipt: Option<Receipt>,
    receipts: Vec<(Receipt, String, bool)>,
    subscribed: bool,
    wants_to_subscribe: bool,
    forgotten: bool,
    calm: bool,
}

impl<S: Store> Run<S> {
    fn new(seed: u64, version: Version, new_store: fn() -> S) -> Self {
        let mut store = new_store();
        let mut rng = Rng::new(seed);
        let acknowledgements = [Acknowledgement::Automatic, Acknowledgement::Manual];
        let config = Config {
            whole: rng.pick(&[64, 200, usize::MAX]),
            acknowledgement: rng.pick(&acknowledgements),
            topic_aliases: rng.once_in(2),
            ..Config::DEFAULT
        };
        let aliases = store.inbound_aliases().map_or(0, |aliases| aliases.maximum());
        let arrivals = store.capacity().arrivals;
        let mut app = App::new(Client::with_config(version, store, config));
        app.buffer = config.whole;
        app.out.capacity = rng.pick(&[72, 90, 150, 4_096]);
        app.appetite = rng.pick(&[1, 3, usize::MAX]);
        if rng.once_in(2) {
            app.squeeze = Some(Rng::new(rng.any()));
        }
        let mut pair = Pair::new(app, Server::new(seed, Manners::default()));
        pair.wire.weather = Weather {
            piece: rng.pick(&[1, 3, 20, usize::MAX]),
            delay: rng.pick(&[0, 0, 5, 50]),
            window: rng.pick(&[1, 7, 64, usize::MAX, usize::MAX]),
        };
        let receive_maximum = rng.pick(&[1, 2, 3, u16::MAX]).min(arrivals);
        let connect = Connect {
            receive_maximum,
            topic_alias_maximum: aliases,
            keep_alive: rng.pick(&[0, 0, 2]),
            ..persistent(version)
        };
        pair.server.manners.aliases = true;
        pair.server.manners.strict = pair.wire.weather.window == usize::MAX;
        pair.server.manners.window = receive_maximum;
        Self {
            rng,
            version,
            config,
            new_store,
            pair,
            connect,
            sent: Vec::new(),
            live: BTreeMap::new(),
            requests: BTreeSet::new(),
            leaving: None,
            asked: None,
            offered: Vec::new(),
            arriving: Vec::new(),
            arriving_topic: String::new(),
            arriving_receipt: None,
            receipts: Vec::new(),
            subscribed: false,
            wants_to_subscribe: false,
            forgotten: false,
            calm: false,
        }
    }

    fn run(mut self) {
        self.reconnect();
        let rounds = 30 + self.rng.below(50);
        for _ in 0..rounds {
            self.act();
            self.handle();
        }
        self.calm_down();
        self.judge();
    }

    fn act(&mut self) {
        match self.rng.below(20) {
            0..5 => self.publish(),
            5..8 => self.offer(),
            8..11 => self.acknowledge(),
            11..15 => {
                for _ in 0..self.rng.below(30) {
                    self.pair.step();
                }
            }
            // A payload that does not go on keeps everything else waiting, a PINGREQ too.
            15..17 if self.leaving.is_none() => {
                let millis = self.rng.pick(&[1, 20, 300, 3_000]);
                self.pair.run(millis);
            }
            17 => self.pair.server.manners.dawdle = self.rng.once_in(2),
            18 if self.rng.once_in(3) => self.lose(),
            18 if self.rng.once_in(5) && !self.forgotten => self.restart(),
            18 if self.rng.once_in(10) && !self.forgotten => self.forget(),
            _ => self.feed(),
        }
    }

    fn lose(&mut self) {
        if self.pair.wire.is_open() && !self.forgotten {
            self.pair.cut();
        }
    }

    /// The program ends, and begins again with the same store: identifiers are given from the first
    /// one on, and receipts are gone.
    fn restart(&mut self) {
        if self.pair.wire.is_open() {
            self.pair.cut();
        }
        let app = &mut self.pair.client;
        let spare = Client::with_config(self.version, (self.new_store)(), self.config);
        let store = std::mem::replace(&mut app.client, spare).into_store();
        app.client = Client::with_config(self.version, store, self.config);
        for (_, payload, _) in self.receipts.drain(..) {
            // Never acknowledged: it may be delivered again.
            self.offered[number(payload.as_bytes())].refused = true;
        }
    }

    /// The server loses its memory. If the CONNACK that tells of it did not arrive, the client could
    /// not know: that is a gap in the protocol, and not what is tested here.
    fn forget(&mut self) {
        self.lose();
        self.pair.server.forget();
        self.forgotten = true;
        for offered in &mut self.offered {
            offered.lost = true;
        }
    }

    fn reconnect(&mut self) {
        let old = self.pair.client.told();
        assert_eq!(old, None, "an event that was not handled");
        (self.leaving, self.asked) = (None, None);
        self.arriving.clear();
        self.requests.clear();
        let v5 = self.version.is_v5();
        let packet_sizes = [None, None, Some(70), Some(35)];
        self.pair.server.manners.terms = ConnAck {
            receive_maximum: self.rng.pick(&[1, 2, 3, u16::MAX]),
            maximum_packet_size: self.rng.pick(&packet_sizes),
            topic_alias_maximum: self.rng.pick(&[0, 1, 3]),
            maximum_qos: if !self.calm && self.rng.once_in(8) {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            },
            ..ConnAck::default()
        };
        if self.calm && v5 {
            self.pair.server.manners.terms.maximum_packet_size = None;
        }
        self.pair.connect(&self.connect).expect("a connection");
        if !self.calm && !self.forgotten && self.rng.once_in(2) {
            let direction = self.rng.pick(&[Direction::Up, Direction::Down]);
            let after = self.rng.below(400) as usize;
            self.pair.wire.cut_after(direction, after);
        }
    }

    /// Publishes something, whole or in pieces.
    fn publish(&mut self) {
        if self.leaving.is_some() {
            return self.feed();
        }
        let qos = self.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let topic = self.rng.pick(&["a", "b/cc/ddd", "b/cc/eee", "no/a"]);
        let number = self.sent.len();
        let payload = format!("{number} {}", "x".repeat(self.rng.below(40) as usize));
        let note = Note::new(topic, payload, qos);
        let in_pieces = self.rng.once_in(4);
        let now = self.pair.clock.now();
        let head = of(&note);
        let result = self.pair.client.command(|client, out| {
            if in_pieces {
                client.publish_streamed(now, &head, note.payload.len(), out)
            } else {
                client.publish(now, &head, out)
            }
        });
        match result {
            Ok(id) => {
                if in_pieces && !note.payload.is_empty() {
                    self.leaving = Some((note.payload.clone(), 0));
                }
                assert_eq!(id.is_some(), qos > QoS::AtMostOnce);
                if let Some(id) = id {
                    let user = self.live.insert(id, number);
                    assert_eq!(user, None, "{id} is in use [MQTT-2.2.1-3]");
                    assert!(!self.requests.contains(&id), "{id} is in use [MQTT-2.2.1-3]");
                }
                self.sent.push(Sent { note, outcome: None });
            }
            Err(PublishError::NotConnected) => assert!(!self.pair.client.client.is_connected()),
            Err(PublishError::NoRoom) => assert!(!self.pair.client.out.is_empty()),
            Err(PublishError::InFlightFull) => {
                assert!(self.pair.client.client.store().flights() > 0);
            }
            Err(PublishError::TooLarge | PublishError::Unsupported(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Gives the next part of the payload that is leaving.
    fn feed(&mut self) {
        let Some((payload, left)) = &mut self.leaving else { return };
        let end = payload.len().min(*left + self.rng.below(20) as usize);
        let bytes = &payload[*left..end];
        *left += self.pair.client.call(|client, out| client.payload(bytes, out));
        if *left == payload.len() {
            self.leaving = None;
        }
    }

    /// The server publishes something.
    fn offer(&mut self) {
        let qos = self.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let topic = self.rng.pick(&["d", "e/ff/ggg", "e/ff/hhh"]);
        let number = self.offered.len();
        let payload = format!("{number} {}", "y".repeat(self.rng.below(120) as usize));
        let note = Note::new(topic, payload, qos);
        let lost = self.pair.server.publish(&note) == 0 || qos == QoS::AtMostOnce;
        self.offered.push(Offered { note, times: 0, lost, refused: false });
    }

    /// Acknowledges one of the messages, in any order.
    fn acknowledge(&mut self) {
        if self.receipts.is_empty() {
            return;
        }
        let index = self.rng.below(self.receipts.len() as u64) as usize;
        let (receipt, payload, is_current) = self.receipts.swap_remove(index);
        let refuse = self.version.is_v5() && self.rng.once_in(6) && !self.calm;
        let reason = if refuse { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
        match self.pair.acknowledge(receipt, reason) {
            Ok(()) => {
                let number = number(payload.as_bytes());
                self.offered[number].refused |= refuse;
                let again = self.pair.acknowledge(receipt, reason);
                assert_eq!(again, Err(SendError::StaleReceipt));
            }
            Err(SendError::NoRoom | SendError::Streaming) => {
                self.receipts.push((receipt, payload, is_current));
            }
            Err(SendError::StaleReceipt) => assert!(!is_current, "a stale receipt"),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Handles what the client has told, and connects again if the connection is gone.
    fn handle(&mut self) {
        while let Some(event) = self.pair.client.told() {
            self.on_event(event);
        }
        // Not before: an identifier is free again when its outcome is told.
        if std::mem::take(&mut self.wants_to_subscribe) {
            self.subscribe();
        }
        self.send_again();
        if !self.pair.wire.is_open() {
            for (_, _, is_current) in &mut self.receipts {
                *is_current = false;
            }
            self.reconnect();
        }
    }

    fn on_event(&mut self, event: Event<'static>) {
        self.forgotten &= !matches!(event, Event::Connected(_));
        match event {
            Event::Connected(ack) if !ack.session_present => {
                self.subscribed = false;
                for (_, number) in std::mem::take(&mut self.live) {
                    self.end(number, Outcome::Lost);
                }
                self.wants_to_subscribe = true;
            }
            Event::Connected(_) => self.wants_to_subscribe = !self.subscribed,
            Event::Subscribed(id, _) => {
                self.subscribed = true;
                assert!(self.requests.remove(&id));
            }
            Event::Message(message) => {
                self.arriving = message.payload.into();
                self.arriving_receipt = message.receipt;
                if let TopicName::Alias(alias) = message.topic {
                    // Known until the next connection.
                    let topic = self.pair.client.client.topic(alias).expect("a known alias");
                    self.arriving_topic = topic.as_str().into();
                } else if let Some(topic) = message.topic.name() {
                    self.arriving_topic = topic.as_str().into();
                }
                if message.remaining == 0 {
                    self.arrived();
                }
            }
            Event::Payload { bytes, remaining } => {
                self.arriving.extend_from_slice(bytes);
                if remaining == 0 {
                    self.arrived();
                }
            }
            Event::Acknowledged(id, ack) => {
                let number = self.live.remove(&id).expect("an identifier in use");
                let refused = ack.reason == ReasonCode::NotAuthorized;
                self.end(number, if refused { Outcome::Refused } else { Outcome::Acknowledged });
            }
            Event::Dropped(id, _) => {
                let number = self.live.remove(&id).expect("an identifier in use");
                self.end(number, Outcome::Dropped);
            }
            Event::Resend(id) => self.asked = Some(id),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        let before = self.sent[number].outcome.replace(outcome);
        assert_eq!(before, None, "a second outcome for {number}: {outcome:?}");
    }

    fn subscribe(&mut self) {
        let all = [Subscription::new(Filter::new("#").unwrap(), QoS::ExactlyOnce)];
        // If there is no room it is tried at the next connection.
        if let Ok(id) = self.pair.subscribe(&Subscribe::from(&all)) {
            assert!(self.requests.insert(id), "{id} is in use [MQTT-2.2.1-3]");
            assert!(!self.live.contains_key(&id), "{id} is in use [MQTT-2.2.1-3]");
        }
    }

    /// A message is there whole.
    fn arrived(&mut self) {
        let payload = std::mem::take(&mut self.arriving);
        let number = number(&payload);
        let later = self.offered[number + 1..].iter();
        let ordered = |offered: &Offered| offered.note.qos == self.offered[number].note.qos;
        let overtaken = later.filter(|offered| ordered(offered)).any(|offered| offered.times > 0);
        let offered = &mut self.offered[number];
        assert_eq!(offered.note.payload, payload);
        assert_eq!(offered.note.topic, self.arriving_topic);
        offered.times += 1;
        if offered.times == 1 {
            assert!(!overtaken, "{number} arrives after a later message");
        }
        if offered.note.qos != QoS::AtLeastOnce && !offered.refused {
            assert_eq!(offered.times, 1, "{number} arrives again");
        }
        if let Some(receipt) = self.arriving_receipt.take() {
            self.receipts.push((receipt, String::from_utf8(payload).unwrap(), true));
        }
    }

    /// Publishes again what the client has asked for.
    fn send_again(&mut self) {
        let Some(id) = self.asked else { return };
        if !self.pair.client.client.is_connected() || self.leaving.is_some() {
            return;
        }
        let number = self.live[&id];
        if !self.calm && self.rng.once_in(8) {
            // It ends as dropped.
            assert!(self.pair.client.client.abandon(id));
            self.asked = None;
            return;
        }
        let note = &self.sent[number].note;
        let (now, head) = (self.pair.clock.now(), of(note));
        let in_pieces = self.rng.once_in(2);
        let result = self.pair.client.command(|client, out| {
            if in_pieces {
                client.publish_again_streamed(now, id, &head, note.payload.len(), out)
            } else {
                client.publish_again(now, id, &head, out)
            }
        });
        match result {
            Ok(()) => {
                self.leaving = in_pieces.then(|| (note.payload.clone(), 0));
                self.asked = None;
            }
            Err(PublishError::NoRoom) => assert!(!self.pair.client.out.is_empty()),
            Err(PublishError::TooLarge | PublishError::Unsupported(_)) => {
                assert!(self.pair.client.client.abandon(id));
                self.asked = None;
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Everything works now: everything must come to an end.
    fn calm_down(&mut self) {
        self.calm = true;
        self.pair.server.manners.dawdle = false;
        self.pair.wire.weather = Weather::CALM;
        self.pair.run(100);
        self.handle();
        self.lose();
        self.handle();
        for _ in 0..500 {
            self.pair.run(10);
            self.feed();
            self.acknowledge();
            self.handle();
            let waits = self.leaving.is_some() || self.asked.is_some();
            let undelivered = self.pair.server.undelivered();
            if self.live.is_empty() && self.receipts.is_empty() && undelivered == 0 && !waits {
                return;
            }
        }
        let undelivered = self.pair.server.undelivered();
        panic!("{:?} have no outcome, {undelivered} do not arrive", self.live);
    }

    fn judge(&mut self) {
        let accepted = std::mem::take(&mut self.pair.server.accepted);
        let mut latest = [None; 3];
        let mut times = vec![0; self.sent.len()];
        for note in &accepted {
            let number = number(&note.payload);
            assert_eq!(*note, self.sent[number].note);
            times[number] += 1;
            let latest = &mut latest[note.qos as usize];
            if times[number] == 1 {
                assert!(*latest < Some(number), "{number} arrives after {latest:?}");
                *latest = Some(number);
            }
        }
        for (number, (sent, times)) in self.sent.iter().zip(&times).enumerate() {
            let context = format!("{number} at {:?}: {:?}", sent.note.qos, sent.outcome);
            assert_eq!(sent.outcome.is_some(), sent.note.qos > QoS::AtMostOnce, "{context}");
            assert!(sent.note.qos == QoS::AtLeastOnce || *times <= 1, "{context}, {times} times");
            match sent.outcome {
                Some(Outcome::Acknowledged) => assert!(*times >= 1, "{context} never arrived"),
                Some(Outcome::Refused) => assert_eq!(*times, 0, "{context} arrived"),
                _ => {}
            }
        }
        for (number, offered) in self.offered.iter().enumerate() {
            let note = &offered.note;
            assert!(offered.lost || offered.times >= 1, "{number} never arrived: {note:?}");
        }
        assert_eq!(self.pair.client.client.store().flights(), 0);
        assert_eq!(self.pair.client.client.store().arrivals(), 0);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let id = self.pair.publish(&message("a", "last", qos)).expect("an open gate");
            let is_outcome =
                |event: &_| matches!(event, Event::Acknowledged(ended, _) if Some(*ended) == id);
            assert_eq!(self.pair.events().iter().filter(|event| is_outcome(event)).count(), 1);
        }
    }
}

fn of(note: &Note) -> Publish<'_> {
    let topic = Topic::new(&note.topic).expect("a topic");
    Publish { qos: note.qos, ..Publish::new(topic, &note.payload[..]) }
}

/// The number with which a payload begins.
fn number(payload: &[u8]) -> usize {
    let text = std::str::from_utf8(payload).expect("text");
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

macro_rules! tests {
    ($($on_3:ident, $on_5:ident: $store:expr;)+) => {
        $(
            #[test]
            fn $on_3() {
                runs(Version::V3_1_1, || $store);
            }

            #[test]
            fn $on_5() {
                runs(Version::V5, || $store);
            }
        )+
    };
}

tests! {
    fixed_on_3, fixed_on_5: Fixed::<4, 160>::new();
    tiny_on_3, tiny_on_5: Fixed::<1, 60>::new();
    records_on_3, records_on_5: Records::<4>::new();
    aliased_on_3, aliased_on_5: Aliased::<_, 2, 16>::new(Fixed::<5, 400>::new());
    heap_on_3, heap_on_5: Heap::with_limits(Limits {
        flights: 6,
        arrivals: 6,
        bytes: 300,
        inbound_aliases: 3,
        outbound_aliases: 2,
        alias_bytes: 1_000,
    });
}
