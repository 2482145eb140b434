//! What the tree finds, and what it forgets.

extern crate std;

use std::{format, string::*, vec, vec::Vec};

use super::*;

fn filter(text: &str) -> Filter<'_> {
    Filter::new(text).unwrap()
}

fn trie(subscriptions: &[(u32, &str)]) -> Trie {
    let mut trie = Trie::new(7);
    for (subscriber, text) in subscriptions {
        let result = trie.subscribe(Subscriber(*subscriber), filter(text), Options::default());
        assert_eq!(result, Ok(None), "{text}");
    }
    trie
}

fn found(trie: &Trie, topic: &str) -> Vec<u32> {
    let found = trie.matches(Topic::new(topic).unwrap());
    let recipients = found.flat_map(|found| found.recipients);
    let mut found: Vec<_> = recipients.map(|recipient| recipient.subscriber().0).collect();
    found.sort();
    found
}

#[test]
fn filters_with_much_in_common_are_all_found() {
    let trie = trie(&[
        (1, "a/+/c"),
        (2, "a/b/+"),
        (3, "+/b/c"),
        (4, "a/b/c"),
        (5, "a/#"),
        (6, "#"),
        (7, "a/b/c/#"),
        (8, "+/+/+"),
        (9, "+/+"),
        (10, "a/b/c/+/#"),
    ]);
    assert_eq!(found(&trie, "a/b/c"), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(found(&trie, "a/b"), [5, 6, 9]);
    assert_eq!(found(&trie, "a/b/c/"), [5, 6, 7, 10]);
    assert_eq!(found(&trie, "$a/b/c"), []);
}

/// The walk goes back up to the next `+`, over as many levels as it takes, and needs no stack.
#[test]
fn topics_as_deep_as_they_can_be() {
    let deepest = "/".repeat(65_535);
    let mut pluses = vec!["+"; 32_768].join("/");
    let trie = trie(&[(1, &pluses), (2, "+/+/#"), (3, &deepest), (4, "/+/#")]);
    assert_eq!(found(&trie, &deepest), [2, 3, 4]);
    assert_eq!(found(&trie, &"/".repeat(32_767)), [1, 2, 4]);
    pluses.truncate(pluses.len() - 1);
    assert_eq!(found(&trie, &pluses.replace('+', "a")), [1, 2]);
    assert_eq!(found(&trie, "/a"), [2, 4]);
}

#[test]
fn the_name_of_a_topic_is_no_shared_filter() {
    let mut trie = trie(&[(1, "$share/g/a"), (2, "$share/g/+"), (3, "$share/h/a")]);
    assert_eq!(found(&trie, "$share/g/a"), []);
    assert_eq!(found(&trie, "a"), [1, 2, 3]);

    // The plain filters are there for the groups' sake, and go with them.
    assert_eq!(trie.entries.len(), 5);
    assert_eq!(trie.unsubscribe(Subscriber(1), filter("a")), None);
    for (left, (subscriber, text)) in
        [(4, (1, "$share/g/a")), (2, (3, "$share/h/a")), (0, (2, "$share/g/+"))]
    {
        assert!(trie.unsubscribe(Subscriber(subscriber), filter(text)).is_some());
        assert_eq!(trie.entries.len(), left);
    }
    assert_eq!((trie.bytes(), trie.nodes.bytes()), (0, 0));
}

#[test]
fn what_is_full_says_why_and_changes_nothing() {
    let limits = Limits { subscriptions: 3, bytes: 1000 };
    let mut trie = Trie::with_limits(7, limits);
    let subscribe = |trie: &mut Trie, subscriber, text: &str| {
        trie.subscribe(Subscriber(subscriber), filter(text), Options::default())
    };
    let deep = "+/".repeat(20) + "#";
    assert_eq!(subscribe(&mut trie, 1, &deep), Err(Full::Bytes));
    assert_eq!(subscribe(&mut trie, 1, &("$share/g/".to_string() + &deep)), Err(Full::Bytes));
    assert_eq!(subscribe(&mut trie, 1, &"a".repeat(1000)), Err(Full::Bytes));
    assert_eq!((trie.bytes(), trie.entries.len(), trie.nodes.bytes()), (0, 0, 0));
    for subscriber in 1..=3 {
        assert_eq!(subscribe(&mut trie, subscriber, "a/+"), Ok(None));
    }
    assert_eq!(trie.bytes(), 3 * LINK + ENTRY + 2 * 64);
    assert_eq!(subscribe(&mut trie, 4, "a/+"), Err(Full::Subscriptions));
    assert!(subscribe(&mut trie, 3, "a/+").is_ok_and(|replaced| replaced.is_some()));
    assert_eq!(trie.unsubscribe_all(Subscriber(1)), 1);
    assert_eq!(subscribe(&mut trie, 4, "b"), Ok(None));
}

/// Indices move when entries and nodes are gathered; everything is found all the same.
#[test]
fn what_is_left_is_found_after_most_has_gone() {
    let texts: Vec<_> = (0..1000)
        .map(|i| match i % 4 {
            0 => format!("a/{i}"),
            1 => format!("a/{i}/+/a name too long for the node of a level/#"),
            2 => format!("$share/g/a/{i}/+/x"),
            _ => format!("+/{i}"),
        })
        .collect();
    let mut trie = Trie::new(7);
    for (i, text) in texts.iter().enumerate() {
        // Some filters have so many subscribers that those are in a table.
        for subscriber in 0..if i % 50 == 0 { 20 } else { 1 } {
            let subscriber = Subscriber(1000 * subscriber + i as u32);
            assert_eq!(trie.subscribe(subscriber, filter(text), Options::default()), Ok(None));
        }
    }
    let (entries, nodes) = (trie.entries.len(), trie.nodes.bytes());
    let group = trie.matches(Topic::new("a/950/b/x").unwrap()).find_map(|found| found.group);
    for (i, text) in texts.iter().enumerate().take(900) {
        for subscriber in 0..if i % 50 == 0 { 20 } else { 1 } {
            let subscriber = Subscriber(1000 * subscriber + i as u32);
            assert!(trie.unsubscribe(subscriber, filter(text)).is_some());
            assert!(trie.unsubscribe(subscriber, filter(text)).is_none());
        }
    }
    assert!(trie.entries.len() < entries / 8 && trie.nodes.bytes() < nodes / 8);
    assert!(!trie.entries.is_sparse() && !trie.nodes.is_sparse());
    for (i, text) in texts.iter().enumerate().skip(900) {
        let topic = text.replace("$share/g/", "").replace('+', "a").replace('#', "b");
        let count = if i % 50 == 0 { 20 } else { 1 };
        assert_eq!(found(&trie, &topic).len(), count, "{text}");
        let subscriber = Subscriber(if count > 1 { 7000 } else { 0 } + i as u32);
        assert!(trie.subscriptions(subscriber).any(|(filter, _)| filter.as_str() == text));
        let again = trie.subscribe(subscriber, filter(text), Options::default());
        assert_eq!(again, Ok(Some(Options::default())), "{text}");
    }
    assert_eq!(trie.group(group.unwrap())[0].subscriber(), Subscriber(950));
}

#[test]
fn records_are_as_small_as_the_limits_say() {
    assert_eq!((size_of::<Entry>(), size_of::<Option<Entry>>()), (72, 72));
    assert_eq!(size_of::<Link>(), 20);
}
