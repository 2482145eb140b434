//! Two network stacks in memory, joined by a wire that loses, delays, reorders and breaks, on a clock that
//! only moves when nobody has anything to do.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake},
};

use embassy_net::{
    Config, IpAddress, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4,
    driver::{HardwareAddress, LinkState},
};
use embassy_net_driver_channel as channel;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, Instant, MockDriver, Timer};
use mqtt_core::{
    broker::{self, Small},
    store::Fixed,
};
use transport_embassy::{
    Inbox, Outbox, Sizes, Subscriptions, Waiting,
    broker::{Broker, Everyone},
    net::{Listener, Tcp},
};

const MTU: usize = 1514;

/// Where the broker is, and the name server.
pub(crate) const SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);

/// What the clients of the tests have.
pub(crate) struct Mqtt;

impl Sizes for Mqtt {
    type Mutex = NoopRawMutex;
    type Store = Fixed<8, 4096>;
    type Inbox = Inbox<4, 1024>;
    type Outbox = Outbox<1024>;
    type Subscriptions = Subscriptions<4, 32>;
    type Waiting = Waiting<8>;
}

pub(crate) type Client<'a> = transport_embassy::Client<'a, Mqtt>;
pub(crate) type Resources = transport_embassy::Resources<Mqtt>;

/// The broker of the tests.
pub(crate) type Server = Broker<Small<4, 16, 512, 64, 16384>, Everyone, 4, 2048, 4096>;

pub(crate) fn server() -> Box<Server> {
    Box::new(Broker::new(broker::Config { in_flight: 8, ..broker::Config::default() }, Everyone))
}

/// A repeatable die.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What happens to frames. May be changed at any time.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// How many of a thousand are lost.
    pub(crate) loss: u64,
    /// The longest delay in milliseconds; with one, frames overtake each other.
    pub(crate) delay: u64,
    /// Nothing arrives, and nobody is told.
    pub(crate) mute: bool,
    /// The client's link; its stack is told.
    pub(crate) up: bool,
    dice: Dice,
}

/// The client's and the server's stack.
pub(crate) struct World {
    pub(crate) client: Stack<'static>,
    pub(crate) server: Stack<'static>,
    pub(crate) wire: Rc<RefCell<Wire>>,
    pub(crate) net: Vec<Task<'static>>,
    _alone: MutexGuard<'static, ()>,
}

type Device = channel::Device<'static, MTU>;

fn stack(device: Device, host: u8) -> (Stack<'static>, embassy_net::Runner<'static, Device>) {
    let address = Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, host), 24);
    let mut config = StaticConfigV4 { address, gateway: None, dns_servers: Default::default() };
    config.dns_servers.push(SERVER).unwrap();
    let resources = Box::leak(Box::new(StackResources::<16>::new()));
    embassy_net::new(device, Config::ipv4_static(config), resources, u64::from(host))
}

fn device(host: u8) -> (channel::Runner<'static, MTU>, Device) {
    let state = Box::leak(Box::new(channel::State::<MTU, 16, 16>::new()));
    let (mut runner, device) =
        channel::new(state, HardwareAddress::Ethernet([2, 0, 0, 0, 0, host]));
    runner.set_link_state(LinkState::Up);
    (runner, device)
}

impl World {
    /// Everything works.
    pub(crate) fn new(seed: u64) -> Self {
        // The clock is the process's.
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        MockDriver::get().reset();
        let wire = Wire { loss: 0, delay: 0, mute: false, up: true, dice: Dice(seed) };
        let wire = Rc::new(RefCell::new(wire));
        let ((left, client_device), (right, server_device)) = (device(1), device(2));
        let (client, mut client_net) = stack(client_device, 1);
        let (server, mut server_net) = stack(server_device, 2);
        let pumped = pump(left, right, Rc::clone(&wire));
        let net = vec![
            task(async move { client_net.run().await }),
            task(async move { server_net.run().await }),
            task(pumped),
        ];
        Self { client, server, wire, net, _alone: alone }
    }

