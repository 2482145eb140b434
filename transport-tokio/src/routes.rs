//! Which streams get a message.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    task::Waker,
};

use mqtt_core::{Filter, Topic};

use crate::{error::SubscribeError, inbox::Inbox, message::Identifiers};

/// What a stream reads.
#[derive(Clone, Debug)]
pub(crate) enum Interest {
    /// What matches one of these filters; a share name has been taken off.
    Filters(Vec<Box<str>>),
    /// What nobody else reads.
    Unclaimed,
}

/// What tells which messages a subscription brings: the filter without its share name.
pub(crate) fn local(filter: &str) -> &str {
    match Filter::new(filter).ok().and_then(|filter| filter.shared()) {
        // Share names have no `/`.
        Some((group, _)) => filter.get("$share/".len() + group.len() + 1..).unwrap_or(filter),
        None => filter,
    }
}

/// The streams there are, and a memory of which topics they want.
#[derive(Debug)]
pub(crate) struct Routes {
    streams: BTreeMap<StreamId, Route>,
    /// None is used twice.
    next_id: StreamId,
    exact: HashMap<Box<str>, Vec<StreamId>>,
    wildcard: Vec<(Box<str>, StreamId)>,
    unclaimed: Vec<StreamId>,
    /// The topics seen last, by their hash.
    cache: Vec<Option<Known>>,
    hasher: RandomState,
}

pub(crate) type StreamId = u64;

/// A stream.
#[derive(Debug)]
struct Route {
    interest: Interest,
    /// The filters that are subscribed to for it, and their subscriptions' identifiers.
    subscribed: Vec<(Box<str>, u32)>,
    inbox: Arc<Inbox>,
}

/// A topic and its readers.
#[derive(Clone, Debug)]
struct Known {
    topic: Arc<str>,
    readers: Arc<[Reader]>,
}

/// A stream that reads a topic.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) inbox: Arc<Inbox>,
    /// The identifier of the first of its subscriptions that match the topic. One that only listens
    /// has none.
    identifier: Option<u32>,
}

impl Route {
    fn reader(&self, topic: Topic<'_>) -> Reader {
        let matching = self.subscribed.iter().filter(|(filter, _)| {
            Filter::new(local(filter)).is_ok_and(|filter| filter.matches(topic))
        });
        Reader {
            inbox: Arc::clone(&self.inbox),
            identifier: matching.map(|(_, identifier)| *identifier).min(),
        }
    }
}

impl Reader {
    /// Whether it is to have a copy that was sent for these subscriptions: of several, only one.
    pub(crate) fn is_meant(&self, identifiers: &Identifiers) -> bool {
        self.identifier.is_none_or(|identifier| identifiers.contains(identifier))
    }
}

/// How many topics are remembered, and how long each may be, in bytes.
const MIN_CACHE: usize = 8;
const MAX_CACHE: usize = 256;
const MAX_CACHED: usize = 256;

impl Default for Routes {
    fn default() -> Self {
        Self {
            streams: BTreeMap::new(),
            next_id: 0,
            exact: HashMap::new(),
            wildcard: Vec::new(),
            unclaimed: Vec::new(),
            cache: Vec::new(),
            hasher: RandomState::new(),
        }
    }
}

impl Routes {
    pub(crate) fn insert(
        &mut self,
        interest: Interest,
        subscribed: Vec<(Box<str>, u32)>,
        inbox: Arc<Inbox>,
    ) -> StreamId {
        self.cache = Vec::new();
        let id = self.next_id;
        self.next_id += 1;
        match &interest {
            Interest::Filters(filters) => {
                for filter in filters {
                    if filter.contains(['+', '#']) {
                        self.wildcard.push((filter.clone(), id));
                    } else {
                        self.exact.entry(filter.clone()).or_default().push(id);
                    }
                }
            }
            Interest::Unclaimed => self.unclaimed.push(id),
        }
        self.streams.insert(id, Route { interest, subscribed, inbox });
        id
    }

    /// Whether there was such a stream.
    pub(crate) fn remove(&mut self, id: StreamId) -> bool {
        self.cache = Vec::new();
        let Some(Route { interest, .. }) = self.streams.remove(&id) else { return false };
        match interest {
            Interest::Filters(filters) => {
                for filter in filters {
                    if let Some(ids) = self.exact.get_mut(&filter) {
                        ids.retain(|other| *other != id);
                        if ids.is_empty() {
                            self.exact.remove(&filter);
                        }
                    }
                }
                self.wildcard.retain(|(_, other)| *other != id);
            }
            Interest::Unclaimed => self.unclaimed.retain(|other| *other != id),
        }
        true
    }

