//! All routers against one naive model: the same operations, the same answers.

use std::collections::BTreeSet;

#[cfg(feature = "alloc")]
use mqtt_core::router::{Limits, Trie};
use mqtt_core::{
    Filter, QoS, Topic,
    router::{Flat, Full, GroupId, Match, Options, Recipient, Router, Subscriber},
};
use proptest::{collection::vec, prelude::*};

#[derive(Clone, Debug)]
enum Op {
    Subscribe(Subscriber, String, Options),
    Unsubscribe(Subscriber, String),
    UnsubscribeAll(Subscriber),
    /// Of what there is, the subscription with this number, modulo how many there are.
    UnsubscribeOne(usize),
}

/// A list of everything, looked through from the front.
#[derive(Default)]
struct Model {
    subscriptions: Vec<(Subscriber, String, Options)>,
    /// The filter of each group that there has been, and whether it has members.
    groups: Vec<(GroupId, String)>,
}

/// A filter that matches, as far as a router tells which that is: its group and its recipients.
type Found = (Option<String>, Vec<(Subscriber, OptionsKey)>);
type OptionsKey = (u8, bool, bool, Option<u32>);

fn key(options: Options) -> OptionsKey {
    let Options { qos, no_local, retain_as_published, identifier } = options;
    (qos as u8, no_local, retain_as_published, identifier)
}

fn filter(text: &str) -> Filter<'_> {
    Filter::new(text).expect("a filter")
}

fn recipients(recipients: &[Recipient]) -> Vec<(Subscriber, OptionsKey)> {
    let key = |recipient: &Recipient| (recipient.subscriber(), key(recipient.options()));
    let mut recipients: Vec<_> = recipients.iter().map(key).collect();
    recipients.sort();
    recipients
}

impl Model {
    fn position(&self, subscriber: Subscriber, filter: &str) -> Option<usize> {
        let is = |s: &(Subscriber, String, Options)| s.0 == subscriber && s.1 == filter;
        self.subscriptions.iter().position(is)
    }

    fn recipients(&self, filter: &str) -> Vec<(Subscriber, OptionsKey)> {
        let of = self.subscriptions.iter().filter(|subscription| subscription.1 == filter);
        let mut recipients: Vec<_> = of.map(|(who, _, options)| (*who, key(*options))).collect();
        recipients.sort();
        recipients
    }

    fn filters(&self) -> BTreeSet<&str> {
        self.subscriptions.iter().map(|subscription| &*subscription.1).collect()
    }

    fn matches(&self, topic: Topic<'_>) -> Vec<Found> {
        let filters = self.filters();
        let matching = filters.iter().filter(|text| filter(text).matches(topic));
        let mut found: Vec<_> = matching
            .map(|text| {
                let group = filter(text).is_shared().then(|| text.to_string());
                (group, self.recipients(text))
            })
            .collect();
        found.sort();
        found
    }

    /// Takes note of the group's identifier: one group has one, as long as it has members.
    fn group(&mut self, id: GroupId, members: &[Recipient], topic: Topic<'_>) -> String {
        if let Some((_, filter)) = self.groups.iter().find(|group| group.0 == id) {
            return filter.clone();
        }
        let known: BTreeSet<_> = self.groups.iter().map(|group| &*group.1).collect();
        let members = recipients(members);
        let is = |text: &&str| {
            let filter = filter(text);
            filter.is_shared()
                && filter.matches(topic)
                && !known.contains(text)
                && self.recipients(text) == members
        };
        let found = self.filters().into_iter().find(is).expect("a group").to_string();
        self.groups.push((id, found.clone()));
        found
    }

    /// Forgets the groups that have no members: they get new identifiers.
    fn forget_groups(&mut self) -> Vec<GroupId> {
        let mut gone = Vec::new();
        let groups = std::mem::take(&mut self.groups);
        for (id, filter) in groups {
            if self.recipients(&filter).is_empty() {
                gone.push(id);
            } else {
                self.groups.push((id, filter));
            }
        }
        gone
    }
}

