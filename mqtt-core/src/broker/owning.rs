//! Whose a session is: nobody else's client gets it, or ends it.

use super::{Broker, ConnectionId, Host, Memory, memory::Slab, recording::Haste};
use crate::{reason::ReasonCode, store::Name};

/// Who may take over a session, or begin it anew, with the client's identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Takeover {
    /// Whoever it belongs to: the user whose client made it, as the [host tells](super::Verdict::AllowAs)
    /// users apart; nobody is such a user, too. Anybody else is refused with
    /// [`ClientIdentifierNotValid`](ReasonCode::ClientIdentifierNotValid) [MQTT-3.1.4-2], and nothing happens
    /// to the session.
    #[default]
    Owner,
    /// Whoever may connect. What a user's session has received is then for anybody who knows, or guesses,
    /// the identifier.
    Anybody,
}

impl<M: Memory> Broker<M> {
    /// What the user is called whose sessions those of this connection are, if that counts.
    fn user_name<'h>(&self, of: ConnectionId, host: &'h impl Host) -> Option<&'h [u8]> {
        let counts = M::USER_NAMES && self.config.takeover == Takeover::Owner;
        host.user_name(of).filter(|_| counts)
    }

    /// Why a client may not have the session that there is under its name, or none at all.
    pub(super) fn dispute(
        &self,
        from: ConnectionId,
        identity: u32,
        found: Option<u32>,
        host: &impl Host,
    ) -> Option<ReasonCode> {
        let user_name = self.user_name(from, host);
        if user_name.is_some_and(|name| name.len() > self.config.client_id_bytes) {
            return Some(ReasonCode::QuotaExceeded);
        }
        let session = self.sessions.get(found?)?;
        let is_anybodys = self.config.takeover == Takeover::Anybody || M::RECORDS && !session.owned;
        let is_owner = session.identity == identity && M::owner(&session.name) == user_name;
        // The identifier is well formed, and not allowed to this user: another one is.
        (!is_anybodys && !is_owner).then_some(ReasonCode::ClientIdentifierNotValid)
    }

    /// A session is that of a connection's user from now on. Whether there was memory for that.
    pub(super) fn make_over(
        &mut self,
        place: u32,
        to: ConnectionId,
        identity: u32,
        host: &mut impl Host,
    ) -> bool {
        let user_name = self.user_name(to, host);
        let owned = self.config.takeover == Takeover::Owner;
        let Some(session) = self.sessions.get_mut(place) else { return false };
        let is_same = session.identity == identity && session.owned == owned;
        let is_named = M::owner(&session.name) == user_name;
        if !is_named {
            let Ok(name) = M::name(session.name.as_bytes(), user_name) else { return false };
            session.name = name;
        }
        (session.identity, session.owned) = (identity, owned);
        if !is_same || !is_named {
            self.note_session(place, Haste::Urgent, host);
        }
        true
    }
}
