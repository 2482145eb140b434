//! What a client does, over everything that a connection can run over.

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use transport_tokio::transport::TlsOptions;
use transport_tokio::{
    Client, ConnectError, ConnectionError, Message, Messages, Options, QoS, ReasonCode, Status,
    Will,
};

use super::certificates::Authority;
use super::{block_on, status};
use crate::broker::Broker;
use crate::proxy::Proxy;
use crate::scenarios::EACH;
use crate::{Error, Result, Setup, ensure, tools};

/// A broker that listens in every way, for one user.
struct Place {
    broker: Broker,
    authority: Authority,
    _files: TempDir,
}

/// As it stands in URLs.
const USER: &str = "us%2Fer:s%2Fecret";

const MEGABYTE: usize = 1_000_000;

// Which port is whose.
const TLS: usize = 1;
const WEBSOCKET: usize = 2;
const WEBSOCKET_TLS: usize = 3;

impl Place {
    fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let authority = Authority::new()?;
        authority.serve(files.path())?;
        tools::add_user(&files.path().join("passwords"), "us/er", "s/ecret")?;
        let own = files.path().display();
        let tls = format!(
            "cafile {own}/authority\ncertfile {own}/certificate\nkeyfile {own}/key\n\
             require_certificate true"
        );
        let broker = Broker::start(&format!(
            "password_file {own}/passwords\n\
             listener 0 DIRECTORY/socket\n\
             listener PORT 127.0.0.1\n{tls}\n\
             listener PORT 127.0.0.1\nprotocol websockets\n\
             listener PORT 127.0.0.1\nprotocol websockets\n{tls}"
        ))?;
        Ok(Self { broker, authority, _files: files })
    }

    fn port(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.broker.ports[index])
    }

    fn options(&self, setup: &Setup, name: &str) -> Result<Options> {
        let identity = self.authority.identity()?;
        let tls = TlsOptions { identity, ..self.authority.trusted() };
        Ok(Options { tls, ..setup.options(name) })
    }
}

pub(super) fn tcp(setup: &Setup) -> Result<()> {
    over(setup, "mqtt", |place| place.broker.address.clone())
}

pub(super) fn tls(setup: &Setup) -> Result<()> {
    over(setup, "mqtts", |place| place.port(TLS))
}

pub(super) fn websocket(setup: &Setup) -> Result<()> {
    over(setup, "ws", |place| place.port(WEBSOCKET))
}

pub(super) fn websocket_tls(setup: &Setup) -> Result<()> {
    over(setup, "wss", |place| place.port(WEBSOCKET_TLS))
}

pub(super) fn unix(setup: &Setup) -> Result<()> {
    over(setup, "unix", |place| place.broker.directory().join("socket").display().to_string())
}

/// Everything, over one scheme, through a wire that is cut at the end.
fn over(setup: &Setup, scheme: &str, address: fn(&Place) -> String) -> Result<()> {
    block_on(async {
        let place = Place::new()?;
        let proxy = Proxy::start(&address(&place))?;
        let url = format!("{scheme}://{USER}@{}", proxy.address);
        let client = Client::connect(&url, place.options(setup, "client")?).await?;
        // mosquitto 2.0.11 takes 25 ms for each KB that it sends over a WebSocket.
        let longest = if scheme.starts_with("ws") { 20_000 } else { MEGABYTE };
        each_qos(setup, &client, &client, [5, 0, longest]).await.map_err(in_part("each_qos"))?;
        let tcp = format!("mqtt://{USER}@{}", place.broker.address);
        let other = Client::connect(&tcp, place.options(setup, "other")?).await?;
        each_qos(setup, &client, &other, [MEGABYTE]).await.map_err(in_part("to another"))?;
        retained(setup, &client).await.map_err(in_part("retained"))?;
        will(setup, &client, &url, &place).await.map_err(in_part("will"))?;
        resumed(setup, &url, &place, &proxy).await.map_err(in_part("resumed"))?;
        Ok(client.disconnect().await?)
    })
}

async fn next(messages: &mut Messages) -> Result<Message> {
    let next = timeout(Duration::from_secs(20), messages.next()).await;
    Ok(next.map_err(|_| "no message comes")?.ok_or("the stream has ended")?)
}

/// Says in which part something went wrong.
fn in_part(part: &str) -> impl FnOnce(Error) -> Error {
    move |error| format!("{part}: {error}").into()
}

/// Payloads of these lengths.
async fn each_qos(
    setup: &Setup,
    from: &Client,
    to: &Client,
    lengths: impl IntoIterator<Item = usize> + Clone,
) -> Result<()> {
    for qos in EACH {
        let topic = setup.topic(&format!("each{}", qos as u8));
        let mut messages = to.subscribe(&topic, qos).await?;
        for len in lengths.clone() {
            let payload: Bytes = (0..len).map(|index| (index % 251) as u8).collect();
            from.publish(&topic, payload.clone()).qos(qos).await?;
            let message = next(&mut messages).await.map_err(in_part(&format!("{len} B")))?;
            let so = *message.topic == *topic && message.qos == qos && message.payload == payload;
            ensure(so && !message.retain, || {
                format!("{qos:?}: {len} B are not what was published")
            })?;
        }
        messages.unsubscribe().await?;
    }
    Ok(())
}

