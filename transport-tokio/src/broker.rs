//! A broker within the program.
//!
//! ```
//! use transport_tokio::{Client, Options, QoS, broker::Broker};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let broker = Broker::builder().listen("mqtt://127.0.0.1:0").serve().await?;
//!
//! let client = Client::connect(&broker.urls()[0], Options::default()).await?;
//! let mut news = client.subscribe("news/#", QoS::AtLeastOnce).await?;
//! client.publish("news/today", "rain").qos(QoS::AtLeastOnce).await?;
//! assert_eq!(&news.next().await.unwrap().payload[..], b"rain");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`mqtt_core::broker`] is the broker; this gives it sockets and time. One task serves all
//! connections, so nothing is locked.
//!
//! # What is bounded
//!
//! - An idle connection has no buffers. One that has sent a part of a packet keeps that part, up to
//!   [`maximum_packet_size`](Config::maximum_packet_size) and 16 KiB, and
//!   [`incoming_bytes`](Builder::incoming_bytes) with all others.
//! - 256 KiB and one packet may wait in the process to be written to a connection, and
//!   [`outgoing_bytes`](Builder::outgoing_bytes) to all together. Beyond, messages at QoS 0 are dropped
//!   and counted; those at QoS 1 and 2 wait in the session within the limits of [`Config`], which also
//!   say what is dropped then.
//! - From 64 KiB on, or when half of the messages or bytes wait for its client that may, whoever publishes
//!   to that connection is not read from until all who are that far behind have caught up: nothing is lost
//!   between those who are fast enough. What a client acknowledges behind a message that waits so is taken
//!   before it, up to some 64 KiB behind, so that two who wait for each other go on. One that has made no
//!   progress for 200 ms, or has kept others waiting for a second, is not waited for until it has taken
//!   everything.
//! - While it is found out [who a client is](Builder::authenticate), up to 64 KiB of what it sends behind
//!   its CONNECT are kept, so that it is noticed when it hangs up.
//! - A stream of [`Events`] has the length that was asked for, an answer to a question about the broker a
//!   hundred items. What a handle asks for waits in a queue of 64, and whoever asks with it.
//! - Connections are bounded by [`max_connections`](Builder::max_connections); one more is closed at
//!   once. How long CONNECT may take is in [`Config`].
//! - 256 TLS and WebSocket handshakes of one listener go on at once. When there is one more, it waits until the
//!   oldest has had a second, which then gives way.
//!
//! TLS and WebSocket connections have buffers of their own on top, idle ones, too.
//!
//! # Persistence
//!
//! Sessions and retained messages end with the broker, unless it is told to keep them in a file with
//! `Builder::persistence` (feature `persistence`): sessions that outlive their connections, with their
//! subscriptions and messages at QoS 1 and 2, however far these have come; wills; retained messages but for
//! those in topics that begin with `$`. Nothing is acknowledged, and no message at QoS 1 or 2 sent, before
//! what it follows from is in the file; QoS 0 alone waits for nothing. What happens while the file is being
//! written is in the next batch.
//!
//! | `Durability` | broker killed | power lost |
//! |---|---|---|
//! | `Power`: one `fdatasync` for each batch | nothing is lost or doubled | nothing is lost or doubled |
//! | `Process`: none | nothing is lost or doubled | the file may be older, or damaged |
//!
//! - Time goes on: what expires, expires while there is no broker, by the system's clock. A client that was
//!   connected when the broker was killed has lost its connection when the next one begins: its will is
//!   published, and the time of its session runs, from then on.
//! - A file that cannot be read is reported, renamed (`broker.redb.corrupt-1` and so on), and the broker
//!   begins with a new one. A record that makes no sense is skipped and reported. A file of a
//!   format that this version does not know, or with more than the limits allow by now, is left alone,
//!   and not served.
//! - If the file cannot be written, that is reported, and tried again every five seconds. Until then nothing
//!   more at QoS 1 and 2 is acknowledged, and what is held back is bounded as ever; QoS 0 goes on.
//!
//! [`Statistics::persistence`] tells how things stand.
//!
//! # Whose a session is
//!
//! A session belongs to the user whose client made it: the name that [`Builder::authenticate`],
//! [`Builder::users`] or [`Builder::authentication_method`] let it in with. A client of another user, or of
//! nobody, that comes with the same identifier is refused with
//! [`ClientIdentifierNotValid`](crate::ReasonCode::ClientIdentifierNotValid), with a clean start as well, and
//! nothing happens to the session or its connection. So it is with nobody's session and users. A client that
//! authenticates anew as somebody else takes its session with it. If nobody is asked who he is, there are no
//! users; and with [`Takeover::Anybody`] in [`Config`] it does not matter.
//!
//! [`Broker::session`] tells the owner. It survives with the session. One that a version of this crate has kept
//! that knew no owners, or a broker that did not care, is the first user's who comes for it.
//!
//! # Whom it asks, and what it tells
//!
//! [`Builder::authenticate`] and [`Builder::authentication_method`] say who is let in,
//! [`Builder::authorize`] what clients may do; [`Builder::inspect`] sees every message.
//! [`Builder::on_event`] and [`Broker::events`] tell who comes and goes. A function of the program that
//! panics harms nobody but who it was called for.
//!
//! [`Broker::statistics`] are on `$SYS/broker/...` as well, and in the words of
//! [Prometheus](Statistics::to_prometheus). With `tracing`, each connection is a span at level `DEBUG`;
//! nothing that is traced has passwords or payloads in it.

