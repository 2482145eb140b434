//! What may be kept of messages, and what happens when it is too much.

use super::*;
use simulation::party::Kind;

const EACH: usize = 3_000;

/// A text of [`EACH`] bytes that begins with a number.
fn long(number: usize) -> String {
    format!("{number:<EACH$}")
}

/// As many messages as any of the brokers has memory for, and more.
fn flood<M: Kind>(party: &mut Party<M>, publisher: usize, count: usize) {
    for number in 0..count {
        party.say(publisher, "a", &long(number), QoS::AtLeastOnce);
        assert_eq!(answer(&party.events(publisher)), ReasonCode::Success, "it is taken");
    }
}

fn sleeper<M: Kind>(party: &mut Party<M>, name: &str) -> usize {
    let who = party.guest(Version::V5, name, true);
    party.subscribe(who, "a", QoS::AtLeastOnce);
    party.cut(who);
    who
}

/// The numbers of the messages that have waited for a client.
fn numbers<M: Kind>(party: &mut Party<M>, who: usize, name: &str) -> Vec<usize> {
    party.come(who, &named(Version::V5, name, true));
    party.texts(who).iter().map(|text| text.trim_end().parse().expect("a number")).collect()
}

/// Cannot happen: what one client does not acknowledge is in no limit.
#[test]
fn what_is_on_its_way_is_bounded_in_bytes() {
    both!(Config { in_flight_bytes: 1_000, ..Config::default() }, party => {
        let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
        let who = party.invite_with(Version::V5, Heap::new(), config);
        party.come(who, &named(Version::V5, "one", false));
        party.subscribe(who, "#", QoS::AtLeastOnce);
        let publisher = party.guest(Version::V5, "publisher", false);
        let lengths = [300, 300, 300, 300, 2_000, 300];
        for len in lengths {
            party.say(publisher, "a", &"x".repeat(len), QoS::AtLeastOnce);
        }
        let (mut got, mut on_their_way) = (Vec::new(), Vec::new());
        loop {
            let mut receipts = Vec::new();
            let mut bytes = 0;
            for event in party.events(who) {
                let Event::Message(message) = event else { panic!("{event:?}") };
                got.push(message.payload.len());
                bytes += message.payload.len();
                receipts.extend(message.receipt);
            }
            if receipts.is_empty() {
                break;
            }
            on_their_way.push(bytes);
            for receipt in receipts {
                let (now, success) = (party.clock.now(), ReasonCode::Success);
                party.lines[who].app.call(|client, out| client.acknowledge(now, receipt, success, out)).expect("room");
            }
        }
        assert_eq!(got, lengths);
        assert!(on_their_way.iter().all(|bytes| *bytes <= 1_000 || *bytes == 2_000), "{on_their_way:?}");
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// Cannot happen: clients that are not there take the memory of what is retained, of wills, and of those
/// who are there.
#[test]
fn queues_leave_room_for_the_rest() {
    both!(Config::default(), party => {
        for name in ["one", "two"] {
            sleeper(&mut party, name);
        }
        let publisher = party.guest(Version::V5, "publisher", false);
        flood(&mut party, publisher, 400);
        assert!(party.broker.statistics().dropped_overflow > 0, "the queues are full");

        let message = Publish { retain: true, ..message("b", "kept", QoS::AtLeastOnce) };
        party.publish(publisher, &message).expect("room");
        assert_eq!(answer(&party.events(publisher)), ReasonCode::NoMatchingSubscribers);
        assert_eq!(party.broker.retained(), 1);

        let payload = [b'x'; 1_000];
        let will = Will { topic: topic("b"), payload: &payload, qos: QoS::AtMostOnce, retain: true, properties: Properties::EMPTY };
        let dying = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(dying, &Connect { will: Some(will), ..named(Version::V5, "dying", false) });

        let awake = party.guest(Version::V5, "awake", false);
        party.subscribe(awake, "a", QoS::AtLeastOnce);
        flood(&mut party, publisher, 20);
        assert_eq!(party.texts(awake).len(), 20);
    });
}

/// Nor the other way round.
#[test]
fn retained_messages_leave_room_for_the_rest() {
    both!(Config::default(), party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        let text = long(0);
        let reasons: Vec<_> = (0..400).map(|number| {
            let name = format!("r/{number}");
            let message = Publish { retain: true, ..message(&name, &text, QoS::AtLeastOnce) };
            party.publish(publisher, &message).expect("room");
            answer(&party.events(publisher))
        }).collect();
        assert_eq!(reasons.last(), Some(&ReasonCode::QuotaExceeded));
        let who = sleeper(&mut party, "one");
        flood(&mut party, publisher, 2);
        assert_eq!(numbers(&mut party, who, "one"), [0, 1]);
    });
}

/// The policy is the same when memory runs out: also for those who wait for the same messages.
#[test]
fn the_oldest_go_when_there_is_no_memory() {
    both!(Config { overflow: Overflow::DropOldest, ..Config::default() }, party => {
        let names = ["one", "two", "three"];
        let guests = names.map(|name| sleeper(&mut party, name));
        let publisher = party.guest(Version::V5, "publisher", false);
        flood(&mut party, publisher, 400);
        for (who, name) in guests.into_iter().zip(names) {
            let numbers = numbers(&mut party, who, name);
            let first = *numbers.first().expect("some");
            assert!(first > 0 && numbers.iter().copied().eq(first..400), "{numbers:?}");
        }
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// Also if each has a copy of its own, for its subscription identifiers.
#[test]
fn the_oldest_go_when_there_is_no_memory_for_identifiers() {
    both!(Config { overflow: Overflow::DropOldest, ..Config::default() }, party => {
        let who = party.guest(Version::V5, "one", true);
        for (name, number) in [("a", 1), ("+", 2)] {
            let list = [Subscription::new(filter(name), QoS::AtLeastOnce)];
            let properties = [Property::SubscriptionIdentifier(number)];
            let subscribe = Subscribe { properties: (&properties).into(), ..Subscribe::from(&list) };
            party.ask(who, &subscribe).expect("room");
            party.events(who);
        }
        party.cut(who);
        let publisher = party.guest(Version::V5, "publisher", false);
        flood(&mut party, publisher, 400);
        let numbers = numbers(&mut party, who, "one");
        assert!(numbers.len() > 2 && numbers.last() == Some(&399), "{numbers:?}");
    });
}

/// Cannot happen: a message that is acknowledged to be on its way cannot be sent again.
#[test]
fn what_is_sent_can_be_sent_again() {
    both!(Config::default(), party => {
        let mut guests = Vec::new();
        let names = ["one", "two", "three"];
        for name in names {
            let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
            let who = party.invite_with(Version::V5, Heap::new(), config);
            party.come(who, &named(Version::V5, name, true));
            party.subscribe(who, name, QoS::AtLeastOnce);
            guests.push(who);
        }
        let publisher = party.guest(Version::V5, "publisher", false);
        for number in 0..200 {
            for name in names {
                party.say(publisher, name, &long(number), QoS::AtLeastOnce);
                party.events(publisher);
            }
        }
        assert!(party.broker.statistics().dropped_overflow > 0);
        for (who, name) in guests.into_iter().zip(names) {
            let sent = party.texts(who);
            party.cut(who);
            party.come(who, &named(Version::V5, name, true));
            assert!(party.texts(who).starts_with(&sent), "{} of them", sent.len());
        }
    });
}

/// For so many seconds a message is worth delivering.
fn brief<'a>(name: &'a str, text: &'a str, seconds: &'a [Property<'a>]) -> Publish<'a> {
    Publish { properties: seconds.into(), ..message(name, text, QoS::AtLeastOnce) }
}

const SECONDS: [Property<'static>; 1] = [Property::MessageExpiryInterval(10)];
const SECOND: [Property<'static>; 1] = [Property::MessageExpiryInterval(1)];

/// [MQTT-3.3.2-5]: without anybody asking for it.
#[test]
fn what_has_expired_is_not_kept() {
    both!(Config::default(), party => {
        let who = sleeper(&mut party, "one");
        let publisher = party.guest(Version::V5, "publisher", false);
        party.say(publisher, "a", "lasts", QoS::AtLeastOnce);
        party.publish(publisher, &brief("a", "waits", &SECONDS)).expect("room");
        party.publish(publisher, &Publish { retain: true, ..brief("b", "retained", &SECONDS) }).expect("room");
        party.drive();
        party.run(9_000);
        assert_eq!((party.broker.retained(), party.broker.statistics().dropped_expired), (1, 0));
        party.run(12_000);
        assert_eq!((party.broker.retained(), party.broker.statistics().dropped_expired), (0, 2));
        party.come(who, &named(Version::V5, "one", true));
        assert_eq!(party.texts(who), ["lasts"]);
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// However many there are, some at a time.
#[test]
fn what_has_expired_goes_in_pieces() {
    let mut party = Party::<Large>::new(Config::default());
    let publisher = party.guest(Version::V5, "publisher", false);
    for number in 0..2_500 {
        let name = format!("r/{number}");
        party
            .publish(publisher, &Publish { retain: true, ..brief(&name, "x", &SECONDS) })
            .expect("room");
        party.events(publisher);
    }
    party.run(10_000);
    let mut steps = 0;
    while party.broker.retained() > 0 {
        party.run(100);
        steps += 1;
        assert!(steps < 10);
    }
    assert!(steps >= 2);
    assert_eq!(party.broker.statistics().dropped_expired, 2_500);
}

/// What has expired takes nobody's place, even before it has been looked for.
#[test]
fn what_has_expired_makes_room() {
    let config = Config { queue_messages: 3, retained_messages: 3, ..Config::default() };
    both!(config, party => {
        let who = sleeper(&mut party, "one");
        let publisher = party.guest(Version::V5, "publisher", false);
        party.publish(publisher, &Publish { retain: true, ..brief("b", "retained", &SECONDS) }).expect("room");
        party.run(10_200);
        assert_eq!(party.broker.statistics().dropped_expired, 1, "they have just been looked for");
        for name in ["b", "c", "d"] {
            party.publish(publisher, &brief("a", "waits", &SECOND)).expect("room");
            party.publish(publisher, &Publish { retain: true, ..brief(name, "retained", &SECOND) }).expect("room");
            party.events(publisher);
        }
        party.run(2_000);
        assert_eq!(party.broker.statistics().dropped_expired, 1);
        party.say(publisher, "a", "new", QoS::AtLeastOnce);
        assert_eq!(answer(&party.events(publisher)), ReasonCode::Success);
        party.publish(publisher, &Publish { retain: true, ..message("e", "new", QoS::AtLeastOnce) }).expect("room");
        assert_eq!(answer(&party.events(publisher)), ReasonCode::NoMatchingSubscribers);
        party.come(who, &named(Version::V5, "one", true));
        assert_eq!(party.texts(who), ["new"]);
        party.subscribe(who, "+", QoS::AtLeastOnce);
        assert_eq!(party.texts(who), ["new"], "what is retained");
        assert_eq!(party.broker.statistics().dropped_expired, 7);
    });
}

/// [MQTT-3.3.2-5]: nor is it delivered, though it is still there.
#[test]
fn what_has_expired_is_not_delivered_to_new_subscribers() {
    both!(Config::default(), party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        party.publish(publisher, &Publish { retain: true, ..brief("a", "old", &SECONDS) }).expect("room");
        party.events(publisher);
        party.run(8_000);
        party.publish(publisher, &Publish { retain: true, ..brief("b", "new", &SECONDS) }).expect("room");
        party.events(publisher);
        let who = party.guest(Version::V5, "one", false);
        party.run(2_000);
        for name in ["a", "+"] {
            party.subscribe(who, name, QoS::AtMostOnce);
        }
        assert_eq!(party.texts(who), ["new"]);
        assert_eq!((party.broker.retained(), party.broker.statistics().dropped_expired), (2, 0), "not yet");
    });
}

/// A new value for a topic takes the old one's place, also when everything is full.
#[test]
fn retained_messages_are_replaced_when_there_is_no_memory() {
    both!(Config::default(), party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        let (mut number, mut reason) = (0, ReasonCode::NoMatchingSubscribers);
        while reason == ReasonCode::NoMatchingSubscribers {
            let (name, text) = (format!("r/{number:03}"), long(number));
            party.publish(publisher, &Publish { retain: true, ..message(&name, &text, QoS::AtLeastOnce) }).expect("room");
            reason = answer(&party.events(publisher));
            number += 1;
        }
        assert_eq!(reason, ReasonCode::QuotaExceeded);
        let text = long(1_000);
        party.publish(publisher, &Publish { retain: true, ..message("r/000", &text, QoS::AtLeastOnce) }).expect("room");
        assert_eq!(answer(&party.events(publisher)), ReasonCode::NoMatchingSubscribers);
        let who = party.guest(Version::V5, "one", false);
        party.subscribe(who, "r/000", QoS::AtMostOnce);
        assert_eq!(party.texts(who), [text]);
    });
}

/// What others wait for as well is not dropped for nothing: that would make no room.
#[test]
fn what_others_wait_for_stays() {
    both!(Config { overflow: Overflow::DropOldest, ..Config::default() }, party => {
        let one = party.guest(Version::V5, "one", true);
        for name in ["b", "+"] {
            party.subscribe(one, name, QoS::AtLeastOnce); // it is found twice
        }
        let other = sleeper(&mut party, "other");
        party.subscribe(one, "a", QoS::AtLeastOnce);
        party.cut(one);
        let publisher = party.guest(Version::V5, "publisher", false);
        flood(&mut party, publisher, 400);
        let dropped = party.broker.statistics().dropped_overflow;
        for number in 400..410 {
            party.say(publisher, "b", &long(number), QoS::AtLeastOnce);
        }
        assert_eq!(party.broker.statistics().dropped_overflow, dropped + 10, "those that came");
        let [first, second] = [(one, "one"), (other, "other")].map(|(who, name)| numbers(&mut party, who, name));
        assert!(first.len() > 1 && first.last() == Some(&399), "{first:?}");
        assert_eq!(first, second);
    });
}
