//! One run.

use mqtt_core::{
    Connect, Disconnect, Filter, Properties, Property, Publish, PublishError, QoS, ReasonCode,
    RetainHandling, SendError, Subscribe, Subscription, Text, Topic, Unsubscribe, Version, Will,
    broker::Verdict,
    store::{Heap, Limits},
};
use simulation::{
    Direction, Model, Party, Rng, Weather, Wire,
    party::{Kind, named},
    story::message,
};

use crate::{
    guest::{Guest, Outcome, Sent},
    plan::{self, NAMES, Plan, QOS, is_denied},
};

pub(crate) struct Run<M: Kind> {
    rng: Rng,
    plan: Plan,
    party: Party<M>,
    guests: Vec<Guest>,
    /// How many messages have been published.
    count: usize,
    calm: bool,
}

impl<M: Kind> Run<M> {
    pub(crate) fn new(seed: u64, is_traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        let mut party = Party::<M>::new(plan.broker);
        if is_traced {
            println!("{plan:?}");
        }
        let mut model = Model::new(plan.broker, is_denied);
        model.is_traced = is_traced;
        model.contested = plan.contested.then(|| NAMES[0].into());
        party.model = Some(model);
        party.desk.ask = |action| match action {
            mqtt_core::broker::Action::Publish { topic, .. } if is_denied(topic.as_str()) => {
                Verdict::Deny(ReasonCode::NotAuthorized)
            }
            mqtt_core::broker::Action::Subscribe { subscription, .. }
                if is_denied(subscription.filter.as_str()) =>
            {
                Verdict::Deny(ReasonCode::NotAuthorized)
            }
            _ => Verdict::Allow,
        };
        party.desk.later = plan.later.then(|| Rng::new(rng.any()));
        let mut run = Self { rng, plan, party, guests: Vec::new(), count: 0, calm: false };
        NAMES.iter().for_each(|name| run.invite(name));
        if run.plan.contested {
            run.invite(NAMES[0]);
        }
        run
    }

    fn invite(&mut self, name: &'static str) {
        let rng = &mut self.rng;
        let version = self.plan.version(rng, self.guests.len());
        let (inbound, config) = (rng.pick(&[0, 2]), plan::client(rng));
        let limits = Limits { inbound_aliases: inbound, outbound_aliases: 2, ..Limits::default() };
        let who = self.party.invite_with(version, Heap::with_limits(limits), config);
        let line = &mut self.party.lines[who];
        line.app.out.capacity = rng.pick(&[150, 4_096]);
        line.app.appetite = rng.pick(&[1, 3, usize::MAX]);
        line.wire = Wire::new(rng.any(), plan::weather(rng));
        let mut guest = Guest::new(name, version);
        guest.receive_maximum = rng.pick(&[1, 2, u16::MAX]);
        guest.maximum_packet_size = rng.pick(&[None, None, Some(64)]).filter(|_| version.is_v5());
        self.guests.push(guest);
    }

    pub(crate) fn run(mut self) {
        for who in 0..self.guests.len() {
            self.connect(who);
        }
        for _ in 0..60 + self.rng.below(60) {
            let who = self.rng.below(self.guests.len() as u64) as usize;
            self.act(who);
            (0..self.guests.len()).for_each(|who| self.handle(who));
        }
        self.calm_down();
        self.judge();
        self.part();
    }

    fn act(&mut self, who: usize) {
        match self.rng.below(24) {
            0..7 => self.publish(who),
            7..10 => self.acknowledge(who),
            10..13 => self.subscribe(who),
            13 => self.unsubscribe(who),
            14..19 => {
                for _ in 0..self.rng.below(20) {
                    self.party.step();
                }
            }
            19..21 => {
                let millis = self.rng.pick(&[1, 20, 300, 1_500]);
                self.party.run(millis);
            }
            21 if self.rng.once_in(2) => self.party.cut(who),
            22 if self.rng.once_in(2) => self.party.abandon(who),
            23 => self.disconnect(who),
            _ => {}
        }
        if !self.party.lines[who].wire.is_open() && !self.rng.once_in(3) {
            self.connect(who);
        }
    }