mod access;
mod builder;
mod connection;
mod events;
mod exchange;
mod host;
mod inspecting;
mod judging;
mod ledger;
mod lent;
mod listener;
mod losses;
#[cfg(feature = "metrics")]
mod metrics;
mod origin;
mod pacing;
mod ready;
#[cfg(feature = "persistence")]
mod saver;
#[cfg(not(feature = "persistence"))]
#[path = "broker/unsaved.rs"]
mod saver;
mod seldom;
mod shard;
#[cfg(all(unix, not(unshared_sockets)))]
mod sockets;
#[cfg(any(not(unix), unshared_sockets))]
#[path = "broker/no_sockets.rs"]
mod sockets;
mod statistics;
mod stream;
mod sys;

use std::{io, time::Duration};

use tokio::{
    io::duplex,
    sync::{mpsc, oneshot},
};

pub use access::{Access, Authenticated, Login, Pass, Passing, Wish};
#[cfg(feature = "persistence")]
pub use builder::PersistenceError;
pub use builder::{Builder, ServeError};
pub use events::{Event, Events};
pub use exchange::Exchange;
pub use inspecting::{BrokerPublishError, ConnectionInfo, Page, SessionInfo, SubscriptionInfo};
pub use mqtt_core::{
    broker::{Config, Crowding, End, Overflow, Statistics as Messages, Takeover},
    router::Limits,
};
pub use statistics::{Persistence, Statistics};

use crate::transport::{BoxedTransport, Connector};
use listener::Accepted;
use origin::Origin;
use shard::{Command, Shard};

/// How many connections wait to be taken in, and how many commands.
const WAITING: usize = 64;

/// How much is on its way in each direction of a connection within the process, in bytes.
const PIPE: usize = 64 * 1024;

/// A broker that is being served. The handle can be cloned; when the last is dropped, the broker ends
/// at once. The [module](self) has an example.
#[derive(Clone, Debug)]
pub struct Broker {
    commands: mpsc::Sender<Command>,
    pipes: mpsc::Sender<Accepted>,
    urls: Vec<String>,
    #[cfg(feature = "metrics")]
    metrics: Option<String>,
}

impl Broker {
    /// A broker to be set up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, in the order in which it was told to: with the ports that were free where 0
    /// was asked for.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Where its numbers are to be had over HTTP, if it was [told to](Builder::metrics): with the port that
    /// was free where 0 was asked for.
    #[cfg(feature = "metrics")]
    pub fn metrics_url(&self) -> Option<&str> {
        self.metrics.as_deref()
    }

    /// Connections to the broker without a socket: to publish, to subscribe and to look around within
    /// the program, with a [`Client`](crate::Client) like any other.
    ///
    /// ```
    /// use transport_tokio::{Client, Options, broker::Broker};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let broker = Broker::builder().serve().await?; // nobody else can connect
    /// let client = Client::connect_with(broker.connector(), Options::default()).await?;
    /// client.publish("status", "up").retain(true).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connector(&self) -> impl Connector + Clone + 'static {
        let broker = self.pipes.downgrade();
        move || {
            let broker = broker.clone();
            async move {
                let gone = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let broker = broker.upgrade().ok_or_else(gone)?;
                let (ours, theirs) = duplex(PIPE);
                let theirs: BoxedTransport = Box::new(theirs);
                let accepted = Accepted { stream: theirs.into(), origin: Origin::default() };
                broker.send(accepted).await.map_err(|_| gone())?;
                Ok(ours)
            }
        }
    }

    /// Shuts the broker down, and returns when it has ended, its connections at the latest after `within`.
    ///
    /// It no longer listens. Clients are told, on 5.0 with the reason
    /// [`ServerShuttingDown`](mqtt_core::ReasonCode::ServerShuttingDown), and may take note until then; one that
    /// does not hang up by itself is waited for no longer than a second. Their wills are published to
    /// those whose connections are not closed yet, which are all that leave none; those with a delay are not,
    /// unless the sessions are kept. What is kept in a file is saved, however long that takes.
    pub async fn shutdown(&self, within: Duration) {
        let (done, ended) = oneshot::channel();
        let leave = move |shard: &mut Shard| shard.leave(within, done);
        if self.commands.send(Box::new(leave)).await.is_ok() {
            let _ = ended.await; // it is dropped in the end
        }
    }

    /// Has the task that serves do something. `None` if it has ended.
    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Option<T> {
        ask(&self.commands, what).await
    }
}

/// Has the task that takes these commands do something. `None` if it has ended.
async fn ask<T: Send + 'static>(
    commands: &mpsc::Sender<Command>,
    what: impl FnOnce(&mut Shard) -> T + Send + 'static,
) -> Option<T> {
    let (asker, answer) = oneshot::channel();
    let command: Command = Box::new(|shard| {
        // Whoever asked may have gone.
        let _ = asker.send(what(shard));
    });
    commands.send(command).await.ok()?;
    answer.await.ok()
}
