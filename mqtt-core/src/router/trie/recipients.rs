//! The subscribers of a filter.

use alloc::vec::Vec;
use core::slice;

use super::slab;
use crate::{
    router::{Full, Recipient},
    store::{Boxed, boxed},
};

/// Recipients, close together. Most filters have one: that takes no memory of its own.
#[derive(Clone, Debug)]
pub(super) enum Recipients {
    None,
    One(Recipient),
    /// More than one.
    Many(Boxed<Vec<Recipient>>),
}

impl Recipients {
    pub(super) fn push(&mut self, recipient: Recipient) -> Result<(), Full> {
        match self {
            Self::None => *self = Self::One(recipient),
            Self::One(first) => {
                let mut recipients = Vec::new();
                slab::reserve(&mut recipients)?;
                recipients.extend([*first, recipient]);
                *self = Self::Many(boxed(recipients).map_err(|_| Full::Bytes)?);
            }
            Self::Many(recipients) => {
                let [recipients] = &mut **recipients;
                slab::reserve(recipients)?;
                recipients.push(recipient);
            }
        }
        Ok(())
    }

    /// Removes a recipient. Returns the one that has its place now, if there is one.
    pub(super) fn remove(&mut self, position: usize) -> Option<Recipient> {
        let Self::Many(recipients) = self else {
            *self = Self::None;
            return None;
        };
        let [recipients] = &mut **recipients;
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

    #[inline]
    pub(super) fn as_slice(&self) -> &[Recipient] {
        match self {
            Self::None => &[],
            Self::One(recipient) => slice::from_ref(recipient),
            Self::Many(recipients) => {
                let [recipients] = &**recipients;
                recipients
            }
        }
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut Recipient> {
        match self {
            Self::None => None,
            Self::One(recipient) => (position == 0).then_some(recipient),
            Self::Many(recipients) => recipients[0].get_mut(position),
        }
    }
}
