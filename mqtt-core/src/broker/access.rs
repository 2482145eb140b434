//! Who may connect and what they may do, in a table.
//!
//! A [`Table`] is a constant, or borrows from what was read from a file. What it does not allow is
//! denied. A host that goes by it has nothing else to decide:
//!
//! ```
//! use mqtt_core::{Buffer, Filter, broker::{Action, ConnectionId, Host, Verdict}};
//! use mqtt_core::broker::access::{Rights, Table, User};
//!
//! const fn filter(text: &str) -> Filter<'_> {
//!     match Filter::new(text) {
//!         Ok(filter) => filter,
//!         Err(_) => panic!("not a filter"), // when it is compiled
//!     }
//! }
//!
//! const ACCESS: Table = Table {
//!     users: &[
//!         User { name: "admin", password: b"correct horse", rights: Rights::ALL },
//!         User {
//!             name: "sensor",
//!             password: b"battery staple",
//!             rights: Rights {
//!                 publish: &[filter("%u/%c/#")],
//!                 subscribe: &[filter("%u/%c/commands"), filter("time")],
//!             },
//!         },
//!     ],
//!     anonymous: None,
//! };
//!
//! struct Server([Buffer<512>; 4]);
//!
//! impl Host for Server {
//!     type Sink = Buffer<512>;
//!
//!     fn sink(&mut self, to: ConnectionId) -> &mut Buffer<512> {
//!         &mut self.0[to.index()]
//!     }
//!
//!     fn close(&mut self, _: ConnectionId) {}
//!
//!     fn authorize(&mut self, _: ConnectionId, action: &Action<'_>) -> Verdict {
//!         ACCESS.authorize(action)
//!     }
//! }
//! ```

use core::{fmt, hint};

use super::{Action, Verdict};
use crate::{
    reason::ReasonCode,
    topic::{
        Filter,
        covers::{Level, covers},
    },
    wire::Connect,
};

/// Who may connect and do what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Table<'a> {
    /// Users, who are let in with their passwords.
    pub users: &'a [User<'a>],
    /// What those may do who say no user name; `None` lets them not in.
    pub anonymous: Option<Rights<'a>>,
}

/// A user.
#[derive(Clone, Copy)]
pub struct User<'a> {
    /// The user name.
    pub name: &'a str,
    /// The password. It is compared in a time that tells its length and no more.
    pub password: &'a [u8],
    /// What the user may do.
    pub rights: Rights<'a>,
}

/// Without the password.
impl fmt::Debug for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What a client may do.
///
/// A level `%u` of a filter stands for the client's user name, and `%c` for its client identifier. One
/// that is empty, that begins with `$`, or that is more than one level, is stood for by nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rights<'a> {
    /// Where to publish: to topics that one of these matches.
    pub publish: &'a [Filter<'a>],
    /// What to subscribe to: filters, shared ones too, that one of these [covers](Filter::covers).
    pub subscribe: &'a [Filter<'a>],
}

impl Rights<'_> {
    /// To do everything, topics that begin with `$` excepted.
    pub const ALL: Self = Self { publish: &[ANYTHING], subscribe: &[ANYTHING] };
}

const ANYTHING: Filter<'_> = Filter::from_validated(b"#");

impl<'a> Table<'a> {
    /// What this table says about what a client wants to do. Enhanced authentication is not for tables.
    ///
    /// A client that is let in is [known](Verdict::AllowAs) by its user's number in the table, from 1 on,
    /// so that a table that is replaced has to keep its users in their places as long as there are
    /// connections, and sessions, which are theirs.
    pub fn authorize(&self, action: &Action<'_>) -> Verdict {
        let may = match *action {
            Action::Connect(_, connect) => return self.admit(action, connect),
            Action::Publish { client_id, identity, topic, .. } => {
                let levels = || topic.levels().map(Level::Name);
                self.rights(identity).is_some_and(|(user_name, rights)| {
                    let mut filters = rights.publish.iter();
                    filters.any(|filter| covers(filled(*filter, user_name, client_id), levels()))
                })
            }
            Action::Subscribe { client_id, identity, subscription } => {
                let levels = || subscription.filter.levels().map(Level::new);
                self.rights(identity).is_some_and(|(user_name, rights)| {
                    let mut filters = rights.subscribe.iter();
                    filters.any(|filter| covers(filled(*filter, user_name, client_id), levels()))
                })
            }
            Action::Authenticate(_) => false,
        };
        if may { Verdict::Allow } else { Verdict::Deny(ReasonCode::NotAuthorized) }
    }

    fn admit(&self, action: &Action<'_>, connect: &Connect<'_>) -> Verdict {
        if connect.authentication.is_some() {
            return action.everyone();
        }
        let Some(name) = connect.user_name else {
            let may = self.anonymous.is_some();
            return if may { Verdict::Allow } else { Verdict::Deny(ReasonCode::NotAuthorized) };
        };
        let given = connect.password.unwrap_or_default();
        let mut users = (1..).zip(self.users);
        let user = users.find(|(_, user)| user.name.as_bytes() == name.as_bytes());
        // Who is unknown takes as long.
        let known = user.map_or(given, |(_, user)| user.password);
        match user {
            _ if !is_same(known, given) => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
            Some((identity, _)) => Verdict::AllowAs(identity),
            None => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
        }
    }

    /// The name of a user, empty for none, and what it may do.
    fn rights(&self, identity: u32) -> Option<(&'a str, Rights<'a>)> {
        match identity.checked_sub(1) {
            None => self.anonymous.map(|rights| ("", rights)),
            Some(index) => self.users.get(index as usize).map(|user| (user.name, user.rights)),
        }
    }
}

/// Whether two secrets are the same, in a time that tells their lengths and no more.
///
/// ```
/// use mqtt_core::broker::access::is_same;
///
/// assert!(is_same(b"secret", b"secret"));
/// assert!(!is_same(b"secret", b"Secret"));
/// ```
pub fn is_same(known: &[u8], given: &[u8]) -> bool {
    let differences = known.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
    known.len() == given.len() && hint::black_box(differences) == 0
}

/// The levels of a filter with the names in their places.
fn filled<'f>(
    filter: Filter<'f>,
    user_name: &'f str,
    client_id: &'f [u8],
) -> impl Iterator<Item = Level<'f>> {
    filter.levels().map(move |level| match level {
        b"%u" => named(user_name.as_bytes()),
        b"%c" => named(client_id),
        level => Level::new(level),
    })
}

/// The level of this name; for one that cannot be, a level that none is.
const fn named(name: &[u8]) -> Level<'_> {
    match name {
        [] | [b'$', ..] => Level::Name(b"/"),
        name => Level::Name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_compared_whole() {
        assert!(is_same(b"secret", b"secret"));
        assert!(is_same(b"", b""));
        for other in [&b""[..], b"secre", b"secrets", b"Secret", b"secreT"] {
            assert!(!is_same(b"secret", other), "{other:?}");
        }
    }
}
