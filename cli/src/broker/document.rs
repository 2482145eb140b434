//! Files that people write, and where in them something is wrong.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::failure::Failure;

/// A file and what is in it.
#[derive(Debug)]
pub(super) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| Failure::other(format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Its lines that say something, with their numbers.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }

    /// What is wrong with a line.
    pub(super) fn wrong_line(&self, number: usize, what: impl Display) -> Failure {
        Failure::other(format!("{}:{number}: {what}", self.path.display()))
    }

    /// A path that stands in it.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |parent| parent.join(path))
    }

    /// What it says in TOML.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        toml::from_str(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.wrong_at(at, &self.key_at(at), error.message())
        })
    }

    /// What is wrong with the value of a key such as `tls.key`, or `listen.1` in an array.
    pub(super) fn wrong(&self, key: &str, what: impl Display) -> Failure {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let mut place: (usize, Option<&DeValue<'_>>) = (table.span().start, None);
        for name in key.split('.') {
            let within = match place.1 {
                None => find(table.get_ref(), name),
                Some(DeValue::Table(table)) => find(table, name),
                Some(DeValue::Array(array)) => {
                    let item = name.parse().ok().and_then(|index: usize| array.get(index));
                    item.map(|item| (item.span().start, item.get_ref()))
                }
                Some(_) => None,
            };
            if let Some((at, value)) = within {
                place = (at, Some(value));
            }
        }
        self.wrong_at(place.0, key, what)
    }

    fn wrong_at(&self, at: usize, key: &str, what: impl Display) -> Failure {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        self.wrong_line(line, format_args!("{key}: {what}"))
    }

    /// The key that a place in the file belongs to.
    fn key_at(&self, at: usize) -> String {
        let (table, _) = DeTable::parse_recoverable(&self.text);
        let mut keys = Vec::new();
        locate(table.get_ref(), at, &mut keys);
        match keys.is_empty() {
            // It is not even TOML.
            true => {
                let start = self.text[..at.min(self.text.len())].rfind('\n').map_or(0, |at| at + 1);
                let line = self.text[start..].lines().next().unwrap_or_default();
                line.split('=').next().unwrap_or_default().trim().to_owned()
            }
            false => keys.join("."),
        }
    }
}

/// A value in a table, and where its key stands.
fn find<'t, 'd>(table: &'t DeTable<'d>, name: &str) -> Option<(usize, &'t DeValue<'d>)> {
    let mut entries = table.iter();
    let entry: Option<(&Spanned<_>, &Spanned<DeValue<'_>>)> =
        entries.find(|(key, _)| key.get_ref() == name);
    entry.map(|(key, value)| (key.span().start, value.get_ref()))
}

/// Finds the keys that lead to a place in the file. Whether there are any.
fn locate(table: &DeTable<'_>, at: usize, keys: &mut Vec<String>) -> bool {
    for (key, value) in table {
        keys.push(key.get_ref().to_string());
        // What is in a table may be anywhere behind its heading.
        if let DeValue::Table(table) = value.get_ref()
            && locate(table, at, keys)
        {
            return true;
        }
        if (key.span().start..key.span().end.max(value.span().end)).contains(&at)
            || value.span().contains(&at)
        {
            return true;
        }
        keys.pop();
    }
    false
}
