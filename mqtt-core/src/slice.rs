//! Copies whose lengths are right. What the standard ones do about wrong ones, panicking, is in no
//! image: these leave the bytes alone, and a debug build says so.

use core::ops::Range;

use heapless::Vec;

/// Fills `to`, which is as long as `from`.
#[cfg_attr(target_pointer_width = "32", inline(never))]
#[cfg_attr(not(target_pointer_width = "32"), inline)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    if to.len() == from.len() {
        to.copy_from_slice(from);
    } else {
        debug_assert!(false, "{} bytes for {}", from.len(), to.len());
    }
}

/// Moves the bytes at `from` to another place.
pub(crate) fn shift(bytes: &mut [u8], from: Range<usize>, to: usize) {
    let Range { start, end } = from;
    if let Some(rest) = bytes.get_mut(to..end)
        && let Some(by) = start.checked_sub(to)
        && by <= rest.len()
    {
        rest.copy_within(by.., 0);
    } else {
        debug_assert!(false, "{from:?} to {to} of {}", bytes.len());
    }
}

/// Copies the bytes at `from` to a place behind them.
pub(crate) fn shift_up(bytes: &mut [u8], from: Range<usize>, to: usize) {
    if let Some((before, after)) = bytes.split_at_mut_checked(to)
        && let (Some(to), Some(from)) = (after.get_mut(..from.len()), before.get(from))
    {
        copy(to, from);
    } else {
        debug_assert!(false, "to {to} of {}", bytes.len());
    }
}

/// Takes an element out and moves up those behind it.
pub(crate) fn remove<T, const N: usize>(from: &mut Vec<T, N>, index: usize) -> Option<T> {
    (index < from.len()).then(|| from.remove(index))
}

/// Puts an element before the one at `index`. Whether there is room.
pub(crate) fn insert<T, const N: usize>(to: &mut Vec<T, N>, index: usize, element: T) -> bool {
    index <= to.len() && to.insert(index, element).is_ok()
}
