//! What makes connections.

use core::future::Future;

use embedded_io_async::{Error, Read, Write};

/// Opens a transport to the server, as often as it takes: TCP, TLS, a modem, a serial line.
///
/// Both halves are used at once. While a connection lasts, nothing that they do is abandoned half-way.
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
///     type Reader<'c> = &'c mut Rx;
///     type Writer<'c> = &'c mut Tx;
///
///     async fn connect(&mut self) -> Result<(&mut Rx, &mut Tx), Self::Error> {
///         Ok((&mut self.0, &mut self.1))
///     }
/// }
/// ```
pub trait Connector {
    /// Why it could not be opened.
    type Error: Error;
    /// What is received.
    type Reader<'c>: Read
    where
        Self: 'c;
    /// What is sent. It is flushed when there is nothing more to write, so flushing should not wait for
    /// the other side.
    type Writer<'c>: Write
    where
        Self: 'c;

    /// Opens the transport. Dropped if that takes [too long](crate::Options::connect_timeout).
    fn connect(
        &mut self,
    ) -> impl Future<Output = Result<(Self::Reader<'_>, Self::Writer<'_>), Self::Error>>;

    /// The connection is over: sends what was written last, and closes. Dropped after two seconds.
    fn close(&mut self) -> impl Future<Output = ()> {
        async {}
    }
}

impl<C: Connector> Connector for &mut C {
    type Error = C::Error;
    type Reader<'c>
        = C::Reader<'c>
    where
        Self: 'c;
    type Writer<'c>
        = C::Writer<'c>
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<(Self::Reader<'_>, Self::Writer<'_>), Self::Error> {
        (**self).connect().await
    }

    async fn close(&mut self) {
        (**self).close().await;
    }
}
