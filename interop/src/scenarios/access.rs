//! Who may connect, and do what.

use mqtt_core::{Authentication, Connect, QoS, ReasonCode, Text};

use crate::broker::Broker;
use crate::peer::Peer;
use crate::{Result, Setup, ensure, tools};

pub(super) fn password(setup: &Setup) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (passwords, access) = (directory.path().join("passwords"), directory.path().join("access"));
    tools::add_user(&passwords, "user", "secret")?;
    std::fs::write(&access, "user user\ntopic readwrite open/#\n")?;
    let lines = format!("password_file {}\nacl_file {}", passwords.display(), access.display());
    let broker = Broker::start(&lines)?;
    let setup = setup.at(&broker.address);
    let id = setup.id("a");
    let connect = Connect { client_id: Text::new(&id)?, ..Connect::default() };
    let user_name = Some(Text::new("user")?);
    let mut peer = Peer::<65_536>::new(&setup);
    let wrong = [
        connect,
        Connect { user_name, ..connect },
        Connect { user_name, password: Some(b"wrong"), ..connect },
    ];
    for connect in wrong {
        peer.dial(&connect)?;
        ensure(peer.seen.refused == Some(ReasonCode::NotAuthorized), || {
            format!("{:?}", peer.seen.refused)
        })?;
        ensure(peer.step(10).is_err(), || "connected all the same".to_owned())?;
    }
    peer.connect(&Connect { user_name, password: Some(b"secret"), ..connect })?;
    peer.subscribe("open/#", QoS::AtLeastOnce)?;
    peer.publish("open/1", QoS::AtLeastOnce, b"open")?;
    peer.expect(b"open")?;
    peer.settle()?;
    peer.seen.outcomes.clear();
    // What is forbidden is refused where the protocol has a word for it.
    let v5 = setup.version.is_v5();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        peer.publish("closed/1", qos, b"closed")?;
        peer.settle()?;
        let expected = if v5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        let outcomes = std::mem::take(&mut peer.seen.outcomes);
        ensure(outcomes.iter().map(|outcome| outcome.1).eq([expected]), || {
            format!("{outcomes:?}")
        })?;
    }
    peer.expect_nothing(20)
}

pub(super) fn method(setup: &Setup) -> Result<()> {
    let authentication =
        Some(Authentication { method: Text::new("UNHEARD-OF")?, data: Some(b"\0") });
    let mut peer = Peer::<65_536>::new(setup);
    peer.dial(&Connect { authentication, ..Connect::default() })?;
    let refused = peer.seen.refused;
    ensure(refused == Some(ReasonCode::BadAuthenticationMethod), || format!("{refused:?}"))
}

pub(super) fn takeover(setup: &Setup) -> Result<()> {
    let id = setup.id("twice");
    let lasting = setup.lasting(&id)?;
    let mut first = Peer::<65_536>::new(setup);
    let mut second = Peer::<65_536>::new(setup);
    first.connect(&lasting)?;
    let present = second.connect(&lasting)?;
    ensure(present, || "the session was not taken over".to_owned())?;
    first.until_lost()?;
    // 5.0 asks for a DISCONNECT [MQTT-3.1.4-3], which mosquitto 2.0.11 does not send.
    let told = first.seen.disconnected;
    ensure(told.is_none_or(|reason| reason == ReasonCode::SessionTakenOver), || {
        format!("{told:?}")
    })?;
    // And back again.
    first.connect(&lasting)?;
    second.until_lost().map(drop)
}