    fn connect(&mut self, who: usize) {
        self.handle(who);
        self.guests[who].lost();
        if self.party.lines[who].connection.is_some() {
            self.party.cut(who);
        }
        let Guest { name, version, receive_maximum, maximum_packet_size, .. } = self.guests[who];
        let (calm, rng) = (self.calm, &mut self.rng);
        // Who has shared a session knows nothing of it.
        let contested = name == NAMES[0] && self.plan.contested;
        // Until it is known to have happened: the machine has discarded what it knew.
        let clean = self.guests[who].discards || if calm { contested } else { rng.once_in(6) };
        self.guests[who].discards = clean;
        let expiry = if calm { 3_600 } else { rng.pick(&[0, 2, 3_600]) };
        let delay = [Property::WillDelayInterval(rng.pick(&[1, 3]))];
        let expires = [Property::MessageExpiryInterval(1), Property::WillDelayInterval(2)];
        let properties: &[_] =
            if version.is_v5() { rng.pick(&[&[], &delay, &expires]) } else { &[] };
        let topic = format!("wills/{name}");
        let payload = format!("will {}", rng.any());
        let will = Will {
            topic: Topic::new(&topic).expect("a topic"),
            payload: if rng.once_in(6) { b"" } else { payload.as_bytes() },
            qos: rng.pick(&QOS),
            retain: rng.once_in(3),
            properties: properties.into(),
        };
        let connect = Connect {
            clean_start: clean,
            session_expiry_interval: if version.is_v5() { expiry } else { 0 },
            receive_maximum,
            maximum_packet_size,
            topic_alias_maximum: if version.is_v5() { 2 } else { 0 },
            // Who waits for the host is not silent.
            keep_alive: if self.plan.later { 0 } else { rng.pick(&[0, 0, 2]) },
            will: (!calm && rng.once_in(3)).then_some(will),
            ..named(version, name, true)
        };
        self.party.desk.capacity = rng.pick(&[128, 256, 4_096]);
        self.party.connect(who, &connect).expect("a connection");
        if !calm && self.rng.once_in(3) {
            let direction = self.rng.pick(&[Direction::Up, Direction::Down]);
            let after = self.rng.below(400) as usize;
            self.party.lines[who].wire.cut_after(direction, after);
        }
    }

    /// A client leaves, or dies properly.
    fn disconnect(&mut self, who: usize) {
        let list = [Property::SessionExpiryInterval(self.rng.pick(&[1, 5]))];
        let v5 = self.guests[who].version.is_v5();
        let reason = match v5 && self.rng.once_in(2) {
            true => ReasonCode::DisconnectWithWillMessage,
            false => ReasonCode::Success,
        };
        let properties = if v5 && self.rng.once_in(2) { (&list).into() } else { Properties::EMPTY };
        let leave = Disconnect { reason, properties };
        let now = self.party.clock.now();
        let app = &mut self.party.lines[who].app;
        if app.call(|client, out| client.disconnect(now, &leave, out)).is_ok() {
            app.hang_up();
        }
    }

