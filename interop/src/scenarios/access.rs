//! Who may connect, and do what.

use std::io::Write;
use std::process::{Command, Stdio};

use mqtt_core::{Authentication, Connect, QoS, ReasonCode, Text};

use crate::broker::Broker;
use crate::peer::Peer;
use crate::{Result, Setup, ensure};

/// A file, removed with its value.
struct File(std::path::PathBuf);

impl File {
    fn create(setup: &Setup, name: &str, text: &str) -> Result<Self> {
        let name = format!("mqtt-interop-{}-{}-{name}", std::process::id(), setup.id("file"));
        let path = std::env::temp_dir().join(name);
        std::fs::File::create(&path)?.write_all(text.as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(super) fn password(setup: &Setup) -> Result<()> {
    let passwords = File::create(setup, "passwords", "")?;
    let status = Command::new("mosquitto_passwd")
        .arg("-b")
        .arg(&passwords.0)
        .args(["user", "secret"])
        .stderr(Stdio::null())
        .status()?;
    ensure(status.success(), || format!("mosquitto_passwd: {status}"))?;
    let access = File::create(setup, "access", "user user\ntopic readwrite open/#\n")?;
    let broker = Broker::start(&format!(
        "password_file {}\nacl_file {}",
        passwords.0.display(),
        access.0.display()
    ))?;
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
