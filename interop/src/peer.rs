//! A client with its driver and a record of what it was told.

use std::time::{Duration, Instant};

use mqtt_core::store::{Heap, Store};
use mqtt_core::{
    Acknowledgement, Client, Config, ConnAck, Connect, Disconnect, Event, Filter, PacketId,
    Publish, PublishError, QoS, ReasonCode, Receipt, SendError, Subscribe, Subscription, Text,
    Topic, TopicName, Unsubscribe,
};

use crate::blocking::Driver;
use crate::{Result, Setup, ensure};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Any store. Leaked: the program is short.
pub(crate) type Kept = &'static mut dyn Store;

pub(crate) struct Peer<const N: usize = 65_536> {
    pub(crate) driver: Box<Driver<Kept, N>>,
    pub(crate) address: String,
    pub(crate) seen: Seen,
}

/// What has been told and not yet taken out.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) terms: Option<Terms>,
    pub(crate) refused: Option<ReasonCode>,
    pub(crate) disconnected: Option<ReasonCode>,
    pub(crate) messages: Vec<Received>,
    pub(crate) outcomes: Vec<(PacketId, ReasonCode)>,
    pub(crate) resend: Vec<PacketId>,
    pub(crate) skipped: Vec<u32>,
    pub(crate) pieces: usize,
    /// Whether to skip what does not come whole.
    pub(crate) skip: bool,
    answers: Vec<(PacketId, Vec<ReasonCode>)>,
}

/// What a CONNACK granted.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) session_present: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_qos: QoS,
    pub(crate) retain_available: bool,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) assigned: Option<String>,
    pub(crate) server_keep_alive: Option<u16>,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Each as it prints itself.
    pub(crate) properties: Vec<String>,
    pub(crate) receipt: Option<Receipt>,
    remaining: u32,
}

impl Seen {
    fn note(&mut self, client: &mut Client<Kept>, event: Event<'_>) {
        match event {
            Event::Connected(ack) => self.terms = Some(Terms::from(&ack)),
            Event::Refused(ack) => self.refused = Some(ack.reason),
            Event::Message(message) => {
                let topic = match message.topic {
                    TopicName::Name(topic) => Some(topic),
                    TopicName::Alias(alias) => client.topic(alias),
                };
                self.messages.push(Received {
                    topic: topic.unwrap_or_default().to_string(),
                    payload: message.payload.to_vec(),
                    qos: message.qos,
                    retain: message.retain,
                    properties: message.properties.iter().map(|p| format!("{p:?}")).collect(),
                    receipt: message.receipt,
                    remaining: message.remaining,
                });
                if self.skip && message.remaining > 0 && client.skip() {
                    self.messages.pop();
                }
            }
            Event::Payload { bytes, remaining } => {
                self.pieces += 1;
                if let Some(message) = self.messages.last_mut() {
                    message.payload.extend_from_slice(bytes);
                    message.remaining = remaining;
                }
            }
            Event::Skipped { size } => self.skipped.push(size),
            Event::Acknowledged(id, ack) => self.outcomes.push((id, ack.reason)),
            Event::Dropped(id, reason) => self.outcomes.push((id, reason)),
            Event::Resend(id) => self.resend.push(id),
            Event::Subscribed(id, ack) => self.answers.push((id, ack.reasons.iter().collect())),
            Event::Unsubscribed(id, ack) => self.answers.push((id, ack.reasons.iter().collect())),
            Event::Disconnected(disconnect) => self.disconnected = Some(disconnect.reason),
            other => eprintln!("unexpected: {other:?}"),
        }
    }

    /// How many messages have arrived whole.
    pub(crate) fn whole(&self) -> usize {
        self.messages.iter().filter(|message| message.remaining == 0).count()
    }
}

impl From<&ConnAck<'_>> for Terms {
    fn from(ack: &ConnAck<'_>) -> Self {
        Self {
            session_present: ack.session_present,
            receive_maximum: ack.receive_maximum,
            maximum_qos: ack.maximum_qos,
            retain_available: ack.retain_available,
            maximum_packet_size: ack.maximum_packet_size,
            topic_alias_maximum: ack.topic_alias_maximum,
            assigned: ack.assigned_client_identifier.map(|id| id.to_string()),
            server_keep_alive: ack.server_keep_alive,
        }
    }
}

impl Peer {
    /// A client with a new session under this name.
    pub(crate) fn join(setup: &Setup, name: &str) -> Result<Self> {
        let mut peer = Self::new(setup);
        let id = setup.id(name);
        peer.connect(&Connect { client_id: Text::new(&id)?, ..Connect::default() })?;
        Ok(peer)
    }
}

