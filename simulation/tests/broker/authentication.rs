//! Enhanced authentication: what is asked, what is answered, and what is said besides.

use super::*;

/// [MQTT-4.12.0-1] [MQTT-4.12.0-2] [MQTT-4.12.0-4] [MQTT-4.12.0-5]: a step, another, and in; or a
/// method that nobody knows.
#[test]
fn enhanced_authentication_goes_step_by_step() {
    let method = text("SCRAM");
    let list = [Property::AuthenticationMethod(method), Property::AuthenticationData(b"step")];
    let reason = ReasonCode::ContinueAuthentication;
    let step = mqtt_core::Auth { reason, properties: Properties::from(&list) };
    let connect = Connect {
        authentication: Some(mqtt_core::Authentication { method, data: None }),
        ..named(Version::V5, "one", false)
    };
    both!(Config::default(), party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        // The open broker knows no method.
        party.desk.ask = |action| action.everyone();
        party.connect(who, &connect).expect("a connection");
        let events = party.events(who);
        let bad = ReasonCode::BadAuthenticationMethod;
        assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == bad), "{events:?}");
        for denied in [false, true] {
            party.desk.ask = |action| match action {
                Action::Connect(..) => Verdict::Continue,
                _ => Verdict::Later,
            };
            party.desk.answer.authentication_data = Some(b"step");
            party.connect(who, &connect).expect("a connection");
            assert_eq!(party.events(who), [Event::Auth(step)]);
            let now = party.clock.now();
            let app = &mut party.lines[who].app;
            app.call(|client, out| client.authenticate(now, &step, out)).expect("our turn");
            assert_eq!(party.events(who), [], "it is the host's turn");
            assert!(party.resume(who));
            party.desk.ask = if denied {
                |_| Verdict::Deny(ReasonCode::NotAuthorized)
            } else {
                |_| Verdict::Allow
            };
            let events = party.events(who);
            match events[..] {
                [Event::Connected(ack)] => {
                    let told = ack.authentication.map(|authentication| authentication.method);
                    assert!(!denied && told == Some(method));
                    party.say(who, "a", "x", QoS::AtLeastOnce);
                    assert_eq!(party.events(who).len(), 1);
                    party.cut(who);
                }
                [Event::Refused(ack)] => assert!(denied && ack.reason == ReasonCode::NotAuthorized),
                ref other => panic!("{other:?}"),
            }
        }
        assert_eq!(party.broker.sessions(), 0);
    });
}

/// [MQTT-4.12.1-1] [MQTT-4.12.1-2]: again on an open connection, which ends if it fails.
#[test]
fn a_client_may_authenticate_again() {
    let method = text("SCRAM");
    let list = [Property::AuthenticationMethod(method)];
    let again =
        mqtt_core::Auth { reason: ReasonCode::ReAuthenticate, properties: Properties::from(&list) };
    let connect = Connect {
        authentication: Some(mqtt_core::Authentication { method, data: None }),
        ..named(Version::V5, "one", false)
    };
    both!(Config::default(), party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(who, &connect);
        for denied in [false, true] {
            if denied {
                party.desk.ask = |_| Verdict::Deny(ReasonCode::NotAuthorized);
            }
            let now = party.clock.now();
            let app = &mut party.lines[who].app;
            app.call(|client, out| client.authenticate(now, &again, out)).expect("connected");
            let events = party.events(who);
            match events[..] {
                [Event::Auth(auth)] => assert!(!denied && auth.reason == ReasonCode::Success),
                [Event::Disconnected(_)] => assert!(denied),
                ref other => panic!("{other:?}"),
            }
        }
    });
}

const METHOD: &str = "SCRAM";

/// What a client asks for that knows a method.
fn knowing(method: &str) -> Connect<'_> {
    let method = text(method);
    let authentication = Some(mqtt_core::Authentication { method, data: Some(b"first") });
    Connect { authentication, ..named(Version::V5, "one", false) }
}

/// Everything that can be said.
fn everything() -> Answer<'static> {
    const WORDS: [UserProperty<'static>; 2] = {
        let Ok(word) = UserProperty::new("a", "b") else { panic!() };
        [word, word]
    };
    Answer {
        authentication_data: Some(b"v=final"),
        reason_string: Some(text("because")),
        server_reference: Some(text("elsewhere")),
        user_properties: List::from(&WORDS),
    }
}

