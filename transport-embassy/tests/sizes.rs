//! What a client takes besides the buffers that its user asks for, on 64-bit.

use core::convert::Infallible;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embedded_io_async::{ErrorType, Read, Write};
use mqtt_core::{Version, store::Fixed};
use transport_embassy::{
    Client, Connector, Inbox, Message, Options, Outbox, Resources, Sizes, Subscriptions, Waiting,
};

const BYTES: usize = 1024;

/// Eight flights, four subscriptions, eight tasks.
struct Mqtt;

impl Sizes for Mqtt {
    type Mutex = NoopRawMutex;
    type Store = Fixed<8, BYTES>;
    type Inbox = Inbox<3, BYTES>;
    type Outbox = Outbox<BYTES>;
    type Subscriptions = Subscriptions<4, 32>;
    type Waiting = Waiting<8>;
}

struct Nothing;

impl ErrorType for Nothing {
    type Error = Infallible;
}

impl Read for Nothing {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Infallible> {
        Ok(0)
    }
}

impl Write for Nothing {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Connector for Nothing {
    type Error = Infallible;
    type Reader<'c> = Self;
    type Writer<'c> = Self;

    async fn connect(&mut self) -> Result<(Self, Self), Infallible> {
        Ok((Self, Self))
    }
}

#[test]
fn sizes() {
    let mut resources = Resources::<Mqtt>::new(Version::V5, Fixed::new());
    let buffers = 5 * BYTES; // the inbox's, the outbox's, the store's
    let state = size_of_val(&resources) - buffers;
    let (_, mut runner) = resources.split(Options::default());
    let future = runner.run(Nothing);
    println!("state {state}, runner's future {}", size_of_val(&future));
    println!("runner {}, message {}", size_of::<transport_embassy::Runner<'_, Mqtt>>(), size_of::<Message<'_, Mqtt>>());
    println!("{} {} {} {}", size_of::<Fixed<8,0>>(), size_of::<Subscriptions<4,32>>(), size_of::<Waiting<8>>(), size_of::<Inbox<3, 1024>>());
    println!("{}", size_of::<mqtt_core::Client<Fixed<8,0>>>());
    assert_eq!(size_of::<Client<'_, Mqtt>>(), size_of::<usize>());
}
