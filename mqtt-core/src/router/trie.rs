//! A router that grows.

use alloc::boxed::Box;

use super::{Full, GroupId, Match, Options, Recipient, Router, Subscriber};
use crate::{
    hash::Seed,
    inline::Inline,
    topic::{Filter, Topic},
};
use hash::Table;
use links::{Link, Links};
use nodes::{Nodes, Walk};
use recipients::Recipients;
use slab::{NONE, Slab};

mod hash;
mod links;
mod nodes;
mod recipients;
mod slab;

/// Keeps subscriptions on the heap, within [`Limits`] in number and in bytes.
///
/// A filter without wildcards is found by one look into a hash table, whatever else there is; those
/// with wildcards are a tree, of which a look-up visits the nodes that match the first levels of
/// the topic, each once. It takes no memory. To add and to remove take about as long, whatever
/// the number of subscribers of the filter or of filters of the subscriber; to remove all that a
/// subscriber has takes as long as it has filters. When an array grows or is shrunk, once in a
/// while, everything in it is moved.
///
/// A client with many filters that differ in where their `+` are makes look-ups visit as many
/// nodes: a broker should limit how many filters a client may have.
///
/// Memory follows what is kept, and is given back when three quarters of it are unused: see
/// [`bytes`](Self::bytes). An empty router has none on the heap.
///
/// ```
/// use mqtt_core::{Filter, Topic, router::{Limits, Options, Router, Subscriber, Trie}};
///
/// let seed = 0x2c0d_9f0c_bc43_dd2b_6f11_6a03_5c6e_a1f7; // from a source of random numbers
/// let mut router = Trie::with_limits(seed, Limits { subscriptions: 100, ..Limits::default() });
/// router.subscribe(Subscriber(1), Filter::new("pump/+/status")?, Options::default())?;
/// assert_eq!(router.matches(Topic::new("pump/7/status")?).count(), 1);
/// assert_eq!(router.matches(Topic::new("pump/7")?).count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trie {
    seed: Seed,
    limits: Limits,
    entries: Slab<Entry>,
    /// The entry of each filter, by the whole of it.
    filters: Table,
    /// Bytes of the filters that do not fit an entry.
    long: usize,
    /// The entries that have wildcards and are not shared.
    nodes: Nodes,
    links: Links,
    /// The subscriptions to filters with more than [`FEW`], by subscriber and entry.
    crowds: Table,
    /// The entry of each group.
    groups: Table,
    /// How many groups there have been.
    serial: u64,
    /// How many subscriptions are to shared filters.
    shared: usize,
}

/// How much a [`Trie`] may keep.
///
/// ```
/// use mqtt_core::router::Limits;
///
/// let limits = Limits { bytes: 16 << 20, ..Limits::default() };
/// assert_eq!(limits.subscriptions, 1_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Subscriptions. By default 1,000,000.
    pub subscriptions: usize,
    /// What [`Trie::bytes`] counts. By default 256 MiB.
    pub bytes: usize,
}

