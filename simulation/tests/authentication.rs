//! Enhanced authentication, at the beginning and again.

use mqtt_core::{
    Auth, Authentication, Config, ConnAck, Connect, EncodeError, Error, Event, Property, QoS,
    ReasonCode, SendError, Text, Version, Violation, wire::Packet,
};
use simulation::story::*;

const CONTINUE: ReasonCode = ReasonCode::ContinueAuthentication;

fn text(text: &'static str) -> Text<'static> {
    Text::new(text).unwrap()
}

fn steps(method: &'static str, data: &'static [u8]) -> [Property<'static>; 2] {
    [Property::AuthenticationMethod(text(method)), Property::AuthenticationData(data)]
}

fn auth<'a>(reason: ReasonCode, properties: &'a [Property<'a>; 2]) -> Auth<'a> {
    Auth { reason, properties: properties.into() }
}

fn authenticate(pair: &mut Talk, auth: &Auth<'_>) -> Result<(), SendError> {
    let now = pair.clock.now();
    pair.client.call(|client, out| client.authenticate(now, auth, out))
}

fn connect() -> Connect<'static> {
    let authentication = Authentication { method: text("SCRAM"), data: Some(b"1") };
    Connect { authentication: Some(authentication), ..persistent(Version::V5) }
}

/// A client that has sent CONNECT with a method.
fn begin() -> Talk {
    let mut pair = unconnected(Version::V5, Small::new(), Config::default());
    pair.server.greeting = None;
    pair.connect(&connect()).unwrap();
    pair.drive();
    assert!(matches!(pair.server.packet(), Packet::Connect(..)));
    pair
}

/// A client that has been accepted with a method.
fn begun() -> Talk {
    let authentication = Authentication { method: text("SCRAM"), data: Some(b"welcome") };
    let terms = ConnAck { authentication: Some(authentication), ..ConnAck::default() };
    let config = Config::default();
    talk_on(Version::V5, Small::new(), config, &connect(), terms)
}

/// [MQTT-4.12.0-2], [MQTT-4.12.0-3], [MQTT-4.12.0-5], [MQTT-3.1.2-30]
#[test]
fn both_sides_take_steps_until_connack() {
    let mut pair = begin();
    for _ in 0..3 {
        let (question, answer) = (steps("SCRAM", b"question"), steps("SCRAM", b"answer"));
        pair.server.send(&Packet::Auth(auth(CONTINUE, &question)));
        assert_eq!(pair.event(), Event::Auth(auth(CONTINUE, &question)));
        assert_eq!(authenticate(&mut pair, &auth(CONTINUE, &answer)), Ok(()));
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::Auth(auth(CONTINUE, &answer)));
        // Every step has its own time.
        pair.run(9_000);
    }
    assert!(!pair.client.client.is_connected());
    let authentication = Authentication { method: text("SCRAM"), data: Some(b"last") };
    let terms = ConnAck { authentication: Some(authentication), ..ConnAck::default() };
    pair.server.send(&Packet::ConnAck(terms));
    assert_eq!(pair.event(), Event::Connected(terms));
}

#[test]
fn a_step_that_does_not_come_is_given_up() {
    let mut pair = begin();
    let question = steps("SCRAM", b"question");
    pair.run(9_999);
    pair.server.send(&Packet::Auth(auth(CONTINUE, &question)));
    assert!(matches!(pair.event(), Event::Auth(_)));
    authenticate(&mut pair, &auth(CONTINUE, &question)).unwrap();
    pair.run(9_999);
    assert_eq!(pair.client.error, None);
    pair.run(1);
    assert_eq!(pair.client.error, Some(Error::HandshakeTimeout));
}

/// [MQTT-4.12.0-4]
#[test]
fn the_server_may_refuse_at_any_step() {
    let mut pair = begin();
    let refusal = ConnAck { reason: ReasonCode::NotAuthorized, ..ConnAck::default() };
    pair.server.send(&Packet::ConnAck(refusal));
    assert_eq!(pair.event(), Event::Refused(refusal));
}

