//! TLS 1.3 over TCP, by `embedded-tls`.
//!
//! ```
//! use embassy_net::Stack;
//! use embedded_tls::{Aes128GcmSha256, CryptoProvider, TlsConfig};
//! use transport_embassy::{ConnectionError, Runner, Sizes, net::Host, tls::{Buffers, Tls}};
//!
//! async fn run<R: Sizes, P: CryptoProvider<CipherSuite = Aes128GcmSha256>>(
//!     mut runner: Runner<'_, R>,
//!     stack: Stack<'_>,
//!     provider: impl FnMut() -> P, // random numbers, and who checks the server's certificate
//! ) -> Result<(), ConnectionError> {
//!     let (mut rx, mut tx) = ([0; 2048], [0; 2048]);
//!     let (mut received, mut sent) = ([0; 16_640], [0; 2048]); // what servers send can be that long
//!     let buffers =
//!         Buffers { rx: &mut rx, tx: &mut tx, received: &mut received, sent: &mut sent };
//!     let name = "broker.example.org";
//!     let config = TlsConfig::new().with_server_name(name);
//!     runner.run(Tls::new(stack, Host::Name(name), 8883, buffers, config, provider)).await
//! }
//! ```
//!
//! A [`CryptoProvider`] whose verifier is none trusts everybody who answers: see `embedded-tls` for those that check
//! certificates, and for shared keys.

use core::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
};

use embassy_net::{Stack, tcp::TcpSocket};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_tls::{
    CryptoProvider, FlushPolicy, TlsCipherSuite, TlsConfig, TlsConnection, TlsContext, TlsError,
    TlsReader, TlsWriter,
};

pub use embedded_tls;

use crate::{
    connector::{Connection, Connector},
    net::{self, Host},
};

/// The memory that a connection needs.
#[derive(Debug)]
pub struct Buffers<'d> {
    /// The socket's, for what is received.
    pub rx: &'d mut [u8],
    /// The socket's, for what is sent.
    pub tx: &'d mut [u8],
    /// For one record that is received: 16,640 bytes, unless the server keeps to less.
    pub received: &'d mut [u8],
    /// For one record that is sent, and for the handshake.
    pub sent: &'d mut [u8],
}

/// Connects by TLS, as [`net::Tcp`] does by TCP.
pub struct Tls<'d, F> {
    stack: Stack<'d>,
    host: Host<'d>,
    port: u16,
    socket: Socket<'d>,
    received: &'d mut [u8],
    sent: &'d mut [u8],
    config: TlsConfig<'d>,
    provider: F,
}

impl<'d, F> Tls<'d, F> {
    /// A connector to a server, usually at port 8883. The provider is asked for anew for each connection.
    pub fn new(
        stack: Stack<'d>,
        host: Host<'d>,
        port: u16,
        buffers: Buffers<'d>,
        config: TlsConfig<'d>,
        provider: F,
    ) -> Self {
        let Buffers { rx, tx, received, sent } = buffers;
        let mut socket = TcpSocket::new(stack, rx, tx);
        socket.set_nagle_enabled(false);
        let socket = Socket(RefCell::new(socket));
        Self { stack, host, port, socket, received, sent, config, provider }
    }
}

impl<F> fmt::Debug for Tls<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl<'d, C, P, F> Connector for Tls<'d, F>
where
    C: TlsCipherSuite + 'static,
    P: CryptoProvider<CipherSuite = C>,
    F: FnMut() -> P,
{
    type Error = Error;
    type Connection<'c>
        = Session<'c, 'd, C>
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<Session<'_, 'd, C>, Error> {
        let Self { stack, host, port, socket, received, sent, config, provider } = self;
        net::open(*stack, *host, *port, socket.0.get_mut()).await.map_err(Error::Tcp)?;
        let mut session = TlsConnection::new(&*socket, received, sent);
        session.set_flush_policy(FlushPolicy::Relaxed); // what was written leaves by itself
        session.open(TlsContext::new(config, provider())).await.map_err(Error::Tls)?;
        Ok(Session(session))
    }

    async fn close(&mut self) {
        net::close(self.socket.0.get_mut(), self.stack).await;
    }
}

/// A TLS connection.
pub struct Session<'c, 'd, C: TlsCipherSuite + 'static>(TlsConnection<'c, &'c Socket<'d>, C>);

impl<C: TlsCipherSuite + 'static> fmt::Debug for Session<'_, '_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl<'c, 'd, C: TlsCipherSuite + 'static> Connection for Session<'c, 'd, C> {
    type Reader<'h>
        = TlsReader<'h, &'c Socket<'d>, C>
    where
        Self: 'h;
    type Writer<'h>
        = TlsWriter<'h, &'c Socket<'d>, C>
    where
        Self: 'h;

    fn split(&mut self) -> (Self::Reader<'_>, Self::Writer<'_>) {
        self.0.split()
    }
}

/// Why there is no TLS connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no TCP connection.
    Tcp(net::Error),
    /// The handshake failed.
    Tls(TlsError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS: {error:?}"),
        }
    }
}

impl core::error::Error for Error {}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tcp(error) => error.kind(),
            Self::Tls(error) => error.kind(),
        }
    }
}

/// A socket that two halves use at once: each has it while it is polled, no longer.
pub struct Socket<'d>(RefCell<TcpSocket<'d>>);

impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl ErrorType for &Socket<'_> {
    type Error = net::Error;
}

// What the socket's futures know is in the socket, so they can be made anew for each poll.
impl Read for &Socket<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, net::Error> {
        Ok(poll_fn(|cx| pin!(self.0.borrow_mut().read(buf)).poll(cx)).await?)
    }
}

impl Write for &Socket<'_> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, net::Error> {
        Ok(poll_fn(|cx| pin!(self.0.borrow_mut().write(buf)).poll(cx)).await?)
    }

    async fn flush(&mut self) -> Result<(), net::Error> {
        Ok(())
    }
}