impl Limits {
    const DEFAULT: Self = Self { subscriptions: 1_000_000, bytes: 256 << 20 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A filter. A shared one hangs on the one after its share name, which therefore is there as well,
/// perhaps without recipients.
#[derive(Clone, Debug)]
struct Entry {
    filter: Text,
    recipients: Recipients,
    /// The node where it ends, if it has wildcards and is not shared.
    node: u32,
    /// The entry of the first group that hangs on it.
    groups: u32,
}

#[derive(Clone, Debug)]
enum Text {
    Plain(Inline<SHORT>),
    Shared(Box<Shared>),
}

#[derive(Clone, Debug)]
struct Shared {
    filter: Inline<SHORT>,
    serial: u64,
    /// The entry on which it hangs, and its neighbours there.
    of: u32,
    previous: u32,
    next: u32,
}

impl Trie {
    /// An empty router with the default limits.
    ///
    /// Clients choose the filters. So that they cannot choose those that collide in a hash table,
    /// `seed` has to be a random number that they do not know.
    pub const fn new(seed: u128) -> Self {
        Self::with_limits(seed, Limits::DEFAULT)
    }

    /// An empty router with these limits. For the seed, see [`new`](Self::new).
    pub const fn with_limits(seed: u128, limits: Limits) -> Self {
        Self {
            seed: Seed::new(seed),
            limits,
            entries: Slab::new(),
            filters: Table::new(),
            long: 0,
            nodes: Nodes::new(),
            links: Links::new(),
            crowds: Table::new(),
            groups: Table::new(),
            serial: 0,
            shared: 0,
        }
    }

    /// What is kept, in bytes, which [`Limits::bytes`] limits: 48 for a subscription; 88 for
    /// each different filter, and its length if that is more than 46; 64 for each level, as far as
    /// filters with wildcards have not it and those before it in common, and its length if that is
    /// more than 22.
    ///
    /// The allocator is asked for up to a third more while their number grows, and for up to four
    /// times as much when it has become smaller.
    pub fn bytes(&self) -> usize {
        self.links.len() * LINK + self.entries.len() * ENTRY + self.long + self.nodes.bytes()
    }

    /// The options of the subscription that a subscriber has for `filter`.
    pub(crate) fn options(&self, subscriber: Subscriber, filter: Filter<'_>) -> Option<Options> {
        let index = self.find(filter.as_bytes())?;
        let position = self.position(index, subscriber)?;
        self.entries.get(index)?.recipients.as_slice().get(position).map(Recipient::options)
    }

    /// The filter that the members of a group share, while there are any.
    pub(crate) fn filter_of(&self, group: GroupId) -> Option<Filter<'_>> {
        self.group_entry(group).map(Entry::filter)
    }

    /// The group of a shared filter, if it has members.
    pub(crate) fn group_of(&self, filter: Filter<'_>) -> Option<GroupId> {
        self.entries.get(self.find(filter.as_bytes())?)?.group()
    }

    fn group_entry(&self, id: GroupId) -> Option<&Entry> {
        let entry = |index| self.entries.get(index).filter(|entry| entry.group() == Some(id));
        self.groups.find(self.seed.word(id.0), |index| entry(index).is_some()).and_then(entry)
    }

    fn room(&self, bytes: usize) -> Result<usize, Full> {
        let room = self.limits.bytes.saturating_sub(self.bytes());
        room.checked_sub(bytes).ok_or(Full::Bytes)
    }

    fn find(&self, filter: &[u8]) -> Option<u32> {
        let is =
            |index| self.entries.get(index).is_some_and(|entry| entry.name().as_bytes() == filter);
        self.filters.find(self.seed.bytes(filter), is)
    }

    /// Which recipient of an entry a subscriber is.
    fn position(&self, index: u32, subscriber: Subscriber) -> Option<usize> {
        let recipients = self.entries.get(index)?.recipients.as_slice();
        if recipients.len() <= FEW {
            return recipients.iter().position(|recipient| recipient.subscriber == subscriber);
        }
        let is = |link| {
            let link = self.links.get(link);
            link.is_some_and(|link| link.subscriber == subscriber && link.entry == index)
        };
        let link = self.crowds.find(crowd_hash(self.seed, index, subscriber), is)?;
        self.links.get(link).map(|link| link.position as usize)
    }

    /// Adds a filter that is not there.
    fn add(&mut self, filter: Filter<'_>) -> Result<u32, Full> {
        let Some((_, plain)) = filter.shared() else {
            return self.add_plain(filter);
        };
        let of = match self.find(plain.as_bytes()) {
            Some(of) => of,
            None => self.add_plain(plain)?,
        };
        let added = self.add_group(filter, of);
        if added.is_err() {
            self.release(of);
        }
        added
    }

    fn add_plain(&mut self, filter: Filter<'_>) -> Result<u32, Full> {
        let index = self.add_entry(filter, Text::Plain)?;
        if filter.has_wildcard() {
            let added =
                self.room(0).and_then(|room| self.nodes.add(self.seed, filter, index, room));
            match added {
                Ok(node) => self.entry_mut(index, |entry| entry.node = node),
                Err(full) => {
                    self.release(index);
                    return Err(full);
                }
            }
        }
        Ok(index)
    }

    /// Adds a shared filter, to hang on the entry `of`.
    fn add_group(&mut self, filter: Filter<'_>, of: u32) -> Result<u32, Full> {
        self.groups.reserve(1)?;
        let serial = self.serial + 1;
        let next = self.entries.get(of).map_or(NONE, |entry| entry.groups);
        let shared = |filter| Shared { filter, serial, of, previous: NONE, next };
        let text = |filter| Text::Shared(Box::new(shared(filter)));
        let index = self.add_entry(filter, text)?;
        self.serial = serial;
        self.groups.insert(self.seed.word(serial), index);
        self.entry_mut(of, |entry| entry.groups = index);
        self.shared_mut(next, |shared| shared.previous = index);
        Ok(index)
    }

    fn add_entry(
        &mut self,
        filter: Filter<'_>,
        text: impl FnOnce(Inline<SHORT>) -> Text,
    ) -> Result<u32, Full> {
        let bytes = filter.as_bytes();
        let name = Inline::new(bytes).map_err(|_| Full::Bytes)?;
        let long = name.heap_len();
        self.room(ENTRY + long)?;
        self.filters.reserve(1)?;
        let filter = text(name);
        let entry = Entry { filter, recipients: Recipients::None, node: NONE, groups: NONE };
        let index = self.entries.insert(entry)?;
        self.filters.insert(self.seed.bytes(bytes), index);
        self.long += long;
        Ok(index)
    }

    /// Removes an entry that nothing needs any more.
    fn release(&mut self, index: u32) {
        let Some(entry) = self.entries.get(index) else { return };
        if entry.groups != NONE || !entry.recipients.as_slice().is_empty() {
            return;
        }
        let Some(entry) = self.entries.remove(index) else { return };
        let filter = entry.filter();
        self.long -= entry.name().heap_len();
        self.filters.remove(self.seed.bytes(filter.as_bytes()), index);
        match &entry.filter {
            Text::Plain(_) if entry.node == NONE => {}
            Text::Plain(_) => self.nodes.remove(entry.node, filter),
            Text::Shared(shared) => {
                let &Shared { serial, of, previous, next, .. } = &**shared;
                self.groups.remove(self.seed.word(serial), index);
                if previous == NONE {
                    self.entry_mut(of, |entry| entry.groups = next);
                }
                self.shared_mut(previous, |shared| shared.next = next);
                self.shared_mut(next, |shared| shared.previous = previous);
                self.release(of);
            }
        }
    }

    /// Adds a recipient to an entry.
    fn join(&mut self, index: u32, subscriber: Subscriber, options: Options) -> Result<(), Full> {
        self.room(LINK)?;
        let Some(entry) = self.entries.get_mut(index) else { return Err(Full::Bytes) };
        let position = entry.recipients.as_slice().len();
        let enlisted = if position == FEW { 0 } else { position };
        if position >= FEW {
            self.crowds.reserve(position + 1 - enlisted)?;
        }
        let link = self.links.push(self.seed, subscriber, index, position as u32)?;
        let added = entry.recipients.push(Recipient::new(subscriber, options, link));
        if added.is_err() {
            self.links.remove(self.seed, link);
            return added;
        }
        self.shared += usize::from(entry.group().is_some());
        if position >= FEW {
            self.enlist(index, enlisted);
        }
        Ok(())
    }

    /// Removes a subscription.
    fn leave(&mut self, link: u32) -> Option<Recipient> {
        let &Link { subscriber, entry: index, position, .. } = self.links.get(link)?;
        let recipients = self.entries.get(index)?.recipients.as_slice();
        let (count, removed) = (recipients.len(), *recipients.get(position as usize)?);
        if count > FEW {
            self.crowds.remove(crowd_hash(self.seed, index, subscriber), link);
        }
        if let Some(moved) = self.links.remove(self.seed, link) {
            self.follow(&moved, link);
        }
        let entry = self.entries.get_mut(index)?;
        self.shared -= usize::from(entry.group().is_some());
        let moved = entry.recipients.remove(position as usize);
        if let Some(moved) = moved.and_then(|moved| self.links.get_mut(moved.link)) {
            moved.position = position;
        }
        if count == FEW + 1 {
            for recipient in self.entries.get(index)?.recipients.as_slice() {
                let hash = crowd_hash(self.seed, index, recipient.subscriber);
                self.crowds.remove(hash, recipient.link);
            }
        }
        self.release(index);
        Some(removed)
    }

    /// Notes that the last link has become this one.
    fn follow(&mut self, link: &Link, index: u32) {
        let Some(entry) = self.entries.get_mut(link.entry) else { return };
        if let Some(recipient) = entry.recipients.get_mut(link.position as usize) {
            recipient.link = index;
        }
        if entry.recipients.as_slice().len() > FEW {
            let hash = crowd_hash(self.seed, link.entry, link.subscriber);
            self.crowds.set(hash, self.links.len() as u32, index);
        }
    }

    /// Makes the recipients of a crowd known, from this position on. There is room for them.
    fn enlist(&mut self, index: u32, from: usize) {
        let recipients = self.entries.get(index).map(|entry| entry.recipients.as_slice());
        for recipient in recipients.unwrap_or_default().iter().skip(from) {
            let hash = crowd_hash(self.seed, index, recipient.subscriber);
            self.crowds.insert(hash, recipient.link);
        }
    }

    /// Gives memory back if much is unused.
    fn shrink(&mut self) {
        if !self.entries.is_sparse() && !self.nodes.is_sparse() {
            return;
        }
        let (entries, moves) = self.entries.gather();
        let node_moves = self.nodes.gather(|entry| moves.of(entry));
        for entry in entries {
            (entry.node, entry.groups) = (node_moves.of(entry.node), moves.of(entry.groups));
            if let Text::Shared(shared) = &mut entry.filter {
                for index in [&mut shared.of, &mut shared.previous, &mut shared.next] {
                    *index = moves.of(*index);
                }
            }
        }
        self.links.set_entries(|entry| moves.of(entry));
        self.filters.set_all(|entry| moves.of(entry));
        self.groups.set_all(|entry| moves.of(entry));
        self.entries.cut();
        self.nodes.cut();
        // Their hashes are of the entries' indices.
        self.crowds.clear();
        for index in 0..self.entries.len() as u32 {
            let recipients = self.entries.get(index).map(|entry| entry.recipients.as_slice());
            if recipients.is_some_and(|recipients| recipients.len() > FEW) {
                self.enlist(index, 0);
            }
        }
    }

    fn entry_mut(&mut self, index: u32, change: impl FnOnce(&mut Entry)) {
        self.entries.get_mut(index).map(change);
    }

    fn shared_mut(&mut self, index: u32, change: impl FnOnce(&mut Shared)) {
        if let Some(Entry { filter: Text::Shared(shared), .. }) = self.entries.get_mut(index) {
            change(shared);
        }
    }
}

impl Router for Trie {
    fn subscribe(
        &mut self,
        subscriber: Subscriber,
        filter: Filter<'_>,
        options: Options,
    ) -> Result<Option<Options>, Full> {
        let found = self.find(filter.as_bytes());
        if let Some(index) = found
            && let Some(position) = self.position(index, subscriber)
            && let Some(entry) = self.entries.get_mut(index)
        {
            let recipient = entry.recipients.get_mut(position);
            return Ok(recipient.map(|recipient| recipient.replace(options)));
        }
        if self.links.len() >= self.limits.subscriptions {
            return Err(Full::Subscriptions);
        }
        let index = match found {
            Some(index) => index,
            None => self.add(filter)?,
        };
        let joined = self.join(index, subscriber, options);
        if joined.is_err() {
            self.release(index);
        }
        joined.map(|()| None)
    }

