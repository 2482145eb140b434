//! Topic aliases for a store that has none.

use heapless::Vec;

use super::{Aliases, Arrival, Capacity, Flight, Full, Outgoing, Store, Unsent};
use crate::{
    topic::Topic,
    wire::{PacketId, QoS},
};
use table::{Entries, Entry, Name, Table};

pub(crate) mod table;

/// A store with `ALIASES` topic aliases in each direction, of topics up to `LEN` bytes.
///
/// Takes about `2 * ALIASES * (LEN + 10)` bytes, and no allocation. Everything else is kept by
/// `S`. `ALIASES` and `LEN` are from 1 to 65,535; tens of aliases are looked through quickly.
///
/// - *Inbound*: `ALIASES` is the Topic Alias Maximum to advertise. The peer may let any of them
///   stand for any topic: one that is longer than `LEN` ends the connection. So choose `LEN` for
///   the longest topic that is subscribed to.
/// - *Outbound*: topics are given aliases in turn, as many as the peer accepts and there are; then
///   a new one takes the alias that has not been used for longest. A topic longer than `LEN` is
///   sent by name.
///
/// ```
/// use mqtt_core::{Topic, store::{Alias, Aliased, Fixed, Full, Store}};
///
/// let mut store = Aliased::<_, 8, 32>::new(Fixed::<4, 1024>::new());
/// let aliases = store.outbound_aliases().ok_or("no aliases")?;
/// let topic = Topic::new("pump/7/status")?;
/// assert_eq!(aliases.find(topic, 10), Some(Alias::New(1)));
/// aliases.set(1, topic)?; // once it is on its way to the peer
/// assert_eq!(aliases.find(topic, 10), Some(Alias::Known(1)));
///
/// let long = Topic::new("a/topic/of/more/than/thirty-two/bytes")?;
/// assert_eq!(aliases.find(long, 10), None);
/// assert_eq!(aliases.set(2, long), Err(Full::ForEver));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Aliased<S, const ALIASES: usize, const LEN: usize> {
    store: S,
    inbound: Table<Array<ALIASES, LEN>>,
    outbound: Table<Array<ALIASES, LEN>>,
}

type Array<const ALIASES: usize, const LEN: usize> = Vec<Entry<Vec<u8, LEN, u16>>, ALIASES, u16>;

impl<S, const ALIASES: usize, const LEN: usize> Aliased<S, ALIASES, LEN> {
    /// Adds aliases to `store`, in place of those that it may have.
    pub const fn new(store: S) -> Self {
        const { assert!(ALIASES >= 1 && ALIASES <= u16::MAX as usize && LEN >= 1) };
        Self {
            store,
            inbound: Table::new(Vec::new(), ALIASES as u16, usize::MAX),
            outbound: Table::new(Vec::new(), ALIASES as u16, usize::MAX),
        }
    }

    /// The store without the aliases.
    pub fn into_inner(self) -> S {
        self.store
    }
}

impl<S: Default, const ALIASES: usize, const LEN: usize> Default for Aliased<S, ALIASES, LEN> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: Store, const ALIASES: usize, const LEN: usize> Store for Aliased<S, ALIASES, LEN> {
    super::delegate!(self, self.store);

    fn clear(&mut self) {
        self.store.clear();
        self.inbound.clear();
        self.outbound.clear();
    }

    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        Some(&mut self.inbound)
    }

    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.inbound.topic(alias)
    }

    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        Some(&mut self.outbound)
    }
}

impl<const ALIASES: usize, const LEN: usize> Entries for Array<ALIASES, LEN> {
    type Name = Vec<u8, LEN, u16>;

    fn clear(&mut self) {
        self.clear();
    }

    fn push(&mut self, entry: Entry<Self::Name>) -> Result<(), Full> {
        self.push(entry).map_err(|_| Full::ForEver)
    }

    fn as_slice(&self) -> &[Entry<Self::Name>] {
        self
    }

    fn as_mut_slice(&mut self) -> &mut [Entry<Self::Name>] {
        self
    }
}

impl<const LEN: usize> Name for Vec<u8, LEN, u16> {
    const MAX_LEN: usize = LEN;

    fn new(topic: &[u8]) -> Result<Self, Full> {
        Self::from_slice(topic).map_err(|_| Full::ForEver)
    }

    fn as_bytes(&self) -> &[u8] {
        self
    }
}
