//! Routers, ours and other crates', with many filters.

use mqtt_core::{
    Filter, Topic,
    router::{Flat, Limits, Options, Router, Subscriber, Trie},
};

use crate::{Case, see};

#[path = "../../mqtt-core/tests/data/filters.rs"]
pub mod filters;

/// Something that knows who subscribes to what.
pub trait Table {
    /// A topic as it takes it, made beforehand.
    type Topic;

    /// Whose it is.
    const NAME: &str;

    /// The most filters with which it makes sense.
    const MAX: usize;

    /// One without filters.
    fn new() -> Self;

    /// Makes a topic.
    fn topic(name: &'static str) -> Self::Topic;

    /// Adds a subscription.
    fn insert(&mut self, subscriber: u32, filter: &str);

    /// Removes the subscription that was added last.
    fn remove(&mut self, subscriber: u32, filter: &str);

    /// How many subscribers there are to a topic, having looked at each.
    fn count(&self, topic: &Self::Topic) -> usize;
}

/// The cases whose instructions are counted: looking up topics, ours first.
pub fn cases() -> Vec<Case> {
    vec![case::<Trie>(Some(2_600)), case::<Engine>(None)]
}

fn case<T: Table + 'static>(gate: Option<u64>) -> Case
where
    T::Topic: 'static,
{
    const FILTERS: usize = 10_000;
    const COUNT: usize = 1_000;
    Case {
        name: "route, 10,000 filters".into(),
        by: T::NAME,
        count: COUNT,
        bytes: (0..COUNT).map(|number| filters::topic(number, FILTERS).len()).sum(),
        gate,
        prepare: Box::new(|| {
            let mut table = T::new();
            (0..FILTERS).for_each(|number| table.insert(number as u32, &filters::filter(number)));
            let topic = |number| T::topic(filters::topic(number, FILTERS).leak());
            let topics: Vec<_> = (0..COUNT).map(topic).collect();
            Box::new(move || topics.iter().for_each(|topic| see(&table.count(topic))))
        }),
    }
}

fn filter(text: &str) -> Filter<'_> {
    Filter::new(text).expect("a filter")
}

fn topic(name: &'static str) -> Topic<'static> {
    Topic::new(name).expect("a topic")
}

macro_rules! ours {
    ($router:ty, $name:literal, $max:literal, $new:expr) => {
        impl Table for $router {
            type Topic = Topic<'static>;
            const NAME: &str = $name;
            const MAX: usize = $max;

            fn new() -> Self {
                $new
            }

            fn topic(name: &'static str) -> Topic<'static> {
                topic(name)
            }

            fn insert(&mut self, subscriber: u32, text: &str) {
                let options = Options::default();
                self.subscribe(Subscriber(subscriber), filter(text), options).expect("room");
            }

            fn remove(&mut self, subscriber: u32, text: &str) {
                self.unsubscribe(Subscriber(subscriber), filter(text)).expect("is there");
            }

            fn count(&self, topic: &Topic<'static>) -> usize {
                let recipients = self.matches(*topic).flat_map(|found| found.recipients);
                recipients.inspect(|recipient| see(&recipient.subscriber())).count()
            }
        }
    };
}

/// Unbounded: what is measured is how large it grows.
const LIMITS: Limits = Limits { subscriptions: usize::MAX, bytes: usize::MAX };

ours!(Trie, "mqtt-core Trie", 1_000_000, Self::with_limits(0x5eed, LIMITS));
ours!(Box<Flat<1_100, 65_536>>, "mqtt-core Flat", 1_000, Self::default());

/// A list of filters, each of which is compared with the topic.
pub struct Linear(Vec<(Filter<'static>, u32)>);

impl Table for Linear {
    type Topic = Topic<'static>;
    const NAME: &str = "linear scan";
    const MAX: usize = 10_000;

    fn new() -> Self {
        Self(Vec::new())
    }

    fn topic(name: &'static str) -> Topic<'static> {
        topic(name)
    }

    fn insert(&mut self, subscriber: u32, text: &str) {
        self.0.push((filter(text.to_string().leak()), subscriber));
    }

    fn remove(&mut self, subscriber: u32, text: &str) {
        let is = |(filter, who): &(Filter<'_>, u32)| *who == subscriber && filter.as_str() == text;
        let index = self.0.iter().position(is).expect("is there");
        self.0.swap_remove(index);
    }

    fn count(&self, topic: &Topic<'static>) -> usize {
        let found = self.0.iter().filter(|(filter, _)| filter.matches(*topic));
        found.inspect(|(_, subscriber)| see(subscriber)).count()
    }
}

/// With what it needs to remove: the numbers it gave.
pub struct Engine {
    router: mqtt_topic_engine::TopicRouter<u32>,
    numbers: Vec<mqtt_topic_engine::SubscriptionId>,
}

impl Table for Engine {
    type Topic = mqtt_topic_engine::TopicPath;
    const NAME: &str = "mqtt-topic-engine";
    const MAX: usize = 1_000_000;

    fn new() -> Self {
        Self { router: mqtt_topic_engine::TopicRouter::new(), numbers: Vec::new() }
    }

    fn topic(name: &'static str) -> Self::Topic {
        Self::Topic::new(name).expect("a topic")
    }

    fn insert(&mut self, subscriber: u32, text: &str) {
        use mqtt_topic_engine::{CacheStrategy, QoS, TopicPatternPath};
        let pattern = TopicPatternPath::new_from_string(text, CacheStrategy::NoCache);
        let pattern = pattern.expect("a filter");
        let (_, number) = self.router.add_subscription(pattern, QoS::AtMostOnce, subscriber);
        self.numbers.push(number);
    }

    fn remove(&mut self, _: u32, _: &str) {
        let number = self.numbers.pop().expect("is there");
        self.router.unsubscribe(&number).expect("is there");
    }

    fn count(&self, topic: &Self::Topic) -> usize {
        self.router.get_subscribers(topic).iter().inspect(see).count()
    }
}
