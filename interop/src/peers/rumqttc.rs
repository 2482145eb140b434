//! rumqttc, whose two modules have the same names for different types.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use transport_tokio::transport::rustls::crypto::ring;
use transport_tokio::transport::rustls::pki_types::pem::PemObject;
use transport_tokio::transport::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use transport_tokio::transport::rustls::{ClientConfig, RootCertStore};

use rumqttc::{TlsConfiguration, Transport};

use super::{Login, Message, Outcome, Peer};
use crate::{Result, ensure};

/// What the event loop has seen.
enum Seen {
    Connected(bool),
    Refused(u8),
    Subscribed(Option<u8>),
    /// A publish has left at QoS 0, or is acknowledged at this.
    Published(u8),
    Message(Message),
    Over(String),
}

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(10);

/// Where it connects to, and how.
fn transport(login: &Login) -> Result<(String, u16, Transport)> {
    let (scheme, rest) = login.url.split_once("://").ok_or("a URL")?;
    let (host, port) = rest.rsplit_once(':').ok_or("a port")?;
    let port = port.split('/').next().unwrap_or_default().parse()?;
    Ok(match scheme {
        "mqtt" => (host.to_owned(), port, Transport::Tcp),
        "mqtts" => (host.to_owned(), port, Transport::Tls(tls(login)?)),
        "ws" => (login.url.clone(), port, Transport::Ws),
        _ => (login.url.clone(), port, Transport::Wss(tls(login)?)),
    })
}

fn tls(login: &Login) -> Result<TlsConfiguration> {
    let files = login.tls.as_ref().ok_or("no certificates")?;
    let certificate = |name: &str| CertificateDer::from_pem_file(files.join(name));
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority")?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = if login.shows_certificate {
        let key = PrivateKeyDer::from_pem_file(files.join("client-key"))?;
        builder.with_client_auth_cert(vec![certificate("client")?], key)?
    } else {
        builder.with_no_client_auth()
    };
    Ok(TlsConfiguration::Rustls(Arc::new(config)))
}

macro_rules! client {
    () => {
        pub(in crate::peers) struct Client {
            runtime: Option<Runtime>,
            client: Option<AsyncClient>,
            seen: Option<Receiver<Seen>>,
            /// Messages that came while something else was waited for.
            early: std::collections::VecDeque<Message>,
        }

        impl Client {
            pub(in crate::peers) fn new() -> Result<Self> {
                let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                Ok(Self {
                    runtime: Some(runtime),
                    client: None,
                    seen: None,
                    early: Default::default(),
                })
            }

            fn runtime(&self) -> Result<&Runtime> {
                Ok(self.runtime.as_ref().ok_or("it has gone")?)
            }

            fn client(&self) -> Result<AsyncClient> {
                Ok(self.client.clone().ok_or("not connected")?)
            }

            /// What comes next that is no message.
            fn seen(&mut self) -> Result<Seen> {
                loop {
                    match self.seen.as_ref().ok_or("not connected")?.recv_timeout(LONG)? {
                        Seen::Message(message) => self.early.push_back(message),
                        Seen::Over(error) => return Err(error.into()),
                        seen => return Ok(seen),
                    }
                }
            }
        }

        impl Peer for Client {
            fn connect(&mut self, login: &Login) -> Result<Outcome> {
                let (client, mut events) = AsyncClient::new(options(login)?, 16);
                let (sender, seen) = channel();
                self.runtime()?.spawn(async move {
                    loop {
                        let event = events.poll().await;
                        let is_over = event.is_err();
                        // Nobody may want to know any more.
                        let _ = look_at(event).map(|seen| sender.send(seen));
                        if is_over {
                            return;
                        }
                    }
                });
                (self.client, self.seen) = (Some(client), Some(seen));
                match self.seen()? {
                    Seen::Connected(present) => Ok(Outcome::Connected { present: Some(present) }),
                    Seen::Refused(reason) => Ok(Outcome::Refused { reason }),
                    _ => Err("it is not connected".into()),
                }
            }

            fn subscribe(&mut self, filter: &str, qos: u8, identifier: Option<u32>) -> Result<()> {
                let subscribe =
                    subscribe(self.client()?, filter.to_owned(), level(qos), identifier);
                self.runtime()?.block_on(subscribe)?;
                match self.seen()? {
                    Seen::Subscribed(granted) => {
                        ensure(granted == Some(qos), || format!("granted {granted:?}"))
                    }
                    _ => Err("it is not subscribed".into()),
                }
            }

            fn publish(&mut self, message: &Message, alias: Option<u16>) -> Result<()> {
                self.runtime()?.block_on(publish(self.client()?, message.clone(), alias))?;
                loop {
                    match self.seen()? {
                        Seen::Published(qos) if qos == message.qos => return Ok(()),
                        Seen::Published(_) => {}
                        _ => return Err("it is not acknowledged".into()),
                    }
                }
            }

            fn next(&mut self, within: f32) -> Result<Option<Message>> {
                if let Some(message) = self.early.pop_front() {
                    return Ok(Some(message));
                }
                let within = Duration::from_secs_f32(within);
                let seen = self.seen.as_ref().ok_or("not connected")?;
                loop {
                    match seen.recv_timeout(within) {
                        Ok(Seen::Message(message)) => return Ok(Some(message)),
                        Ok(Seen::Over(error)) => return Err(error.into()),
                        Ok(_) => {}
                        Err(_) => return Ok(None),
                    }
                }
            }

            fn disconnect(&mut self) -> Result<()> {
                let client = self.client()?;
                self.runtime()?.block_on(client.disconnect())?;
                // The event loop ends with the connection.
                while self.seen().is_ok() {}
                Ok(())
            }
        }

        impl Drop for Client {
            fn drop(&mut self) {
                if let Some(runtime) = self.runtime.take() {
                    runtime.shutdown_timeout(Duration::from_secs(1));
                }
            }
        }

        fn level(qos: u8) -> QoS {
            [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
        }
    };
}

pub(super) mod v4 {
    use super::*;
    use rumqttc::{
        AsyncClient, ConnectReturnCode, ConnectionError, Event, LastWill, MqttOptions, Outgoing,
        Packet, QoS, SubscribeReasonCode,
    };

    client!();

    fn options(login: &Login) -> Result<MqttOptions> {
        let (host, port, transport) = transport(login)?;
        let mut options = MqttOptions::new(&login.id, host, port);
        options.set_transport(transport).set_clean_session(login.clean);
        options.set_max_packet_size(2 << 20, 2 << 20);
        if let Some((user, password)) = login.user {
            options.set_credentials(user, password);
        }
        if let Some((topic, payload, _)) = &login.will {
            options.set_last_will(LastWill::new(topic, *payload, QoS::AtLeastOnce, false));
        }
        Ok(options)
    }

    fn look_at(event: std::result::Result<Event, ConnectionError>) -> Option<Seen> {
        Some(match event {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Seen::Connected(connack.session_present)
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                Seen::Subscribed(suback.return_codes.first().and_then(|code| match code {
                    SubscribeReasonCode::Success(qos) => Some(*qos as u8),
                    SubscribeReasonCode::Failure => None,
                }))
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => Seen::Published(1),
            Ok(Event::Incoming(Packet::PubComp(_))) => Seen::Published(2),
            Ok(Event::Outgoing(Outgoing::Publish(0))) => Seen::Published(0),
            Ok(Event::Incoming(Packet::Publish(publish))) => Seen::Message(Message {
                topic: publish.topic,
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                identifiers: Vec::new(),
            }),
            Ok(_) => return None,
            Err(ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword)) => {
                Seen::Refused(4)
            }
            Err(error) => Seen::Over(error.to_string()),
        })
    }

    async fn subscribe(
        client: AsyncClient,
        filter: String,
        qos: QoS,
        _: Option<u32>,
    ) -> Result<()> {
        Ok(client.subscribe(filter, qos).await?)
    }

    async fn publish(client: AsyncClient, message: Message, _: Option<u16>) -> Result<()> {
        let Message { topic, payload, qos, retain, .. } = message;
        Ok(client.publish(topic, level(qos), retain, payload).await?)
    }
}