    /// Ends the streams for which a filter is subscribed to that the server refuses.
    pub(crate) fn refuse(&mut self, filter: &str, error: &SubscribeError, wakers: &mut Vec<Waker>) {
        let concerned: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, route)| route.subscribed.iter().any(|(other, _)| **other == *filter))
            .map(|(id, route)| (*id, Arc::clone(&route.inbox)))
            .collect();
        for (id, inbox) in concerned {
            self.remove(id);
            wakers.extend(inbox.end(Some(error.clone())));
        }
    }

    /// All streams.
    pub(crate) fn inboxes(&self) -> impl Iterator<Item = &Arc<Inbox>> {
        self.streams.values().map(|route| &route.inbox)
    }

    /// The topic's name to keep, and who reads it.
    pub(crate) fn find(&mut self, topic: Topic<'_>) -> (Arc<str>, Arc<[Reader]>) {
        let hash = self.hasher.hash_one(topic.as_bytes()) as usize;
        let index = hash % self.cache.len().max(1);
        if let Some(Some(route)) = self.cache.get(index)
            && route.topic.as_bytes() == topic.as_bytes()
        {
            return (Arc::clone(&route.topic), Arc::clone(&route.readers));
        }
        let route = Known { topic: topic.as_str().into(), readers: self.readers(topic) };
        let found = (Arc::clone(&route.topic), Arc::clone(&route.readers));
        if topic.len() <= MAX_CACHED {
            self.remember(hash, route);
        }
        found
    }

    /// Remembers a topic, in place of another. While there are few, there is little to remember them in.
    fn remember(&mut self, hash: usize, route: Known) {
        let len = self.cache.len().max(MIN_CACHE);
        if self.cache.is_empty() {
            self.cache.resize(len, None);
        } else if len < MAX_CACHE && self.cache[hash % len].is_some() {
            self.cache.clear();
            self.cache.resize(2 * len, None);
        }
        let len = self.cache.len();
        self.cache[hash % len] = Some(route);
    }

    /// Each once, however many of its filters match.
    fn readers(&self, topic: Topic<'_>) -> Arc<[Reader]> {
        let mut ids = self.exact.get(topic.as_str()).cloned().unwrap_or_default();
        for (filter, id) in &self.wildcard {
            if Filter::new(filter).is_ok_and(|filter| filter.matches(topic)) {
                ids.push(*id);
            }
        }
        if ids.is_empty() {
            ids.clone_from(&self.unclaimed);
        }
        ids.sort_unstable();
        ids.dedup();
        let reader = |id| self.streams.get(&id).map(|route| route.reader(topic));
        ids.into_iter().filter_map(reader).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::StreamLimits;

    fn filters(list: &[&str]) -> Interest {
        Interest::Filters(list.iter().map(|filter| (*filter).into()).collect())
    }

    #[test]
    fn every_stream_that_matches_reads_a_message_once() {
        let mut routes = Routes::default();
        let [narrow, wide, rest] = [0; 3].map(|_| Arc::new(Inbox::new(StreamLimits::default())));
        let ids = [
            routes.insert(filters(&["a/b", "a/+", "+/b"]), Vec::new(), Arc::clone(&narrow)),
            routes.insert(filters(&["#"]), Vec::new(), Arc::clone(&wide)),
            routes.insert(Interest::Unclaimed, Vec::new(), Arc::clone(&rest)),
        ];
        let readers = |routes: &mut Routes, topic| {
            let (name, readers) = routes.find(Topic::new(topic).unwrap());
            assert_eq!(&*name, topic);
            [&narrow, &wide, &rest].map(|inbox| {
                readers.iter().filter(|reader| Arc::ptr_eq(&reader.inbox, inbox)).count()
            })
        };
        for _ in 0..2 {
            assert_eq!(readers(&mut routes, "a/b"), [1, 1, 0]);
            assert_eq!(readers(&mut routes, "c"), [0, 1, 0]);
            assert_eq!(readers(&mut routes, "$SYS/c"), [0, 0, 1], "hidden from `#`");
        }
        routes.remove(ids[1]);
        assert_eq!(readers(&mut routes, "a/b"), [1, 0, 0]);
        assert_eq!(readers(&mut routes, "c"), [0, 0, 1]);
        routes.remove(ids[0]);
        routes.remove(ids[2]);
        assert_eq!(readers(&mut routes, "a/b"), [0, 0, 0]);
        assert!(routes.exact.is_empty() && routes.wildcard.is_empty());
    }

    #[test]
    fn topics_that_share_a_place_in_the_cache_are_told_apart() {
        let mut routes = Routes::default();
        for round in 0..2 {
            for number in 0..2 * MAX_CACHE {
                let topic = number.to_string();
                let (name, _) = routes.find(Topic::new(&topic).unwrap());
                assert_eq!(*name, *topic, "round {round}");
            }
        }
    }
}