    fn unsubscribe(&mut self, subscriber: Subscriber, filter: Filter<'_>) -> Option<Options> {
        let index = self.find(filter.as_bytes())?;
        let position = self.position(index, subscriber)?;
        let recipient = *self.entries.get(index)?.recipients.as_slice().get(position)?;
        self.leave(recipient.link);
        self.shrink();
        Some(recipient.options())
    }

    fn unsubscribe_all(&mut self, subscriber: Subscriber) -> usize {
        let before = self.links.len();
        while let Some(link) = self.links.first(self.seed, subscriber) {
            self.leave(link);
        }
        self.shrink();
        before - self.links.len()
    }

    fn len(&self) -> usize {
        self.links.len()
    }

    fn shared(&self) -> usize {
        self.shared
    }

    fn matches<'r>(&'r self, topic: Topic<'r>) -> impl Iterator<Item = Match<'r>> {
        Matches {
            trie: self,
            exact: self.find(topic.as_bytes()),
            walk: Walk::new(&self.nodes, self.seed, topic),
            group: NONE,
        }
    }

    fn group(&self, id: GroupId) -> &[Recipient] {
        self.group_entry(id).map_or(&[], |entry| entry.recipients.as_slice())
    }

    fn subscriptions(&self, subscriber: Subscriber) -> impl Iterator<Item = (Filter<'_>, Options)> {
        self.links.of(self.seed, subscriber).filter_map(|link| {
            let entry = self.entries.get(link.entry)?;
            let recipient = entry.recipients.as_slice().get(link.position as usize)?;
            Some((entry.filter(), recipient.options()))
        })
    }

