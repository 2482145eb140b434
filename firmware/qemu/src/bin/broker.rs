//! A broker for clients on the host, until one publishes to `stop`.

#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_futures::select::select;
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, signal::Signal};
use mqtt_core::broker::{Action, Config, ConnectionId, Small, Verdict};
use qemu::{say, start, succeed};
use static_cell::{ConstStaticCell, StaticCell};
use transport_embassy::{
    broker::{Access, Broker},
    net::Listener,
};

const CLIENTS: usize = 8;
const CONNECTIONS: usize = CLIENTS + 1;

type Mqtt = Broker<Small<CLIENTS, 32, 1024, 64, { 24 * 1024 }>, Stoppable, CONNECTIONS, 1024, 1280>;

static STOP: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// Everybody may do everything, and `stop` means it.
struct Stoppable;

impl Access for Stoppable {
    fn authorize(&mut self, _: ConnectionId, action: &Action<'_>) -> Verdict {
        if let Action::Publish { topic, .. } = action
            && topic.as_str() == "stop"
        {
            STOP.signal(());
        }
        action.everyone()
    }
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static BROKER: StaticCell<Mqtt> = StaticCell::new();
    static BUFFERS: ConstStaticCell<[[[u8; 1024]; 2]; CONNECTIONS]> =
        ConstStaticCell::new([[[0; 1024]; 2]; CONNECTIONS]);
    let stack = start(spawner, 2).await;
    let config = Config { retained_messages: 16, ..Config::DEFAULT };
    let broker = BROKER.init_with(|| Broker::new(config, Stoppable));
    let listeners = BUFFERS.take().each_mut().map(|[rx, tx]| Listener::new(stack, 1883, rx, tx));
    say(format_args!("serving at {:?}", stack.config_v4().map(|config| config.address)));
    select(broker.serve(listeners), STOP.wait()).await;
    say(format_args!("{:?}", broker.statistics()));
    succeed()
}
