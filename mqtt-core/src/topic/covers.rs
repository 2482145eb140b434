//! Which filters stand for all that others stand for.

use super::Filter;

/// A level of a filter, or of a topic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level<'a> {
    /// This one.
    Name(&'a [u8]),
    /// Any one: `+`.
    Any,
    /// Any number of them: `#`.
    Rest,
}

impl<'a> Level<'a> {
    pub(crate) const fn new(level: &'a [u8]) -> Self {
        match level {
            b"+" => Self::Any,
            b"#" => Self::Rest,
            name => Self::Name(name),
        }
    }

    /// Whether no wildcard stands for it at the beginning [MQTT-4.7.2-1].
    const fn is_hidden(self) -> bool {
        matches!(self, Self::Name([b'$', ..]))
    }
}

impl Filter<'_> {
    /// Whether every topic that `other` matches is matched by this filter. What a shared filter matches
    /// is what the filter after its share name matches, on either side.
    ///
    /// Takes time linear in the lengths of the two.
    ///
    /// ```
    /// use mqtt_core::topic::{Filter, TopicError};
    ///
    /// let allowed = Filter::new("home/+/#")?;
    /// assert!(allowed.covers(Filter::new("home/kitchen/+")?));
    /// assert!(allowed.covers(Filter::new("$share/lamps/home/+/light")?));
    /// assert!(!allowed.covers(Filter::new("home/#")?)); // which matches `home`, too
    /// assert!(!allowed.covers(Filter::new("+/kitchen")?));
    /// # Ok::<(), TopicError>(())
    /// ```
    pub fn covers(&self, other: Filter<'_>) -> bool {
        covers(self.levels().map(Level::new), other.levels().map(Level::new))
    }
}

/// Whether a filter of these levels matches all that one of those matches, or the topic of those.
pub(crate) fn covers<'a, 'b>(
    mut ours: impl Iterator<Item = Level<'a>>,
    mut theirs: impl Iterator<Item = Level<'b>>,
) -> bool {
    let (mut our, mut their) = (ours.next(), theirs.next());
    if let (Some(Level::Any | Level::Rest), Some(level)) = (our, their)
        && level.is_hidden()
    {
        return false;
    }
    // Whether what comes before a level is no topic: before the first there is nothing, before the
    // second perhaps nothing but its `/`.
    let (mut begins, mut begins_next) = (true, their == Some(Level::Name(b"")));
    loop {
        if begins && our == Some(Level::Any) && their == Some(Level::Rest) {
            our = ours.next(); // there, `+/#` and `#` are the same
        }
        match (our, their) {
            (Some(Level::Rest), _) | (None, None) => return true,
            (Some(Level::Any), Some(Level::Any | Level::Name(_))) => {}
            (Some(Level::Name(one)), Some(Level::Name(other))) if one == other => {}
            _ => return false,
        }
        (our, their) = (ours.next(), theirs.next());
        (begins, begins_next) = (begins_next, false);
    }
}

#[cfg(test)]
pub(super) mod tests {
    extern crate std;

    use std::{format, string::String, vec::Vec};

    use super::*;
    use crate::topic::Topic;

    /// All texts of 1 to `len` of these characters.
    pub(in crate::topic) fn texts(alphabet: &str, len: usize) -> Vec<String> {
        let append = |c: char| move |text: &String| format!("{text}{c}");
        let (mut last, mut all) = (Vec::from([String::new()]), Vec::new());
        for _ in 0..len {
            last = alphabet.chars().flat_map(|c| last.iter().map(append(c))).collect();
            all.extend_from_slice(&last);
        }
        all
    }

    /// Whatever there is to be matched. A filter has no `b`: that stands for any other name.
    #[test]
    fn agrees_with_the_enumeration_of_topics() {
        let topics = texts("ab/$", 6);
        let filters = texts("a/+#$", 5);
        let matched: Vec<(Filter<'_>, Vec<bool>)> = filters
            .iter()
            .filter_map(|text| Filter::new(text).ok())
            .map(|filter| {
                let matches = |topic| filter.matches(Topic::from_validated(topic));
                (filter, topics.iter().map(|topic| matches(topic.as_bytes())).collect())
            })
            .collect();
        let (mut covered, mut others) = (0, 0);
        for (ours, our_topics) in &matched {
            for (theirs, their_topics) in &matched {
                let expected = our_topics.iter().zip(their_topics).all(|(our, their)| our >= their);
                assert_eq!(ours.covers(*theirs), expected, "{ours} {theirs}");
                *(if expected { &mut covered } else { &mut others }) += 1;
            }
        }
        assert!(covered > 1_000 && others > 100_000, "{covered} {others}");
    }

    #[test]
    fn shared_filters_are_looked_through() {
        for (ours, theirs, expected) in
            [("a/#", "a/b", true), ("+", "#", false), ("+/#", "#", true), ("#", "$SYS/a", false)]
        {
            for [our_share, their_share] in [["", "$share/g/"], ["$share/h/", "$share/g/"]] {
                let ours = format!("{our_share}{ours}");
                let theirs = format!("{their_share}{theirs}");
                let [ours, theirs] = [&ours, &theirs].map(|text| Filter::new(text).unwrap());
                assert_eq!(ours.covers(theirs), expected, "{ours} {theirs}");
            }
        }
    }
}
