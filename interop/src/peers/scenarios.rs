//! What every client does with the broker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::serve::{PASSWORD, USER};
use super::{Kind, Login, Message, Outcome, Peer, Place};
use crate::{Result, ensure};

/// Something to be done by clients of one kind.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// There is no such thing before 5.0.
    pub(super) is_v5: bool,
    /// Clients that cannot do it.
    pub(super) not_for: &'static [Kind],
    pub(super) run: fn(&Place<'_>) -> Result<()>,
}

impl Scenario {
    const fn new(name: &'static str, run: fn(&Place<'_>) -> Result<()>) -> Self {
        Self { name, is_v5: false, not_for: &[], run }
    }

    const fn v5(self) -> Self {
        Self { is_v5: true, ..self }
    }

    const fn not_for(self, not_for: &'static [Kind]) -> Self {
        Self { not_for, ..self }
    }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("QoS 0", |place| each(place, 0)),
    Scenario::new("QoS 1", |place| each(place, 1)),
    Scenario::new("QoS 2", |place| each(place, 2)),
    Scenario::new("retained, replaced, cleared", retained),
    Scenario::new("will of a lost connection", will),
    Scenario::new("no will after a farewell", farewell),
    Scenario::new("will that is delayed", delayed_will).v5(),
    Scenario::new("session resumed with what was queued", resumed),
    Scenario::new("shared subscription", shared),
    Scenario::new("topic alias", alias).v5(),
    // Ours chooses its own, always.
    Scenario::new("subscription identifier", identifier).v5().not_for(&[Kind::Ours]),
    Scenario::new("TLS", tls),
    Scenario::new("client certificate", certificate),
    // These do not know WebSockets.
    Scenario::new("WebSocket", websocket).not_for(&[Kind::Mosquitto]),
    Scenario::new("WebSocket over TLS", websocket_tls).not_for(&[Kind::Mosquitto]),
    Scenario::new("wrong password refused", password),
    Scenario::new("1 MB", large),
];

/// In seconds: what is to come comes within this.
const LONG: f32 = 10.0;

/// What is not to come would have come within this.
const SHORT: f32 = 0.3;

fn message(topic: &str, payload: &str, qos: u8) -> Message {
    let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
    Message { topic, payload, qos, ..Message::default() }
}

/// This one comes next.
fn expect(peer: &mut dyn Peer, expected: &Message) -> Result<()> {
    let Some(message) = peer.next(LONG)? else {
        return Err(format!("{} does not come", expected.topic).into());
    };
    ensure(message == *expected, || {
        let start =
            |message: &Message| format!("{message:?}").chars().take(200).collect::<String>();
        format!("{} instead of {}", start(&message), start(expected))
    })
}

fn silence(peer: &mut dyn Peer) -> Result<()> {
    let message = peer.next(SHORT)?;
    ensure(message.is_none(), || format!("{message:?} comes"))
}

/// There and back, for one who is its own publisher.
fn echo(login: &Login, place: &Place<'_>) -> Result<()> {
    let topic = place.topic("echo");
    let mut peer = place.connected(login)?;
    peer.subscribe(&topic, 1, None)?;
    let hello = message(&topic, "hello", 1);
    peer.publish(&hello, None)?;
    expect(&mut *peer, &hello)?;
    peer.disconnect()
}

fn each(place: &Place<'_>, qos: u8) -> Result<()> {
    let filter = place.topic("+/each");
    let mut subscriber = place.connected(&place.login("subscriber"))?;
    subscriber.subscribe(&filter, qos, None)?;
    let mut publisher = place.connected(&place.login("publisher"))?;
    for number in 0..10 {
        let topic = place.topic(&format!("{}/each", number % 3));
        let sent = message(&topic, &format!("number {number}"), qos);
        publisher.publish(&sent, None)?;
        expect(&mut *subscriber, &sent)?;
        // What is published at more than was subscribed to comes at that.
        publisher.publish(&Message { qos: 2, ..sent.clone() }, None)?;
        expect(&mut *subscriber, &sent)?;
    }
    silence(&mut *subscriber)?;
    publisher.disconnect()?;
    subscriber.disconnect()
}

