//! Names of clients, and of the users whose sessions they are.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    inline::Inline,
    store::{Full, Name},
};

/// The name of a client, and whose it is. That takes memory if it is somebody's, and otherwise if it is long.
#[derive(Debug)]
pub enum Title {
    Nobodys(Inline<22>),
    /// The length of the client's name, that, and the user's.
    Users(Box<[u8]>),
}

/// The number of bytes of the length.
pub(super) const LEN: usize = size_of::<u16>();

impl Title {
    /// With the name of the user, if it is somebody's.
    pub(in crate::broker) fn of(client_id: &[u8], user_name: Option<&[u8]>) -> Result<Self, Full> {
        let Some(user_name) = user_name else { return Self::new(client_id) };
        let len = u16::try_from(client_id.len()).map_err(|_| Full::ForNow)?;
        let mut both = Vec::new();
        both.try_reserve_exact(LEN + client_id.len() + user_name.len())
            .map_err(|_| Full::ForNow)?;
        both.extend_from_slice(&len.to_be_bytes());
        both.extend_from_slice(client_id);
        both.extend_from_slice(user_name);
        Ok(Self::Users(both.into_boxed_slice()))
    }

    /// What the user is called.
    pub(in crate::broker) fn user_name(&self) -> Option<&[u8]> {
        match self {
            Self::Nobodys(_) => None,
            Self::Users(both) => Some(parts(both)?.1),
        }
    }
}

/// The client's name, and the user's.
fn parts(both: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, names) = both.split_first_chunk()?;
    names.split_at_checked(u16::from_be_bytes(*len).into())
}

impl Default for Title {
    fn default() -> Self {
        Self::Nobodys(Inline::EMPTY)
    }
}

impl Name for Title {
    const MAX_LEN: usize = u16::MAX as usize;

    fn new(name: &[u8]) -> Result<Self, Full> {
        Inline::new(name).map(Self::Nobodys)
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Nobodys(name) => name.as_bytes(),
            Self::Users(both) => parts(both).unwrap_or_default().0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_whose_it_is() {
        for client_id in ["", "one", &"x".repeat(65_535)] {
            for user_name in [None, Some(&b""[..]), Some(b"alice"), Some(&[b'y'; 65_535])] {
                let title = Title::of(client_id.as_bytes(), user_name).expect("memory");
                assert_eq!(
                    (title.as_bytes(), title.user_name()),
                    (client_id.as_bytes(), user_name)
                );
            }
        }
        assert_eq!(size_of::<Title>(), size_of::<Inline<22>>());
    }
}