    fn key(&self, filter: Filter<'_>) -> u32 {
        self.seed.bytes(filter.as_bytes())
    }

    fn subscription(&self, subscriber: Subscriber, key: u32) -> Option<(Filter<'_>, Options)> {
        let has = |index| self.position(index, subscriber).is_some();
        let index = self.filters.find(key, has)?;
        let entry = self.entries.get(index)?;
        let recipient = entry.recipients.as_slice().get(self.position(index, subscriber)?)?;
        Some((entry.filter(), recipient.options()))
    }
}

impl Entry {
    fn filter(&self) -> Filter<'_> {
        Filter::from_validated(self.name().as_bytes())
    }

    #[inline]
    fn name(&self) -> &Inline<SHORT> {
        match &self.filter {
            Text::Plain(filter) => filter,
            Text::Shared(shared) => &shared.filter,
        }
    }

    fn group(&self) -> Option<GroupId> {
        match &self.filter {
            Text::Plain(_) => None,
            Text::Shared(shared) => Some(GroupId(shared.serial)),
        }
    }
}

/// What matches a topic: the filter that is the same, and those with wildcards; behind each the
/// groups that hang on it.
struct Matches<'r> {
    trie: &'r Trie,
    exact: Option<u32>,
    walk: Walk<'r>,
    /// The next group.
    group: u32,
}

