//! The filters with wildcards, as a tree of levels.

use alloc::{boxed::Box, vec::Vec};
use core::mem::replace;

use super::{
    hash::{Seed, Table},
    slab::{Moves, NONE, Slab},
};
use crate::{
    router::Full,
    topic::{Filter, Topic, level_len},
};

/// The index of the root, which is always there.
const ROOT: u32 = NONE - 1;

/// What a node is reckoned to take, with its place in the table.
const NODE: usize = 64;

/// The filters with wildcards: a node for each level of each, those in common once.
///
/// All nodes are in one table, by the node above and the name of the level.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    slab: Slab<Node>,
    root: Node,
    table: Table,
    /// Bytes of names that do not fit a node.
    long: usize,
}

/// A level of a filter, below other levels.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Of this level and those above.
    hash: u32,
    above: u32,
    /// The node of `+` below.
    plus: u32,
    /// How many other nodes are below.
    literals: u32,
    /// The entry of the filter that ends here.
    here: u32,
    /// The entry of the filter that ends with `/#` here.
    below: u32,
    name: Name,
}

#[derive(Clone, Debug)]
enum Name {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

/// What fits a node that takes 48 bytes.
const SHORT: usize = 22;

impl Nodes {
    pub(super) const fn new() -> Self {
        let name = Name::Short { len: 0, bytes: [0; SHORT] };
        let root = Node::new(0, NONE, name);
        Self { slab: Slab::new(), root, table: Table::new(), long: 0 }
    }

    /// What they are reckoned to take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slab.len() * NODE + self.long
    }

    /// Lets `entry` be that of a filter, for which nodes are added that may take `room` bytes.
    /// Returns the last of them.
    pub(super) fn add(
        &mut self,
        seed: Seed,
        filter: Filter<'_>,
        entry: u32,
        room: usize,
    ) -> Result<u32, Full> {
        let most = self.bytes().saturating_add(room);
        let mut index = ROOT;
        for level in filter.levels().filter(|level| level != b"#") {
            let next = match self.child(seed, index, level) {
                Some(next) => Ok(next),
                None => self.add_child(seed, index, level, most),
            };
            match next {
                Ok(next) => index = next,
                Err(full) => {
                    self.prune(index);
                    return Err(full);
                }
            }
        }
        self.set(index, filter, entry);
        Ok(index)
    }

    /// Forgets the filter that ends at this node.
    pub(super) fn remove(&mut self, index: u32, filter: Filter<'_>) {
        self.set(index, filter, NONE);
        self.prune(index);
    }

    fn set(&mut self, index: u32, filter: Filter<'_>, entry: u32) {
        let Some(node) = self.get_mut(index) else { return };
        let ends_below = filter.as_bytes().last() == Some(&b'#');
        *(if ends_below { &mut node.below } else { &mut node.here }) = entry;
    }

    fn child(&self, seed: Seed, above: u32, level: &[u8]) -> Option<u32> {
        let node = self.get(above)?;
        match level {
            b"+" => (node.plus != NONE).then_some(node.plus),
            _ => self.literal(seed, above, node, level),
        }
    }

    /// The node for a name below a node.
    #[inline]
    fn literal(&self, seed: Seed, above: u32, node: &Node, level: &[u8]) -> Option<u32> {
        if node.literals == 0 {
            return None;
        }
        let is = |index| {
            let node = self.slab.get(index);
            node.is_some_and(|node| node.above == above && node.name.as_bytes() == level)
        };
        self.table.find(seed.level(node.hash, level), is)
    }

    fn add_child(
        &mut self,
        seed: Seed,
        above: u32,
        level: &[u8],
        most: usize,
    ) -> Result<u32, Full> {
        let (name, is_plus) = (Name::new(level)?, level == b"+");
        let long = name.heap_len();
        if self.bytes() + NODE + long > most {
            return Err(Full::Bytes);
        }
        self.table.reserve(1)?;
        let hash = seed.level(self.get(above).map_or(0, |node| node.hash), level);
        let index = self.slab.insert(Node::new(hash, above, name))?;
        self.long += long;
        if !is_plus {
            self.table.insert(hash, index);
        }
        if let Some(node) = self.get_mut(above) {
            if is_plus {
                node.plus = index;
            } else {
                node.literals += 1;
            }
        }
        Ok(index)
    }

    /// Removes a node that nothing needs any more, and those above that it was needed for.
    fn prune(&mut self, mut index: u32) {
        while let Some(node) = self.slab.get(index)
            && node.is_unused()
        {
            let (hash, above) = (node.hash, node.above);
            self.long -= node.name.heap_len();
            self.slab.remove(index);
            match self.get_mut(above) {
                Some(node) if node.plus == index => node.plus = NONE,
                Some(node) => {
                    node.literals -= 1;
                    self.table.remove(hash, index);
                }
                None => {}
            }
            index = above;
        }
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.slab.is_sparse()
    }