fn retained(place: &Place<'_>) -> Result<()> {
    let topic = place.topic("retained");
    let mut publisher = place.connected(&place.login("publisher"))?;
    for payload in ["first", "second"] {
        let kept = Message { retain: true, ..message(&topic, payload, 1) };
        publisher.publish(&kept, None)?;
        let mut late = place.connected(&place.login("late"))?;
        late.subscribe(&topic, 2, None)?;
        expect(&mut *late, &kept)?;
        silence(&mut *late)?;
        late.disconnect()?;
    }
    let mut present = place.connected(&place.login("present"))?;
    present.subscribe(&topic, 0, None)?;
    expect(&mut *present, &Message { retain: true, ..message(&topic, "second", 0) })?;
    publisher.publish(&Message { retain: true, ..message(&topic, "", 1) }, None)?;
    // Who is there when it is published is told that it is not old.
    expect(&mut *present, &message(&topic, "", 0))?;
    let mut late = place.connected(&place.login("late"))?;
    late.subscribe(&topic, 1, None)?;
    silence(&mut *late)
}

type Client = Box<dyn Peer>;

/// One who waits for a will, one who leaves it, and the will.
fn mortal(place: &Place<'_>, delay: u32) -> Result<(Client, Client, Message)> {
    let topic = place.topic("will");
    let mut watcher = place.connected(&place.login("watcher"))?;
    watcher.subscribe(&topic, 1, None)?;
    let will = Some((topic.clone(), "gone", delay));
    let expiry = if delay > 0 { 60 } else { 0 };
    let mut mortal = place.connected(&Login { will, expiry, ..place.login("mortal") })?;
    mortal.subscribe(&place.topic("nothing"), 0, None)?;
    Ok((watcher, mortal, message(&topic, "gone", 1)))
}

fn will(place: &Place<'_>) -> Result<()> {
    let (mut watcher, mortal, will) = mortal(place, 0)?;
    silence(&mut *watcher)?;
    drop(mortal);
    expect(&mut *watcher, &will)
}

fn farewell(place: &Place<'_>) -> Result<()> {
    let (mut watcher, mut mortal, will) = mortal(place, 0)?;
    mortal.disconnect()?;
    drop(mortal);
    // Of a signal, mosquitto_sub makes a farewell that asks for the will.
    if place.kind == Kind::Mosquitto && place.version == 5 {
        return expect(&mut *watcher, &will);
    }
    silence(&mut *watcher)
}

fn delayed_will(place: &Place<'_>) -> Result<()> {
    let (mut watcher, mortal, will) = mortal(place, 2)?;
    let start = Instant::now();
    drop(mortal);
    expect(&mut *watcher, &will)?;
    // It had to be noticed, too; the broker's clock ticks ten times a second.
    ensure(start.elapsed() > Duration::from_millis(1_800), || format!("{:?}", start.elapsed()))
}

fn resumed(place: &Place<'_>) -> Result<()> {
    let topic = place.topic("resumed");
    let sleeper = Login { clean: false, expiry: 60, ..place.login("sleeper") };
    let mut peer = place.connected(&sleeper)?;
    peer.subscribe(&topic, 2, None)?;
    peer.disconnect()?;
    drop(peer);
    let mut publisher = place.connected(&place.login("publisher"))?;
    let messages = (0..20).map(|number| message(&topic, &number.to_string(), 1 + number % 2));
    let messages: Vec<_> = messages.collect();
    for message in &messages {
        publisher.publish(message, None)?;
    }
    let mut peer = place.peer()?;
    match peer.connect(&sleeper)? {
        Outcome::Connected { present: Some(true) } => {}
        Outcome::Connected { present: None } => peer.subscribe(&topic, 2, None)?,
        other => return Err(format!("{other:?}").into()),
    }
    // Some have a message at QoS 2 when it is sent, some when it is released.
    let mut came = Vec::new();
    while came.len() < messages.len() {
        came.push(peer.next(LONG)?.ok_or_else(|| format!("{} messages", came.len()))?);
    }
    for qos in [1, 2] {
        let at = |message: &&Message| message.qos == qos;
        let so = came.iter().filter(at).eq(messages.iter().filter(at));
        ensure(so, || format!("QoS {qos}: {came:?}"))?;
    }
    silence(&mut *peer)
}