/// [MQTT-4.12.1-1]
#[test]
fn an_open_connection_can_be_authenticated_again() {
    let mut pair = begun();
    for _ in 0..2 {
        let (first, question, last) =
            (steps("SCRAM", b"first"), steps("SCRAM", b"question"), steps("SCRAM", b"last"));
        authenticate(&mut pair, &auth(ReasonCode::ReAuthenticate, &first)).unwrap();
        // All else goes on meanwhile.
        pair.publish(&message("a", "b", QoS::AtMostOnce)).unwrap();
        pair.drive();
        let sent = Packet::Auth(auth(ReasonCode::ReAuthenticate, &first));
        assert_eq!(pair.server.packet(), sent);
        assert!(matches!(pair.server.packet(), Packet::Publish(..)));
        pair.server.send(&Packet::Auth(auth(CONTINUE, &question)));
        assert!(matches!(pair.event(), Event::Auth(_)));
        authenticate(&mut pair, &auth(CONTINUE, &question)).unwrap();
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::Auth(_)));
        pair.server.send(&Packet::Auth(auth(ReasonCode::Success, &last)));
        assert_eq!(pair.event(), Event::Auth(auth(ReasonCode::Success, &last)));
        assert!(pair.client.client.is_connected());
    }
}

/// [MQTT-4.12.0-5], [MQTT-4.12.0-7], [MQTT-3.15.2-1]
#[test]
fn steps_that_the_client_may_not_take() {
    let good = steps("SCRAM", b"");
    let other = steps("OTHER", b"");
    let nameless = Auth { reason: ReasonCode::ReAuthenticate, properties: Default::default() };
    let property = Err(SendError::Invalid(EncodeError::Property));
    let reason = Err(SendError::Invalid(EncodeError::ReasonCode));
    let again = ReasonCode::ReAuthenticate;
    let mut pair = begun();
    assert_eq!(authenticate(&mut pair, &auth(again, &other)), property);
    assert_eq!(authenticate(&mut pair, &nameless), property);
    assert_eq!(authenticate(&mut pair, &auth(CONTINUE, &good)), reason);
    assert_eq!(authenticate(&mut pair, &auth(ReasonCode::Success, &good)), reason);
    pair.drive();
    assert!(pair.server.is_quiet());
    // Without a method in CONNECT there is no AUTH at all, and before 5.0 there is none either.
    for version in BOTH {
        let mut pair = talk(version);
        assert!(authenticate(&mut pair, &auth(again, &good)).is_err());
        pair.drive();
        assert!(pair.server.is_quiet());
    }
    let mut pair = unconnected(Version::V5, Small::new(), Config::default());
    assert_eq!(authenticate(&mut pair, &auth(again, &good)), Err(SendError::NotConnected));
    // Before CONNACK it is not again.
    let mut pair = begin();
    assert_eq!(authenticate(&mut pair, &auth(again, &good)), reason);
    // Nor is there anything to answer before the server has taken a step [MQTT-4.12.0-3].
    assert_eq!(authenticate(&mut pair, &auth(CONTINUE, &good)), reason);
}

/// [MQTT-4.12.0-5], [MQTT-4.12.0-6]
#[test]
fn steps_that_the_server_may_not_take() {
    let (good, other) = (steps("SCRAM", b""), steps("OTHER", b""));
    let violation = Error::Protocol(Violation::Authentication);
    for (method, reason) in
        [(&other, CONTINUE), (&good, ReasonCode::Success), (&good, ReasonCode::ReAuthenticate)]
    {
        let mut pair = begin();
        pair.server.send(&Packet::Auth(auth(reason, method)));
        assert_eq!(pair.error(), violation);
    }
    let mut pair = begin();
    let authentication = Some(Authentication { method: text("OTHER"), data: None });
    pair.server.send(&Packet::ConnAck(ConnAck { authentication, ..ConnAck::default() }));
    assert_eq!(pair.error(), violation);
    // Nobody has asked.
    let mut pair = begun();
    pair.server.send(&Packet::Auth(auth(CONTINUE, &good)));
    assert!(matches!(pair.error(), Error::Protocol(_)));
    let mut pair = unconnected(Version::V5, Small::new(), Config::default());
    pair.server.greeting = None;
    pair.connect(&persistent(Version::V5)).unwrap();
    pair.drive();
    pair.server.send(&Packet::Auth(auth(CONTINUE, &good)));
    assert_eq!(pair.error(), violation);
}