    fn publish(&mut self, who: usize) {
        if self.count >= self.plan.messages {
            return;
        }
        let (rng, version) = (&mut self.rng, self.guests[who].version);
        let (qos, topic) = (rng.pick(&QOS), self.plan.topic(rng));
        let number = self.count;
        let mut payload = format!("{number} {}", "x".repeat(rng.below(30) as usize));
        let retain = rng.once_in(3);
        if retain && rng.once_in(3) {
            payload.clear();
        }
        let expires = [Property::MessageExpiryInterval(rng.pick(&[1, 2]))];
        let typed = [Property::ContentType(Text::new("x").expect("text"))];
        let properties: &[_] =
            if version.is_v5() { rng.pick(&[&[], &[], &expires, &typed]) } else { &[] };
        let properties = Properties::from(properties);
        let publish = Publish { retain, properties, ..message(topic, &payload, qos) };
        match self.party.publish(who, &publish) {
            Ok(id) => {
                self.count += 1;
                let (payload, denied) = (payload.into_bytes(), is_denied(topic));
                if let Some(id) = id {
                    let sent = Sent { payload, qos, denied, outcome: None };
                    self.guests[who].published(id, sent);
                }
            }
            Err(PublishError::NotConnected | PublishError::NoRoom | PublishError::InFlightFull) => {
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn subscribe(&mut self, who: usize) {
        let (rng, v5) = (&mut self.rng, self.guests[who].version.is_v5());
        let handlings =
            [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        let list: Vec<_> = (0..1 + rng.below(2))
            .map(|_| {
                let filter = Filter::new(self.plan.filter(rng)).expect("a filter");
                Subscription {
                    no_local: v5 && !filter.is_shared() && rng.once_in(3),
                    retain_as_published: v5 && rng.once_in(2),
                    retain_handling: if v5 { rng.pick(&handlings) } else { handlings[0] },
                    ..Subscription::new(filter, rng.pick(&QOS))
                }
            })
            .collect();
        let identifier = [Property::SubscriptionIdentifier(1 + rng.below(9) as u32)];
        let identified = v5 && rng.once_in(2);
        let properties = if identified { (&identifier).into() } else { Properties::EMPTY };
        let subscribe = Subscribe { subscriptions: list[..].into(), properties };
        if let Ok(id) = self.party.ask(who, &subscribe) {
            self.guests[who].asked(id);
        }
    }

    fn unsubscribe(&mut self, who: usize) {
        let filters = [Filter::new(self.plan.filter(&mut self.rng)).expect("a filter")];
        let unsubscribe = Unsubscribe::from(&filters);
        let now = self.party.clock.now();
        let app = &mut self.party.lines[who].app;
        if let Ok(id) = app.command(|client, out| client.unsubscribe(now, &unsubscribe, out)) {
            self.guests[who].asked(id);
        }
    }

    fn acknowledge(&mut self, who: usize) {
        let guest = &mut self.guests[who];
        if guest.receipts.is_empty() {
            return;
        }
        let index = self.rng.below(guest.receipts.len() as u64) as usize;
        let (receipt, payload) = guest.receipts.swap_remove(index);
        let refused = guest.version.is_v5() && self.rng.once_in(6);
        let reason = if refused { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
        let now = self.party.clock.now();
        let app = &mut self.party.lines[who].app;
        match app.call(|client, out| client.acknowledge(now, receipt, reason, out)) {
            // What is refused, and that is lost, may come again.
            Ok(()) if refused => drop(self.guests[who].refused.insert(payload)),
            Ok(()) | Err(SendError::StaleReceipt) => {}
            Err(_) => self.guests[who].receipts.push((receipt, payload)),
        }
    }

    fn handle(&mut self, who: usize) {
        while let Some(event) = self.party.lines[who].app.told() {
            self.guests[who].told(event);
        }
    }

    /// Everything must come to its end.
    fn calm_down(&mut self) {
        self.calm = true;
        self.party.desk.later = None;
        let (mut quiet, mut packets) = (0, 0);
        for round in 0..200 {
            for who in 0..NAMES.len() {
                let line = &mut self.party.lines[who];
                line.wire.weather = Weather::CALM;
                line.app.appetite = usize::MAX;
                line.app.out.capacity = line.app.out.capacity.max(4_096);
                if round == 0 || !line.wire.is_open() {
                    self.connect(who);
                }
                self.party.resume(who);
            }
            self.party.run(100);
            for who in 0..NAMES.len() {
                self.handle(who);
                for _ in 0..self.guests[who].receipts.len() {
                    self.acknowledge(who);
                }
            }
            let before = std::mem::replace(&mut packets, self.model().packets());
            quiet = if packets == before { quiet + 1 } else { 0 };
            if quiet == 5 {
                break;
            }
        }
    }

    const fn model(&self) -> &Model {
        self.party.model.as_ref().expect("a model")
    }

    fn judge(&self) {
        let model = self.model();
        model.rest(self.party.clock.now());
        for guest in &self.guests {
            let contested = self.plan.contested && guest.name == NAMES[0];
            // Where the CONNACK that told of the end of a session was lost, the client could not
            // know: that is a gap in the protocol. 3.1 never tells.
            let unknown = guest.sessions != model.begun(guest.name);
            if !contested && (guest.version == Version::V3_1 || !unknown) {
                judge_sent(guest, model);
                judge_got(guest, model);
            }
        }
    }

    /// Everybody leaves for good, and nothing is left over.
    fn part(mut self) {
        let model = self.model();
        let topics: Vec<_> = model.retained().map(String::from).collect();
        for topic in topics {
            let clear = Publish { retain: true, ..message(&topic, "", QoS::AtMostOnce) };
            self.party.publish(1, &clear).expect("room");
            self.party.run(100);
        }
        for (who, name) in NAMES.iter().enumerate() {
            let version = self.guests[who].version;
            self.party.cut(who);
            self.party.connect(who, &named(version, name, false)).expect("a connection");
            self.party.run(100);
            self.party.cut(who);
        }
        self.party.run(1_000);
        let broker = &self.party.broker;
        assert_eq!((broker.sessions(), broker.retained(), broker.bytes()), (0, 0, 0));
    }
}

/// Every publish has its one outcome, and was taken as often as its QoS promises.
fn judge_sent(guest: &Guest, model: &Model) {
    for sent in &guest.sent {
        let outcome = sent.outcome.unwrap_or_else(|| panic!("{sent:?} has no outcome"));
        let times = model.routed(&sent.payload);
        let taken = outcome == Outcome::Acknowledged && !sent.denied;
        assert!(times > 0 || !taken, "{sent:?} was not taken");
        let once = sent.qos == QoS::ExactlyOnce && !sent.payload.is_empty();
        assert!(times <= 1 || !once, "{sent:?} was taken {times} times");
    }
}

/// What was delivered has come, as often as its QoS promises.
fn judge_got(guest: &Guest, model: &Model) {
    let outcomes = model.outcomes().filter(|(name, ..)| *name == guest.name);
    for (name, payload, qos, outcome) in outcomes {
        let got = guest.got.get(&(payload.to_vec(), qos)).copied().unwrap_or(0);
        let text = String::from_utf8_lossy(payload);
        let what = format!("{text} came {got} times at {qos:?} to {name}: {outcome:?}");
        assert!(got >= outcome.completed, "{what}");
        let once = qos != QoS::AtLeastOnce && !guest.refused.contains(payload);
        assert!(got <= outcome.begun || !once, "{what}");
    }
}
