//! What is empty most of the time.

use std::{mem, ops::Deref};

/// Values that are there seldom: without any, it takes no more than a pointer.
#[derive(Debug)]
pub(super) struct Seldom<T>(
    #[expect(clippy::box_collection, reason = "a pointer alone")] Option<Box<Vec<T>>>,
);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Seldom<T> {
    pub(super) fn push(&mut self, value: T) {
        self.0.get_or_insert_default().push(value);
    }

    /// Takes all away, to [put](Self::put) some back soon.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.0.as_deref_mut().map(mem::take).unwrap_or_default()
    }

    /// Puts these in place of what there is.
    pub(super) fn put(&mut self, values: Vec<T>) {
        if values.is_empty() {
            self.0 = None;
        } else {
            **self.0.get_or_insert_default() = values;
        }
    }
}

impl<T> Deref for Seldom<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_takes_a_pointer() {
        let mut seldom = Seldom::default();
        assert_eq!(size_of_val(&seldom), size_of::<usize>());
        seldom.push(1);
        seldom.push(2);
        assert_eq!(seldom.take(), [1, 2]);
        assert!(seldom.is_empty() && seldom.0.is_some());
        seldom.put(vec![3]);
        assert_eq!(*seldom, [3]);
        seldom.put(Vec::new());
        assert!(seldom.is_empty() && seldom.0.is_none());
    }
}
