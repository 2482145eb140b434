//! Who wants this topic?
//!
//! | router | memory | time of a look-up |
//! |---|---|---|
//! | [`Flat`] | arrays of the given sizes, fits a `static` | grows with the number of filters |
//! | [`Trie`] | on the heap, within limits (feature `alloc`) | grows with the levels of the topic |
//!
//! A router remembers which [`Subscriber`] has which filters, with what [`Options`], and answers
//! which of them a topic is for. It knows nothing else: a subscriber is a number that the broker
//! chose, and what becomes of a message is the broker's.
//!
//! ```
//! use mqtt_core::{Filter, QoS, Topic, router::{Flat, Options, Router, Subscriber}};
//!
//! let mut router = Flat::<32, 1024>::new();
//! let [kitchen, cellar] = [1, 2].map(Subscriber);
//! let options = Options { qos: QoS::AtLeastOnce, ..Options::default() };
//! router.subscribe(kitchen, Filter::new("house/+/door")?, options)?;
//! router.subscribe(cellar, Filter::new("house/#")?, Options::default())?;
//!
//! // One item for each filter that matches. Nothing is collected: whoever asks may change anything
//! // but the router meanwhile.
//! let mut delivered = Vec::new();
//! for found in router.matches(Topic::new("house/cellar/door")?) {
//!     for recipient in found.recipients {
//!         delivered.push((recipient.subscriber(), recipient.options().qos));
//!     }
//! }
//! delivered.sort();
//! assert_eq!(delivered, [(kitchen, QoS::AtLeastOnce), (cellar, QoS::AtMostOnce)]);
//!
//! router.unsubscribe_all(kitchen);
//! assert_eq!(router.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::{error::Error, fmt};

use crate::{
    topic::{Filter, Topic},
    wire::{QoS, Subscription},
};

mod flat;
#[cfg(feature = "alloc")]
mod trie;

pub use flat::Flat;
#[cfg(feature = "alloc")]
pub use trie::{Limits, Trie};

/// Keeps subscriptions and finds those that a topic is for.
///
/// A *subscription* is a subscriber, a filter and options; a subscriber has at most one for a
/// filter. Filters are compared byte by byte [MQTT-4.7.3-4].
///
/// Subscribers of a shared filter form a *group* with the others that have the same one, share name
/// included. A group is found apart from everything else, also from other subscriptions of its
/// members that match the same topic.
pub trait Router {
    /// Adds a subscription, or replaces the options of the one that `subscriber` has for `filter`.
    ///
    /// Returns the options that were replaced; `None` if the subscription is new. Retain handling
    /// depends on it: [`RetainHandling::SendIfNew`](crate::RetainHandling::SendIfNew).
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room for another; nothing has changed then. To replace always
    /// succeeds.
    fn subscribe(
        &mut self,
        subscriber: Subscriber,
        filter: Filter<'_>,
        options: Options,
    ) -> Result<Option<Options>, Full>;

    /// Removes the subscription that `subscriber` has for `filter`, and returns its options.
    fn unsubscribe(&mut self, subscriber: Subscriber, filter: Filter<'_>) -> Option<Options>;

    /// Removes all that a subscriber has, and returns how many that were: its session has ended.
    fn unsubscribe_all(&mut self, subscriber: Subscriber) -> usize;

    /// The number of subscriptions.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are to shared filters.
    fn shared(&self) -> usize;

    /// The filters that match `topic`, each once, in no particular order.
    ///
    /// A subscriber with several of them is found several times.
    fn matches<'r>(&'r self, topic: Topic<'r>) -> impl Iterator<Item = Match<'r>>;

    /// The members of a group that was found earlier: none any more, perhaps.
    fn group(&self, id: GroupId) -> &[Recipient];

    /// What a subscriber has, in no particular order.
    ///
    /// ```
    /// use mqtt_core::{Filter, router::{Flat, Options, Router, Subscriber}};
    ///
    /// let mut router = Flat::<32, 1024>::new();
    /// let jobs = Filter::new("$share/crew/jobs/+")?;
    /// let options = Options { identifier: Some(7), ..Options::default() };
    /// router.subscribe(Subscriber(1), jobs, options)?;
    /// assert!(router.subscriptions(Subscriber(1)).eq([(jobs, options)]));
    /// assert!(router.subscriptions(Subscriber(2)).eq([]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn subscriptions(&self, subscriber: Subscriber) -> impl Iterator<Item = (Filter<'_>, Options)>;

    /// A number by which a subscription to this filter is found again: see
    /// [`subscription`](Self::subscription).
    fn key(&self, filter: Filter<'_>) -> u32 {
        fnv(filter.as_bytes())
    }

    /// The subscription of a subscriber to a filter that has this key: one of them, in the rare case
    /// that there are several.
    ///
    /// ```
    /// use mqtt_core::{Filter, router::{Flat, Options, Router, Subscriber}};
    ///
    /// let mut router = Flat::<32, 1024>::new();
    /// let doors = Filter::new("house/+/door")?;
    /// router.subscribe(Subscriber(1), doors, Options::default())?;
    /// let key = router.key(doors);
    /// assert_eq!(router.subscription(Subscriber(1), key), Some((doors, Options::default())));
    /// assert_eq!(router.subscription(Subscriber(2), key), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn subscription(&self, subscriber: Subscriber, key: u32) -> Option<(Filter<'_>, Options)> {
        self.subscriptions(subscriber).find(|(filter, _)| self.key(*filter) == key)
    }
}