fn shared(place: &Place<'_>) -> Result<()> {
    let topic = place.topic("shared");
    let mut members = Vec::new();
    for number in 0..3 {
        let mut member = place.connected(&place.login(&format!("member{number}")))?;
        member.subscribe(&format!("$share/group/{topic}"), 1, None)?;
        members.push(member);
    }
    let mut publisher = place.connected(&place.login("publisher"))?;
    for number in 0..12 {
        publisher.publish(&message(&topic, &format!("{number:02}"), 1), None)?;
    }
    let mut shares = vec![Vec::new(); members.len()];
    let start = Instant::now();
    while shares.concat().len() < 12 && start.elapsed() < Duration::from_secs_f32(LONG) {
        for (member, share) in members.iter_mut().zip(&mut shares) {
            while let Some(message) = member.next(SHORT)? {
                share.push(message.payload);
            }
        }
    }
    let so = shares.iter().all(|share| share.is_sorted() && !share.is_empty());
    ensure(so, || format!("not in order, or not shared: {shares:?}"))?;
    let all: BTreeSet<_> = shares.concat().into_iter().collect();
    ensure(all.len() == 12 && shares.concat().len() == 12, || format!("{shares:?}"))
}

fn alias(place: &Place<'_>) -> Result<()> {
    let topic = place.topic("alias");
    let mut subscriber = place.connected(&place.login("subscriber"))?;
    subscriber.subscribe(&topic, 1, None)?;
    let mut publisher = place.connected(&place.login("publisher"))?;
    let first = message(&topic, "first", 1);
    publisher.publish(&first, Some(1))?;
    expect(&mut *subscriber, &first)?;
    // mosquitto_pub has another connection each time; ours leaves the topic away by itself.
    let keeps_topic = matches!(place.kind, Kind::Mosquitto | Kind::Ours);
    let topic = if keeps_topic { topic.as_str() } else { "" };
    let second = message(topic, "second", 1);
    publisher.publish(&second, Some(1))?;
    expect(&mut *subscriber, &Message { topic: first.topic, ..second })
}

fn identifier(place: &Place<'_>) -> Result<()> {
    let topic = place.topic("identifier");
    let mut subscriber = place.connected(&place.login("subscriber"))?;
    subscriber.subscribe(&topic, 1, Some(268_435_455))?;
    let mut publisher = place.connected(&place.login("publisher"))?;
    let message = message(&topic, "hello", 1);
    publisher.publish(&message, None)?;
    expect(&mut *subscriber, &Message { identifiers: vec![268_435_455], ..message })
}

fn tls(place: &Place<'_>) -> Result<()> {
    let tls = Some(place.served.directory());
    echo(&Login { url: place.served.tls.clone(), tls, ..place.login("tls") }, place)
}

fn certificate(place: &Place<'_>) -> Result<()> {
    let (url, tls) = (place.served.certified.clone(), Some(place.served.directory()));
    let shows = Login { url, tls, shows_certificate: true, ..place.login("certificate") };
    echo(&shows, place)?;
    let nameless = Login { shows_certificate: false, ..shows };
    let outcome = place.peer()?.connect(&nameless);
    ensure(outcome.is_err(), || format!("let in without a certificate: {outcome:?}"))
}

fn websocket(place: &Place<'_>) -> Result<()> {
    echo(&Login { url: place.served.websocket.clone(), ..place.login("websocket") }, place)
}

fn websocket_tls(place: &Place<'_>) -> Result<()> {
    let (url, tls) = (place.served.websocket_tls.clone(), Some(place.served.directory()));
    echo(&Login { url, tls, ..place.login("wss") }, place)
}

fn password(place: &Place<'_>) -> Result<()> {
    let asks = Login { url: place.served.asks.clone(), ..place.login("user") };
    echo(&Login { user: Some((USER, PASSWORD)), ..asks.clone() }, place)?;
    for user in [(USER, "guess"), ("mallory", PASSWORD)] {
        let outcome = place.peer()?.connect(&Login { user: Some(user), ..asks.clone() })?;
        // Before 5.0 the reason is another number, which some translate.
        let so = matches!(outcome, Outcome::Refused { reason: 134 })
            || place.version < 5 && outcome == Outcome::Refused { reason: 4 };
        ensure(so, || format!("{user:?}: {outcome:?}"))?;
    }
    Ok(())
}

fn large(place: &Place<'_>) -> Result<()> {
    let topic = place.topic("large");
    let mut subscriber = place.connected(&place.login("subscriber"))?;
    subscriber.subscribe(&topic, 2, None)?;
    let mut publisher = place.connected(&place.login("publisher"))?;
    let payload: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 251) as u8).collect();
    for qos in 0..3 {
        let message =
            Message { topic: topic.clone(), payload: payload.clone(), qos, ..Message::default() };
        publisher.publish(&message, None)?;
        expect(&mut *subscriber, &message)?;
    }
    Ok(())
}
