//! What is subscribed to at the server, and what should be.

use std::collections::{HashMap, HashSet, VecDeque};

use mqtt_core::{
    Client as Machine, EncodeError, Filter, Instant, PacketId, Property, QoS, ReasonCode,
    RetainHandling, SendError, Subscribe, Subscription, Unsubscribe, Version, store::Store,
};
use tokio::sync::oneshot;

use crate::{
    error::{Invalid, Refusal, SubscribeError},
    out::Out,
};

/// How a subscription is made, apart from its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

impl Terms {
    /// Terms that suit both.
    fn and(self, other: Self) -> Self {
        Self {
            qos: self.qos.max(other.qos),
            no_local: self.no_local && other.no_local,
            retain_as_published: self.retain_as_published || other.retain_as_published,
            retain_handling: other.retain_handling, // of the next SUBSCRIBE alone
        }
    }

    /// Whether they can be said of this filter.
    pub(crate) fn check(self, version: Version, filter: Filter<'_>) -> Result<(), EncodeError> {
        let extended = self.no_local
            || self.retain_as_published
            || self.retain_handling != RetainHandling::Send;
        if extended && !version.is_v5() {
            return Err(EncodeError::Version);
        }
        if self.no_local && filter.is_shared() {
            return Err(EncodeError::SharedNoLocal);
        }
        Ok(())
    }
}

/// What becomes of a request to subscribe.
pub(crate) type Answer = Result<QoS, SubscribeError>;

/// Every filter somebody reads, or that has still to be unsubscribed from.
///
/// It is a table of what is wanted beside what is known, not a queue of requests: a lost connection
/// or a lost session only changes what is known.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    filters: HashMap<Box<str>, Entry>,
    /// Those of the filters.
    identifiers: HashSet<u32>,
    next_identifier: u32,
    /// Those that need a packet.
    due: VecDeque<Box<str>>,
    asked: HashMap<PacketId, Vec<Box<str>>>,
}

#[derive(Debug)]
struct Entry {
    terms: Terms,
    /// What the server is to put in messages that it sends for it.
    identifier: u32,
    /// How many streams want it.
    streams: usize,
    known: Known,
    /// It has to be asked for (again), whatever is known.
    ask: bool,
    /// It stands among those that need a packet.
    is_due: bool,
    waiting: Vec<oneshot::Sender<Answer>>,
    leaving: Vec<oneshot::Sender<()>>,
}

/// What is known about the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Absent,
    /// On top of one that is there, perhaps.
    Asked {
        present: bool,
    },
    Present,
    /// It was asked for, or asked to go, and nobody knows whether the server has heard of it.
    Perhaps,
    Leaving,
}

/// What an entry needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Subscribe,
    Unsubscribe,
}

/// How many filters are put in one packet: some servers take no more.
const BATCH: usize = 8;

impl Entry {
    fn need(&self) -> Need {
        match self.known {
            Known::Asked { .. } | Known::Leaving => Need::Nothing, // when it has been answered
            _ if self.streams > 0 && self.ask => Need::Subscribe,
            Known::Present | Known::Perhaps if self.streams == 0 => Need::Unsubscribe,
            _ => Need::Nothing,
        }
    }
}

impl Default for Subscriptions {
    /// Begins with any identifier: messages of a session that is resumed may have those of an earlier
    /// program.
    fn default() -> Self {
        Self {
            filters: HashMap::new(),
            identifiers: HashSet::new(),
            next_identifier: fastrand::u32(1..MAX_IDENTIFIER),
            due: VecDeque::new(),
            asked: HashMap::new(),
        }
    }
}

/// The highest subscription identifier.
const MAX_IDENTIFIER: u32 = 268_435_455;

impl Subscriptions {
    /// One more stream wants this. The identifier of the subscription, and who is told the answer.
    pub(crate) fn add(&mut self, filter: &str, terms: Terms) -> (u32, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let entry = self.filters.entry(filter.into()).or_insert_with(|| Entry {
            terms,
            identifier: 0,
            streams: 0,
            known: Known::Absent,
            ask: true,
            is_due: false,
            waiting: Vec::new(),
            leaving: Vec::new(),
        });
        entry.terms = if entry.streams == 0 { terms } else { entry.terms.and(terms) };
        entry.streams += 1;
        entry.ask = true;
        entry.waiting.push(sender);
        entry.leaving.clear(); // it stays
        while entry.identifier == 0 {
            if self.identifiers.insert(self.next_identifier) {
                entry.identifier = self.next_identifier;
            }
            self.next_identifier = self.next_identifier % MAX_IDENTIFIER + 1;
        }
        let identifier = entry.identifier;
        self.touch(filter);
        (identifier, receiver)
    }

