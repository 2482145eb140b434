//! What is subscribed to: a table of what is wanted beside what is known. A lost connection, or session,
//! only changes what is known.

use heapless::{String, Vec};
use mqtt_core::{Filter, PacketId, QoS, RetainHandling, Subscription};

use crate::waiting::{Key, sealed};

/// Room for `FILTERS` subscriptions whose filters have up to `BYTES` bytes each.
#[derive(Debug)]
pub struct Subscriptions<const FILTERS: usize, const BYTES: usize>(Vec<Wanted<BYTES>, FILTERS>);

#[derive(Debug)]
struct Wanted<const BYTES: usize> {
    filter: String<BYTES>,
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: RetainHandling,
    stage: Stage,
    /// Who is told the answer.
    key: Option<Key>,
}

/// What is known of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Wanted,
    Asked(PacketId),
    Granted(QoS),
    Unwanted,
    AskedToEnd(PacketId),
}

/// What is asked of a server: a subscription, or its end.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Ask<'t> {
    pub subscription: Subscription<'t>,
    pub end: bool,
}

/// There is no place for a subscription.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct NoPlace;

/// How many subscriptions there can be: [`Subscriptions`].
pub trait SubscriptionsSize: sealed::Sealed {
    #[doc(hidden)]
    const NEW: Self;
    /// Something is to be asked, for whoever has the key. Who waited for another answer about the same
    /// filter does so no more.
    #[doc(hidden)]
    fn want(&mut self, ask: Ask<'_>, key: Key) -> Result<Option<Key>, NoPlace>;
    /// What is to be asked next.
    #[doc(hidden)]
    fn next(&self) -> Option<Ask<'_>>;
    /// It has been asked under this identifier.
    #[doc(hidden)]
    fn asked(&mut self, id: PacketId);
    /// It cannot be asked, ever.
    #[doc(hidden)]
    fn give_up(&mut self) -> Option<Key>;
    /// The server has answered: with a QoS, or by a refusal. An end is an end either way.
    #[doc(hidden)]
    fn answered(&mut self, id: PacketId, granted: Option<QoS>) -> Option<Key>;
    /// There is a new connection. Who waits for the end of what a new session does not have?
    #[doc(hidden)]
    fn connected(&mut self, session_present: bool, ended: &mut dyn FnMut(Key));
    /// The QoS at which the server sends what matches the filter.
    #[doc(hidden)]
    fn granted(&self, filter: &str) -> Option<QoS>;
}

impl<const FILTERS: usize, const BYTES: usize> Subscriptions<FILTERS, BYTES> {
    fn next_mut(&mut self) -> Option<(usize, &mut Wanted<BYTES>)> {
        self.0.iter_mut().enumerate().find(|(_, wanted)| wanted.is_to_be_asked())
    }

    fn take(&mut self, index: usize) -> Option<Key> {
        (index < self.0.len()).then(|| self.0.remove(index).key).flatten()
    }
}

impl<const BYTES: usize> Wanted<BYTES> {
    fn new(ask: Ask<'_>, key: Key) -> Option<Self> {
        let Subscription { filter, qos, no_local, retain_as_published, retain_handling } =
            ask.subscription;
        let filter = String::try_from(filter.as_str()).ok()?;
        let stage = if ask.end { Stage::Unwanted } else { Stage::Wanted };
        let key = Some(key);
        Some(Self { filter, qos, no_local, retain_as_published, retain_handling, stage, key })
    }

    fn is_to_be_asked(&self) -> bool {
        matches!(self.stage, Stage::Wanted | Stage::Unwanted)
    }
}

impl<const FILTERS: usize, const BYTES: usize> sealed::Sealed for Subscriptions<FILTERS, BYTES> {}

impl<const FILTERS: usize, const BYTES: usize> SubscriptionsSize for Subscriptions<FILTERS, BYTES> {
    const NEW: Self = Self(Vec::new());

    fn want(&mut self, ask: Ask<'_>, key: Key) -> Result<Option<Key>, NoPlace> {
        let wanted = Wanted::new(ask, key).ok_or(NoPlace)?;
        match self.0.iter_mut().find(|kept| kept.filter == wanted.filter) {
            Some(kept) => Ok(core::mem::replace(kept, wanted).key),
            None => self.0.push(wanted).map(|()| None).map_err(|_| NoPlace),
        }
    }

    fn next(&self) -> Option<Ask<'_>> {
        let wanted = self.0.iter().find(|wanted| wanted.is_to_be_asked())?;
        let subscription = Subscription {
            filter: Filter::new(&wanted.filter).ok()?, // as it was given
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            retain_handling: wanted.retain_handling,
        };
        Some(Ask { subscription, end: wanted.stage == Stage::Unwanted })
    }

    fn asked(&mut self, id: PacketId) {
        if let Some((_, wanted)) = self.next_mut() {
            wanted.stage = match wanted.stage {
                Stage::Unwanted => Stage::AskedToEnd(id),
                _ => Stage::Asked(id),
            };
        }
    }

    fn give_up(&mut self) -> Option<Key> {
        let (index, _) = self.next_mut()?;
        self.take(index)
    }

    fn answered(&mut self, id: PacketId, granted: Option<QoS>) -> Option<Key> {
        let asked = |wanted: &Wanted<BYTES>| match wanted.stage {
            Stage::Asked(asked) | Stage::AskedToEnd(asked) => asked == id,
            _ => false,
        };
        let index = self.0.iter().position(asked)?;
        let wanted = self.0.get_mut(index)?;
        match (wanted.stage, granted) {
            (Stage::Asked(_), Some(qos)) => {
                wanted.stage = Stage::Granted(qos);
                wanted.key.take()
            }
            _ => self.take(index),
        }
    }

    fn connected(&mut self, session_present: bool, ended: &mut dyn FnMut(Key)) {
        self.0.retain_mut(|wanted| {
            let end = matches!(wanted.stage, Stage::Unwanted | Stage::AskedToEnd(_));
            match wanted.stage {
                _ if end && !session_present => {
                    wanted.key.take().into_iter().for_each(&mut *ended);
                    return false;
                }
                _ if end => wanted.stage = Stage::Unwanted,
                Stage::Granted(_) if session_present => {}
                _ => wanted.stage = Stage::Wanted,
            }
            true
        });
    }

    fn granted(&self, filter: &str) -> Option<QoS> {
        let kept = self.0.iter().find(|wanted| wanted.filter == filter)?;
        match kept.stage {
            Stage::Granted(qos) => Some(qos),
            _ => None,
        }
    }
}
