//! What makes connections.

use core::future::Future;

use embedded_io_async::{Error, Read, Write};

/// Opens a transport to the server, as often as it takes: TCP, TLS, a modem, a serial line.
///
/// While a connection lasts, nothing that its halves do is abandoned half-way.
///
/// ```
/// use embedded_io_async::{ErrorType, Read, Write};
/// use transport_embassy::Connector;
///
/// # struct Rx; struct Tx;
/// # impl ErrorType for Rx { type Error = core::convert::Infallible; }
/// # impl ErrorType for Tx { type Error = core::convert::Infallible; }
/// # impl Read for Rx { async fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> { Ok(0) } }
/// # impl Write for Tx {
/// #     async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> { Ok(bytes.len()) }
/// #     async fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// struct Uart(Rx, Tx); // a UART that is split already
///
/// impl Connector for Uart {
///     type Error = core::convert::Infallible;
///     type Connection<'c> = (&'c mut Rx, &'c mut Tx);
///
///     async fn connect(&mut self) -> Result<(&mut Rx, &mut Tx), Self::Error> {
///         Ok((&mut self.0, &mut self.1))
///     }
/// }
/// ```
pub trait Connector {
    /// Why it could not be opened.
    type Error: Error;
    /// What is opened.
    type Connection<'c>: Connection
    where
        Self: 'c;

    /// Opens the transport. Dropped if that takes [too long](crate::Options::connect_timeout).
    fn connect(&mut self) -> impl Future<Output = Result<Self::Connection<'_>, Self::Error>>;

    /// The connection is over: sends what was written last, and closes. Dropped after two seconds.
    fn close(&mut self) -> impl Future<Output = ()> {
        async {}
    }
}

/// A transport that is open: two halves that are used at once. A pair of halves is one.
pub trait Connection {
    /// What is received. It ends by giving no bytes.
    type Reader<'h>: Read
    where
        Self: 'h;
    /// What is sent. It is flushed when there is nothing more to write, so flushing should not wait for
    /// the other side.
    type Writer<'h>: Write
    where
        Self: 'h;

    /// Its halves.
    fn split(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>);
}

impl<R: Read, W: Write> Connection for (R, W) {
    type Reader<'h>
        = &'h mut R
    where
        Self: 'h;
    type Writer<'h>
        = &'h mut W
    where
        Self: 'h;

    fn split(&mut self) -> (&mut R, &mut W) {
        (&mut self.0, &mut self.1)
    }
}

impl<C: Connector> Connector for &mut C {
    type Error = C::Error;
    type Connection<'c>
        = C::Connection<'c>
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<Self::Connection<'_>, Self::Error> {
        (**self).connect().await
    }

    async fn close(&mut self) {
        (**self).close().await;
    }
}