    /// One stream less wants this. What comes back tells when the server does not have it either.
    pub(crate) fn remove(&mut self, filter: &str) -> Option<oneshot::Receiver<()>> {
        let entry = self.filters.get_mut(filter)?;
        entry.streams = entry.streams.saturating_sub(1);
        if entry.streams > 0 {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        entry.leaving.push(sender);
        self.touch(filter);
        Some(receiver)
    }

    /// The entry has changed: it may need a packet, or nothing any more.
    fn touch(&mut self, filter: &str) {
        let Some((name, entry)) = self.filters.get_key_value(filter) else { return };
        let (need, is_due) = (entry.need(), entry.is_due);
        if need != Need::Nothing && !is_due {
            self.due.push_back(name.clone());
            if let Some(entry) = self.filters.get_mut(filter) {
                entry.is_due = true;
            }
        } else if entry.streams == 0 && entry.known == Known::Absent {
            if is_due {
                self.due.retain(|due| **due != *filter);
            }
            self.identifiers.remove(&entry.identifier);
            self.filters.remove(filter); // and whoever waits learns by that
        }
    }

    /// Writes what is needed, as far as there is room. Who is refused at once is told the cause.
    pub(crate) fn pump<S: Store>(
        &mut self,
        machine: &mut Machine<S>,
        now: Instant,
        out: &mut Out,
        refused: &mut impl FnMut(&str, SubscribeError),
    ) {
        // With an identifier each goes by itself.
        let identified =
            machine.version().is_v5() && machine.limits().subscription_identifier_available;
        let mut batch = BATCH;
        while let Some((need, names)) = self.next_due(if identified { 1 } else { batch }, batch) {
            let result = match need {
                Need::Subscribe => self.subscribe(machine, now, out, &names, identified),
                _ => unsubscribe(machine, now, out, &names),
            };
            let error = match result {
                Ok(id) => {
                    self.sent(id, need, names);
                    continue;
                }
                Err(SendError::Unsupported(reason)) => SubscribeError::Unsupported(reason),
                Err(SendError::TooLarge) => SubscribeError::TooLarge,
                Err(SendError::Invalid(error)) => SubscribeError::Invalid(Invalid::Packet(error)),
                Err(_) => return, // there will be room
            };
            if batch > 1 {
                batch = 1; // to find out which
                continue;
            }
            self.due.pop_front();
            for name in names {
                if let Some(entry) = self.filters.get_mut(&name) {
                    (entry.is_due, entry.ask) = (false, false);
                }
                if need == Need::Subscribe {
                    self.refuse(&name, error.clone(), refused);
                } else {
                    self.forget(&name); // it will end with the session
                }
            }
        }
    }

    /// The first that need a packet, up to so many that need the same: SUBSCRIBE, or UNSUBSCRIBE.
    fn next_due(&mut self, subscribe: usize, unsubscribe: usize) -> Option<(Need, Vec<Box<str>>)> {
        loop {
            let need_of = |name: &str| self.filters.get(name).map_or(Need::Nothing, Entry::need);
            let need = need_of(self.due.front()?);
            if need != Need::Nothing {
                let most = if need == Need::Subscribe { subscribe } else { unsubscribe };
                let same = self.due.iter().take(most).take_while(|name| need_of(name) == need);
                return Some((need, same.cloned().collect()));
            }
            let name = self.due.pop_front()?;
            if let Some(entry) = self.filters.get_mut(&name) {
                entry.is_due = false;
            }
            self.touch(&name);
        }
    }

    fn subscribe<S: Store>(
        &self,
        machine: &mut Machine<S>,
        now: Instant,
        out: &mut Out,
        names: &[Box<str>],
        identified: bool,
    ) -> Result<PacketId, SendError> {
        let mut list = Vec::with_capacity(names.len());
        let mut identifiers = Vec::new();
        for name in names {
            if let (Ok(filter), Some(entry)) = (Filter::new(name), self.filters.get(name)) {
                if identified {
                    identifiers.push(Property::SubscriptionIdentifier(entry.identifier));
                }
                let Terms { qos, no_local, retain_as_published, retain_handling } = entry.terms;
                list.push(Subscription {
                    filter,
                    qos,
                    no_local,
                    retain_as_published,
                    retain_handling,
                });
            }
        }
        let subscribe =
            Subscribe { subscriptions: (&list[..]).into(), properties: (&identifiers[..]).into() };
        machine.subscribe(now, &subscribe, out)
    }

    fn sent(&mut self, id: PacketId, need: Need, names: Vec<Box<str>>) {
        for name in &names {
            self.due.pop_front();
            if let Some(entry) = self.filters.get_mut(name) {
                entry.is_due = false;
                if need == Need::Subscribe {
                    let present = entry.known == Known::Present;
                    (entry.known, entry.ask) = (Known::Asked { present }, false);
                } else {
                    entry.known = Known::Leaving;
                }
            }
        }
        self.asked.insert(id, names);
    }

    /// A SUBACK has come, filter by filter.
    pub(crate) fn subscribed(
        &mut self,
        id: PacketId,
        answers: impl Iterator<Item = Result<QoS, Refusal>>,
        refused: &mut impl FnMut(&str, SubscribeError),
    ) {
        let Some(names) = self.asked.remove(&id) else { return };
        for (name, answer) in names.iter().zip(answers) {
            let Some(entry) = self.filters.get_mut(name) else { continue };
            match answer {
                Ok(granted) => {
                    entry.known = Known::Present;
                    if !entry.ask {
                        for waiting in entry.waiting.drain(..) {
                            let _ = waiting.send(Ok(granted)); // or nobody wants to know
                        }
                    }
                    self.touch(name);
                }
                Err(refusal) => self.refuse(name, SubscribeError::Refused(refusal), refused),
            }
        }
    }

    /// An UNSUBACK has come. Whatever it says, there is no subscription.
    pub(crate) fn unsubscribed(&mut self, id: PacketId) {
        for name in self.asked.remove(&id).unwrap_or_default() {
            self.forget(&name);
        }
    }

    /// The server does not have it, or cannot be told.
    fn forget(&mut self, name: &str) {
        if let Some(entry) = self.filters.get_mut(name) {
            entry.known = Known::Absent;
            entry.leaving.clear(); // their receivers learn by that
        }
        self.touch(name);
    }

    /// There is no such subscription. If nobody has asked anew, whoever waits is told, and whoever
    /// reads already.
    fn refuse(
        &mut self,
        name: &str,
        error: SubscribeError,
        refused: &mut impl FnMut(&str, SubscribeError),
    ) {
        let Some(entry) = self.filters.get_mut(name) else { return };
        // A subscription that was there is there no less.
        let present = matches!(entry.known, Known::Present | Known::Asked { present: true });
        entry.known = if present { Known::Present } else { Known::Absent };
        if !entry.ask {
            entry.waiting.retain(|waiting| !waiting.is_closed());
            let reading = !present && entry.streams > entry.waiting.len();
            for waiting in entry.waiting.drain(..) {
                let _ = waiting.send(Err(error.clone())); // or nobody wants to know
            }
            if reading {
                refused(name, error);
            }
        }
        self.touch(name);
    }

    /// A connection has begun, with the session or without.
    pub(crate) fn connected(&mut self, session_present: bool) {
        let mut names = Vec::from_iter(self.filters.keys().cloned());
        names.sort_unstable_by_key(|name| self.filters[name].identifier);
        for name in names {
            if let Some(entry) = self.filters.get_mut(&name)
                && !session_present
            {
                entry.known = Known::Absent;
                entry.ask = true;
                entry.leaving.clear();
            }
            self.touch(&name);
        }
    }

    /// A connection has ended: nobody answers any more.
    pub(crate) fn lost(&mut self) {
        for name in self.asked.drain().flat_map(|(_, names)| names) {
            if let Some(entry) = self.filters.get_mut(&name) {
                // It may be there or not; either way it is asked for, or asked to go.
                entry.ask |= matches!(entry.known, Known::Asked { .. });
                entry.known = match entry.known {
                    Known::Asked { present: true } => Known::Present,
                    _ => Known::Perhaps,
                };
            }
        }
    }

    /// The client is closed.
    pub(crate) fn close(&mut self) {
        *self = Self::default(); // their receivers learn by that
    }

    /// Whether there is a subscription with this identifier.
    pub(crate) fn has_identifier(&self, identifier: u32) -> bool {
        self.identifiers.contains(&identifier)
    }

    pub(crate) fn len(&self) -> usize {
        self.filters.len()
    }
}

fn unsubscribe<S: Store>(
    machine: &mut Machine<S>,
    now: Instant,
    out: &mut Out,
    names: &[Box<str>],
) -> Result<PacketId, SendError> {
    let filters: Vec<_> = names.iter().filter_map(|name| Filter::new(name).ok()).collect();
    let unsubscribe = Unsubscribe { filters: (&filters[..]).into(), ..Unsubscribe::default() };
    machine.unsubscribe(now, &unsubscribe, out)
}

/// What a reason code in a SUBACK says.
pub(crate) fn granted(reason: ReasonCode) -> Result<QoS, ReasonCode> {
    QoS::from_u8(reason.as_u8()).ok_or(reason)
}
