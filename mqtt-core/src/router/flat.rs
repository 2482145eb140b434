//! A router of fixed capacity, without allocation.

use heapless::Vec;

use super::{Full, GroupId, Match, Options, Recipient, Router, Subscriber};
use crate::{
    slice,
    topic::{Filter, Topic},
};

/// Keeps up to `SUBSCRIPTIONS` subscriptions, and their filters in `BYTES` bytes.
///
/// A filter takes its length and 12 bytes, however many subscribers it has. `SUBSCRIPTIONS` is at
/// most 65,535. The whole takes `SUBSCRIPTIONS` × 12 + `BYTES` bytes and a few words.
///
/// A look-up compares the topic with each filter: right for tens of them, bearable for hundreds.
///
/// ```
/// use mqtt_core::router::{Flat, Router};
///
/// static ROUTER: Flat<32, 1024> = Flat::new();
/// assert!(ROUTER.is_empty());
/// assert!(size_of_val(&ROUTER) <= 32 * 12 + 1024 + 24);
/// ```
#[derive(Clone, Debug)]
pub struct Flat<const SUBSCRIPTIONS: usize, const BYTES: usize> {
    /// The filters, one after the other.
    filters: Vec<u8, BYTES>,
    /// Those of the first filter, then those of the second, and so on.
    recipients: Vec<Recipient, SUBSCRIPTIONS>,
    /// How many filters there have been.
    serial: u64,
}

/// A filter with what belongs to it.
struct Entry<'r> {
    filter: Filter<'r>,
    serial: u64,
    recipients: &'r [Recipient],
    place: Place,
}

/// Where a filter and its recipients are.
#[derive(Clone, Copy)]
struct Place {
    /// Where its head begins, and where its bytes end.
    start: usize,
    end: usize,
    /// Where its recipients begin, and how many there are.
    first: usize,
    count: usize,
}

impl<const SUBSCRIPTIONS: usize, const BYTES: usize> Flat<SUBSCRIPTIONS, BYTES> {
    /// An empty router.
    pub const fn new() -> Self {
        const { assert!(SUBSCRIPTIONS <= u16::MAX as usize) };
        Self { filters: Vec::new(), recipients: Vec::new(), serial: 0 }
    }

    fn entries(&self) -> Entries<'_> {
        Entries { filters: &self.filters, recipients: &self.recipients, end: 0, first: 0 }
    }

    /// Where a filter is, and the number of this subscriber among its recipients.
    fn find(&self, subscriber: Subscriber, filter: Filter<'_>) -> Option<(Place, Option<usize>)> {
        let entry = self.entries().find(|entry| entry.filter == filter)?;
        Some((entry.place, entry.position(subscriber)))
    }

    /// Appends a filter that has no recipients yet.
    fn append(&mut self, filter: Filter<'_>) -> Result<Place, Full> {
        let (bytes, start) = (filter.as_bytes(), self.filters.len());
        if HEAD + bytes.len() > BYTES - start {
            return Err(Full::Bytes);
        }
        self.serial += 1;
        let lengths = [(bytes.len() as u16).to_le_bytes(), [0; 2]];
        for part in [lengths.as_flattened(), &self.serial.to_le_bytes(), bytes] {
            // There is room.
            let _ = self.filters.extend_from_slice(part);
        }
        let end = self.filters.len();
        Ok(Place { start, end, first: self.recipients.len(), count: 0 })
    }

    /// Sets the number of a filter's recipients. If there are none, it goes.
    fn set_count(&mut self, place: Place, count: usize) {
        let Place { start, end, .. } = place;
        if count == 0 {
            let len = self.filters.len();
            slice::shift(&mut self.filters, end..len, start);
            self.filters.truncate(len - (end - start));
        } else if let Some(field) = self.filters.get_mut(start + 2..start + 4) {
            slice::copy(field, &(count as u16).to_le_bytes());
        }
    }

    /// Removes a recipient by its number among those of the filter.
    fn take(&mut self, place: Place, position: usize) -> Option<Recipient> {
        let recipient = slice::remove(&mut self.recipients, place.first + position)?;
        self.set_count(place, place.count - 1);
        Some(recipient)
    }
}

impl<const SUBSCRIPTIONS: usize, const BYTES: usize> Default for Flat<SUBSCRIPTIONS, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SUBSCRIPTIONS: usize, const BYTES: usize> Router for Flat<SUBSCRIPTIONS, BYTES> {
    fn subscribe(
        &mut self,
        subscriber: Subscriber,
        filter: Filter<'_>,
        options: Options,
    ) -> Result<Option<Options>, Full> {
        let place = match self.find(subscriber, filter) {
            Some((place, Some(position))) => {
                let recipient = self.recipients.get_mut(place.first + position);
                return Ok(recipient.map(|recipient| recipient.replace(options)));
            }
            _ if self.recipients.len() >= SUBSCRIPTIONS => return Err(Full::Subscriptions),
            Some((place, None)) => place,
            None => self.append(filter)?,
        };
        let recipient = Recipient::new(subscriber, options, 0);
        if slice::insert(&mut self.recipients, place.first + place.count, recipient) {
            self.set_count(place, place.count + 1);
        }
        Ok(None)
    }

