//! Anything at any time: arbitrary bytes, packets, sinks, clocks and calls. Nothing is promised about
//! what comes of it, but that nothing panics, that only whole packets are written, and that the
//! machine always comes to rest, and then rests: until something arrives or its deadline, which is
//! yet to come.

use mqtt_core::{
    Acknowledgement, Auth, Authentication, Client, Config, ConnAck, Connect, Disconnect, Event,
    Filter, Instant, MIN_SINK, Overrun, PacketId, Properties, Property, Publish, QoS, ReasonCode,
    Receipt, RetainHandling, Sink, SubAck, Subscribe, Subscription, Text, Topic, UnsubAck,
    Unsubscribe, Version, Will,
    store::Store,
    wire::{Delivery, Packet},
};

use crate::{Outbox, Rng, app::is_last};

/// What is done next, and three numbers to do it with.
pub type Step = (u8, u16, u8, u8);

const TOPICS: [&str; 4] = ["a", "b/c", "$SYS/x", "a/rather/long/topic/that/has/many/levels"];
const FILTERS: [&str; 4] = ["a/#", "+/b", "$share/group/c", "d"];

struct Chaos<S> {
    client: Client<S>,
    version: Version,
    out: Outbox,
    rx: Vec<u8>,
    now: Instant,
    receipts: Vec<Receipt>,
    whole: usize,
}

impl<S: Store> Chaos<S> {
    fn new(version: Version, store: S, (kind, number, a, b): Step) -> Self {
        let acknowledgements = [Acknowledgement::Automatic, Acknowledgement::Manual];
        let config = Config {
            whole: [20, 60, 300, usize::MAX][usize::from(kind % 4)],
            acknowledgement: acknowledgements[usize::from(a % 2)],
            handshake_timeout: u32::from(number),
            topic_aliases: b % 2 == 0,
            assumed_receive_maximum: u16::from(a),
            overrun: [Overrun::Disconnect, Overrun::Wait][usize::from(a / 2 % 2)],
        };
        Self {
            client: Client::with_config(version, store, config),
            version,
            out: Outbox::new([MIN_SINK, MIN_SINK + 1, 60, 200, 10_000][usize::from(b % 5)]),
            rx: Vec::new(),
            now: Instant::from_millis(0),
            receipts: Vec::new(),
            whole: config.whole,
        }
    }

    fn step(&mut self, (kind, number, a, b): Step) {
        self.out.squeezed = (a % 4 == 3).then_some(usize::from(b % 9));
        match kind % 24 {
            0 => self.rx.extend(self.noise(number, a, b)),
            1..6 => self.rx.extend(self.packet(number, a, b)),
            6 => self.rx.extend(self.half_a_packet(number, a, b)),
            7 => self.out.clear_sent(usize::from(number)),
            8 if b % 2 == 0 => self.now = self.client.deadline().unwrap_or_default().max(self.now),
            8 => self.now = self.now + u64::from(number) * u64::from(a),
            9 => self.now = Instant::from_millis(u64::MAX / 2 + u64::from(number)),
            10 => {
                self.client.closed();
                self.rx.clear();
                self.out.clear();
            }
            11 => {
                self.client.skip();
            }
            12 => {
                self.client.topic(number);
            }
            13 => {
                PacketId::new(number % 8).map(|id| self.client.abandon(id));
            }
            _ => self.command(kind % 24, number, a, b),
        }
        self.out.check(self.client.payload_owed());
        if a % 3 != 0 {
            self.poll();
        }
        self.out.squeezed = None;
        if a % 5 == 0 {
            self.rest();
        }
    }

