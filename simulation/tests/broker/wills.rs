//! Wills.

use super::*;

fn with_will<'a>(version: Version, keeps: bool, properties: &'a [Property<'a>]) -> Connect<'a> {
    let will = Will {
        topic: topic("wills/one"),
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: properties.into(),
    };
    Connect { will: Some(will), ..named(version, "one", keeps) }
}

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[test]
fn a_will_is_published_when_the_connection_is_lost() {
    both!(Config::default(), party => {
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, "wills/#", QoS::AtLeastOnce);
        for version in BOTH {
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            party.come(who, &with_will(version, false, &[]));
            party.cut(who);
            assert_eq!(party.texts(heir), ["gone"]);
            let mut goodbyes = vec![(ReasonCode::Success, 0)];
            if version.is_v5() {
                goodbyes.push((ReasonCode::DisconnectWithWillMessage, 1));
            }
            for (reason, count) in goodbyes {
                party.come(who, &with_will(version, false, &[]));
                let now = party.clock.now();
                let leave = Disconnect::from(reason);
                party.lines[who].app.call(|client, out| client.disconnect(now, &leave, out)).expect("room");
                party.lines[who].app.hang_up();
                assert_eq!(party.texts(heir).len(), count, "{reason:?}");
            }
        }
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// [MQTT-3.1.2-22]: silence is a loss.
#[test]
fn a_client_that_falls_silent_has_died() {
    both!(Config::default(), party => {
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, "wills/#", QoS::AtLeastOnce);
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(who, &Connect { keep_alive: 10, ..with_will(Version::V5, false, &[]) });
        party.run(60_000);
        assert_eq!(party.texts(heir), [""; 0], "its machine keeps it alive");
        party.lines[who].app.awake = false;
        party.run(14_000);
        assert_eq!(party.texts(heir), [""; 0]);
        party.run(12_000);
        assert_eq!(party.texts(heir), ["gone"]);
    });
}

/// [MQTT-3.1.3-9]: after the delay, or when the session ends; not if the client is back.
#[test]
fn a_will_waits_for_its_delay() {
    both!(Config::default(), party => {
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, "wills/#", QoS::AtLeastOnce);
        let delay = |seconds| [Property::WillDelayInterval(seconds)];
        // Delay, session expiry, what it takes.
        for (seconds, expiry, due) in [(10, 3_600, 10_000), (3_600, 10, 10_000)] {
            let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            let properties = delay(seconds);
            let connect = Connect { session_expiry_interval: expiry, ..with_will(Version::V5, true, &properties) };
            party.come(who, &connect);
            party.cut(who);
            party.run(due - 1_000);
            assert_eq!(party.texts(heir), [""; 0]);
            assert!(party.come(who, &connect), "back in time");
            party.run(2 * due);
            assert_eq!(party.texts(heir), [""; 0], "so it is not published");
            party.cut(who);
            party.run(due + 1_000);
            assert_eq!(party.texts(heir), ["gone"]);
            let mut clean = connect;
            clean.clean_start = true;
            party.come(who, &clean);
            party.cut(who);
            assert!(!party.come(who, &clean), "the session has ended");
            assert_eq!(party.texts(heir), ["gone"], "and the will with it");
            party.lines[who].app.hang_up();
            party.drive();
            party.run(3_700_000);
            party.texts(heir);
        }
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// Section 3.1.3.2.2: a takeover is a loss, which a delay outlasts.
#[test]
fn a_takeover_publishes_a_will_without_delay() {
    both!(Config::default(), party => {
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, "wills/#", QoS::AtLeastOnce);
        let delays = [Property::WillDelayInterval(10)];
        for (properties, clean, count) in [(&[][..], false, 1), (&delays[..], false, 0), (&delays[..], true, 1)] {
            let old = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.come(old, &with_will(Version::V5, true, properties));
            let new = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.come(new, &Connect { clean_start: clean, ..named(Version::V5, "one", true) });
            assert_eq!(party.texts(heir).len(), count, "{properties:?} {clean}");
            party.run(20_000);
            assert_eq!(party.texts(heir), [""; 0]);
            party.cut(new);
            party.come(new, &named(Version::V5, "one", false));
            party.cut(new);
        }
    });
}

/// [MQTT-3.1.2-14] [MQTT-3.1.2-15]; and its properties are those of a message.
#[test]
fn a_will_may_be_retained() {
    both!(Config::default(), party => {
        for retain in [true, false] {
            let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            let properties = [Property::ContentType(text("sad")), Property::WillDelayInterval(0)];
            let mut connect = with_will(Version::V5, false, &properties);
            connect.will.as_mut().expect("a will").retain = retain;
            party.come(who, &connect);
            party.cut(who);
            let heir = party.guest(Version::V5, "heir", false);
            party.ask(heir, &Subscribe::from(&[handling("#", RetainHandling::Send)])).expect("room");
            let events = party.events(heir);
            if let ([_, Event::Message(message)], true) = (&events[..], retain) {
                let kept = [Property::ContentType(text("sad"))];
                assert_eq!(message.properties, Properties::from(&kept));
                party.publish(heir, &Publish { retain: true, ..message_of("wills/one") }).expect("room");
            } else {
                assert!(!retain && events.len() == 1, "{events:?}");
            }
            party.events(heir);
            party.cut(heir);
        }
        assert_eq!(party.broker.retained(), 0);
    });
}

fn message_of(name: &str) -> Publish<'_> {
    message(name, "", QoS::AtMostOnce)
}

/// [MQTT-3.1.2-8] [MQTT-3.14.4-1]: whom the host sends away is told why; the will is published, the
/// session lives on.
#[test]
fn whom_the_host_sends_away_is_told_why_and_leaves_a_will() {
    both!(Config::default(), party => {
        let witness = party.guest(Version::V5, "witness", false);
        party.subscribe(witness, "#", QoS::AtLeastOnce);
        for version in BOTH {
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            let will = Will { topic: topic("wills/one"), payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() };
            party.come(who, &Connect { will: Some(will), ..named(version, "one", true) });
            let connection = party.lines[who].connection.expect("a connection");
            let now = party.clock.now();
            let list = [Property::ReasonString(text("maintenance"))];
            let reason = ReasonCode::AdministrativeAction;
            let farewell = Disconnect { reason, properties: Properties::from(&list) };
            party.broker.disconnect(now, connection, &farewell, &mut party.desk).expect("a connection");
            let again = party.broker.disconnect(now, connection, &farewell, &mut party.desk);
            assert_eq!(again, Err(mqtt_core::SendError::NotConnected));
            let events = party.events(who);
            match version.is_v5() {
                true => assert_eq!(events, [Event::Disconnected(farewell)]),
                false => assert_eq!(events, []),
            }
            assert!(!party.lines[who].wire.is_open());
            assert_eq!(party.texts(witness), ["gone"]);
            assert_eq!(party.broker.sessions(), 2);
        }
    });
}

/// What cannot be said changes nothing; what does not fit is said in short; nobody is sent away who
/// has not come.
#[test]
fn sending_away_works_whatever_there_is_to_say() {
    both!(Config::default(), party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(who, &Connect { maximum_packet_size: Some(20), ..named(Version::V5, "one", false) });
        let connection = party.lines[who].connection.expect("a connection");
        let now = party.clock.now();
        let lives = [Property::SessionExpiryInterval(1)];
        for wrong in [
            Disconnect { properties: Properties::from(&lives), ..Disconnect::default() },
            Disconnect::from(ReasonCode::DisconnectWithWillMessage),
            Disconnect::from(ReasonCode::Banned),
        ] {
            let result = party.broker.disconnect(now, connection, &wrong, &mut party.desk);
            assert!(matches!(result, Err(mqtt_core::SendError::Invalid(_))), "{result:?}");
        }
        assert!(party.lines[who].wire.is_open());
        let long = [Property::ReasonString(text("longer than what is taken"))];
        let reason = ReasonCode::ServerBusy;
        let farewell = Disconnect { reason, properties: Properties::from(&long) };
        party.broker.disconnect(now, connection, &farewell, &mut party.desk).expect("a connection");
        assert_eq!(party.events(who), [Event::Disconnected(Disconnect::from(reason))]);
        let early = party.broker.open(now).expect("room");
        party.desk.begin(early);
        party.broker.disconnect(now, early, &farewell, &mut party.desk).expect("a connection");
        assert!(party.desk.closing[early.index()] && party.desk.sinks[early.index()].is_empty());
        party.broker.closed(now, early, &mut party.desk);
    });
}