    /// Connects a client to the server.
    pub(crate) fn tcp(&self) -> Tcp<'static> {
        Tcp::new(self.client, IpAddress::Ipv4(SERVER), 1883, leak(2048), leak(2048))
    }

    /// Connects a client to the server that has this name.
    pub(crate) fn tcp_to(&self, name: &'static str) -> Tcp<'static> {
        Tcp::new(self.client, name, 1883, leak(2048), leak(2048))
    }

    /// Where the server's clients come in.
    pub(crate) fn listeners(&self) -> [Listener<'static>; 4] {
        [(); 4].map(|()| Listener::new(self.server, 1883, leak(2048), leak(2048)))
    }

    /// Runs the stacks, and other tasks, until `story` has come to its end.
    pub(crate) fn run<'t, T: 't>(
        self,
        others: impl IntoIterator<Item = Task<'t>>,
        story: impl Future<Output = T> + 't,
    ) -> T {
        let mut tasks: Vec<Task<'t>> = self.net.into_iter().collect();
        tasks.extend(others);
        block_on(tasks, story)
    }
}

/// A future with a waker of its own: the stack is woken whenever a socket is used.
pub(crate) type Task<'t> = Pin<Box<dyn Future<Output = ()> + 't>>;

pub(crate) fn task<'t>(future: impl Future + 't) -> Task<'t> {
    Box::pin(async { drop(future.await) })
}

pub(crate) fn leak(len: usize) -> &'static mut [u8] {
    Box::leak(vec![0; len].into_boxed_slice())
}

struct Flag(AtomicBool);

impl Flag {
    fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn lower(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls tasks until the story has come to its end; when nobody has anything to do, a millisecond passes.
pub(crate) fn block_on<T>(tasks: Vec<Task<'_>>, story: impl Future<Output = T>) -> T {
    let mut story = pin!(story);
    let told = Flag::raised();
    let mut tasks: Vec<_> = tasks.into_iter().map(|task| (task, Flag::raised())).collect();
    for _ in 0..3_000_000 {
        for round in 0.. {
            assert!(round < 100_000, "tasks wake each other for ever");
            let mut idle = true;
            if told.lower() {
                idle = false;
                let waker = Arc::clone(&told).into();
                if let Poll::Ready(result) = story.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return result;
                }
            }
            tasks.retain_mut(|(task, flag)| {
                if !flag.lower() {
                    return true;
                }
                idle = false;
                let waker = Arc::clone(flag).into();
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            if idle {
                break;
            }
        }
        MockDriver::get().advance(Duration::from_millis(1));
    }
    panic!("nothing happens any more");
}

/// Carries frames between two devices.
async fn pump(
    mut left: channel::Runner<'static, MTU>,
    mut right: channel::Runner<'static, MTU>,
    wire: Rc<RefCell<Wire>>,
) {
    let mut flying: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    let mut up = true;
    loop {
        let Wire { up: now_up, .. } = *wire.borrow();
        if now_up != up {
            up = now_up;
            left.set_link_state(if up { LinkState::Up } else { LinkState::Down });
        }
        let mut worked = false;
        for to_right in [true, false] {
            let from = if to_right { &mut left } else { &mut right };
            while let Some(frame) = from.try_tx_buf() {
                let Wire { loss, delay, mute, up, dice } = &mut *wire.borrow_mut();
                if *up && !*mute && dice.below(1_000) >= *loss {
                    let at = Instant::now() + Duration::from_millis(dice.below(*delay + 1));
                    flying.push((at, to_right, frame.to_vec()));
                }
                from.tx_done();
                worked = true;
            }
        }
        flying.sort_by_key(|(at, ..)| *at);
        let (up, mute) = (wire.borrow().up, wire.borrow().mute);
        flying.retain(|(at, to_right, frame)| {
            if *at > Instant::now() {
                return true;
            }
            let to = if *to_right { &mut right } else { &mut left };
            if !up || mute {
                return false;
            }
            let Some(buffer) = to.try_rx_buf() else { return true };
            buffer[..frame.len()].copy_from_slice(frame);
            to.rx_done(frame.len());
            worked = true;
            false
        });
        if worked {
            embassy_futures::yield_now().await;
            continue;
        }
        // A frame to carry, or one that has arrived by now.
        let mut timer = Timer::after(Duration::from_millis(1));
        let wait = !flying.is_empty() || !up || wire.borrow().up != up;
        poll_fn(|cx| {
            let ready = left.poll_tx_buf(cx).is_ready() || right.poll_tx_buf(cx).is_ready();
            let rung = pin!(&mut timer).poll(cx).is_ready();
            let _ = wait;
            if ready || rung { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Lets some time pass.
pub(crate) async fn sleep(millis: u64) {
    Timer::after(Duration::from_millis(millis)).await;
}