    /// The loop that adapters write, to its end: everything that is written leaves at once.
    fn rest(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "it does not come to rest");
            self.poll();
            if self.out.is_empty() {
                return;
            }
            self.out.clear_sent(usize::MAX);
        }
    }

    /// Polls until the machine is at rest, which it must come to.
    fn poll(&mut self) {
        let rx = std::mem::take(&mut self.rx);
        let mut input = &rx[..];
        let bound = 2 * rx.len() + 200;
        for round in 0.. {
            assert!(round < bound, "it does not come to rest");
            let before = (input.len(), self.out.as_bytes().len());
            let result = self.client.poll(self.now, &mut input, &mut self.out);
            assert!(rx.ends_with(input));
            if is_last(&result) {
                self.out.check_last();
            } else {
                self.out.check(self.client.payload_owed());
            }
            match result {
                Ok(Some(Event::Message(message))) => self.receipts.extend(message.receipt),
                Ok(Some(Event::Payload { bytes, .. })) => assert!(bytes.len() <= rx.len()),
                Ok(Some(_)) => {}
                Ok(None) if self.out.is_empty() => {
                    self.check_rest(input);
                    break;
                }
                Ok(None) if before == (input.len(), self.out.as_bytes().len()) => break,
                Ok(None) => {}
                Err(_) => {
                    assert_eq!(self.client.deadline(), None);
                    assert!(!self.client.is_connected());
                    break;
                }
            }
        }
        // What a caller's buffer would hold.
        let kept = input.len().min(self.whole);
        self.rx = input[..kept].to_vec();
    }

    /// Nothing was told, nothing is to be sent: nothing more happens, now.
    fn check_rest(&mut self, input: &[u8]) {
        let mut again = input;
        assert_eq!(self.client.poll(self.now, &mut again, &mut self.out), Ok(None));
        assert_eq!(again.len(), input.len());
        assert!(self.out.is_empty());
        let deadline = self.client.deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "{deadline:?} at {:?}", self.now);
    }

    fn noise(&self, number: u16, a: u8, b: u8) -> Vec<u8> {
        let mut rng = Rng::new(u64::from(number) << 16 | u64::from(a) << 8);
        (0..b % 40).map(|_| rng.any() as u8).collect()
    }

    fn half_a_packet(&self, number: u16, a: u8, b: u8) -> Vec<u8> {
        let mut bytes = self.packet(number, a, b);
        bytes.truncate(bytes.len() / 2);
        bytes
    }

    /// A packet that a server may send, though perhaps not now.
    fn packet(&self, number: u16, a: u8, b: u8) -> Vec<u8> {
        let v5 = self.version.is_v5();
        let id = PacketId::new(number % 6 + 1).expect("not 0");
        let reasons = [ReasonCode::Success, ReasonCode::QuotaExceeded];
        let reason = reasons[usize::from(v5 && b & 1 == 1)];
        let names = [Property::AuthenticationMethod(Text::new("m").expect("text"))];
        let alias = [Property::TopicAlias(u16::from(b % 4) + 1)];
        let payload = vec![b; usize::from(number % 400)];
        let granted = vec![ReasonCode::Success; usize::from(b % 3) + 1];
        let packet = match a % 16 {
            0 | 1 => Packet::ConnAck(self.terms(number, b)),
            2..6 => {
                let qos = QoS::from_u8(a % 4 % 3).expect("a QoS");
                let named = !v5 || b & 8 == 0;
                let topic = if named { TOPICS[usize::from(b % 4)] } else { "" };
                let publish = Publish {
                    topic: Topic::new(topic).unwrap_or_default(),
                    payload: payload[..].into(),
                    qos,
                    retain: b & 64 == 0,
                    properties: if v5 && b & 12 != 0 { alias[..].into() } else { [][..].into() },
                };
                let packet_id = (qos > QoS::AtMostOnce).then_some(id);
                Packet::Publish(
                    Delivery { packet_id, dup: b & 32 != 0 && packet_id.is_some() },
                    publish,
                )
            }
            6 => Packet::PubAck(id, reason.into()),
            7 => Packet::PubRec(id, reason.into()),
            8 => Packet::PubRel(id, ReasonCode::Success.into()),
            9 => Packet::PubComp(id, ReasonCode::Success.into()),
            10 => Packet::SubAck(id, SubAck { reasons: granted[..].into(), ..SubAck::default() }),
            11 if v5 => Packet::UnsubAck(
                id,
                UnsubAck { reasons: granted[..].into(), ..UnsubAck::default() },
            ),
            11 => Packet::UnsubAck(id, UnsubAck::default()),
            12 | 13 if v5 => {
                let reason = [ReasonCode::ContinueAuthentication, ReasonCode::Success];
                let reason = reason[usize::from(b % 2)];
                Packet::Auth(Auth { reason, properties: names[..].into() })
            }
            14 if v5 => Packet::Disconnect(Disconnect::default()),
            _ => Packet::PingResp,
        };
        encode(self.version, &packet)
    }

    fn terms(&self, number: u16, b: u8) -> ConnAck<'static> {
        let session_present = b & 1 == 0;
        if !self.version.is_v5() {
            return ConnAck { session_present, ..ConnAck::default() };
        }
        ConnAck {
            session_present,
            receive_maximum: number % 5 + 1,
            maximum_qos: QoS::from_u8(2 - b % 8 / 4).expect("a QoS"),
            retain_available: b & 2 == 0,
            maximum_packet_size: (b & 4 == 0).then_some(u32::from(number) + 1),
            topic_alias_maximum: u16::from(b % 8),
            wildcard_subscription_available: b & 8 == 0,
            server_keep_alive: (b & 16 == 0).then_some(number),
            ..ConnAck::default()
        }
    }

    /// A call with arbitrary arguments, good and bad.
    fn command(&mut self, kind: u8, number: u16, a: u8, b: u8) {
        let (now, v5) = (self.now, b & 128 == 0);
        let text = |bit: u8| Text::new(TOPICS[usize::from(b >> bit & 3)]).expect("text");
        let properties = [
            Property::MessageExpiryInterval(7),
            Property::TopicAlias(1),
            Property::SubscriptionIdentifier(u32::from(number)),
            Property::SessionExpiryInterval(1),
            Property::ReasonString(text(0)),
            Property::AuthenticationMethod(Text::new("m").expect("text")),
        ];
        let from = usize::from(a % 6);
        let properties = Properties::from(if v5 { &properties[from..=from] } else { &[] });
        let payload = vec![a; usize::from(number % 600)];
        let message = Publish {
            topic: Topic::new(TOPICS[usize::from(b % 4)]).expect("a topic"),
            payload: payload[..].into(),
            qos: QoS::from_u8(a % 3).expect("a QoS"),
            retain: b & 16 == 0,
            properties: if b & 32 == 0 { properties } else { Properties::EMPTY },
        };
        let id = PacketId::new(number % 6 + 1).expect("not 0");
        let reason = ReasonCode::from_u8(a).unwrap_or_default();
        let (client, out) = (&mut self.client, &mut self.out);
        let before = out.as_bytes().len();
        let mut reserves = true;
        let written = match kind {
            14 | 15 => {
                reserves = false;
                let will = Will { topic: message.topic, payload: &payload, ..Will::default() };
                let connect = Connect {
                    client_id: text(2),
                    clean_start: a & 1 == 0,
                    keep_alive: number % 7 * u16::from(b),
                    will: (b & 3 == 0).then_some(will),
                    session_expiry_interval: u32::from(a & 2),
                    receive_maximum: u16::from(b % 5),
                    maximum_packet_size: (a & 4 == 0).then_some(u32::from(number)),
                    topic_alias_maximum: u16::from(a % 8),
                    authentication: (v5 && a & 8 == 0).then_some(Authentication {
                        method: Text::new("m").expect("text"),
                        data: Some(&payload),
                    }),
                    ..Connect::default()
                };
                client.connect(now, &connect, out).is_ok()
            }
            16 => client.publish(now, &message, out).is_ok(),
            17 => {
                let len = usize::from(number) * if b == 7 { 1 << 24 } else { 1 };
                client.publish_streamed(now, &message, len, out).is_ok()
            }
            18 => {
                let room = out.room();
                let taken = client.payload(&payload, out);
                assert!(taken <= payload.len() && taken <= room.saturating_sub(MIN_SINK));
                return;
            }
            19 if a & 1 == 0 => client.publish_again(now, id, &message, out).is_ok(),
            19 => client.publish_again_streamed(now, id, &message, payload.len(), out).is_ok(),
            20 => {
                let filter = Filter::new(FILTERS[usize::from(b % 4)]).expect("a filter");
                let wanted = Subscription {
                    no_local: a & 4 == 0 && v5,
                    retain_handling: RetainHandling::Send,
                    ..Subscription::new(filter, message.qos)
                };
                let wanted = vec![wanted; usize::from(a % 3)];
                let subscriptions = wanted[..].into();
                let subscribe = Subscribe { subscriptions, properties };
                client.subscribe(now, &subscribe, out).is_ok()
            }
            21 => {
                let filter = Filter::new(FILTERS[usize::from(b % 4)]).expect("a filter");
                let unwanted = vec![filter; usize::from(a % 3)];
                let filters = unwanted[..].into();
                client.unsubscribe(now, &Unsubscribe { filters, properties }, out).is_ok()
            }
            22 => {
                if let Some(receipt) = self.receipts.get(usize::from(number % 8)) {
                    let _ = client.acknowledge(now, *receipt, reason, out);
                }
                return;
            }
            _ if a & 1 == 0 => client.authenticate(now, &Auth { reason, properties }, out).is_ok(),
            _ if a & 30 == 0 => {
                reserves = false;
                client.disconnect(now, &Disconnect { reason, properties }, out).is_ok()
            }
            _ => return,
        };
        reserves &= written && client.is_connected();
        assert!(!reserves || out.room() >= MIN_SINK, "no room for acknowledgements");
        assert!(written || out.as_bytes().len() == before, "an error wrote something");
    }
}

fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be encoded is nothing that a server sends.
    if let Ok(len) = packet.encoded_len(version) {
        bytes.resize(len, 0);
        packet.encode(version, &mut &mut bytes[..]).expect("room for it");
    }
    bytes
}

/// Does all of this to a client that keeps its session here; `begin` says how it is set up.
///
/// # Panics
///
/// If the client writes anything but whole packets, does not come to rest, or cannot begin anew.
pub fn chaos<S: Store>(store: S, begin: Step, steps: &[Step]) {
    let version = if begin.1.is_multiple_of(3) { Version::V3_1_1 } else { Version::V5 };
    let mut chaos = Chaos::new(version, store, begin);
    if !begin.3.is_multiple_of(8) {
        // Most runs begin with a connection, or little would happen.
        let connect = Connect {
            clean_start: begin.3 & 1 == 0,
            receive_maximum: 3,
            topic_alias_maximum: 3,
            keep_alive: 10,
            ..Connect::default()
        };
        let _ = chaos.client.connect(chaos.now, &connect, &mut chaos.out);
        chaos.out.check(0);
        let terms = ConnAck { receive_maximum: 5, topic_alias_maximum: 2, ..ConnAck::default() };
        let terms = if version.is_v5() { terms } else { ConnAck::default() };
        chaos.rx = encode(version, &Packet::ConnAck(terms));
    }
    for step in steps {
        chaos.step(*step);
    }
    // Whatever has happened: it can begin anew.
    chaos.client.closed();
    chaos.out = Outbox::new(1_000);
    let connect = Connect::default();
    chaos.client.connect(chaos.now, &connect, &mut chaos.out).expect("a new connection");
    let ack = encode(version, &Packet::ConnAck(ConnAck::default()));
    let result = chaos.client.poll(chaos.now, &mut &ack[..], &mut chaos.out);
    assert!(matches!(result, Ok(Some(Event::Connected(_)))));
    let message = Publish { qos: QoS::AtLeastOnce, ..Publish::new(Topic::new("a").unwrap(), "") };
    let published = chaos.client.publish(chaos.now, &message, &mut chaos.out);
    assert!(matches!(published, Ok(Some(_))), "{published:?}");
}
