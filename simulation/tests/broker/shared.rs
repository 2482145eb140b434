//! Shared subscriptions.

use super::*;

const SHARED: &str = "$share/crew/jobs/+";

/// [MQTT-4.8.2-4]: each message to one member, in turn.
#[test]
fn messages_are_spread_over_the_members() {
    both!(Config::default(), party => {
        let members = ["one", "two", "three"].map(|name| {
            let who = party.guest(Version::V5, name, false);
            party.subscribe(who, SHARED, QoS::AtLeastOnce);
            who
        });
        let publisher = party.guest(Version::V5, "publisher", false);
        for number in 0..9 {
            party.say(publisher, "jobs/print", &number.to_string(), QoS::AtLeastOnce);
        }
        for who in members {
            assert_eq!(party.texts(who).len(), 3);
        }
        // Who is not there is passed over.
        party.cut(members[0]);
        for number in 0..4 {
            party.say(publisher, "jobs/print", &number.to_string(), QoS::AtMostOnce);
        }
        let left = members[1..].iter().map(|who| party.texts(*who).len()).sum::<usize>();
        assert_eq!(left, 4);
    });
}

/// Section 4.8.2: apart from the client's own subscriptions, at the QoS of the shared one, and
/// nothing that was retained.
#[test]
fn a_shared_subscription_stands_for_itself() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        let publisher = party.guest(Version::V5, "publisher", false);
        party.publish(publisher, &Publish { retain: true, ..message("jobs/old", "x", QoS::AtLeastOnce) }).expect("room");
        party.drive();
        party.subscribe(who, SHARED, QoS::AtMostOnce);
        assert_eq!(party.texts(who), [""; 0]);
        let apart = [handling("jobs/#", RetainHandling::DoNotSend)];
        party.ask(who, &Subscribe::from(&apart)).expect("room");
        party.events(who);
        party.say(publisher, "jobs/print", "x", QoS::AtLeastOnce);
        let mut qos: Vec<_> = party.heard(who).into_iter().map(|(_, _, qos, _)| qos).collect();
        qos.sort();
        assert_eq!(qos, [QoS::AtMostOnce, QoS::AtLeastOnce]);
    });
}

/// [MQTT-4.8.2-5]: what waits for a member, or is unacknowledged at QoS 1, goes to another when its
/// session ends; QoS 2 in delivery does not.
#[test]
fn the_messages_of_a_member_that_ends_go_to_another() {
    both!(Config::default(), party => {
        let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
        let mortal = party.invite_with(Version::V5, Heap::new(), config);
        let connect = Connect { receive_maximum: 2, ..named(Version::V5, "mortal", false) };
        party.come(mortal, &connect);
        party.subscribe(mortal, SHARED, QoS::ExactlyOnce);
        let publisher = party.guest(Version::V5, "publisher", false);
        party.say(publisher, "jobs/one", "qos 1", QoS::AtLeastOnce);
        party.say(publisher, "jobs/two", "qos 2", QoS::ExactlyOnce);
        party.say(publisher, "jobs/two", "waits", QoS::ExactlyOnce);
        assert_eq!(party.texts(mortal), ["qos 1", "qos 2"]);
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, SHARED, QoS::ExactlyOnce);
        party.cut(mortal);
        assert_eq!(party.texts(heir), ["qos 1", "waits"]);
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// [MQTT-4.8.2-6]
#[test]
fn a_message_that_a_member_refuses_is_discarded() {
    both!(Config::default(), party => {
        let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
        let members = ["one", "two"].map(|name| {
            let who = party.invite_with(Version::V5, Heap::new(), config);
            party.come(who, &named(Version::V5, name, false));
            party.subscribe(who, SHARED, QoS::AtLeastOnce);
            who
        });
        let publisher = party.guest(Version::V5, "publisher", false);
        party.say(publisher, "jobs/one", "x", QoS::AtLeastOnce);
        for (index, who) in members.into_iter().enumerate() {
            for event in party.events(who) {
                let Event::Message(message) = event else { panic!("{event:?}") };
                let (now, refusal) = (party.clock.now(), ReasonCode::NotAuthorized);
                let receipt = message.receipt.expect("a receipt");
                party.lines[who].app.call(|client, out| client.acknowledge(now, receipt, refusal, out)).expect("room");
                assert_eq!(party.texts(members[1 - index]), [""; 0]);
                assert_eq!(party.broker.bytes(), 0);
            }
        }
    });
}

/// [MQTT-4.8.2-4]: what was sent to a member at QoS 2 is for it alone.
#[test]
fn a_member_that_comes_back_gets_what_it_was_sent() {
    both!(Config::default(), party => {
        let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
        let lasting = party.invite_with(Version::V5, Heap::new(), config);
        party.come(lasting, &named(Version::V5, "lasting", true));
        party.subscribe(lasting, SHARED, QoS::ExactlyOnce);
        let publisher = party.guest(Version::V5, "publisher", false);
        // It arrives, and the answer does not.
        party.lines[lasting].app.awake = false;
        party.say(publisher, "jobs/one", "x", QoS::ExactlyOnce);
        let other = party.guest(Version::V5, "other", false);
        party.subscribe(other, SHARED, QoS::ExactlyOnce);
        party.cut(lasting);
        party.lines[lasting].app.awake = true;
        assert_eq!(party.texts(other), [""; 0]);
        assert!(party.come(lasting, &named(Version::V5, "lasting", true)));
        assert_eq!(party.texts(lasting), ["x"]);
        assert_eq!(party.texts(other), [""; 0]);
    });
}
