//! The client of `transport-tokio`.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use transport_tokio::transport::{Identity, Roots, Source, TlsOptions};
use transport_tokio::{
    Client, ConnectionError, Messages, Options, QoS, Reconnect, Status, Streams, Version, Will,
};

use super::{Login, Message, Outcome, Peer};
use crate::{Error, Result, ensure};

pub(super) struct Ours {
    /// Gone when the connection is to be lost.
    runtime: Option<Runtime>,
    client: Option<Client>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

fn level(qos: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

impl Ours {
    pub(super) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (sender, messages) = channel();
        Ok(Self { runtime: Some(runtime), client: None, sender, messages })
    }

    fn runtime(&self) -> Result<&Runtime> {
        Ok(self.runtime.as_ref().ok_or("it has gone")?)
    }

    fn client(&self) -> Result<&Client> {
        Ok(self.client.as_ref().ok_or("not connected")?)
    }

    /// Takes what comes there.
    fn listen(&self, mut messages: Messages) -> Result<()> {
        let sender = self.sender.clone();
        self.runtime()?.spawn(async move {
            while let Some(message) = messages.next().await {
                // Nobody may want to know any more.
                let _ = sender.send(Message {
                    topic: message.topic.to_string(),
                    payload: message.payload.to_vec(),
                    qos: message.qos as u8,
                    retain: message.retain,
                    identifiers: Vec::new(),
                });
            }
        });
        Ok(())
    }
}

impl Peer for Ours {
    fn connect(&mut self, login: &Login) -> Result<Outcome> {
        let mut tls = TlsOptions::default();
        if let Some(files) = &login.tls {
            tls.roots = Roots::Only(vec![Source::file(files.join("authority"))]);
            tls.identity = login.shows_certificate.then(|| Identity {
                certificates: Source::file(files.join("client")),
                key: Source::file(files.join("client-key")),
            });
        }
        let will = login.will.as_ref().map(|(topic, payload, delay)| Will {
            qos: QoS::AtLeastOnce,
            delay_interval: *delay,
            ..Will::new(topic, *payload)
        });
        let mut streams = Streams::default();
        let unclaimed = streams.unclaimed();
        let options = Options {
            version: if login.version == 5 { Version::V5 } else { Version::V3_1_1 },
            client_id: login.id.clone(),
            clean_start: login.clean,
            session_expiry_interval: if login.version == 5 { login.expiry } else { 0 },
            user_name: login.user.map(|(user, _)| user.to_owned()),
            password: login.user.map(|(_, password)| password.into()),
            will,
            outbound_topic_aliases: 4,
            reconnect: Reconnect { attempts: Some(0), ..Reconnect::default() },
            streams,
            tls,
            ..Options::default()
        };
        let connected = self.runtime()?.block_on(Client::connect(&login.url, options));
        let client = match connected {
            Ok(client) => client,
            Err(transport_tokio::ConnectError::Connection(ConnectionError::Refused(refusal))) => {
                return Ok(Outcome::Refused { reason: refusal.reason as u8 });
            }
            Err(error) => return Err(error.into()),
        };
        let present = match *client.status().borrow() {
            Status::Connected { session_present } => session_present,
            ref other => return Err(format!("{other:?}").into()),
        };
        self.client = Some(client);
        self.listen(unclaimed)?;
        Ok(Outcome::Connected { present: Some(present) })
    }

    fn subscribe(&mut self, filter: &str, qos: u8, _: Option<u32>) -> Result<()> {
        let subscribe =
            async { self.client()?.subscribe(filter, level(qos)).await.map_err(Error::from) };
        let messages = self.runtime()?.block_on(subscribe)?;
        let granted = messages.granted().to_vec();
        ensure(granted == [level(qos)], || format!("granted {granted:?}"))?;
        self.listen(messages)
    }

    fn publish(&mut self, message: &Message, _: Option<u16>) -> Result<()> {
        let Message { topic, payload, qos, retain, .. } = message;
        let publish = self.client()?.publish(topic, payload.clone());
        let publish = publish.qos(level(*qos)).retain(*retain);
        self.runtime()?.block_on(async { publish.await })?;
        Ok(())
    }

    fn next(&mut self, within: f32) -> Result<Option<Message>> {
        Ok(self.messages.recv_timeout(Duration::from_secs_f32(within)).ok())
    }

    fn disconnect(&mut self) -> Result<()> {
        Ok(self.runtime()?.block_on(self.client()?.disconnect())?)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Before the client, which would take its leave.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
