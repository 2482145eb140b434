//! Memory that is taken when it is first needed.

use alloc::{boxed::Box, vec::Vec};

use super::Entry;
use crate::{
    store::{Alias, Aliases, Full, aliased::table},
    topic::Topic,
};

/// A value in memory of its own.
pub(crate) type Boxed<T> = Box<[T; 1]>;

/// Moves a value there, if there is memory.
pub(crate) fn boxed<T>(value: T) -> Result<Boxed<T>, Full> {
    let mut values = Vec::new();
    values.try_reserve_exact(1).map_err(|_| Full::ForNow)?;
    values.push(value);
    values.into_boxed_slice().try_into().map_err(|_| Full::ForNow)
}

/// Topic aliases of one direction; most connections have none.
#[derive(Clone, Debug)]
pub(crate) struct Lazy {
    table: Option<Boxed<Table>>,
    maximum: u16,
    /// How many bytes the topics may have.
    most: u32,
}

type Table = table::Table<Vec<Entry<Box<[u8]>>>>;

impl Lazy {
    pub(crate) const fn new(maximum: u16, most: usize) -> Self {
        // So many aliases, of topics of 65,535 bytes, do not exceed this.
        let most = if most > u32::MAX as usize { u32::MAX } else { most as u32 };
        Self { table: None, maximum, most }
    }

    /// The most bytes that so many aliases take, with topics of so many bytes.
    pub(crate) const fn memory(maximum: u16, bytes: usize) -> usize {
        size_of::<Table>() + bytes + 2 * (maximum as usize + 4) * size_of::<Entry<Box<[u8]>>>()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.table.is_none()
    }

    /// The topic that an alias stands for.
    pub(crate) fn topic(&self, alias: u16) -> Option<Topic<'_>> {
        let [table] = &**self.table.as_ref()?;
        table.topic(alias)
    }

    /// Itself, if there may be any.
    pub(crate) fn aliases(&mut self) -> Option<&mut dyn Aliases> {
        (self.maximum > 0).then_some(self)
    }

    const fn empty(&self) -> Table {
        Table::new(Vec::new(), self.maximum, self.most as usize)
    }
}

impl Aliases for Lazy {
    fn maximum(&self) -> u16 {
        self.maximum
    }

    fn clear(&mut self) {
        self.table = None;
    }

    fn set(&mut self, alias: u16, topic: Topic<'_>) -> Result<(), Full> {
        let table = match self.table.take() {
            Some(table) => table,
            None => boxed(self.empty())?,
        };
        let [table] = &mut **self.table.insert(table);
        table.set(alias, topic)
    }

    fn find(&mut self, topic: Topic<'_>, maximum: u16) -> Option<Alias> {
        match &mut self.table {
            Some(table) => table[0].find(topic, maximum),
            None => self.empty().find(topic, maximum),
        }
    }
}