/// Everything a router tells.
fn compare(router: &impl Router, model: &mut Model, topics: &[String]) {
    assert_eq!(router.len(), model.subscriptions.len());
    assert_eq!(router.is_empty(), model.subscriptions.is_empty());
    for gone in model.forget_groups() {
        assert!(router.group(gone).is_empty());
    }
    for text in topics {
        let topic = Topic::new(text).expect("a topic");
        let mut found: Vec<Found> = Vec::new();
        for Match { group, recipients: members } in router.matches(topic) {
            let group = group.map(|id| {
                assert_eq!(recipients(router.group(id)), recipients(members));
                model.group(id, members, topic)
            });
            found.push((group, recipients(members)));
        }
        found.sort();
        assert_eq!(found, model.matches(topic), "{text:?}");
    }
    assert_eq!(router.matches(Topic::default()).count(), 0);
    for subscriber in subscribers() {
        let told = router.subscriptions(subscriber);
        let mut told: Vec<_> = told.map(|(f, options)| (f.to_string(), key(options))).collect();
        told.sort();
        let of = model.subscriptions.iter().filter(|subscription| subscription.0 == subscriber);
        let mut expected: Vec<_> = of.map(|(_, f, options)| (f.clone(), key(*options))).collect();
        expected.sort();
        assert_eq!(told, expected, "{subscriber:?}");
        for (_, text, options) in &model.subscriptions {
            let found = router.subscription(subscriber, router.key(filter(text)));
            let found = found.map(|(filter, options)| (filter.as_str(), key(options)));
            let has = expected.contains(&(text.clone(), key(*options)));
            assert_eq!(found.is_some(), expected.iter().any(|(own, _)| own == text), "{text:?}");
            assert!(!has || found == Some((text, key(*options))), "{subscriber:?} {text:?}");
        }
    }
}

/// Whether a new subscription to a filter is to be taken, or refused, like this.
type Verdict = dyn Fn(&Model, &str, Option<Full>) -> bool;

/// Does it to both.
fn apply(router: &mut impl Router, model: &mut Model, op: &Op, verdict: &Verdict) {
    match op {
        Op::Subscribe(subscriber, text, options) => {
            let result = router.subscribe(*subscriber, filter(text), *options);
            if let Some(position) = model.position(*subscriber, text) {
                let kept = &mut model.subscriptions[position].2;
                assert_eq!(result, Ok(Some(std::mem::replace(kept, *options))));
                return;
            }
            assert!(verdict(model, text, result.err()), "{text:?}: {result:?}");
            if let Ok(replaced) = result {
                assert_eq!(replaced, None);
                model.subscriptions.push((*subscriber, text.clone(), *options));
            }
        }
        Op::Unsubscribe(subscriber, text) => {
            let position = model.position(*subscriber, text);
            let expected = position.map(|position| model.subscriptions.swap_remove(position).2);
            assert_eq!(router.unsubscribe(*subscriber, filter(text)), expected);
        }
        Op::UnsubscribeAll(subscriber) => {
            let before = model.subscriptions.len();
            model.subscriptions.retain(|subscription| subscription.0 != *subscriber);
            let removed = before - model.subscriptions.len();
            assert_eq!(router.unsubscribe_all(*subscriber), removed);
        }
        Op::UnsubscribeOne(number) => {
            let len = model.subscriptions.len();
            let Some(position) = number.checked_rem(len) else { return };
            let (subscriber, text, options) = model.subscriptions.remove(position);
            assert_eq!(router.unsubscribe(subscriber, filter(&text)), Some(options));
        }
    }
}

fn run(mut router: impl Router, ops: &[Op], topics: &[String], verdict: &Verdict) {
    let mut model = Model::default();
    let end = subscribers().map(Op::UnsubscribeAll);
    for op in ops.iter().cloned().chain(end) {
        apply(&mut router, &mut model, &op, verdict);
        compare(&router, &mut model, topics);
    }
    assert!(router.is_empty());
}

/// More than those that a filter looks through one after the other.
fn subscribers() -> impl Iterator<Item = Subscriber> {
    (0..12).map(Subscriber)
}

const LEVELS: [&str; 6] = ["", "a", "b", "$a", "a level longer than what a node has room for", "é"];