/// FNV-1a: where there are few it does no harm that clients can choose names that collide.
pub(crate) fn fnv(bytes: &[u8]) -> u32 {
    let step = |hash: u32, &byte: &u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step)
}

/// Who subscribes: a number that the broker chooses, the place of a session for instance.
///
/// It may be given to somebody else after [`Router::unsubscribe_all`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subscriber(pub u32);

/// How a subscriber wants the messages of a filter.
///
/// Of the options of a [`Subscription`] those that count when a message comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Options {
    /// The highest QoS granted.
    pub qos: QoS,
    /// Not the messages that this client publishes [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// The subscription identifier, 1 to 268,435,455. Another number is none.
    pub identifier: Option<u32>,
}

impl Options {
    /// Those of an element of a SUBSCRIBE, and the identifier that it has for all of them.
    pub const fn new(subscription: &Subscription<'_>, identifier: Option<u32>) -> Self {
        Self {
            qos: subscription.qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            identifier,
        }
    }
}

/// A subscriber of a filter, with its options.
#[derive(Clone, Copy)]
pub struct Recipient {
    subscriber: Subscriber,
    options: Packed,
    /// What the router knows it by.
    link: u32,
}

/// [`Options`] in a word: an identifier has 28 bits; above them are no local, retain as published, and the
/// QoS.
#[derive(Clone, Copy)]
pub(crate) struct Packed(u32);

impl Packed {
    pub(crate) const fn new(options: Options) -> Self {
        let identifier = match options.identifier {
            Some(identifier) if identifier <= MAX_IDENTIFIER => identifier,
            _ => 0,
        };
        let flags = (options.qos as u32) << 30
            | (options.retain_as_published as u32) << 29
            | (options.no_local as u32) << 28;
        Self(identifier | flags)
    }

    #[inline]
    pub(crate) fn options(self) -> Options {
        let Self(packed) = self;
        let identifier = packed & MAX_IDENTIFIER;
        Options {
            qos: QoS::from_u8((packed >> 30) as u8).unwrap_or_default(),
            no_local: packed & 1 << 28 != 0,
            retain_as_published: packed & 1 << 29 != 0,
            identifier: (identifier != 0).then_some(identifier),
        }
    }
}

impl Recipient {
    const fn new(subscriber: Subscriber, options: Options, link: u32) -> Self {
        Self { subscriber, options: Packed::new(options), link }
    }

    /// Who.
    pub const fn subscriber(&self) -> Subscriber {
        self.subscriber
    }

    /// How.
    #[inline]
    pub fn options(&self) -> Options {
        self.options.options()
    }

    /// Puts other options in place of those that it returns.
    fn replace(&mut self, options: Options) -> Options {
        let replaced = self.options();
        *self = Self::new(self.subscriber, options, self.link);
        replaced
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient")
            .field("subscriber", &self.subscriber)
            .field("options", &self.options())
            .finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Recipient {
    fn format(&self, f: defmt::Formatter<'_>) {
        let Subscriber(subscriber) = self.subscriber;
        defmt::write!(f, "Recipient({=u32}, {})", subscriber, self.options());
    }
}

/// A filter that matches a topic: see [`Router::matches`].
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Match<'r> {
    /// The group, if the filter is a shared one.
    ///
    /// ```
    /// use mqtt_core::{Filter, Topic, router::{Flat, Options, Router, Subscriber}};
    ///
    /// let mut router = Flat::<32, 1024>::new();
    /// let [jobs, shared] = ["jobs/+", "$share/crew/jobs/+"].map(Filter::new);
    /// for subscriber in [1, 2, 3].map(Subscriber) {
    ///     router.subscribe(subscriber, shared?, Options::default())?;
    /// }
    /// router.subscribe(Subscriber(1), jobs?, Options::default())?;
    ///
    /// let (mut all, mut one_of) = (0, 0);
    /// for found in router.matches(Topic::new("jobs/print")?) {
    ///     match found.group {
    ///         None => all += found.recipients.len(),
    ///         Some(_) => one_of += found.recipients.len(),
    ///     }
    /// }
    /// assert_eq!((all, one_of), (1, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub group: Option<GroupId>,
    /// At least one. Without a group, each of them is to receive the message; of a group, one.
    pub recipients: &'r [Recipient],
}

/// A group: the subscribers of a shared filter.
///
/// It has its identifier as long as it has members. The router gives no identifier twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct GroupId(u64);

impl GroupId {
    /// How many groups there were before, as far as that is known.
    pub(crate) const fn serial(self) -> usize {
        self.0 as usize
    }
}

/// There is no room for another subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Full {
    /// There are as many as there may be.
    Subscriptions,
    /// There is no memory left for the filter.
    Bytes,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subscriptions => "as many subscriptions as there may be",
            Self::Bytes => "no memory left for the filter",
        })
    }
}

impl Error for Full {}

const MAX_IDENTIFIER: u32 = (1 << 28) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_kept_in_a_word() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for flags in 0..4 {
                for identifier in [None, Some(1), Some(MAX_IDENTIFIER)] {
                    let (no_local, retain_as_published) = (flags & 1 != 0, flags & 2 != 0);
                    let options = Options { qos, no_local, retain_as_published, identifier };
                    assert_eq!(Recipient::new(Subscriber(1), options, 0).options(), options);
                }
            }
        }
        for identifier in [0, MAX_IDENTIFIER + 1, u32::MAX] {
            let options = Options { identifier: Some(identifier), ..Options::default() };
            let kept = Recipient::new(Subscriber(1), options, 0).options();
            assert_eq!(kept, Options::default());
        }
        assert_eq!(size_of::<Recipient>(), 12);
    }
}
