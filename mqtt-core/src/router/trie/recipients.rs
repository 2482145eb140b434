//! The subscribers of a filter.

use alloc::vec::Vec;
use core::slice;

use super::slab;
use crate::router::{Full, Recipient};

/// Recipients, close together. Most filters have one: that takes no memory of its own.
#[derive(Clone, Debug)]
pub(super) enum Recipients {
    One(Recipient),
    /// None, or more than one.
    Many(Vec<Recipient>),
}

impl Recipients {
    pub(super) const fn new() -> Self {
        Self::Many(Vec::new())
    }

    pub(super) fn push(&mut self, recipient: Recipient) -> Result<(), Full> {
        match self {
            Self::Many(recipients) if recipients.is_empty() => *self = Self::One(recipient),
            Self::Many(recipients) => {
                slab::reserve(recipients)?;
                recipients.push(recipient);
            }
            Self::One(first) => {
                let mut recipients = Vec::new();
                slab::reserve(&mut recipients)?;
                recipients.extend([*first, recipient]);
                *self = Self::Many(recipients);
            }
        }
        Ok(())
    }

    /// Removes a recipient. Returns the one that has its place now, if there is one.
    pub(super) fn remove(&mut self, position: usize) -> Option<Recipient> {
        match self {
            Self::One(_) => {
                *self = Self::new();
                None
            }
            Self::Many(recipients) => {
                if position < recipients.len() {
                    recipients.swap_remove(position);
                }
                let moved = recipients.get(position).copied();
                if let [last] = recipients[..] {
                    *self = Self::One(last);
                } else {
                    slab::shrink(recipients);
                }
                moved
            }
        }
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[Recipient] {
        match self {
            Self::One(recipient) => slice::from_ref(recipient),
            Self::Many(recipients) => recipients,
        }
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut Recipient> {
        match self {
            Self::One(recipient) => (position == 0).then_some(recipient),
            Self::Many(recipients) => recipients.get_mut(position),
        }
    }
}
