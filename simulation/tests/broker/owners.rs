//! Whose a session is, and who may have it.

use super::*;
use mqtt_core::broker::Takeover;

/// Alice is the first user, bob the second, and who says no name is nobody.
fn numbers(action: &Action<'_>) -> Verdict {
    match action {
        Action::Connect(_, connect) => match connect.user_name.map(|name| name.as_str()) {
            Some("alice") => Verdict::AllowAs(1),
            Some(_) => Verdict::AllowAs(2),
            None => Verdict::Allow,
        },
        _ => Verdict::Allow,
    }
}

/// All the users there are.
const USERS: [Option<&str>; 3] = [Some("alice"), Some("bob"), None];

fn connect<'a>(version: Version, user: Option<&'a str>, keeps: bool) -> Connect<'a> {
    Connect { user_name: user.map(text), ..named(version, "one", keeps) }
}

/// A client of this user, connected.
fn user<M: Kind>(party: &mut Party<M>, version: Version, user: Option<&str>, keeps: bool) -> usize {
    let who = party.invite_with(version, Heap::new(), ClientConfig::default());
    party.come(who, &connect(version, user, keeps));
    who
}

/// Why a client of this user is not let in.
fn refused<M: Kind>(
    party: &mut Party<M>,
    version: Version,
    user: Option<&str>,
    clean: bool,
) -> ReasonCode {
    let who = party.invite_with(version, Heap::new(), ClientConfig::default());
    party.connect(who, &connect(version, user, !clean)).expect("a connection");
    let events = party.events(who);
    let [Event::Refused(ack)] = events[..] else { panic!("{user:?}: {events:?}") };
    assert!(!ack.session_present && !party.lines[who].wire.is_open());
    ack.reason
}

/// The story of a session that others come for, connected and not, to have it or to end it.
fn keep_what_is_yours<M: Kind>(mut party: Party<M>) {
    for version in BOTH {
        for owner in USERS {
            let others = USERS.into_iter().filter(|user| *user != owner);
            let publisher = party.guest(Version::V5, "publisher", false);
            let mine = user(&mut party, version, owner, true);
            party.subscribe(mine, "a", QoS::AtLeastOnce);
            for other in others.clone() {
                for clean in [false, true] {
                    let reason = refused(&mut party, version, other, clean);
                    assert_eq!(reason, ReasonCode::ClientIdentifierNotValid, "{owner:?} {other:?}");
                    party.say(publisher, "a", "connected", QoS::AtLeastOnce);
                    assert_eq!(party.texts(mine), ["connected"], "nobody has disturbed it");
                }
            }
            party.cut(mine);
            party.say(publisher, "a", "waits", QoS::AtLeastOnce);
            for other in others {
                for clean in [false, true] {
                    let reason = refused(&mut party, version, other, clean);
                    assert_eq!(reason, ReasonCode::ClientIdentifierNotValid, "{owner:?} {other:?}");
                }
            }
            let client = party.broker.session(b"one").expect("a session");
            assert_eq!((client.connection, client.waiting), (None, 1));
            assert!(party.come(mine, &connect(version, owner, true)), "the session is there");
            assert_eq!(party.texts(mine), ["waits"]);
            // Whoever it belongs to may take it over, and end it; then it is free for all.
            let again = party.invite_with(version, Heap::new(), ClientConfig::default());
            assert!(party.come(again, &connect(version, owner, true)));
            assert_eq!(party.events(mine).len(), usize::from(version.is_v5()), "it is told so");
            assert!(!party.lines[mine].wire.is_open());
            assert!(!party.come(mine, &connect(version, owner, false)));
            party.cut(mine);
            party.cut(publisher);
            assert_eq!((party.broker.sessions(), party.broker.bytes()), (0, 0));
        }
    }
}

/// [MQTT-3.1.4-3] is about a client, not about whoever knows its name. The reason is the one for a client
/// identifier that is well formed and not allowed (section 3.2.2.2; 3.1.1: 3.2.2.3, return code 2): with
/// another one the same client is let in.
#[test]
fn a_session_is_not_for_other_users() {
    both!(Config::default(), party => {
        party.desk.ask = numbers;
        keep_what_is_yours(party);
    });
    let mut large = Party::<Large>::new(Config::default());
    large.desk.names_users = true;
    keep_what_is_yours(large);
}