    /// Moves the nodes together; `entry` tells where entries have gone. Until [`cut`](Self::cut)
    /// the result tells where nodes have.
    pub(super) fn gather(&mut self, entry: impl Fn(u32) -> u32) -> Moves<'_, Node> {
        let (nodes, moves) = self.slab.gather();
        for node in nodes.chain([&mut self.root]) {
            (node.above, node.plus) = (moves.of(node.above), moves.of(node.plus));
            (node.here, node.below) = (entry(node.here), entry(node.below));
        }
        self.table.set_all(|index| moves.of(index));
        moves
    }

    pub(super) fn cut(&mut self) {
        self.slab.cut();
    }

    #[inline]
    fn get(&self, index: u32) -> Option<&Node> {
        if index == ROOT { Some(&self.root) } else { self.slab.get(index) }
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Node> {
        if index == ROOT { Some(&mut self.root) } else { self.slab.get_mut(index) }
    }
}

impl Node {
    const fn new(hash: u32, above: u32, name: Name) -> Self {
        Self { hash, above, plus: NONE, literals: 0, here: NONE, below: NONE, name }
    }

    fn is_unused(&self) -> bool {
        self.literals == 0 && [self.plus, self.here, self.below] == [NONE; 3]
    }
}

impl Name {
    fn new(level: &[u8]) -> Result<Self, Full> {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..level.len()) {
            Some(short) => {
                short.copy_from_slice(level);
                Ok(Self::Short { len: level.len() as u8, bytes })
            }
            None => boxed(level).map(Self::Long),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    fn heap_len(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

/// A copy on the heap, if there is memory.
pub(super) fn boxed(bytes: &[u8]) -> Result<Box<[u8]>, Full> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Full::Bytes)?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}

/// The entries of those filters with wildcards that match a topic.
///
/// Goes through the tree in depth, and comes back by the nodes above: however deep the tree is, it
/// needs no memory. It comes to each node at most once, and only to those whose levels match.
#[derive(Clone, Debug)]
pub(super) struct Walk<'r> {
    nodes: &'r Nodes,
    seed: Seed,
    topic: Topic<'r>,
    node: u32,
    /// Where the level after that of the node begins: behind the end if there is none.
    at: usize,
    /// The entry to tell next.
    next: u32,
}

impl<'r> Walk<'r> {
    pub(super) fn new(nodes: &'r Nodes, seed: Seed, topic: Topic<'r>) -> Self {
        let node = if topic.is_empty() { NONE } else { ROOT };
        let mut walk = Self { nodes, seed, topic, node, at: 0, next: NONE };
        if !walk.hides_wildcards() {
            walk.next = nodes.root.below;
        }
        walk
    }

    /// Whether no wildcard below the node matches: [MQTT-4.7.2-1].
    fn hides_wildcards(&self) -> bool {
        self.node == NONE || self.node == ROOT && self.topic.starts_with_dollar()
    }

    /// Comes to the next node.
    #[inline]
    fn step(&mut self) -> Option<&'r Node> {
        let mut node = self.nodes.get(self.node)?;
        if let Some(rest) = self.topic.as_bytes().get(self.at..) {
            let (level, _) = rest.split_at_checked(level_len(rest))?;
            let at = self.at + level.len() + 1;
            let literal = self.nodes.literal(self.seed, self.node, node, level);
            if let Some(down) = literal.or_else(|| self.plus(node)) {
                (self.node, self.at) = (down, at);
                return self.nodes.get(down);
            }
        }
        loop {
            let from = self.node;
            self.node = node.above;
            node = self.nodes.get(self.node)?;
            if node.plus != from
                && let Some(plus) = self.plus(node)
            {
                self.node = plus;
                return self.nodes.get(plus);
            }
            let before = self.topic.as_bytes().get(..self.at.saturating_sub(1))?;
            self.at = before.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        }
    }

    /// The node of `+` below this one, which is the current one.
    #[inline]
    fn plus(&self, node: &Node) -> Option<u32> {
        (node.plus != NONE && !self.hides_wildcards()).then_some(node.plus)
    }
}

impl Iterator for Walk<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        loop {
            if self.next != NONE {
                return Some(replace(&mut self.next, NONE));
            }
            let node = self.step()?;
            let is_last = self.at > self.topic.len();
            let here = if is_last { node.here } else { NONE };
            if node.below != NONE {
                self.next = here;
                return Some(node.below);
            }
            self.next = here;
        }
    }
}