pub(super) mod v5 {
    use super::*;
    use rumqttc::Outgoing;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{
        ConnectReturnCode, LastWill, LastWillProperties, Packet, PublishProperties,
        SubscribeProperties, SubscribeReasonCode,
    };
    use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};

    client!();

    fn options(login: &Login) -> Result<MqttOptions> {
        let (host, port, transport) = transport(login)?;
        let mut options = MqttOptions::new(&login.id, host, port);
        options.set_transport(transport).set_clean_start(login.clean);
        options.set_session_expiry_interval(Some(login.expiry));
        options.set_max_packet_size(Some(2 << 20));
        if let Some((user, password)) = login.user {
            options.set_credentials(user, password);
        }
        if let Some((topic, payload, delay)) = &login.will {
            let properties = LastWillProperties {
                delay_interval: Some(*delay),
                payload_format_indicator: None,
                message_expiry_interval: None,
                content_type: None,
                response_topic: None,
                correlation_data: None,
                user_properties: Vec::new(),
            };
            let (qos, properties) = (QoS::AtLeastOnce, Some(properties));
            options.set_last_will(LastWill::new(topic, *payload, qos, false, properties));
        }
        Ok(options)
    }

    fn look_at(event: std::result::Result<Event, ConnectionError>) -> Option<Seen> {
        Some(match event {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Seen::Connected(connack.session_present)
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                Seen::Subscribed(suback.return_codes.first().and_then(|code| match code {
                    SubscribeReasonCode::Success(qos) => Some(*qos as u8),
                    _ => None,
                }))
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => Seen::Published(1),
            Ok(Event::Incoming(Packet::PubComp(_))) => Seen::Published(2),
            Ok(Event::Outgoing(Outgoing::Publish(0))) => Seen::Published(0),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let properties = publish.properties.unwrap_or_default();
                let identifiers = properties.subscription_identifiers;
                Seen::Message(Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    identifiers: identifiers.into_iter().map(|number| number as u32).collect(),
                })
            }
            Ok(_) => return None,
            Err(ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword)) => {
                Seen::Refused(134)
            }
            Err(error) => Seen::Over(error.to_string()),
        })
    }

    async fn subscribe(
        client: AsyncClient,
        filter: String,
        qos: QoS,
        identifier: Option<u32>,
    ) -> Result<()> {
        let Some(identifier) = identifier else { return Ok(client.subscribe(filter, qos).await?) };
        let properties =
            SubscribeProperties { id: Some(identifier as usize), user_properties: Vec::new() };
        Ok(client.subscribe_with_properties(filter, qos, properties).await?)
    }

    async fn publish(client: AsyncClient, message: Message, alias: Option<u16>) -> Result<()> {
        let Message { topic, payload, qos, retain, .. } = message;
        let properties = PublishProperties { topic_alias: alias, ..PublishProperties::default() };
        let qos = level(qos);
        Ok(client.publish_with_properties(topic, qos, retain, payload, properties).await?)
    }
}