/// What nobody's CONNECT can tell: to a host that tells no users apart all are the same.
#[test]
fn a_host_that_knows_nobody_lets_everybody_take_over() {
    both!(Config::default(), party => {
        for version in BOTH {
            let mine = user(&mut party, version, Some("alice"), true);
            for other in USERS {
                let new = party.invite_with(version, Heap::new(), ClientConfig::default());
                assert!(party.come(new, &connect(version, other, true)));
            }
            assert!(!party.lines[mine].wire.is_open());
            let last = user(&mut party, version, None, false);
            party.cut(last);
        }
    });
}

/// A broker may be told not to care.
#[test]
fn sessions_may_be_shared_among_users() {
    let config = Config { takeover: Takeover::Anybody, ..Config::default() };
    both!(config, party => {
        party.desk.ask = numbers;
        party.desk.names_users = true;
        for version in BOTH {
            for (number, owner) in USERS.into_iter().enumerate() {
                let new = party.invite_with(version, Heap::new(), ClientConfig::default());
                assert_eq!(party.come(new, &connect(version, owner, true)), number > 0);
                assert_eq!(party.broker.session(b"one").expect("a session").owner, None);
            }
            let last = user(&mut party, version, Some("bob"), false);
            party.cut(last);
        }
    });
}

/// Whose it is can be asked.
#[test]
fn it_is_told_whose_a_session_is() {
    let mut party = Party::<Large>::new(Config::default());
    party.desk.names_users = true;
    for name in [Some("alice"), Some(""), None] {
        let who = user(&mut party, Version::V5, name, true);
        party.cut(who);
        let owner = party.broker.session(b"one").expect("a session").owner;
        assert_eq!(owner, name.map(str::as_bytes));
        assert_eq!(
            refused(&mut party, Version::V5, Some("bob"), true),
            ReasonCode::ClientIdentifierNotValid
        );
        party.come(who, &connect(Version::V5, name, false));
        party.cut(who);
    }
    both!(Config::default(), party => {
        party.desk.ask = numbers;
        user(&mut party, Version::V5, Some("bob"), true);
        assert_eq!(party.broker.session(b"one").expect("a session").identity, 2);
    });
}

/// A name that is kept has a limit, as all has.
#[test]
fn the_names_of_users_are_bounded() {
    let mut party = Party::<Large>::new(Config { client_id_bytes: 30, ..Config::default() });
    party.desk.names_users = true;
    let (longest, longer) = ("x".repeat(30), "x".repeat(31));
    let who = user(&mut party, Version::V5, Some(&longest), true);
    assert_eq!(party.broker.session(b"one").expect("a session").owner, Some(longest.as_bytes()));
    party.cut(who);
    party.come(who, &connect(Version::V5, Some(&longest), false));
    party.cut(who);
    assert_eq!(refused(&mut party, Version::V5, Some(&longer), true), ReasonCode::QuotaExceeded);
    assert_eq!(party.broker.sessions(), 0);
}

/// Who authenticates anew as somebody else keeps the session, which is that user's from then on: it was the
/// client's to give away.
#[test]
fn a_session_goes_with_its_client_to_another_user() {
    let method = text("SCRAM");
    let list = [Property::AuthenticationMethod(method)];
    let anew =
        mqtt_core::Auth { reason: ReasonCode::ReAuthenticate, properties: Properties::from(&list) };
    both!(Config::default(), party => {
        party.desk.ask = |action| match action {
            Action::Authenticate(_) => Verdict::AllowAs(2),
            action => numbers(action),
        };
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        let authentication = Some(mqtt_core::Authentication { method, data: None });
        party.come(who, &Connect { authentication, ..connect(Version::V5, Some("alice"), true) });
        let now = party.clock.now();
        party.lines[who].app.call(|client, out| client.authenticate(now, &anew, out)).expect("connected");
        assert!(matches!(party.events(who)[..], [Event::Auth(_)]));
        party.cut(who);
        assert_eq!(refused(&mut party, Version::V5, Some("alice"), true), ReasonCode::ClientIdentifierNotValid);
        assert!(party.come(who, &connect(Version::V5, Some("bob"), true)));
    });
}

