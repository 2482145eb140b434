//! Filters and topics.

extern crate std;

use std::{format, string::*, vec::Vec};

use super::{TopicError::*, covers::tests::texts, *};

/// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
#[test]
fn topic_names() {
    for text in ["a", " ", "/", "//", "/a/", "$SYS/a", "$share/g/a", "é/\u{feff}/\u{10ffff}"] {
        assert_eq!(Topic::new(text).map(|topic| topic.as_str()), Ok(text));
    }
    let bad = [(Null, "\0 a/b\0 \0+"), (Wildcard, "+ # sport/tennis# sp+rt sport/#/ranking")];
    for (error, texts) in bad {
        for text in texts.split(' ') {
            assert_eq!(Topic::new(text), Err(error), "{text:?}");
        }
    }
    assert_eq!(Topic::new(""), Err(Empty));
    assert_eq!(Topic::default().levels().next(), None);
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn filters() {
    let good = "a / # + /# +/# /+ +/+/+ a/+/b +/a/# $SYS/# $share $shared/g /$share/g īģ";
    for text in good.split(' ') {
        let filter = Filter::new(text).unwrap();
        assert_eq!((filter.as_str(), filter.shared(), filter.is_shared()), (text, None, false));
    }
    let bad = [
        (Null, "\0 a/\0/#"),
        (WildcardPlacement, "sport/tennis# sport/tennis/#/ranking #/ ## #+ $share/g/a#"),
        (WildcardPlacement, "sport+ +sport ++ +# a/+b/c $share+"),
        (ShareName, "$share/ $share/g $share/g/ $share// $share//a $share/# $share/+/a"),
        (ShareName, "$share/g+/a $share/#/a $share/g/$share/ $share/g/$share/h/a"),
    ];
    for (error, texts) in bad {
        for text in texts.split(' ') {
            assert_eq!(Filter::new(text), Err(error), "{text:?}");
        }
    }
    assert_eq!(Filter::new(""), Err(Empty));
    for (name, filter) in [("g", "a"), ("g", "/"), ("$share", "$share"), ("é", "+/#")] {
        let text = format!("$share/{name}/{filter}");
        let shared = Filter::new(&text).unwrap();
        assert_eq!(shared.shared(), Some((name, Filter::new(filter).unwrap())));
        assert!(shared.is_shared());
        assert!(shared.levels().eq(filter.split('/').map(str::as_bytes)), "{text:?}");
    }
}

/// [MQTT-4.7.3-3]
#[test]
fn length_is_that_of_the_whole_text_in_bytes() {
    let longest = "é".repeat(MAX_LEN / 2) + "/";
    assert_eq!(Topic::new(&longest).map(|topic| topic.len()), Ok(MAX_LEN));
    assert!(Filter::new(&longest).is_ok());
    for longer in [longest.clone() + "a", "$share/g/".to_string() + &longest] {
        assert_eq!(Topic::new(&longer), Err(TooLong));
        assert_eq!(Filter::new(&longer), Err(TooLong));
    }
}

/// The examples of section 4.7 and their like: a filter, what it matches, what it does not.
/// [MQTT-4.7.2-1] [MQTT-4.7.3-4]
#[test]
fn matching() {
    let cases = [
        ("sport/tennis/p1/#", "sport/tennis/p1 sport/tennis/p1/ranking", "sport/tennis/p12"),
        ("sport/tennis/p1/#", "sport/tennis/p1/score/wimbledon", "sport/tennis p1"),
        ("sport/#", "sport sport/", "sports Sport/a"),
        ("#", "sport / a/$SYS", "$SYS $ $SYS/a"),
        ("sport/tennis/+", "sport/tennis/p1 sport/tennis/p2", "sport/tennis/p1/ranking"),
        ("sport/+", "sport/ sport/$", "sport sport//"),
        ("sport/+/p1", "sport/tennis/p1 sport//p1", "sport/tennis/p2 sport/p1"),
        ("+/tennis/#", "sport/tennis /tennis/a", "$SYS/tennis tennis"),
        ("+/+", "/finance /", "finance // $SYS/a"),
        ("/+", "/finance /", "a/finance // finance"),
        ("+", "finance a$", "/finance $SYS"),
        ("+/monitor/Clients", "a/monitor/Clients", "$SYS/monitor/Clients"),
        ("$SYS/#", "$SYS $SYS/ $SYS/monitor/Clients", "SYS $SYSTEM"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", "$SYS/monitor"),
        ("ACCOUNTS", "ACCOUNTS", "Accounts ACCOUNT ACCOUNTS/"),
        ("\u{e9}", "\u{e9}", "e\u{301} \u{feff}\u{e9}"),
        ("/", "/", "// a"),
        ("/#", "/ // /$SYS /a/b", "a a/"),
        ("a/+/#", "a/ a/b a// a/b/c", "a"),
        ("a//b", "a//b", "a/b a///b"),
        ("$share/g/sport/+", "sport/a", "sport sport/a/b $share/g/sport/a"),
        ("$share/g//a", "/a", "a //a"),
        ("$share/g/#", "sport /", "$SYS $share/g/a"),
        ("$share/g/$SYS/#", "$SYS/uptime", "SYS"),
    ];
    for (filter, matching, others) in cases {
        let filter = Filter::new(filter).unwrap();
        for (topics, expected) in [(matching, true), (others, false)] {
            for topic in topics.split(' ').map(|topic| Topic::new(topic).unwrap()) {
                assert_eq!(filter.matches(topic), expected, "{filter} {topic}");
            }
        }
        assert!(!filter.matches(Topic::default()), "{filter}");
    }
}

#[test]
fn control_characters_are_those_of_unicode() {
    for character in '\u{1}'..='\u{2ff}' {
        let text = format!("a{character}é");
        let expected = character.is_control();
        assert_eq!(Topic(text.as_bytes()).has_control_characters(), expected, "{text:?}");
        assert_eq!(Filter(text.as_bytes()).has_control_characters(), expected, "{text:?}");
    }
}

/// Section 4.7 on lists of levels.
fn matches_naively(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && levels(filter, topic),
            _ => false,
        }
    }
    let [f, t] = [filter, topic].map(|text| text.split('/').collect::<Vec<_>>());
    !(topic.starts_with('$') && filter.starts_with(['+', '#'])) && levels(&f, &t)
}

