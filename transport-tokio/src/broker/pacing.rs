//! Who waits for whom: publishers for subscribers that have too much to take, as long as these move.

use super::host::{Connections, SOFT};

impl Connections {
    /// Lets the connection whose input is being taken wait for another, if that has too much to take.
    pub(super) fn block(&mut self, place: usize) {
        if self.get(place).is_some_and(|connection| connection.out.len() >= SOFT) {
            self.wait_for(place);
        }
    }

    /// So many messages, of so many bytes, wait for a client: whoever sends it more is made to wait, if
    /// they are half of what may wait.
    pub(super) fn hold_back(&mut self, place: usize, messages: usize, bytes: usize) {
        if messages < self.queue_messages.div_ceil(2) && bytes < self.queue_bytes.div_ceil(2) {
            return;
        }
        if let Some(connection) = self.get(place) {
            connection.is_behind = true;
        }
        // Nobody waits for itself.
        if self.from != Some(place)
            && self.wait_for(place)
            && let Some(from) = self.from
            && let Some(publisher) = self.get(from)
        {
            publisher.is_stopped = true;
        }
    }

    /// The same, when a client has taken some of what waits: those who wait for it go on before there is
    /// nothing left for it to take.
    pub(super) fn catch_up(&mut self, place: usize, messages: usize, bytes: usize) {
        let few = |most: usize| most.div_ceil(2) - most.div_ceil(2).div_ceil(8);
        let is_close = messages <= few(self.queue_messages) && bytes <= few(self.queue_bytes);
        let Some(connection) = self.get(place) else { return };
        if messages == 0 {
            connection.is_behind = false;
            connection.pace.is_slow &= !connection.out.is_empty();
        }
        if is_close && connection.out.len() < SOFT {
            self.release(place);
        }
    }

    /// Lets the connection whose input is being taken wait for another. Whether it does.
    fn wait_for(&mut self, place: usize) -> bool {
        let Some(from) = self.from else { return false };
        let Some(publisher) = self.get(from).map(|publisher| publisher.id) else { return false };
        let Some(connection) = self.get(place) else { return false };
        if connection.is_closing || connection.pace.is_slow {
            return false;
        }
        // It is the last of those that wait, if it does so already: all its input is taken at once.
        if connection.blocks.last() == Some(&publisher) {
            return true;
        }
        if connection.blocks.is_empty() {
            connection.pace.begin();
            if !std::mem::replace(&mut connection.pace.is_watched, true) {
                self.blockers.push(place);
            }
        }
        if let Some(connection) = self.get(place) {
            connection.blocks.push(publisher);
        }
        if let Some(publisher) = self.get(from) {
            publisher.blocked_by += 1;
        }
        true
    }

    /// Those who wait for a connection wait no longer; not for this one.
    pub(super) fn release(&mut self, place: usize) {
        let Some(connection) = self.get(place) else { return };
        for from in std::mem::take(&mut connection.blocks).take() {
            let place = from.index();
            let Some(publisher) = self.get(place).filter(|publisher| publisher.id == from) else {
                continue;
            };
            publisher.blocked_by = publisher.blocked_by.saturating_sub(1);
            if publisher.blocked_by == 0 {
                publisher.goes_on |= std::mem::take(&mut publisher.is_stopped);
                self.enqueue(place);
            }
        }
    }

    /// Whether a [`tick`](Self::tick) is wanted.
    pub(super) fn is_waiting(&self) -> bool {
        !self.blockers.is_empty() || !self.closing.is_empty()
    }

    /// Stops waiting for those that do not move.
    pub(super) fn tick(&mut self) {
        for place in std::mem::take(&mut self.blockers) {
            let Some(connection) = self.get(place) else { continue };
            connection.pace.is_watched = false;
            if connection.blocks.is_empty() {
                continue;
            }
            // Who waits for something to be saved is not slow.
            if !connection.is_held_back() && connection.pace.tick() {
                tracing::debug!(place, "a connection takes too little of what is sent to it");
                self.release(place);
            } else {
                connection.pace.is_watched = true;
                self.blockers.push(place);
            }
        }
        while let Some((gone, until)) = self.closing.front().copied() {
            let place = gone.index();
            if self.get(place).is_some_and(|connection| connection.id == gone) {
                if until > self.now {
                    break;
                }
                self.ended.push(place);
            }
            self.closing.pop_front();
        }
    }
}
