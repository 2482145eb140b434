//! Which subscriber has what.

use alloc::vec::Vec;
use core::iter::successors;

use super::{
    hash::Bare,
    slab::{self, NONE},
};
use crate::{
    hash::Seed,
    router::{Full, Subscriber},
};

/// A record for each subscription, those of a subscriber in a chain.
///
/// They lie close together in no particular order: when one goes, the last moves to its place.
#[derive(Clone, Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    /// The first of each subscriber.
    first: Bare,
}

/// A subscription: `subscriber` is the recipient at `position` of `entry`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) subscriber: Subscriber,
    pub(super) entry: u32,
    pub(super) position: u32,
    previous: u32,
    next: u32,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self { links: Vec::new(), first: Bare::new() }
    }

    /// Adds a subscription: the first of its subscriber from now on.
    pub(super) fn push(
        &mut self,
        seed: Seed,
        subscriber: Subscriber,
        entry: u32,
        position: u32,
    ) -> Result<u32, Full> {
        let index = self.links.len() as u32;
        if self.links.len() >= NONE as usize {
            return Err(Full::Subscriptions);
        }
        slab::reserve(&mut self.links)?;
        let links = &self.links;
        self.first.reserve(|index| hash_of(seed, links, index))?;
        let next = self.first(seed, subscriber).unwrap_or(NONE);
        self.links.push(Link { subscriber, entry, position, previous: NONE, next });
        self.replace(seed, subscriber, NONE, next, index);
        if let Some(link) = self.get_mut(next) {
            link.previous = index;
        }
        Ok(index)
    }

    /// Removes a subscription. Returns the last one, which has its index now, unless it was that.
    pub(super) fn remove(&mut self, seed: Seed, index: u32) -> Option<Link> {
        let removed = *self.get(index)?;
        self.replace(seed, removed.subscriber, removed.previous, index, removed.next);
        if let Some(link) = self.get_mut(removed.next) {
            link.previous = removed.previous;
        }
        self.links.swap_remove(index as usize);
        let moved = self.get(index).copied();
        if let Some(link) = moved {
            self.replace(seed, link.subscriber, link.previous, self.links.len() as u32, index);
            if let Some(next) = self.get_mut(link.next) {
                next.previous = index;
            }
        }
        slab::shrink(&mut self.links);
        moved
    }

    /// In the chain of a subscriber, lets another come behind `previous`, or first.
    fn replace(&mut self, seed: Seed, subscriber: Subscriber, previous: u32, from: u32, to: u32) {
        if let Some(link) = self.get_mut(previous) {
            link.next = to;
            return;
        }
        let Self { links, first } = self;
        let hash = hash(seed, subscriber);
        match (from, to) {
            (NONE, _) => first.insert(hash, to),
            (_, NONE) => first.remove(hash, from, |index| hash_of(seed, links, index)),
            _ => first.set(hash, from, to),
        }
    }

    /// Lets all be about the entries that those have become.
    pub(super) fn set_entries(&mut self, to: impl Fn(u32) -> u32) {
        self.links.iter_mut().for_each(|link| link.entry = to(link.entry));
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// The first that a subscriber has.
    pub(super) fn first(&self, seed: Seed, subscriber: Subscriber) -> Option<u32> {
        let is = |index| self.get(index).is_some_and(|link| link.subscriber == subscriber);
        self.first.find(hash(seed, subscriber), is)
    }

    /// All that a subscriber has.
    pub(super) fn of(&self, seed: Seed, subscriber: Subscriber) -> impl Iterator<Item = &Link> {
        let first = self.first(seed, subscriber).and_then(|first| self.get(first));
        successors(first, |link| self.get(link.next))
    }

    pub(super) fn get(&self, index: u32) -> Option<&Link> {
        self.links.get(index as usize)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Link> {
        self.links.get_mut(index as usize)
    }
}

/// The hash of the subscriber whose first link this is.
fn hash_of(seed: Seed, links: &[Link], index: u32) -> u32 {
    links.get(index as usize).map_or(0, |link| hash(seed, link.subscriber))
}

fn hash(seed: Seed, subscriber: Subscriber) -> u32 {
    seed.word(u64::from(subscriber.0))
}
