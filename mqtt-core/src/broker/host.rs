//! What a broker asks of whoever drives it.

use core::num::NonZeroU32;

use super::{Haste, Key, Notice};
use crate::{
    reason::ReasonCode,
    sink::Sink,
    topic::Topic,
    wire::{Answer, Auth, Connect, Properties, QoS, Subscription, Version},
};

/// What drives a broker: has the connections' outgoing bytes, and may decide what clients may do.
pub trait Host {
    /// Where outgoing bytes of a connection go.
    type Sink: Sink;

    /// The sink of an open connection. What is written to it is flushed by the caller of the
    /// broker's method, soon; a connection that nothing was read from may be among those written to.
    fn sink(&mut self, to: ConnectionId) -> &mut Self::Sink;

    /// A connection has come to its end: once its sink is flushed, the transport is to be closed and
    /// [`Broker::closed`](super::Broker::closed) called. Nothing more is written to it.
    fn close(&mut self, connection: ConnectionId);

    /// Whether a client may do something. By default everybody may do everything, but enhanced
    /// authentication is not supported [MQTT-4.12.0-1].
    fn authorize(&mut self, from: ConnectionId, action: &Action<'_>) -> Verdict {
        let _ = from;
        action.everyone()
    }

    /// What the user is called that the client of this connection is, which has been let in or authenticated
    /// anew: the session that it makes is this user's. It is asked by a large broker, after
    /// [`authorize`](Self::authorize); a small one keeps no such names, and goes by the numbers of
    /// [`Verdict::AllowAs`] alone. By default nobody has a name.
    fn user_name(&self, of: ConnectionId) -> Option<&[u8]> {
        let _ = of;
        None
    }

    /// Something has happened. There is nothing that has to be done about it.
    fn notice(&mut self, notice: &Notice<'_>) {
        let _ = notice;
    }

    /// Whether [`changed`](Self::changed) is to be called by a `Large` broker. Not to change while there are
    /// sessions.
    fn keeps_records(&self) -> bool {
        false
    }

    /// A record has changed, or is there now, or has ended: which of these and how, the broker's `record`
    /// tells when this call into the broker has returned, and at any time after, as it is then.
    ///
    /// The records of one moment, kept all or none, are what a broker can be restored from. Nothing that
    /// was acknowledged is lost, and nothing at QoS 2 doubled, if no byte leaves before the changes that
    /// are [`Urgent`](Haste::Urgent) to it are kept.
    fn changed(&mut self, key: Key<'_>, haste: Haste) {
        let _ = (key, haste);
    }

    /// Gives `write` the sink of a connection, and what is said besides a verdict about CONNECT or AUTH
    /// in the packet that follows from it: a challenge, the last step of enhanced authentication, why
    /// not. By default that is nothing; before 5.0 there is nowhere to say it.
    ///
    /// When there is no room for the packet, this comes again once there is, without the question. What
    /// only explains is left out if it makes the packet too large for the client [MQTT-3.2.2-19]
    /// [MQTT-3.2.2-20], or if the client wants no explanations [MQTT-3.1.2-29].
    ///
    /// ```
    /// use mqtt_core::{Buffer, broker::{Action, Answer, ConnectionId, Host, Verdict}};
    ///
    /// struct Server(Buffer<512>);
    ///
    /// impl Host for Server {
    ///     type Sink = Buffer<512>;
    ///
    ///     fn sink(&mut self, _: ConnectionId) -> &mut Buffer<512> {
    ///         &mut self.0
    ///     }
    ///
    ///     fn close(&mut self, _: ConnectionId) {}
    ///
    ///     fn authorize(&mut self, _: ConnectionId, action: &Action<'_>) -> Verdict {
    ///         match action {
    ///             Action::Connect(_, connect) if connect.authentication.is_some() => Verdict::Continue,
    ///             _ => Verdict::Allow,
    ///         }
    ///     }
    ///
    ///     fn answer<R>(
    ///         &mut self,
    ///         _: ConnectionId,
    ///         write: impl FnOnce(&mut Buffer<512>, &Answer<'_>) -> R,
    ///     ) -> R {
    ///         let challenge = Answer { authentication_data: Some(b"who?"), ..Answer::default() };
    ///         write(&mut self.0, &challenge)
    ///     }
    /// }
    /// ```
    fn answer<R>(
        &mut self,
        to: ConnectionId,
        write: impl FnOnce(&mut Self::Sink, &Answer<'_>) -> R,
    ) -> R {
        write(self.sink(to), &Answer::default())
    }
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Action<'a> {
    /// To connect. May be answered with [`Verdict::Continue`] if it has an
    /// [authentication method](Connect::authentication).
    Connect(Version, &'a Connect<'a>),
    /// To go on with enhanced authentication; the first step was in the CONNECT.
    Authenticate(Auth<'a>),
    /// To publish; retained, perhaps.
    Publish {
        /// The client.
        client_id: &'a [u8],
        /// Who it is: what it was [let in as](Verdict::AllowAs), or 0.
        identity: u32,
        /// Where to.
        topic: Topic<'a>,
        /// At which QoS.
        qos: QoS,
        /// To be kept for future subscribers.
        retain: bool,
        /// The message.
        payload: &'a [u8],
        /// 5.0 only.
        properties: Properties<'a>,
    },
    /// To subscribe; asked for each filter.
    Subscribe {
        /// The client.
        client_id: &'a [u8],
        /// Who it is: what it was [let in as](Verdict::AllowAs), or 0.
        identity: u32,
        /// To what.
        subscription: Subscription<'a>,
    },
}

impl Action<'_> {
    /// The verdict of a broker that is open to everyone: all may be done, but enhanced authentication
    /// is not supported [MQTT-4.12.0-1].
    pub const fn everyone(&self) -> Verdict {
        match self {
            Self::Connect(_, connect) if connect.authentication.is_some() => {
                Verdict::Deny(ReasonCode::BadAuthenticationMethod)
            }
            _ => Verdict::Allow,
        }
    }
}

/// Whether a client may do what it wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may connect, or go on after another authentication, and is told by this number from now on; 0 is
    /// nobody's. Its session belongs to the user of this number, and
    /// [nobody else](super::Takeover::Owner) gets it.
    AllowAs(u32),
    /// It may not, for this reason. A publish that is denied for a reason that is no error is
    /// acknowledged with it, and goes to nobody; a will is forgotten.
    Deny(ReasonCode),
    /// That is not known yet. The packet stays in the input, and nothing behind it is read, until
    /// [`Broker::resume`](super::Broker::resume); then the same is asked again.
    Later,
    /// Enhanced authentication takes another step: an AUTH asks for it, with what the host has to
    /// [answer](Host::answer).
    Continue,
}

impl Verdict {
    /// Who may do what was asked for, if it may be done.
    pub(super) const fn identity(self) -> Option<u32> {
        match self {
            Self::Allow => Some(0),
            Self::AllowAs(identity) => Some(identity),
            _ => None,
        }
    }
}

/// A connection: a place, and which of those that have had it. One that is over is nobody's: what is
/// done to it is done to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConnectionId {
    pub(super) place: u32,
    pub(super) generation: NonZeroU32,
}

impl ConnectionId {
    /// The place, which is used again after [`Broker::closed`](super::Broker::closed): small, since the
    /// lowest that are free are used first, or those freed last.
    pub const fn index(self) -> usize {
        self.place as usize
    }
}