/// Whose a session is survives a broker, by number and by name.
#[test]
fn a_session_has_its_owner_after_a_restart() {
    for by_name in [false, true] {
        for owner in USERS {
            let config = Config::default();
            let mut party = Party::<Large>::new(config);
            if by_name {
                party.desk.names_users = true;
            } else {
                party.desk.ask = numbers;
            }
            let mine = user(&mut party, Version::V5, owner, true);
            party.subscribe(mine, "a", QoS::AtLeastOnce);
            Large::keep(&party.broker, &mut party.desk, true);
            party.restart(config, 10);
            for other in USERS.into_iter().filter(|user| *user != owner) {
                for clean in [false, true] {
                    let reason = refused(&mut party, Version::V5, other, clean);
                    assert_eq!(reason, ReasonCode::ClientIdentifierNotValid, "{owner:?} {other:?}");
                }
            }
            assert!(party.come(mine, &connect(Version::V5, owner, true)));
        }
    }
}

/// Records that were made before they said whose a session is: it is the first user's who comes for it, as it
/// would have been then, and nobody else's afterwards. So is one that was shared.
#[test]
fn a_session_of_unknown_owner_is_the_first_ones_that_comes() {
    for was_shared in [false, true] {
        let shared = Config { takeover: Takeover::Anybody, ..Config::default() };
        let mut party = Party::<Large>::new(if was_shared { shared } else { Config::default() });
        party.desk.names_users = true;
        if was_shared {
            user(&mut party, Version::V5, Some("alice"), true);
            Large::keep(&party.broker, &mut party.desk, true);
        } else {
            let key = Box::new([3, 0, 0, 0, 0]);
            party.desk.ledger.records.insert(key, b"\0\0\0\x0e\x10one".to_vec());
        }
        party.restart(Config::default(), 10);
        let who = user(&mut party, Version::V5, Some("bob"), true);
        assert_eq!(party.broker.session(b"one").expect("a session").owner, Some(&b"bob"[..]));
        assert_eq!(
            refused(&mut party, Version::V5, Some("alice"), true),
            ReasonCode::ClientIdentifierNotValid
        );
        Large::keep(&party.broker, &mut party.desk, true);
        party.restart(Config::default(), 10);
        assert_eq!(
            refused(&mut party, Version::V5, None, true),
            ReasonCode::ClientIdentifierNotValid
        );
        assert!(party.come(who, &connect(Version::V5, Some("bob"), true)));
    }
}

/// Records are not trusted.
#[test]
fn an_owner_on_record_makes_sense_or_is_no_owner() {
    let mut broker = Large::broker(Config { client_id_bytes: 8, ..Config::default() });
    let now = mqtt_core::Instant::from_millis(0);
    // Flags, expiry, owner's number, length of the owner's name, that, the client's.
    for (record, what) in [
        (&b"\x18\0\0\0\x3c\0\0\0\0\0\x05aliceone"[..], Ok(())),
        (b"\x08\0\0\0\x3c\0\0\0\x07two", Ok(())),
        (b"\x10\0\0\0\x3c\0\x05aliceone", Err(mqtt_core::broker::RestoreError::Malformed)),
        (b"\x18\0\0\0\x3c\0\0\0\0\0\x09aliceone", Err(mqtt_core::broker::RestoreError::Malformed)),
        (b"\x18\0\0\0\x3c\0\0\0\0\0\x01\xffone", Err(mqtt_core::broker::RestoreError::Malformed)),
        (b"\x18\0\0\0\x3c\0\0\0\0\0", Err(mqtt_core::broker::RestoreError::Malformed)),
        (b"\x18\0\0\0\x3c\0\0\0\0\0\x09alicealiceone", Err(mqtt_core::broker::RestoreError::Limit)),
    ] {
        let place = broker.sessions() as u8;
        assert_eq!(broker.restore(now, &[3, 0, 0, 0, place], record), what, "{record:02x?}");
    }
    let owners = [b"one", b"two"].map(|name| {
        let client = broker.session(name).expect("a session");
        (client.identity, client.owner.map(<[u8]>::to_vec))
    });
    assert_eq!(owners, [(0, Some(b"alice".to_vec())), (7, None)]);
}