    fn unsubscribe(&mut self, subscriber: Subscriber, filter: Filter<'_>) -> Option<Options> {
        let (place, position) = self.find(subscriber, filter)?;
        self.take(place, position?).map(|recipient| recipient.options())
    }

    fn unsubscribe_all(&mut self, subscriber: Subscriber) -> usize {
        let before = self.recipients.len();
        let of = |entry: Entry<'_>| Some((entry.place, entry.position(subscriber)?));
        while let Some((place, position)) = self.entries().find_map(of) {
            self.take(place, position);
        }
        before - self.recipients.len()
    }

    fn len(&self) -> usize {
        self.recipients.len()
    }

    fn shared(&self) -> usize {
        let groups = self.entries().filter(|entry| entry.group().is_some());
        groups.map(|entry| entry.recipients.len()).sum()
    }

    fn matches<'r>(&'r self, topic: Topic<'r>) -> impl Iterator<Item = Match<'r>> {
        let entries = self.entries().filter(move |entry| entry.filter.matches(topic));
        entries.map(|entry| Match { group: entry.group(), recipients: entry.recipients })
    }

    fn group(&self, id: GroupId) -> &[Recipient] {
        let entry = self.entries().find(|entry| entry.group() == Some(id));
        entry.map_or(&[], |entry| entry.recipients)
    }

    fn subscriptions(&self, subscriber: Subscriber) -> impl Iterator<Item = (Filter<'_>, Options)> {
        self.entries().filter_map(move |entry| {
            let recipient = entry.recipients.get(entry.position(subscriber)?)?;
            Some((entry.filter, recipient.options()))
        })
    }
}

impl Entry<'_> {
    fn group(&self) -> Option<GroupId> {
        self.filter.is_shared().then_some(GroupId(self.serial))
    }

    fn position(&self, subscriber: Subscriber) -> Option<usize> {
        self.recipients.iter().position(|recipient| recipient.subscriber == subscriber)
    }
}

/// What a [`Flat`] keeps, filter by filter.
struct Entries<'r> {
    filters: &'r [u8],
    recipients: &'r [Recipient],
    /// Where the last one ended, and its recipients.
    end: usize,
    first: usize,
}

impl<'r> Iterator for Entries<'r> {
    type Item = Entry<'r>;

    fn next(&mut self) -> Option<Entry<'r>> {
        let (start, first) = (self.end, self.first);
        let (head, rest) = self.filters.get(start..)?.split_first_chunk::<HEAD>()?;
        let &[a, b, c, d, ref serial @ ..] = head;
        let bytes = rest.get(..usize::from(u16::from_le_bytes([a, b])))?;
        let count = usize::from(u16::from_le_bytes([c, d]));
        (self.end, self.first) = (start + HEAD + bytes.len(), first + count);
        Some(Entry {
            filter: Filter::from_validated(bytes),
            serial: u64::from_le_bytes(*serial),
            recipients: self.recipients.get(first..self.first)?,
            place: Place { start, end: self.end, first, count },
        })
    }
}

/// Before the bytes of a filter come their number, that of its recipients, and its serial number,
/// little-endian.
const HEAD: usize = 2 + 2 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter<'_> {
        Filter::new(text).unwrap()
    }

    #[test]
    fn filters_share_the_bytes_and_give_them_back() {
        let mut router = Flat::<4, { 3 * (HEAD + 3) }>::new();
        let mut subscribe = |subscriber, text| {
            router.subscribe(Subscriber(subscriber), filter(text), Options::default())
        };
        assert_eq!(subscribe(1, "a/b"), Ok(None));
        assert_eq!(subscribe(1, "a/+"), Ok(None));
        assert_eq!(subscribe(2, "a/b"), Ok(None));
        assert_eq!(subscribe(2, "a/b/c"), Err(Full::Bytes));
        assert_eq!(subscribe(2, "a/#"), Ok(None));
        assert_eq!(subscribe(3, "a/b"), Err(Full::Subscriptions));
        assert_eq!(subscribe(1, "a/b"), Ok(Some(Options::default())));
        assert_eq!(router.unsubscribe_all(Subscriber(1)), 2);
        assert_eq!(router.filters.len(), 2 * (HEAD + 3));
        assert_eq!(router.unsubscribe(Subscriber(2), filter("a/b")), Some(Options::default()));
        assert_eq!(router.unsubscribe(Subscriber(2), filter("a/b")), None);
        assert_eq!((router.len(), router.filters.len()), (1, HEAD + 3));
    }

    #[test]
    fn a_group_that_comes_again_is_another() {
        let mut router = Flat::<4, 64>::new();
        let (jobs, topic) = (filter("$share/crew/jobs"), Topic::new("jobs").unwrap());
        let mut groups = [1, 2].map(|subscriber| {
            let subscriber = Subscriber(subscriber);
            assert_eq!(router.subscribe(subscriber, jobs, Options::default()), Ok(None));
            let group = router.matches(topic).find_map(|found| found.group).unwrap();
            assert_eq!(router.group(group).len(), 1);
            assert_eq!(router.unsubscribe_all(subscriber), 1);
            assert!(router.group(group).is_empty());
            group
        });
        groups.sort();
        assert!(groups[0] < groups[1]);
    }
}
