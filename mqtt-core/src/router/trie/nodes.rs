//! The filters with wildcards, as a tree of levels.

use core::mem::replace;

use super::{
    hash::{Table, below},
    slab::{Moves, NONE, Slab},
};
use crate::{
    hash::Seed,
    inline::Inline,
    router::Full,
    topic::{Filter, Topic},
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
    name: Inline<22>,
}

impl Nodes {
    pub(super) const fn new() -> Self {
        let root = Node::new(0, NONE, Inline::EMPTY);
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
            _ => self.literal(above, node, level, seed.level(level)),
        }
    }

    /// The node for a name, with its hash, below a node.
    #[inline]
    fn literal(&self, above: u32, node: &Node, level: &[u8], hash: u64) -> Option<u32> {
        if node.literals == 0 {
            return None;
        }
        let is = |index| {
            let node = self.slab.get(index);
            node.is_some_and(|node| node.above == above && node.name.as_bytes() == level)
        };
        self.table.find(below(node.hash, hash), is)
    }

    fn add_child(
        &mut self,
        seed: Seed,
        above: u32,
        level: &[u8],
        most: usize,
    ) -> Result<u32, Full> {
        let (name, is_plus) = (Inline::new(level).map_err(|_| Full::Bytes)?, level == b"+");
        let long = name.heap_len();
        if self.bytes() + NODE + long > most {
            return Err(Full::Bytes);
        }
        self.table.reserve(1)?;
        let hash = below(self.get(above).map_or(0, |node| node.hash), seed.level(level));
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
    const fn new(hash: u32, above: u32, name: Inline<22>) -> Self {
        Self { hash, above, plus: NONE, literals: 0, here: NONE, below: NONE, name }
    }

    fn is_unused(&self) -> bool {
        self.literals == 0 && [self.plus, self.here, self.below] == [NONE; 3]
    }
}

/// How many bytes are before the first `/`, or all of them: by words, as far as there are.
#[inline]
fn level_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = bytes.as_chunks();
    for (i, word) in words.iter().enumerate() {
        // The lowest bit that is left is in the first byte that is a slash.
        let others = u64::from_le_bytes(*word) ^ (ONES * b'/' as u64);
        let slashes = others.wrapping_sub(ONES) & !others & (ONES << 7);
        if slashes != 0 {
            return i * 8 + slashes.trailing_zeros() as usize / 8;
        }
    }
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    bytes.len() - rest.len() + end
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
    /// How many levels are above the next.
    depth: usize,
    /// Where the next level begins: behind the end if there is none.
    at: usize,
    /// The entry to tell next.
    next: u32,
    /// The first levels, as far as it has been.
    levels: [Level; KNOWN],
    known: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    len: usize,
    hash: u64,
}

/// How many levels are looked at once only: more than topics usually have.
const KNOWN: usize = 8;

impl<'r> Walk<'r> {
    pub(super) fn new(nodes: &'r Nodes, seed: Seed, topic: Topic<'r>) -> Self {
        let node = if topic.is_empty() { NONE } else { ROOT };
        let levels = [Level::default(); KNOWN];
        let mut walk =
            Self { nodes, seed, topic, node, depth: 0, at: 0, next: NONE, levels, known: 0 };
        if !walk.hides_wildcards() {
            walk.next = nodes.root.below;
        }
        walk
    }

    /// Whether no wildcard below the node matches: [MQTT-4.7.2-1].
    #[inline]
    fn hides_wildcards(&self) -> bool {
        self.node == NONE || self.node == ROOT && self.topic.starts_with_dollar()
    }

    /// Comes to the next node.
    #[inline]
    fn step(&mut self) -> Option<&'r Node> {
        let mut node = self.nodes.get(self.node)?;
        let plus = self.plus(node);
        if (node.literals > 0 || plus.is_some())
            && let Some(rest) = self.topic.as_bytes().get(self.at..)
        {
            let Level { len, hash } = self.level(rest);
            let name = rest.get(..len).unwrap_or_default();
            if let Some(down) = self.nodes.literal(self.node, node, name, hash).or(plus) {
                (self.node, self.at, self.depth) = (down, self.at + len + 1, self.depth + 1);
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
            self.depth -= 1;
            self.at -= self.len_before() + 1;
        }
    }

    /// The next level, with which `rest` begins.
    #[inline]
    fn level(&mut self, rest: &[u8]) -> Level {
        if self.depth < self.known {
            return self.levels.get(self.depth).copied().unwrap_or_default();
        }
        let len = level_len(rest);
        let level = Level { len, hash: self.seed.level(rest.get(..len).unwrap_or_default()) };
        if let Some(known) = self.levels.get_mut(self.depth) {
            *known = level;
            self.known = self.depth + 1;
        }
        level
    }

    /// The length of the level that ends where the next begins.
    #[inline]
    fn len_before(&self) -> usize {
        if let Some(level) = self.levels.get(self.depth) {
            return level.len;
        }
        let before = self.topic.as_bytes().get(..self.at - 1).unwrap_or_default();
        before.iter().rev().take_while(|byte| **byte != b'/').count()
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
