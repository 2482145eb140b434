//! A server in this process, and the wire to it.
//!
//! Nothing here takes real time: the clock is tokio's, paused, and stands still while anything can
//! still happen.

use std::time::Duration;

pub(crate) use mqtt_core::ConnAck;
pub(crate) use simulation::{Direction, Manners, Script, Server, Weather, story::BOTH};
pub(crate) use tokio::time::sleep;
pub(crate) use transport_tokio::*;

mod net;
mod trace;

pub(crate) use net::{Net, Plan};

pub(crate) use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// All levels.
pub(crate) const LEVELS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

/// Longer than anything takes.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A client that keeps its session and sends nothing of its own accord.
pub(crate) fn options(version: Version) -> Options {
    Options {
        version,
        client_id: "teller".into(),
        clean_start: false,
        keep_alive: 0,
        ..Options::default()
    }
}

/// A client and a server with the best manners.
pub(crate) async fn meet(version: Version) -> (Net<Server>, Client) {
    meet_on(Manners::default(), options(version)).await
}

/// A client with these options, and a server with these manners.
pub(crate) async fn meet_on(manners: Manners, options: Options) -> (Net<Server>, Client) {
    let net = Net::server(manners, options.version);
    let client = net.connect(options).await.expect("a connection");
    settle().await;
    net.trace();
    (net, client)
}

/// A client and a server that does what it is told.
pub(crate) async fn talk(version: Version) -> (Net<Script>, Client) {
    talk_on(ConnAck::default(), options(version)).await
}

/// A client with these options, and a server with these terms that does what it is told.
pub(crate) async fn talk_on(terms: ConnAck<'static>, options: Options) -> (Net<Script>, Client) {
    let net = Net::script(terms, options.version);
    let client = net.connect(options).await.expect("a connection");
    settle().await;
    net.trace();
    (net, client)
}

/// Tells a story on both versions. One that does not come to its end fails.
pub(crate) async fn both(story: impl AsyncFn(Version)) {
    for version in BOTH {
        bounded(story(version)).await;
    }
}

/// A story of this version only.
pub(crate) async fn bounded<T>(story: impl Future<Output = T>) -> T {
    tokio::time::timeout(FOR_EVER, story).await.expect("the story comes to its end")
}

/// Lets everything happen that happens without time.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Lets seconds pass.
pub(crate) async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// Waits until the connection is lost. Why.
pub(crate) async fn lost(client: &Client) -> ConnectionError {
    let mut status = client.status();
    let reconnecting = |status: &Status| matches!(status, Status::Reconnecting { .. });
    let status = status.wait_for(reconnecting).await.expect("a client");
    let Status::Reconnecting { cause, .. } = &*status else { unreachable!() };
    cause.clone()
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

/// The payloads of what a stream has now.
pub(crate) fn read_all(messages: &mut Messages) -> Vec<String> {
    std::iter::from_fn(|| messages.try_next()).map(|message| text(&message)).collect()
}

/// A payload that is text.
pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).expect("text")
}