/// [MQTT-4.12.0-5]: every successful CONNACK names the method.
#[test]
fn a_connack_without_the_method_is_a_violation() {
    let mut pair = begin();
    pair.server.send(&Packet::ConnAck(ConnAck::default()));
    assert_eq!(pair.error(), Error::Protocol(Violation::Authentication));
}

/// [MQTT-4.12.1-2]: by the server's mistake, by its decision, or by ours.
#[test]
fn a_re_authentication_that_fails_ends_the_connection() {
    let begin_again = || {
        let mut pair = begun();
        let first = steps("SCRAM", b"first");
        authenticate(&mut pair, &auth(ReasonCode::ReAuthenticate, &first)).unwrap();
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::Auth(_)));
        pair
    };
    let mut pair = begin_again();
    pair.server.send(&Packet::Auth(auth(CONTINUE, &steps("OTHER", b""))));
    assert_eq!(pair.error(), Error::Protocol(Violation::Authentication));
    let told = Packet::Disconnect(ReasonCode::ProtocolError.into());
    assert_eq!(pair.server.packet(), told);
    assert!(!pair.wire.is_open());

    let mut pair = begin_again();
    let refusal = ReasonCode::NotAuthorized.into();
    pair.server.send(&Packet::Disconnect(refusal));
    assert_eq!(pair.event(), Event::Disconnected(refusal));
    assert!(!pair.wire.is_open());

    let mut pair = begin_again();
    let (now, farewell) = (pair.clock.now(), ReasonCode::UnspecifiedError.into());
    pair.client.call(|client, out| client.disconnect(now, &farewell, out)).unwrap();
    assert!(!pair.client.client.is_connected());
    pair.drive();
    assert_eq!(pair.server.packet(), Packet::Disconnect(farewell));
}

/// [MQTT-3.15.2-2], [MQTT-3.15.2-3], [MQTT-3.2.2-15]: to the byte, and nothing changes.
#[test]
fn a_step_keeps_to_the_maximum_packet_size() {
    let last = [
        Property::ReasonString(text("why")),
        Property::UserProperty(mqtt_core::UserProperty::new("k", "").unwrap()),
    ];
    for last in last {
        let properties = [Property::AuthenticationMethod(text("SCRAM")), last];
        let first = auth(ReasonCode::ReAuthenticate, &properties);
        let len = 2 + 1 + 1 + 8 + 6;
        for (maximum, result) in [(len, Ok(())), (len - 1, Err(SendError::TooLarge))] {
            let mut pair = unconnected(Version::V5, Small::new(), Config::default());
            let authentication = Some(Authentication { method: text("SCRAM"), data: None });
            let maximum_packet_size = Some(maximum);
            let terms = ConnAck { maximum_packet_size, authentication, ..ConnAck::default() };
            pair.server.greeting = Some(terms);
            pair.connect(&connect()).unwrap();
            assert!(matches!(pair.event(), Event::Connected(_)));
            assert_eq!(authenticate(&mut pair, &first), result);
            pair.drive();
            assert_eq!(pair.server.received.len(), result.is_ok().into());
            assert!(pair.client.client.is_connected());
        }
    }
}

/// A re-authentication ends with its connection.
#[test]
fn what_was_begun_on_one_connection_is_not_awaited_on_the_next() {
    let mut pair = begun();
    let first = steps("SCRAM", b"first");
    authenticate(&mut pair, &auth(ReasonCode::ReAuthenticate, &first)).unwrap();
    pair.drive();
    pair.cut();
    pair.server.greeting = Some(ConnAck::default());
    pair.connect(&persistent(Version::V5)).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
    pair.server.send(&Packet::Auth(auth(ReasonCode::Success, &first)));
    assert!(matches!(pair.error(), Error::Protocol(_)));
}
