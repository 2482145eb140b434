//! A table of topic aliases.

use crate::{
    store::{Alias, Aliases, Full},
    topic::Topic,
};

/// The topics of one direction: that of alias `n` is at `n - 1`.
///
/// It is looked through from the front: made for tens of aliases, bearable for thousands.
#[derive(Clone, Debug)]
pub(crate) struct Table<E> {
    entries: E,
    /// How often an entry has been used.
    uses: u32,
    maximum: u16,
    /// How many bytes the topics have, and how many they may have.
    bytes: usize,
    most: usize,
}

/// Where a table has its entries.
pub(crate) trait Entries {
    type Name: Name;

    fn clear(&mut self);

    fn push(&mut self, entry: Entry<Self::Name>) -> Result<(), Full>;

    fn as_slice(&self) -> &[Entry<Self::Name>];

    fn as_mut_slice(&mut self) -> &mut [Entry<Self::Name>];
}

/// A topic that is kept. The default is empty: none.
pub(crate) trait Name: Default {
    /// The length of the longest.
    const MAX_LEN: usize;

    fn new(topic: &[u8]) -> Result<Self, Full>;

    fn as_bytes(&self) -> &[u8];
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Entry<N> {
    name: N,
    hash: u32,
    /// [`Table::uses`] when it was last used.
    used: u32,
}

impl<E: Entries> Table<E> {
    pub(crate) const fn new(entries: E, maximum: u16, most: usize) -> Self {
        Self { entries, uses: 0, maximum, bytes: 0, most }
    }

    /// The topic that an alias stands for.
    pub(crate) fn topic(&self, alias: u16) -> Option<Topic<'_>> {
        let entry = self.entries.as_slice().get(usize::from(alias).checked_sub(1)?)?;
        let name = entry.name.as_bytes();
        (!name.is_empty()).then(|| Topic::from_validated(name))
    }
}

impl<E: Entries> Aliases for Table<E> {
    fn maximum(&self) -> u16 {
        self.maximum
    }

    fn clear(&mut self) {
        self.entries.clear();
        (self.uses, self.bytes) = (0, 0);
    }

    fn set(&mut self, alias: u16, topic: Topic<'_>) -> Result<(), Full> {
        if !(1..=self.maximum).contains(&alias) {
            return Err(Full::ForEver);
        }
        while self.entries.as_slice().len() < usize::from(alias) {
            self.entries.push(Entry::default())?;
        }
        let Some(entry) = self.entries.as_mut_slice().get_mut(usize::from(alias) - 1) else {
            return Err(Full::ForEver);
        };
        self.bytes -= entry.name.as_bytes().len();
        *entry = Entry::default();
        self.uses = self.uses.wrapping_add(1);
        if topic.len() > self.most - self.bytes {
            return Err(Full::ForEver);
        }
        let name = E::Name::new(topic.as_bytes())?;
        self.bytes += topic.len();
        *entry = Entry { name, hash: hash(topic.as_bytes()), used: self.uses };
        Ok(())
    }

    fn find(&mut self, topic: Topic<'_>, maximum: u16) -> Option<Alias> {
        let topic = topic.as_bytes();
        if topic.is_empty() || topic.len() > E::Name::MAX_LEN.min(self.most) {
            return None;
        }
        let maximum = usize::from(maximum.min(self.maximum));
        let hash = hash(topic);
        let entries = self.entries.as_mut_slice();
        let len = entries.len().min(maximum);
        let entries = entries.get_mut(..len)?;
        let same = |entry: &Entry<E::Name>| entry.hash == hash && entry.name.as_bytes() == topic;
        if let Some(index) = entries.iter().position(same) {
            self.uses = self.uses.wrapping_add(1);
            if let Some(entry) = entries.get_mut(index) {
                entry.used = self.uses;
            }
            return Some(Alias::Known(index as u16 + 1));
        }
        if len < maximum {
            return Some(Alias::New(len as u16 + 1));
        }
        let age = |entry: &Entry<E::Name>| match entry.name.as_bytes() {
            [] => u32::MAX,
            _ => self.uses.wrapping_sub(entry.used),
        };
        let (index, _) = entries.iter().enumerate().rev().max_by_key(|(_, entry)| age(entry))?;
        Some(Alias::New(index as u16 + 1))
    }
}

/// Told apart by this, most topics need not be compared.
fn hash(topic: &[u8]) -> u32 {
    let (words, rest) = topic.as_chunks::<4>();
    let rest = rest.iter().fold(topic.len() as u32, |word, byte| word << 8 | u32::from(*byte));
    words
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .chain([rest])
        .fold(0, |hash, word| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Aliased, Records, Store};

    #[test]
    fn topics_with_the_same_hash_are_told_apart() {
        let [first, second] = ["pump/vqgcrr", "pump/fliurv"].map(|name| Topic::new(name).unwrap());
        assert_eq!(hash(first.as_bytes()), hash(second.as_bytes()));
        let mut store = Aliased::<_, 2, 16>::new(Records::<1>::new());
        let aliases = store.outbound_aliases().unwrap();
        aliases.set(1, first).unwrap();
        assert_eq!(aliases.find(second, 2), Some(Alias::New(2)));
        aliases.set(2, second).unwrap();
        assert_eq!(aliases.find(second, 2), Some(Alias::Known(2)));
        assert_eq!(aliases.find(first, 2), Some(Alias::Known(1)));
    }
}