async fn retained(setup: &Setup, client: &Client) -> Result<()> {
    let topic = setup.topic("retained");
    client.publish(&topic, "kept").qos(QoS::AtLeastOnce).retain(true).await?;
    let mut messages = client.subscribe(&topic, QoS::ExactlyOnce).await?;
    let message = next(&mut messages).await?;
    ensure(message.retain && *message.payload == *b"kept", || format!("{message:?}"))?;
    client.publish(&topic, "").qos(QoS::AtLeastOnce).retain(true).await?;
    ensure(next(&mut messages).await?.payload.is_empty(), || "not cleared".to_owned())?;
    messages.unsubscribe().await?;
    let mut again = client.subscribe(&topic, QoS::ExactlyOnce).await?;
    client.publish(&topic, "first").await?;
    let message = next(&mut again).await?;
    ensure(!message.retain && *message.payload == *b"first", || format!("{message:?}"))
}

/// Of a client whose task ends without a word.
async fn will(setup: &Setup, client: &Client, url: &str, place: &Place) -> Result<()> {
    let topic = setup.topic("will");
    let mut messages = client.subscribe(&topic, QoS::ExactlyOnce).await?;
    for qos in EACH {
        let will = Some(Will { qos, ..Will::new(&topic, "gone") });
        let options =
            Options { will, session_expiry_interval: 0, ..place.options(setup, "mortal")? };
        let (mortal, driver) = Client::new(url, options)?;
        let driver = tokio::spawn(driver);
        mortal.connected().await?;
        driver.abort();
        let message = next(&mut messages).await?;
        ensure(message.qos == qos && *message.payload == *b"gone", || format!("{message:?}"))?;
    }
    // One that takes its leave leaves no will.
    let will = Some(Will::new(&topic, "not gone"));
    let mortal = Client::connect(url, Options { will, ..place.options(setup, "mortal")? }).await?;
    mortal.disconnect().await?;
    client.publish(&topic, "after").await?;
    let message = next(&mut messages).await?;
    ensure(*message.payload == *b"after", || format!("{message:?}"))
}

/// What is published while the wire is cut arrives afterwards.
async fn resumed(setup: &Setup, url: &str, place: &Place, proxy: &Proxy) -> Result<()> {
    let topic = setup.topic("resumed");
    // Its connection is the last.
    let client = Client::connect(url, place.options(setup, "resumed")?).await?;
    let mut messages = client.subscribe(&topic, QoS::ExactlyOnce).await?;
    let connections = client.counters().connections;
    for round in 0..3_u8 {
        proxy.cut();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            client.publish(&topic, vec![round, qos as u8]).qos(qos).await?;
            let message = next(&mut messages).await?;
            ensure(*message.payload == [round, qos as u8], || format!("{message:?}"))?;
        }
        let now = status(&client, |status| matches!(status, Status::Connected { .. })).await?;
        ensure(matches!(now, Status::Connected { session_present: true }), || format!("{now:?}"))?;
    }
    sleep(Duration::from_millis(50)).await;
    ensure(messages.is_empty(), || format!("{:?}", messages.try_next()))?;
    let counted = client.counters().connections - connections;
    ensure(counted == 3, || format!("{counted} connections instead of 3"))?;
    Ok(client.disconnect().await?)
}

/// Who is not who they should be.
pub(super) fn refused(setup: &Setup) -> Result<()> {
    block_on(async {
        let (place, other) = (Place::new()?, Authority::new()?);
        let identity = place.authority.identity()?;
        let untrusting = TlsOptions { identity, ..other.trusted() };
        let nameless = place.authority.trusted();
        let forged = TlsOptions { identity: other.identity()?, ..place.authority.trusted() };
        let elsewhere = TlsOptions {
            server_name: Some("elsewhere.example".into()),
            ..place.options(setup, "x")?.tls
        };
        for (scheme, index) in [("mqtts", TLS), ("wss", WEBSOCKET_TLS)] {
            let url = format!("{scheme}://{USER}@{}", place.port(index));
            for (tls, what) in [
                (&untrusting, "another authority"),
                (&nameless, "no certificate"),
                (&forged, "a certificate by another authority"),
                (&elsewhere, "another name"),
            ] {
                let options = Options { tls: tls.clone(), ..setup.options("refused") };
                let error = Client::connect(&url, options).await.err();
                // That the server refuses is told by an alert or by the connection's end.
                let so = matches!(
                    &error,
                    Some(ConnectError::Connection(
                        ConnectionError::Transport(_) | ConnectionError::Closed
                    ))
                );
                ensure(so, || format!("{scheme}, {what}: {error:?}"))?;
            }
            Client::connect(&url, place.options(setup, "let in")?).await?;
        }
        for user in ["", "us%2Fer@", "us%2Fer:wrong@"] {
            let url = format!("ws://{user}{}", place.port(WEBSOCKET));
            let error = Client::connect(&url, setup.options("refused")).await.err();
            let so = matches!(&error, Some(ConnectError::Connection(ConnectionError::Refused(why)))
                if why.reason == ReasonCode::NotAuthorized);
            ensure(so, || format!("{user}: {error:?}"))?;
        }
        Ok(())
    })
}