impl<'r> Iterator for Matches<'r> {
    type Item = Match<'r>;

    #[inline]
    fn next(&mut self) -> Option<Match<'r>> {
        loop {
            let group = self.trie.entries.get(self.group);
            if let Some(Entry { filter: Text::Shared(shared), recipients, .. }) = group {
                self.group = shared.next;
                let recipients = recipients.as_slice();
                return Some(Match { group: Some(GroupId(shared.serial)), recipients });
            }
            let index = self.exact.take().or_else(|| self.walk.next())?;
            let entry = self.trie.entries.get(index)?;
            // The name of a topic can be the text of a shared filter, which does not match it.
            if let Text::Plain(_) = entry.filter {
                self.group = entry.groups;
                let recipients = entry.recipients.as_slice();
                if !recipients.is_empty() {
                    return Some(Match { group: None, recipients });
                }
            }
        }
    }
}

fn crowd_hash(seed: Seed, entry: u32, Subscriber(subscriber): Subscriber) -> u32 {
    seed.word(u64::from(entry) << 32 | u64::from(subscriber))
}

/// How many recipients are looked through one after the other.
const FEW: usize = 8;

/// What a subscription and a filter are reckoned to take, with their places in the tables.
const LINK: usize = 48;
const ENTRY: usize = 88;

/// The filters that fit an entry, which takes 72 bytes then.
const SHORT: usize = 46;

#[cfg(test)]
mod tests;