fn is_naively_valid(filter: &str) -> bool {
    let mut levels = filter.rsplit('/');
    levels.next().is_some_and(|last| last == "#" || last == "+" || !last.contains(['+', '#']))
        && levels.all(|level| level == "+" || !level.contains(['+', '#']))
}

#[test]
fn agrees_with_the_naive_matcher_on_every_short_text() {
    let topics = texts("a/$", 5);
    for text in texts("a/+#$", 6) {
        let filter = Filter::new(&text);
        assert_eq!(filter.is_ok(), is_naively_valid(&text), "{text:?}");
        let Ok(filter) = filter else { continue };
        assert!(filter.levels().eq(text.split('/').map(str::as_bytes)), "{text:?}");
        assert_eq!(filter.has_wildcard(), text.contains(['+', '#']), "{text:?}");
        for topic in &topics {
            let matches = filter.matches(Topic(topic.as_bytes()));
            assert_eq!(matches, matches_naively(&text, topic), "{text:?} {topic:?}");
        }
    }
}

/// Each way to differ at each place in a machine word.
#[test]
fn agrees_with_the_naive_matcher_after_any_common_beginning() {
    let (filters, topics) = (texts("a/+#", 4), texts("a/", 4));
    for beginning in (0..20).map(|len| "x".repeat(len) + "/") {
        for filter in filters.iter().filter(|filter| is_naively_valid(filter)) {
            let filter = beginning.clone() + filter;
            let shared = "$share/g/".to_string() + &filter;
            for topic in topics.iter().map(|topic| beginning.clone() + topic) {
                let expected = matches_naively(&filter, &topic);
                for filter in [&filter, &shared] {
                    let matches = Filter(filter.as_bytes()).matches(Topic(topic.as_bytes()));
                    assert_eq!(matches, expected, "{filter:?} {topic:?}");
                }
            }
        }
    }
}
