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
    type Connection<'c> = (Self, Self);

    async fn connect(&mut self) -> Result<(Self, Self), Infallible> {
        Ok((Self, Self))
    }
}

#[test]
fn a_client_takes_little_besides_its_buffers() {
    let mut resources = Resources::<Mqtt>::new(Version::V5, Fixed::new());
    let buffers = 5 * BYTES; // the inbox's, the outbox's, the store's
    let state = size_of_val(&resources) - buffers;
    let (_, mut runner) = resources.split(Options::default());
    let runner_size = size_of_val(&runner);
    let future = size_of_val(&runner.run(Nothing));
    println!("resources besides buffers {state}, runner {runner_size}, running {future}");
    assert!(state <= 1_872 && runner_size <= 368 && future <= 784);
    assert_eq!(size_of::<Client<'_, Mqtt>>(), size_of::<usize>());
    assert!(size_of::<Message<'_, Mqtt>>() <= 64);
}