impl<const N: usize> Peer<N> {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self::with(setup, setup.store(), Config::DEFAULT)
    }

    pub(crate) fn manual(setup: &Setup) -> Self {
        let acknowledgement = Acknowledgement::Manual;
        Self::with(setup, setup.store(), Config { acknowledgement, ..Config::DEFAULT })
    }

    pub(crate) fn with(setup: &Setup, store: Kept, config: Config) -> Self {
        let driver = Box::new(Driver::new(setup.version, store, config));
        Self { driver, address: setup.address.clone(), seen: Seen::default() }
    }

    /// One that may keep a megabyte.
    pub(crate) fn large(setup: &Setup) -> Self {
        Self::with(setup, setup.large_store(), Config::DEFAULT)
    }

    /// One that keeps no messages.
    pub(crate) fn forgetful(setup: &Setup) -> Self {
        let limits = mqtt_core::store::Limits { bytes: 0, ..Default::default() };
        let store: Kept = if setup.heap {
            Box::leak(Box::new(Heap::with_limits(limits)))
        } else {
            Box::leak(Box::new(mqtt_core::store::Records::<16>::new()))
        };
        Self::with(setup, store, Config::DEFAULT)
    }

    /// Connects anew and waits for the answer. A socket still open is dropped.
    pub(crate) fn dial(&mut self, connect: &Connect<'_>) -> Result<()> {
        (self.seen.terms, self.seen.refused, self.seen.disconnected) = (None, None, None);
        self.driver.open(&self.address)?;
        let driver = &mut *self.driver;
        driver.client.connect(driver.now(), connect, &mut driver.out)?;
        let result = self
            .until("an answer to CONNECT", |seen| seen.terms.is_some() || seen.refused.is_some());
        // After a refusal there is no connection any more.
        if self.seen.refused.is_some() { Ok(()) } else { result }
    }

    /// Connects anew and has to be accepted. Whether the session was there.
    pub(crate) fn connect(&mut self, connect: &Connect<'_>) -> Result<bool> {
        self.dial(connect)?;
        match &self.seen.terms {
            Some(terms) => Ok(terms.session_present),
            None => Err(format!("refused: {:?}", self.seen.refused).into()),
        }
    }

    pub(crate) fn terms(&self) -> Result<&Terms> {
        self.seen.terms.as_ref().ok_or_else(|| "not connected".into())
    }

    /// One step.
    pub(crate) fn step(&mut self, wait: u64) -> Result<()> {
        let Self { driver, seen, .. } = self;
        Ok(driver.step(wait, |client, event| seen.note(client, event))?)
    }

    /// Steps until it is so.
    pub(crate) fn until(&mut self, what: &str, so: impl Fn(&Seen) -> bool) -> Result<()> {
        let start = Instant::now();
        while !so(&self.seen) {
            ensure(start.elapsed() < PATIENCE, || format!("waited in vain for {what}"))?;
            self.step(50)?;
        }
        Ok(())
    }

    /// Steps until the connection ends, and tells how.
    pub(crate) fn until_lost(&mut self) -> Result<String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Err(error) = self.step(50) {
                return Ok(error.to_string());
            }
        }
        Err("waited in vain for the connection's end".into())
    }

    /// Sends what there is and steps until no publish is without an outcome.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let start = Instant::now();
        self.step(1)?;
        while self.flights() > 0 {
            ensure(start.elapsed() < PATIENCE, || "waited in vain for outcomes".to_owned())?;
            self.step(50)?;
        }
        Ok(())
    }

    pub(crate) fn flights(&self) -> usize {
        self.driver.client.store().flights()
    }

    /// Subscribes and waits for the answer.
    pub(crate) fn request(&mut self, subscribe: &Subscribe<'_>) -> Result<Vec<ReasonCode>> {
        let driver = &mut *self.driver;
        let id = driver.client.subscribe(driver.now(), subscribe, &mut driver.out)?;
        self.answer(id)
    }

    /// Subscribes to one filter, which has to be granted.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<()> {
        let wanted = [Subscription::new(Filter::new(filter)?, qos)];
        let reasons = self.request(&Subscribe::from(&wanted))?;
        let granted = reasons.iter().map(|reason| reason.as_u8()).eq([qos as u8]);
        ensure(granted, || format!("{filter}: {reasons:?}"))
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Result<Vec<ReasonCode>> {
        let driver = &mut *self.driver;
        let filters = [Filter::new(filter)?];
        let unsubscribe = Unsubscribe::from(&filters);
        let id = driver.client.unsubscribe(driver.now(), &unsubscribe, &mut driver.out)?;
        self.answer(id)
    }

    fn answer(&mut self, id: PacketId) -> Result<Vec<ReasonCode>> {
        self.until("an answer", |seen| seen.answers.iter().any(|(other, _)| *other == id))?;
        let index = self.seen.answers.iter().position(|(other, _)| *other == id);
        Ok(index.map(|index| self.seen.answers.remove(index).1).unwrap_or_default())
    }

    /// Publishes as soon as there is room.
    pub(crate) fn send(&mut self, message: &Publish<'_>) -> Result<Option<PacketId>> {
        let start = Instant::now();
        loop {
            let driver = &mut *self.driver;
            match driver.client.publish(driver.now(), message, &mut driver.out) {
                Err(PublishError::NoRoom | PublishError::InFlightFull)
                    if start.elapsed() < PATIENCE => {}
                result => return Ok(result?),
            }
            self.step(50)?;
        }
    }

    /// Leaves the message in the buffer, if there is room.
    pub(crate) fn queue(
        &mut self,
        topic: &str,
        qos: QoS,
        payload: &[u8],
    ) -> Result<Option<PacketId>> {
        self.send(&Publish { qos, ..Publish::new(Topic::new(topic)?, payload) })
    }

    /// Publishes at once.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        qos: QoS,
        payload: &[u8],
    ) -> Result<Option<PacketId>> {
        let id = self.queue(topic, qos, payload)?;
        self.step(1)?;
        Ok(id)
    }

    /// Publishes from a buffer that never holds the whole.
    pub(crate) fn stream(
        &mut self,
        head: &Publish<'_>,
        payload: &[u8],
        again: Option<PacketId>,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = self.driver.now();
            let Driver { client, out, .. } = &mut *self.driver;
            let result = match again {
                Some(id) => client.publish_again_streamed(now, id, head, payload.len(), out),
                None => client.publish_streamed(now, head, payload.len(), out).map(drop),
            };
            match result {
                Err(PublishError::NoRoom | PublishError::InFlightFull)
                    if start.elapsed() < PATIENCE => {}
                result => break result?,
            }
            self.step(50)?;
        }
        let mut rest = payload;
        while !rest.is_empty() {
            let Driver { client, out, .. } = &mut *self.driver;
            let (_, left) = rest.split_at(client.payload(rest, out));
            rest = left;
            self.step(1)?;
        }
        ensure(self.driver.client.payload_owed() == 0, || "payload owed".to_owned())
    }

    /// Waits for so many messages and takes them.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<Received>> {
        self.until(&format!("{count} messages"), |seen| seen.whole() >= count)
            .map_err(|error| format!("{error}, got {}", self.seen.whole()))?;
        ensure(self.seen.whole() == count, || format!("{} messages", self.seen.whole()))?;
        Ok(std::mem::take(&mut self.seen.messages))
    }

    /// Waits for one message with this payload and takes it.
    pub(crate) fn expect(&mut self, payload: &[u8]) -> Result<Received> {
        let message = self.take(1)?.remove(0);
        ensure(message.payload == payload, || {
            format!("{:?} instead of {:?}", message.payload, String::from_utf8_lossy(payload))
        })?;
        Ok(message)
    }

    /// Steps until nothing has come for a while.
    pub(crate) fn drain(&mut self, millis: u64) -> Result<()> {
        let mut last = (self.seen.messages.len(), Instant::now());
        while last.1.elapsed() < Duration::from_millis(millis) {
            self.step(20)?;
            if self.seen.messages.len() > last.0 {
                last = (self.seen.messages.len(), Instant::now());
            }
        }
        Ok(())
    }

    /// Makes sure that nothing comes for a while.
    pub(crate) fn expect_nothing(&mut self, millis: u64) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(millis) {
            self.step(20)?;
        }
        let messages = &self.seen.messages;
        ensure(messages.is_empty(), || format!("unexpected {messages:?}"))
    }

    pub(crate) fn acknowledge(&mut self, receipt: Receipt, reason: ReasonCode) -> Result<()> {
        let driver = &mut *self.driver;
        let result = driver.client.acknowledge(driver.now(), receipt, reason, &mut driver.out);
        ensure(result != Err(SendError::NoRoom), || "no room".to_owned())?;
        Ok(result?)
    }

    /// Ends the connection properly and waits until the broker has closed it.
    pub(crate) fn leave(&mut self, disconnect: &Disconnect<'_>) -> Result<()> {
        let driver = &mut *self.driver;
        driver.client.disconnect(driver.now(), disconnect, &mut driver.out)?;
        self.until_lost().map(drop)
    }
}
