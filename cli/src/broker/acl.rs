//! ACL files: who may publish and subscribe to what.

use std::{borrow::Cow, collections::HashMap, path::Path};

use transport_tokio::{
    broker::{Access, Wish},
    mqtt_core::Filter,
};

use super::document::Document;
use crate::failure::Failure;

/// Rules, by whom they are for.
#[derive(Debug, Default)]
pub(super) struct Acl {
    /// For clients without a name.
    anonymous: Vec<Rule>,
    users: HashMap<String, Vec<Rule>>,
    everybody: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    right: Right,
    filter: String,
    /// Whether there is a `%u` or `%c` in it.
    varies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Read,
    Write,
    ReadWrite,
    Deny,
}

impl Acl {
    /// Reads a file. Rules for users need their names to be known, not just claimed.
    pub(super) fn read(path: &Path, knows_names: bool) -> Result<Self, Failure> {
        let document = Document::read(path)?;
        let mut acl = Self::default();
        let mut user = None;
        for (number, line) in document.lines() {
            let wrong = |what: &str| document.wrong_line(number, what);
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            let names = word == "user" || rest.contains("%u");
            if names && !knows_names {
                return Err(wrong("who users are is not known without a password file"));
            }
            match word {
                "user" if rest.is_empty() => return Err(wrong("user: the name is missing")),
                "user" => user = Some(rest),
                "topic" | "pattern" => {
                    let rule =
                        Rule::parse(rest).map_err(|what| wrong(&format!("{word}: {what}")))?;
                    match (word, user) {
                        ("pattern", _) => acl.everybody.push(rule),
                        (_, Some(user)) => acl.users.entry(user.to_owned()).or_default().push(rule),
                        (_, None) => acl.anonymous.push(rule),
                    }
                }
                other => return Err(wrong(&format!("{other}: not user, topic or pattern"))),
            }
        }
        Ok(acl)
    }

    pub(super) fn allows(&self, access: &Access<'_>) -> bool {
        let own = match access.user_name {
            Some(name) => self.users.get(name).map_or(&[][..], Vec::as_slice),
            None => &self.anonymous,
        };
        let mut allowed = false;
        for rule in own.iter().chain(&self.everybody) {
            let filter = match rule.filter(access) {
                Some(filter) => filter,
                None if rule.right == Right::Deny && rule.is_about(access) => return false,
                None => continue,
            };
            let filter = match Filter::new(&filter) {
                Ok(filter) => filter,
                Err(_) if rule.right == Right::Deny => return false,
                Err(_) => continue,
            };
            let (denied, granted) = match access.wish {
                Wish::Publish { topic, .. } => {
                    let matches = filter.matches(topic);
                    (matches, matches && rule.right != Right::Read)
                }
                Wish::Subscribe { filter: wanted, .. } => {
                    let wanted = wanted.shared().map_or(wanted, |(_, filter)| filter);
                    (meet(filter, wanted), rule.right != Right::Write && filter.covers(wanted))
                }
                _ => (true, false),
            };
            match rule.right {
                Right::Deny if denied => return false,
                Right::Deny => {}
                _ => allowed |= granted,
            }
        }
        allowed
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let right = match word {
            "read" => Some(Right::Read),
            "write" => Some(Right::Write),
            "readwrite" => Some(Right::ReadWrite),
            "deny" => Some(Right::Deny),
            _ => None,
        };
        let (right, filter) = match right {
            Some(right) if !rest.is_empty() => (right, rest.trim()),
            _ => (Right::ReadWrite, text),
        };
        match Filter::new(filter) {
            Ok(checked) if checked.is_shared() => Err(format!("{filter}: shared")),
            Ok(_) => {
                let varies = filter.contains("%u") || filter.contains("%c");
                Ok(Self { right, filter: filter.to_owned(), varies })
            }
            Err(error) => Err(format!("{filter}: {error}")),
        }
    }

    /// Whether the client has what it is about.
    fn is_about(&self, access: &Access<'_>) -> bool {
        access.user_name.is_some() || !self.filter.contains("%u")
    }

    /// Its filter for a client. None if the rule is about something that the client has not, or that
    /// would change the filter's levels.
    fn filter(&self, access: &Access<'_>) -> Option<Cow<'_, str>> {
        if !self.varies {
            return Some(Cow::Borrowed(&self.filter));
        }
        let fits = |name: &str| {
            !name.is_empty() && !name.starts_with('$') && !name.contains(['+', '#', '/'])
        };
        let mut filter = String::new();
        let mut rest = &*self.filter;
        while let Some(at) = rest.find('%') {
            let (before, from) = rest.split_at(at);
            filter.push_str(before);
            let value = match from.as_bytes().get(1) {
                Some(b'u') => access.user_name.filter(|name| fits(name))?,
                Some(b'c') => Some(access.client_id).filter(|name| fits(name))?,
                _ => {
                    filter.push('%');
                    rest = &from[1..];
                    continue;
                }
            };
            filter.push_str(value);
            rest = &from[2..];
        }
        filter.push_str(rest);
        Some(Cow::Owned(filter))
    }
}

/// Whether there can be a topic that both match.
fn meet(a: Filter<'_>, b: Filter<'_>) -> bool {
    if hides(a, b) || hides(b, a) {
        return false;
    }
    let (mut a, mut b) = (a.levels(), b.levels());
    loop {
        match (a.next(), b.next()) {
            (Some(b"#"), _) | (_, Some(b"#")) | (None, None) => return true,
            (Some(b"+"), Some(_)) | (Some(_), Some(b"+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Whether the first begins with a wildcard, and the second with a `$`, which that does not match
/// [MQTT-4.7.2-1].
fn hides(wide: Filter<'_>, narrow: Filter<'_>) -> bool {
    wide.as_bytes().starts_with(b"+") | wide.as_bytes().starts_with(b"#")
        && narrow.as_bytes().starts_with(b"$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter<'_> {
        Filter::new(text).expect("a filter")
    }

    #[test]
    fn filters_meet_others() {
        for (a, b) in
            [("a/+", "+/b"), ("#", "a/b/c"), ("a/#", "a"), ("a/+/c", "a/b/+"), ("+/#", "a")]
        {
            assert!(meet(filter(a), filter(b)), "{a} {b}");
            assert!(meet(filter(b), filter(a)), "{a} {b}");
        }
        for (a, b) in [
            ("a/+", "+/b/c"),
            ("a", "b"),
            ("#", "$SYS/a"),
            ("a/b/#", "a/+x".trim_end_matches("+x")),
        ] {
            assert!(!meet(filter(a), filter(b)), "{a} {b}");
            assert!(!meet(filter(b), filter(a)), "{a} {b}");
        }
    }
}