/// The last step is in the CONNACK, with its method; another server is for those who are not let in.
#[test]
fn the_last_word_of_the_server_comes_with_its_verdict() {
    both!(Config::default(), party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.desk.answer = everything();
        let authentication = Some(mqtt_core::Authentication { method: text(METHOD), data: Some(b"v=final") });
        for (verdict, reason) in [
            ((|_| Verdict::Allow) as fn(&Action<'_>) -> Verdict, ReasonCode::Success),
            (|_| Verdict::Deny(ReasonCode::UseAnotherServer), ReasonCode::UseAnotherServer),
        ] {
            party.desk.ask = verdict;
            for small in [false, true] {
                // [MQTT-3.2.2-19] [MQTT-3.2.2-20]: the explanation is what may be left out.
                let maximum_packet_size = small.then_some(45);
                party.connect(who, &Connect { maximum_packet_size, ..knowing(METHOD) }).expect("a connection");
                let events = party.events(who);
                let [Event::Connected(ack) | Event::Refused(ack)] = events[..] else { panic!("{events:?}") };
                assert_eq!((ack.reason, ack.authentication), (reason, authentication));
                assert_eq!(ack.reason_string, (!small).then_some(text("because")));
                assert_eq!(ack.user_properties.iter().count(), if small { 0 } else { 2 });
                assert_eq!(ack.server_reference.is_some(), reason.is_error());
                party.cut(who);
            }
        }
        let old = party.invite_with(Version::V3_1_1, Heap::new(), ClientConfig::default());
        party.desk.ask = |_| Verdict::Deny(ReasonCode::NotAuthorized);
        party.connect(old, &named(Version::V3_1_1, "old", false)).expect("a connection");
        let refused = mqtt_core::ConnAck { reason: ReasonCode::NotAuthorized, ..Default::default() };
        assert_eq!(party.events(old), [Event::Refused(refused)]);
    });
}

/// [MQTT-4.12.1-1]: so it is when a client authenticates again. [MQTT-3.1.2-29]: explanations are for
/// those who want them.
#[test]
fn another_authentication_ends_with_the_last_word_of_the_server() {
    let list =
        [Property::AuthenticationMethod(text(METHOD)), Property::AuthenticationData(b"again")];
    let again = |reason| mqtt_core::Auth { reason, properties: Properties::from(&list) };
    both!(Config::default(), party => {
        for request_problem_information in [true, false] {
            let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.desk.ask = |_| Verdict::Allow;
            party.desk.answer = everything();
            party.come(who, &Connect { request_problem_information, ..knowing(METHOD) });
            for (verdict, reason, answered) in [
                ((|_| Verdict::Continue) as fn(&Action<'_>) -> Verdict, ReasonCode::ReAuthenticate, ReasonCode::ContinueAuthentication),
                (|_| Verdict::Allow, ReasonCode::ContinueAuthentication, ReasonCode::Success),
                (|_| Verdict::Deny(ReasonCode::ServerMoved), ReasonCode::ReAuthenticate, ReasonCode::ServerMoved),
            ] {
                party.desk.ask = verdict;
                let now = party.clock.now();
                let app = &mut party.lines[who].app;
                app.call(|client, out| client.authenticate(now, &again(reason), out)).expect("our turn");
                let events = party.events(who);
                let (told, properties) = match events[..] {
                    [Event::Auth(auth)] => (auth.reason, auth.properties),
                    [Event::Disconnected(disconnect)] => (disconnect.reason, disconnect.properties),
                    ref other => panic!("{other:?}"),
                };
                let is_over = told == ReasonCode::ServerMoved;
                assert_eq!(told, answered);
                assert_eq!(properties.authentication_data().is_some(), !is_over);
                assert_eq!(properties.server_reference().is_some(), is_over);
                let explains = is_over || request_problem_information;
                assert_eq!(properties.reason_string().is_some(), explains);
                assert_eq!(properties.iter().filter(|property| matches!(property, Property::UserProperty(_))).count(), if explains { 2 } else { 0 });
            }
        }
    });
}

/// A host is asked once, whatever room there is.
#[test]
fn an_answer_waits_for_room() {
    both!(Config::default(), party => {
        party.desk.capacity = 60;
        party.desk.answer.authentication_data = Some(b"0123456789012345678901234567");
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        let mut connect: &[u8] = b"\x10\x12\0\x04MQTT\x05\x02\0\0\x04\x15\0\x01m\0\x01c";
        party.broker.poll(now, connection, &mut connect, &mut party.desk).expect("a connection");
        assert!(party.desk.sinks[connection.index()].as_bytes().len() > 40);
        for verdict in [Verdict::Continue, Verdict::Allow] {
            party.desk.ask = if verdict == Verdict::Allow { |_| Verdict::Allow } else { |_| Verdict::Continue };
            let reason = if verdict == Verdict::Allow { 0x18 } else { 0x19 };
            let auth = [0xf0, 6, reason, 4, 0x15, 0, 1, b'm'];
            let mut input = &auth[..];
            party.broker.poll(now, connection, &mut input, &mut party.desk).expect("it waits");
            assert_eq!(input, auth);
            party.desk.ask = |_| panic!("twice");
            party.desk.sinks[connection.index()].clear();
            party.broker.poll(now, connection, &mut input, &mut party.desk).expect("room");
            assert_eq!(input, []);
            let written = party.desk.sinks[connection.index()].as_bytes();
            let told = if verdict == Verdict::Allow { 0 } else { 0x18 };
            assert_eq!(written[..3], [0xf0, 37, told]);
        }
        party.broker.closed(now, connection, &mut party.desk);
        // As in the handshake: the first challenge has not left when the second is due.
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        party.desk.ask = |_| Verdict::Continue;
        let mut input: &[u8] = b"\x10\x11\0\x04MQTT\x05\x02\0\0\x04\x15\0\x01m\0\0\xf0\x06\x18\x04\x15\0\x01m";
        let len = input.len();
        party.broker.poll(now, connection, &mut input, &mut party.desk).expect("it waits");
        assert_eq!((input.len(), party.desk.sinks[connection.index()].as_bytes().len()), (len, 39));
        party.desk.ask = |_| panic!("twice");
        party.desk.sinks[connection.index()].clear();
        party.broker.poll(now, connection, &mut input, &mut party.desk).expect("room");
        assert_eq!((input.len(), party.desk.sinks[connection.index()].as_bytes().len()), (len, 39));
        party.desk.sinks[connection.index()].clear();
        party.broker.closed(now, connection, &mut party.desk);
    });
}

/// Each step has its time, on an open connection as in the handshake.
#[test]
fn a_step_of_another_authentication_has_its_time() {
    let list = [Property::AuthenticationMethod(text(METHOD))];
    let again =
        mqtt_core::Auth { reason: ReasonCode::ReAuthenticate, properties: Properties::from(&list) };
    both!(Config { connect_timeout: 3_000, ..Config::default() }, party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(who, &knowing(METHOD));
        party.desk.ask = |_| Verdict::Continue;
        let now = party.clock.now();
        party.lines[who].app.call(|client, out| client.authenticate(now, &again, out)).expect("connected");
        party.run(2_900);
        assert!(matches!(party.events(who)[..], [Event::Auth(_)]));
        assert!(party.lines[who].wire.is_open());
        party.run(200);
        assert!(!party.lines[who].wire.is_open());
    });
}

/// [MQTT-3.1.4-6]'s kin: also a client that takes nothing has its time, whatever it has been asked before.
#[test]
fn a_step_that_cannot_be_sent_is_not_awaited_for_ever() {
    both!(Config::default(), party => {
        party.desk.capacity = 12; // for one step
        party.desk.ask = |_| Verdict::Continue;
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        let input: &[u8] = b"\x10\x12\0\x04MQTT\x05\x02\0\0\x04\x15\0\x01m\0\x01a\xf0\x06\x18\x04\x15\0\x01m";
        let mut rest = input;
        party.desk.ask = |action| match action {
            Action::Authenticate(_) => Verdict::Later,
            _ => Verdict::Continue,
        };
        party.broker.poll(now, connection, &mut rest, &mut party.desk).expect("a connection");
        assert_eq!(rest.len(), input.len(), "it is asked again");
        party.desk.ask = |_| Verdict::Continue;
        assert!(party.broker.resume(connection));
        party.broker.poll(now, connection, &mut rest, &mut party.desk).expect("a connection");
        party.run(9_000);
        party.broker.poll(party.clock.now(), connection, &mut rest, &mut party.desk).expect("a connection");
        assert!(!party.desk.closing[connection.index()]);
        party.run(2_000);
        assert!(party.desk.closing[connection.index()]);
        party.broker.closed(party.clock.now(), connection, &mut party.desk);
    });
}