fn levels(wild: bool) -> impl Strategy<Value = String> {
    let level = move || {
        let names = proptest::sample::select(&LEVELS[..]);
        // Many of one name, so that much is in common.
        prop_oneof![4 => Just("a"), 3 => names, (if wild { 3 } else { 0 }) => Just("+")]
    };
    // Also more than a look-up remembers.
    prop_oneof![4 => vec(level(), 1..6), 1 => vec(level(), 6..14)]
        .prop_map(|levels| levels.join("/"))
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => levels(false),
        1 => Just("$share/g/a".to_string()),
        1 => levels(false).prop_map(|levels| format!("$SYS/{levels}")),
    ]
    .prop_filter("a topic has a character", |topic| !topic.is_empty())
}

fn subscribable() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        5 => levels(true),
        2 => levels(true).prop_map(|levels| format!("{levels}/#")),
        1 => levels(true).prop_map(|levels| format!("$SYS/{levels}")),
        1 => proptest::sample::select(&["#", "+", "/", "+/+", "$SYS/#", "+/#"][..])
            .prop_map(str::to_string),
    ];
    let share = proptest::sample::select(&["", "", "", "$share/g/", "$share/h/"][..]);
    (share, plain)
        .prop_map(|(share, plain)| format!("{share}{plain}"))
        .prop_filter("a filter", |text| Filter::new(text).is_ok())
}

fn options() -> impl Strategy<Value = Options> {
    let qos = proptest::sample::select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..]);
    let identifier = proptest::option::of(1..=268_435_455_u32);
    (qos, any::<bool>(), any::<bool>(), identifier).prop_map(
        |(qos, no_local, retain_as_published, identifier)| Options {
            qos,
            no_local,
            retain_as_published,
            identifier,
        },
    )
}

/// Operations on few different filters, so that they meet.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    vec(subscribable(), 1..12).prop_flat_map(|filters| {
        let subscriber = || (0_u32..12).prop_map(Subscriber);
        let text = move || proptest::sample::select(filters.clone());
        let op = prop_oneof![
            8 => (subscriber(), text(), options()).prop_map(|(s, f, o)| Op::Subscribe(s, f, o)),
            2 => (subscriber(), subscribable(), options())
                .prop_map(|(s, f, o)| Op::Subscribe(s, f, o)),
            2 => (subscriber(), text()).prop_map(|(s, f)| Op::Unsubscribe(s, f)),
            3 => any::<usize>().prop_map(Op::UnsubscribeOne),
            1 => subscriber().prop_map(Op::UnsubscribeAll),
        ];
        vec(op, 1..120)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// [MQTT-4.7.2-1] [MQTT-4.7.3-4]
    #[test]
    fn flat_agrees_with_the_model(ops in ops(), topics in vec(topic(), 1..12)) {
        run(Flat::<128, 8192>::new(), &ops, &topics, &|_, _, refusal| refusal.is_none());
    }

    #[test]
    fn flat_is_full_when_its_arrays_are(ops in ops(), topics in vec(topic(), 1..4)) {
        run(Flat::<6, 80>::new(), &ops, &topics, &|model, filter, refusal| {
            let mut filters = model.filters();
            filters.insert(filter);
            let expected = if model.subscriptions.len() == 6 {
                Some(Full::Subscriptions)
            } else {
                let bytes: usize = filters.iter().map(|filter| filter.len() + 12).sum();
                (bytes > 80).then_some(Full::Bytes)
            };
            refusal == expected
        });
    }

    /// [MQTT-4.7.2-1] [MQTT-4.7.3-4]
    #[cfg(feature = "alloc")]
    #[test]
    fn trie_agrees_with_the_model(
        seed in any::<u128>(),
        ops in ops(),
        topics in vec(topic(), 1..12),
    ) {
        run(Trie::new(seed), &ops, &topics, &|_, _, refusal| refusal.is_none());
    }

    /// A refusal changes nothing, wherever it comes.
    #[cfg(feature = "alloc")]
    #[test]
    fn trie_is_full_at_its_limits(
        subscriptions in 1..10_usize,
        bytes in 0..2000_usize,
        ops in ops(),
        topics in vec(topic(), 1..4),
    ) {
        let router = Trie::with_limits(7, Limits { subscriptions, bytes });
        run(router, &ops, &topics, &move |model, _, refusal| {
            let is_last = model.subscriptions.len() == subscriptions;
            is_last == (refusal == Some(Full::Subscriptions))
        });
    }
}
