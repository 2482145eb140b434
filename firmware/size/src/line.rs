//! What asynchronous clients need around them: a connection, the time, and somebody who polls.

use core::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use embassy_time_driver::Driver;
use embedded_io_async::{ErrorType, Read, Write};

use crate::{clock, receive, send, sleep};

/// The connection, which is this crate's registers.
#[derive(Clone, Copy, Debug)]
pub struct Line;

impl ErrorType for Line {
    type Error = Infallible;
}

impl Read for Line {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        core::future::poll_fn(|_| match receive(buffer) {
            0 => Poll::Pending,
            len => Poll::Ready(Ok(len)),
        })
        .await
    }
}

impl Write for Line {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        send(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Clock;

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock);

impl Driver for Clock {
    fn now(&self) -> u64 {
        clock()
    }

    fn schedule_wake(&self, at: u64, _: &Waker) {
        sleep(Some(at));
    }
}

/// Polls a program without end.
pub fn run(program: impl Future<Output = ()>) -> ! {
    let mut program = pin!(program);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let _ = program.as_mut().poll(&mut cx);
        sleep(None);
    }
}
