//! Clients and a broker, each on its wire, on one clock.

use std::collections::VecDeque;

use mqtt_core::{
    Client, Config, Connect, Event, Filter, Instant, PacketId, Publish, PublishError, QoS,
    RetainHandling, SendError, Subscribe, Subscription, Text, Version,
    broker::{
        Action, Answer, Broker, Config as BrokerConfig, ConnectionId, Haste, Host, Key, Large,
        Memory, Notice, Small, Verdict,
    },
    router::Limits,
    store::{Heap, Store},
    wire::{Decoded, Packet},
};

use crate::{
    App, Clock, Counts, Direction, End, Ledger, Model, Outbox, Rng, Weather, Wire, app::packet_len,
    story::message,
};

/// The small broker of the stories.
pub type Pocket = Small<8, 32, 1024, 64, { 24 * 1024 }>;

/// What a verdict is asked for, in short.
pub type Ask = fn(&Action<'_>) -> Verdict;

/// The broker's side of the wires.
#[derive(Debug)]
pub struct Desk {
    /// The sinks by connection.
    pub sinks: Vec<Outbox>,
    /// The connections that are to be closed.
    pub closing: Vec<bool>,
    /// Who decides what clients may do.
    pub ask: Ask,
    /// It says what the users are called whom it lets in: as they do.
    pub names_users: bool,
    users: Vec<Option<Vec<u8>>>,
    /// What is said besides.
    pub answer: Answer<'static>,
    /// Some of the decisions come later.
    pub later: Option<Rng>,
    /// What the broker may write at once, for new connections.
    pub capacity: usize,
    /// What the broker has told, if that is wanted.
    pub notices: Option<Vec<String>>,
    /// What is kept of a large broker.
    pub ledger: Ledger,
}

impl Desk {
    /// No connections yet.
    pub fn new(ask: Ask, capacity: usize) -> Self {
        Self {
            sinks: Vec::new(),
            closing: Vec::new(),
            ask,
            names_users: false,
            users: Vec::new(),
            answer: Answer::default(),
            later: None,
            capacity,
            notices: None,
            ledger: Ledger::default(),
        }
    }

    /// A connection begins.
    pub fn begin(&mut self, connection: ConnectionId) {
        let index = self.place(connection);
        self.sinks[index] = Outbox::new(self.capacity);
        self.closing[index] = false;
    }

    fn place(&mut self, connection: ConnectionId) -> usize {
        let index = connection.index();
        while self.sinks.len() <= index {
            self.sinks.push(Outbox::new(self.capacity));
            self.closing.push(false);
            self.users.push(None);
        }
        index
    }
}

impl Host for Desk {
    type Sink = Outbox;

    fn keeps_records(&self) -> bool {
        true
    }

    fn changed(&mut self, key: Key<'_>, haste: Haste) {
        self.ledger.change(key, haste);
    }

    fn sink(&mut self, to: ConnectionId) -> &mut Outbox {
        let index = self.place(to);
        assert!(!self.closing[index], "{to:?} is written to after its end");
        &mut self.sinks[index]
    }

    fn close(&mut self, connection: ConnectionId) {
        let index = self.place(connection);
        assert!(!self.closing[index], "{connection:?} is closed twice");
        self.closing[index] = true;
    }

    fn user_name(&self, of: ConnectionId) -> Option<&[u8]> {
        self.users.get(of.index())?.as_deref().filter(|_| self.names_users)
    }

    fn authorize(&mut self, from: ConnectionId, action: &Action<'_>) -> Verdict {
        if let Action::Connect(_, connect) = action {
            let index = self.place(from);
            self.users[index] = connect.user_name.map(|name| name.as_bytes().to_vec());
        }
        if self.later.as_mut().is_some_and(|rng| rng.once_in(3)) {
            return Verdict::Later;
        }
        (self.ask)(action)
    }

    fn answer<R>(
        &mut self,
        to: ConnectionId,
        write: impl FnOnce(&mut Outbox, &Answer<'_>) -> R,
    ) -> R {
        let answer = self.answer;
        write(self.sink(to), &answer)
    }

    fn notice(&mut self, notice: &Notice<'_>) {
        if let Some(notices) = &mut self.notices {
            notices.push(brief(notice));
        }
    }
}

/// A notice in short.
fn brief(notice: &Notice<'_>) -> String {
    let text = String::from_utf8_lossy;
    match *notice {
        Notice::Connected { client_id, clean_start, session_present, .. } => {
            format!("{} connected {clean_start} {session_present}", text(client_id))
        }
        Notice::Disconnected { client_id, end, .. } => format!("{} {end:?}", text(client_id)),
        Notice::Subscribed { client_id, filter, qos } => {
            format!("{} subscribed {} {}", text(client_id), filter.as_str(), qos as u8)
        }
        Notice::Unsubscribed { client_id, filter } => {
            format!("{} unsubscribed {}", text(client_id), filter.as_str())
        }
        Notice::SessionEnded { client_id } => format!("{} ended", text(client_id)),
        Notice::Refused { reason, .. } => format!("{reason:?}"),
        Notice::Behind { messages, .. } => format!("{messages} behind"),
        ref other => format!("{other:?}"),
    }
}

/// A client, its wire, and the broker's end of it.
#[derive(Debug)]
pub struct Line<S = Heap> {
    /// The client.
    pub app: App<S>,
    /// Its wire.
    pub wire: Wire,
    /// The broker's number for it.
    pub connection: Option<ConnectionId>,
    rx: Vec<u8>,
}

/// Clients and a broker.
#[derive(Debug)]
pub struct Party<M: Memory, S = Heap> {
    /// Their clock.
    pub clock: Clock,
    /// The broker.
    pub broker: Broker<M>,
    /// Its side of the wires.
    pub desk: Desk,
    /// The clients.
    pub lines: Vec<Line<S>>,
    /// Who watches the broker, which then takes one packet at a time.
    pub model: Option<Model>,
    /// Connections of which the broker does not know that they are dead.
    zombies: Vec<ConnectionId>,
}

/// A kind of broker that stories are told of.
pub trait Kind: Memory + Sized {
    /// A broker of this kind.
    fn broker(config: BrokerConfig) -> Broker<Self>;

    /// Keeps what must be kept before anything is sent, and everything if `all`.
    fn keep(broker: &Broker<Self>, desk: &mut Desk, all: bool) {
        let _ = (broker, desk, all);
    }
}

impl<const C: usize, const S: usize, const F: usize, const M: usize, const B: usize> Kind
    for Small<C, S, F, M, B>
{
    fn broker(config: BrokerConfig) -> Broker<Self> {
        Broker::small(config)
    }
}

impl Kind for Large {
    fn broker(config: BrokerConfig) -> Broker<Self> {
        Broker::large(config, 1 << 20, 7, Limits::default())
    }

    fn keep(broker: &Broker<Self>, desk: &mut Desk, all: bool) {
        if all || desk.ledger.is_due() {
            desk.ledger.check(broker);
        }
        if all || desk.ledger.is_urgent {
            desk.ledger.commit(broker);
        }
    }
}

impl<M: Kind, S: Store> Party<M, S> {
    /// A broker without clients.
    pub fn new(config: BrokerConfig) -> Self {
        let desk = Desk::new(|_| Verdict::Allow, 4_096);
        Self {
            clock: Clock::new(),
            broker: M::broker(config),
            desk,
            lines: Vec::new(),
            model: None,
            zombies: Vec::new(),
        }
    }

    /// Adds a client that has not connected yet, and gives its number.
    pub fn invite_with(&mut self, version: Version, store: S, config: Config) -> usize {
        let mut app = App::new(Client::with_config(version, store, config));
        app.buffer = config.whole;
        let wire = Wire::new(self.lines.len() as u64, Weather::CALM);
        self.lines.push(Line { app, wire, connection: None, rx: Vec::new() });
        self.lines.len() - 1
    }

    /// Opens a client's wire.
    ///
    /// # Panics
    ///
    /// If the broker takes no more connections.
    pub fn open(&mut self, who: usize) {
        let now = self.clock.now();
        let mut connection = self.broker.open(now);
        if connection.is_err() && !self.zombies.is_empty() {
            // The network has noticed by now.
            let dead = self.zombies.remove(0);
            self.bury_one(now, dead);
            connection = self.broker.open(now);
        }
        let connection = connection.expect("room for a connection");
        self.desk.begin(connection);
        let line = &mut self.lines[who];
        line.connection = Some(connection);
        line.wire.open();
        line.app.opened(now);
    }

    /// Cuts a client's wire, and tells both ends.
    pub fn cut(&mut self, who: usize) {
        self.lines[who].wire.cut();
        self.part(who);
    }

    /// A client's wire is gone, and the broker does not notice.
    pub fn abandon(&mut self, who: usize) {
        let now = self.clock.now();
        let line = &mut self.lines[who];
        line.wire.cut();
        line.app.lost(now);
        line.rx.clear();
        self.zombies.extend(line.connection.take());
    }

    /// What is written to dead connections is lost; those that the broker has given up are closed.
    fn bury(&mut self, now: Instant) {
        for connection in std::mem::take(&mut self.zombies) {
            let sink = &mut self.desk.sinks[connection.index()];
            sink.check(0);
            sink.clear();
            if self.desk.closing[connection.index()] {
                self.bury_one(now, connection);
            } else {
                self.zombies.push(connection);
            }
        }
    }

    /// The broker learns that a connection is gone.
    fn bury_one(&mut self, now: Instant, connection: ConnectionId) {
        // Nothing is written to one that is gone.
        self.desk.closing[connection.index()] = true;
        self.broker.closed(now, connection, &mut self.desk);
        M::keep(&self.broker, &mut self.desk, false);
        if let Some(model) = &mut self.model {
            model.closed(now, connection);
        }
        self.watch(now);
    }

    /// The model learns what the broker has written, and looks whether all is well.
    fn watch(&mut self, now: Instant) {
        let Self { broker, desk, model: Some(model), .. } = self else { return };
        model.ended(now, |connection| desk.closing[connection.index()]);
        for connection in model.connections() {
            let version = model.version(connection);
            let sink = &mut desk.sinks[connection.index()];
            let mut fresh = sink.fresh();
            while let Some(len) = packet_len(fresh) {
                let (packet, rest) = fresh.split_at(len);
                match Packet::decode(version, packet) {
                    Ok(Decoded::Packet { packet, .. }) => model.written(now, connection, &packet),
                    other => panic!("{packet:02x?} was written: {other:?}"),
                }
                fresh = rest;
            }
            sink.check(0);
        }
        model.settle(
            now,
            &Counts {
                sessions: broker.sessions(),
                retained: broker.retained(),
                bytes: broker.bytes(),
                statistics: broker.statistics(),
            },
        );
    }

    /// The host knows what it was asked for by a client. Whether it was asked.
    pub fn resume(&mut self, who: usize) -> bool {
        self.lines[who].connection.is_some_and(|connection| self.broker.resume(connection))
    }

    /// Both ends learn that the wire is gone.
    fn part(&mut self, who: usize) {
        let now = self.clock.now();
        let line = &mut self.lines[who];
        line.app.lost(now);
        line.rx.clear();
        if let Some(connection) = line.connection.take() {
            self.bury_one(now, connection);
        }
    }

    /// A round for each client: what has arrived is received, both ends work, what they wrote is
    /// sent. Whether anything happened.
    pub fn step(&mut self) -> bool {
        let now = self.clock.now();
        let mut moved = false;
        if self.broker.deadline().is_some_and(|due| due <= now) {
            self.broker.tick(now, &mut self.desk);
            M::keep(&self.broker, &mut self.desk, false);
            let due = self.broker.deadline();
            assert!(due.is_none_or(|due| due >= now), "{due:?} is past at {now:?}");
            if let Some(model) = &mut self.model {
                let (broker, closing) = (&self.broker, &self.desk.closing);
                let left = |name: &str| Some(broker.session(name.as_bytes())?.has_will);
                model.ticked(now, |connection| closing[connection.index()], left);
            }
            self.watch(now);
        }
        self.bury(now);
        self.decide();
        for who in 0..self.lines.len() {
            moved |= self.step_one(who, now);
        }
        moved
    }

    /// Some of the decisions that come later have come.
    fn decide(&mut self) {
        let connections = self.lines.iter().filter_map(|line| line.connection);
        let desk = &mut self.desk;
        let known = |_: &ConnectionId| desk.later.as_mut().is_some_and(|rng| rng.once_in(4));
        for connection in connections.filter(known) {
            self.broker.resume(connection);
        }
    }

    /// The broker takes what a client has sent. Whether it took anything.
    fn attend(&mut self, who: usize, connection: ConnectionId, now: Instant) -> bool {
        let mut moved = false;
        while !self.desk.closing[connection.index()] {
            let rx = &mut self.lines[who].rx;
            let first = packet_len(rx).filter(|len| *len <= rx.len() && self.model.is_some());
            let front = first.unwrap_or(rx.len());
            let mut input = &rx[..front];
            let _ = self.broker.poll(now, connection, &mut input, &mut self.desk);
            M::keep(&self.broker, &mut self.desk, false);
            let taken: Vec<_> = rx.drain(..front - input.len()).collect();
            if let (Some(model), false) = (&mut self.model, taken.is_empty()) {
                model.heard(now, connection, &taken);
            }
            self.watch(now);
            moved |= !taken.is_empty();
            if taken.is_empty() || self.model.is_none() {
                break;
            }
        }
        moved
    }

    fn step_one(&mut self, who: usize, now: Instant) -> bool {
        let line = &mut self.lines[who];
        let was_open = line.wire.is_open();
        let mut moved = false;
        if let Some(bytes) = line.wire.receive(Direction::Up, now, usize::MAX) {
            line.rx.extend_from_slice(&bytes);
            moved = true;
            if let (Some(model), Some(connection)) = (&mut self.model, line.connection) {
                model.stirred(now, connection, bytes.len());
            }
        }
        let room = line.app.room();
        if let Some(bytes) = line.wire.receive(Direction::Down, now, room) {
            line.app.receive(&bytes);
            moved = true;
        }
        if let Some(connection) = line.connection {
            moved |= self.attend(who, connection, now);
        }
        let Self { desk, lines, .. } = self;
        let line = &mut lines[who];
        moved |= line.app.poll(now);
        if line.wire.is_open() {
            moved |= send(&mut line.wire, Direction::Up, now, &mut line.app);
            if let Some(connection) = line.connection {
                let index = connection.index();
                desk.sinks[index].check(0);
                let len = desk.sinks[index].as_bytes().len().min(line.wire.room(Direction::Down));
                if len > 0 {
                    line.wire.send(Direction::Down, now, &desk.sinks[index].as_bytes()[..len]);
                    desk.sinks[index].consume(len);
                    moved = true;
                }
                if desk.closing[index] && desk.sinks[index].is_empty() && line.wire.is_open() {
                    line.wire.finish(Direction::Down);
                }
            }
        }
        if was_open && !line.wire.is_open() {
            self.part(who);
            moved = true;
        }
        moved
    }

    /// Rounds until nothing happens any more without time.
    ///
    /// # Panics
    ///
    /// If something always does.
    pub fn drive(&mut self) {
        let mut rounds = 0_u32;
        while self.step() {
            rounds += 1;
            assert!(rounds < 20_000, "they do not come to rest");
        }
    }

    /// Lets time pass, with everything that happens meanwhile.
    pub fn run(&mut self, millis: u64) {
        let end = self.clock.now() + millis;
        self.drive();
        while let Some(next) = self.next_moment()
            && next <= end
            && self.clock.now() < end
        {
            self.clock.advance_to(next.max(self.clock.now() + 1));
            self.drive();
        }
        self.clock.advance_to(end);
        self.drive();
    }

    fn next_moment(&self) -> Option<Instant> {
        let lines =
            self.lines.iter().flat_map(|line| [line.wire.next_arrival(), line.app.deadline()]);
        lines.chain([self.broker.deadline()]).flatten().min()
    }

    /// Opens a client's wire and sends CONNECT.
    ///
    /// # Errors
    ///
    /// Those of [`Client::connect`].
    pub fn connect(&mut self, who: usize, connect: &Connect<'_>) -> Result<(), SendError> {
        self.open(who);
        let now = self.clock.now();
        self.lines[who].app.call(|client, out| client.connect(now, connect, out))
    }

    /// A client publishes.
    ///
    /// # Errors
    ///
    /// Those of [`Client::publish`].
    pub fn publish(
        &mut self,
        who: usize,
        message: &Publish<'_>,
    ) -> Result<Option<PacketId>, PublishError> {
        let now = self.clock.now();
        self.lines[who].app.command(|client, out| client.publish(now, message, out))
    }

    /// A client subscribes.
    ///
    /// # Errors
    ///
    /// Those of [`Client::subscribe`].
    pub fn ask(&mut self, who: usize, subscribe: &Subscribe<'_>) -> Result<PacketId, SendError> {
        let now = self.clock.now();
        self.lines[who].app.command(|client, out| client.subscribe(now, subscribe, out))
    }

    /// What a client has been told since it was asked last.
    pub fn events(&mut self, who: usize) -> Vec<Event<'static>> {
        self.drive();
        VecDeque::drain(&mut self.lines[who].app.events, ..).collect()
    }
}

fn send<S: Store>(wire: &mut Wire, direction: Direction, now: Instant, app: &mut App<S>) -> bool {
    let len = app.unsent().len().min(wire.room(direction));
    if len > 0 {
        wire.send(direction, now, &app.unsent()[..len]);
        app.sent(len);
    }
    if app.is_closing() && app.unsent().is_empty() && wire.is_open() {
        wire.finish(direction);
    }
    len > 0
}

impl<S: Store> Party<Large, S> {
    /// The broker is killed, and another takes its place after so many milliseconds with what was kept.
    pub fn restart(&mut self, config: BrokerConfig, after: u64) {
        for line in &mut self.lines {
            line.wire.cut();
            line.app.lost(self.clock.now());
            line.rx.clear();
            line.connection = None;
        }
        self.zombies.clear();
        self.desk.sinks.clear();
        self.desk.closing.clear();
        self.desk.users.clear();
        self.clock.advance_to(self.clock.now() + after);
        self.broker = Large::broker(config);
        Ledger::restore(&mut self.broker, &mut self.desk, self.clock.now());
    }
}

/// What most stories do.
impl<M: Kind> Party<M> {
    /// A client that is connected, persistently on 5.0 if `keeps`.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn guest(&mut self, version: Version, name: &str, keeps: bool) -> usize {
        let who = self.invite_with(version, Heap::new(), Config::default());
        self.come(who, &named(version, name, keeps));
        who
    }

    /// A client connects, and is accepted.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn come(&mut self, who: usize, connect: &Connect<'_>) -> bool {
        self.connect(who, connect).expect("a connection");
        self.drive();
        match self.lines[who].app.told() {
            Some(Event::Connected(ack)) => ack.session_present,
            other => panic!("{other:?}, {:?}", self.lines[who].app.error),
        }
    }

    /// A client subscribes to one filter, which is granted.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn subscribe(&mut self, who: usize, filter: &str, qos: QoS) {
        let filter = Filter::new(filter).expect("a filter");
        self.ask(who, &Subscribe::from(&[Subscription::new(filter, qos)])).expect("room");
        self.drive();
        let granted = self.lines[who].app.events.pop_front();
        assert!(
            matches!(granted, Some(Event::Subscribed(_, ack)) if !ack.reasons.iter().any(|reason| reason.is_error())),
            "{granted:?}"
        );
    }

    /// A client says something, and everybody hears it.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn say(&mut self, who: usize, topic: &str, text: &str, qos: QoS) {
        self.publish(who, &message(topic, text, qos)).expect("room");
        self.drive();
    }

    /// The messages that a client has been told since it was asked last: topic, payload, QoS, RETAIN.
    pub fn heard(&mut self, who: usize) -> Vec<(String, String, QoS, bool)> {
        let events = self.events(who);
        let topic = |app: &App<Heap>, message: &mqtt_core::Message<'_>| match message.topic {
            mqtt_core::TopicName::Name(topic) => topic.as_str().to_string(),
            mqtt_core::TopicName::Alias(alias) => {
                app.client.topic(alias).expect("a topic").as_str().to_string()
            }
        };
        let app = &self.lines[who].app;
        let messages = events.iter().filter_map(|event| match event {
            Event::Message(message) => Some((
                topic(app, message),
                String::from_utf8_lossy(message.payload).into_owned(),
                message.qos,
                message.retain,
            )),
            _ => None,
        });
        messages.collect()
    }

    /// The payloads alone.
    pub fn texts(&mut self, who: usize) -> Vec<String> {
        self.heard(who).into_iter().map(|(_, text, ..)| text).collect()
    }
}

/// What a client of this name asks for, with or without a session that outlives its connection.
///
/// # Panics
///
/// If the name is none.
pub fn named(version: Version, name: &str, keeps: bool) -> Connect<'_> {
    Connect {
        client_id: Text::new(name).expect("text"),
        clean_start: !keeps,
        keep_alive: 0,
        session_expiry_interval: if version.is_v5() && keeps { 3_600 } else { 0 },
        ..Connect::default()
    }
}

/// A subscription with one option changed.
pub fn handling(filter: &str, handling: RetainHandling) -> Subscription<'_> {
    let filter = Filter::new(filter).expect("a filter");
    Subscription { retain_handling: handling, ..Subscription::new(filter, QoS::ExactlyOnce) }
}
