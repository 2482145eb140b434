//! All memory there is, in one value.

use core::{cell::RefCell, fmt};

use embassy_sync::{
    blocking_mutex::{Mutex, raw::RawMutex},
    mutex::{Mutex as AsyncMutex, MutexGuard},
};
use embassy_time::Instant;
use mqtt_core::{Version, store::Store};

use crate::{
    client::Client, inbox::InboxSize, options::Options, outbox::OutboxSize, runner::Runner,
    state::State, subscriptions::SubscriptionsSize, waiting::WaitingSize,
};

/// How much memory a client has, by name.
///
/// ```
/// use embassy_sync::blocking_mutex::raw::NoopRawMutex;
/// use mqtt_core::store::Fixed;
/// use transport_embassy::{Inbox, Outbox, Sizes, Subscriptions, Waiting};
///
/// struct Mqtt;
///
/// impl Sizes for Mqtt {
///     type Mutex = NoopRawMutex;
///     type Store = Fixed<8, 2048>;
///     type Inbox = Inbox<3, 1024>;
///     type Outbox = Outbox<1024>;
///     type Subscriptions = Subscriptions<4, 48>;
///     type Waiting = Waiting<8>;
/// }
/// ```
pub trait Sizes {
    /// How handles in different tasks exclude each other: `NoopRawMutex` if all tasks are of one
    /// executor, `CriticalSectionRawMutex` otherwise. Never held while anything waits.
    type Mutex: RawMutex;
    /// What the session remembers: publishes that have no outcome yet, and incoming ones.
    type Store: Store;
    /// Receive buffers: [`Inbox`](crate::Inbox).
    type Inbox: InboxSize<Self::Mutex>;
    /// Packets to be sent: [`Outbox`](crate::Outbox).
    type Outbox: OutboxSize;
    /// What is subscribed to: [`Subscriptions`](crate::Subscriptions).
    type Subscriptions: SubscriptionsSize;
    /// Tasks that wait for something: [`Waiting`](crate::Waiting).
    type Waiting: WaitingSize;
}

/// A receive buffer.
type BufferOf<R> = <<R as Sizes>::Inbox as InboxSize<<R as Sizes>::Mutex>>::Buffer;

/// A receive buffer, as somebody has it.
pub(crate) type Guard<'a, R> = MutexGuard<'a, <R as Sizes>::Mutex, BufferOf<R>>;

/// All memory of a client: made in a `static`, or anywhere that lasts.
///
/// ```
/// # use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
/// # use mqtt_core::{Version, store::Fixed};
/// # use transport_embassy::{Inbox, Options, Outbox, Resources, Sizes, Subscriptions, Waiting};
/// # struct Mqtt;
/// # impl Sizes for Mqtt {
/// #     type Mutex = CriticalSectionRawMutex;
/// #     type Store = Fixed<8, 2048>;
/// #     type Inbox = Inbox<3, 1024>;
/// #     type Outbox = Outbox<1024>;
/// #     type Subscriptions = Subscriptions<4, 48>;
/// #     type Waiting = Waiting<8>;
/// # }
/// use static_cell::ConstStaticCell;
///
/// static RESOURCES: ConstStaticCell<Resources<Mqtt>> =
///     ConstStaticCell::new(Resources::new(Version::V5, Fixed::new()));
///
/// let (client, runner) = RESOURCES.take().split(Options::default());
/// # let _ = (client, runner);
/// ```
pub struct Resources<R: Sizes> {
    state: Mutex<R::Mutex, RefCell<State<R>>>,
    buffers: <R::Inbox as InboxSize<R::Mutex>>::Buffers,
}

impl<R: Sizes> Resources<R> {
    /// For a client that speaks `version` and keeps its session in `store`.
    pub const fn new(version: Version, store: R::Store) -> Self {
        Self {
            state: Mutex::new(RefCell::new(State::new(version, store))),
            buffers: <R::Inbox as InboxSize<R::Mutex>>::BUFFERS,
        }
    }

    /// The client's handle, and what does its IO. Nothing has happened yet.
    pub fn split<'a>(&'a mut self, options: Options<'a>) -> (Client<'a, R>, Runner<'a, R>) {
        let this: &'a Self = self;
        let buffers = this.buffers.as_ref().len();
        this.with(|state| state.begin(buffers));
        (Client::new(this), Runner::new(this, options))
    }

    /// The store, when the client is over.
    pub fn into_store(self) -> R::Store {
        self.state.into_inner().into_inner().into_store()
    }

    /// Acts on the state. Not to be called by what it does.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State<R>) -> T) -> T {
        self.state.lock(|state| act(&mut state.borrow_mut()))
    }

    pub(crate) fn buffer(&self, index: u8) -> Option<&AsyncMutex<R::Mutex, BufferOf<R>>> {
        self.buffers.as_ref().get(usize::from(index))
    }

    pub(crate) fn buffers(&self) -> usize {
        self.buffers.as_ref().len()
    }
}

impl<R: Sizes> fmt::Debug for Resources<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources").finish_non_exhaustive()
    }
}

/// What the time is, as the core wants it.
pub(crate) fn now() -> mqtt_core::Instant {
    mqtt_core::Instant::from_millis(Instant::now().as_millis())
}
