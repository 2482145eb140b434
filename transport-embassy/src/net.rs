//! TCP by `embassy-net`.

use core::pin::pin;

use embassy_futures::select::{Either, select};
use embassy_net::{
    IpAddress, IpEndpoint, Stack, dns,
    tcp::{self, TcpReader, TcpSocket, TcpWriter},
};
use embassy_time::{Duration, Timer, with_timeout};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

use crate::connector::Connector;

/// How often to look whether the link is still up, and whether there is an address. The stack wakes only one
/// task when that changes, which may be another.
const LINK: Duration = Duration::from_secs(1);
const CONFIG: Duration = Duration::from_millis(100);

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Host<'a> {
    /// At this address.
    Address(IpAddress),
    /// At the address that this name has when the connection is made.
    Name(&'a str),
}

impl From<IpAddress> for Host<'_> {
    fn from(address: IpAddress) -> Self {
        Self::Address(address)
    }
}

impl<'a> From<&'a str> for Host<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

/// Connects by TCP: waits for the link and an address, asks for the server's, and connects. A link that goes
/// down ends the connection.
///
/// Its socket takes one place in the stack's resources, as does DNS.
///
/// ```
/// # use embassy_net::Stack;
/// # use transport_embassy::{ConnectionError, Runner, Sizes, net::Tcp};
/// async fn run<R: Sizes>(stack: Stack<'_>, mut runner: Runner<'_, R>) -> Result<(), ConnectionError> {
///     let (mut rx, mut tx) = ([0; 1024], [0; 1024]);
///     runner.run(Tcp::new(stack, "broker.local", 1883, &mut rx, &mut tx)).await
/// }
/// ```
pub struct Tcp<'d> {
    stack: Stack<'d>,
    host: Host<'d>,
    port: u16,
    socket: TcpSocket<'d>,
}

impl<'d> Tcp<'d> {
    /// A connector to a server, usually at port 1883, with the socket's buffers.
    pub fn new(
        stack: Stack<'d>,
        host: impl Into<Host<'d>>,
        port: u16,
        rx: &'d mut [u8],
        tx: &'d mut [u8],
    ) -> Self {
        let mut socket = TcpSocket::new(stack, rx, tx);
        socket.set_nagle_enabled(false);
        Self { stack, host: host.into(), port, socket }
    }

    /// The socket, to set what it does.
    pub const fn socket_mut(&mut self) -> &mut TcpSocket<'d> {
        &mut self.socket
    }
}

impl core::fmt::Debug for Tcp<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tcp")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl<'d> Connector for Tcp<'d> {
    type Error = Error;
    type Connection<'c>
        = (Reader<'c>, Writer<'c>)
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<(Reader<'_>, Writer<'_>), Error> {
        open(self.stack, self.host, self.port, &mut self.socket).await?;
        let stack = self.stack;
        let (reader, writer) = self.socket.split();
        Ok((Reader { reader, stack }, Writer { writer }))
    }

    async fn close(&mut self) {
        close(&mut self.socket, self.stack).await;
    }
}

/// Accepts connections by TCP at a port, one at a time: a [broker](crate::broker) has as many of them as it has
/// clients, at the same port.
pub struct Listener<'d> {
    stack: Stack<'d>,
    port: u16,
    socket: TcpSocket<'d>,
}

impl<'d> Listener<'d> {
    /// A listener at a port, usually 1883, with the buffers of its socket.
    pub fn new(stack: Stack<'d>, port: u16, rx: &'d mut [u8], tx: &'d mut [u8]) -> Self {
        let mut socket = TcpSocket::new(stack, rx, tx);
        socket.set_nagle_enabled(false);
        Self { stack, port, socket }
    }

    /// The socket, to set what it does.
    pub const fn socket_mut(&mut self) -> &mut TcpSocket<'d> {
        &mut self.socket
    }
}

impl core::fmt::Debug for Listener<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Listener").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Connector for Listener<'_> {
    type Error = Error;
    type Connection<'c>
        = (Reader<'c>, Writer<'c>)
    where
        Self: 'c;

    async fn connect(&mut self) -> Result<(Reader<'_>, Writer<'_>), Error> {
        abort(&mut self.socket).await;
        self.socket.accept(self.port).await.map_err(Error::Accept)?;
        let stack = self.stack;
        let (reader, writer) = self.socket.split();
        Ok((Reader { reader, stack }, Writer { writer }))
    }

    async fn close(&mut self) {
        close(&mut self.socket, self.stack).await;
    }
}

/// Waits for the link and an address, asks for the server's, and connects.
pub(crate) async fn open(
    stack: Stack<'_>,
    host: Host<'_>,
    port: u16,
    socket: &mut TcpSocket<'_>,
) -> Result<(), Error> {
    while !stack.is_config_up() {
        Timer::after(CONFIG).await;
    }
    let address = match host {
        Host::Address(address) => address,
        Host::Name(name) => {
            let found = stack.dns_query(name, dns::DnsQueryType::A).await.map_err(Error::Dns)?;
            *found.first().ok_or(Error::NoAddress)?
        }
    };
    abort(socket).await; // if it was dropped in the middle of something
    socket.connect(IpEndpoint::new(address, port)).await.map_err(Error::Connect)
}

/// Lets what was written leave, and closes.
pub(crate) async fn close(socket: &mut TcpSocket<'_>, stack: Stack<'_>) {
    socket.close();
    if stack.is_link_up() {
        let _ = with_timeout(Duration::from_secs(1), socket.flush()).await;
    }
    abort(socket).await;
}

/// Closes, and lets the other side be told, if it can be.
async fn abort(socket: &mut TcpSocket<'_>) {
    socket.abort();
    let _ = with_timeout(Duration::from_millis(100), socket.flush()).await;
}

/// Why there is no TCP connection, or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// The name could not be resolved: there is none, or the name server has been silent for ten seconds.
    Dns(dns::Error),
    /// The name has no address.
    NoAddress,
    /// The server does not answer, or not so.
    Connect(tcp::ConnectError),
    /// No connection can be accepted.
    Accept(tcp::AcceptError),
    /// The connection was reset.
    Reset,
    /// The link went down.
    LinkDown,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Dns(error) => write!(f, "DNS: {error:?}"),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Connect(error) => write!(f, "TCP: {error:?}"),
            Self::Accept(error) => write!(f, "TCP: {error:?}"),
            Self::Reset => f.write_str("reset"),
            Self::LinkDown => f.write_str("the link is down"),
        }
    }
}

impl core::error::Error for Error {}

impl embedded_io_async::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Dns(_) | Self::NoAddress => ErrorKind::AddrNotAvailable,
            Self::Connect(tcp::ConnectError::TimedOut) => ErrorKind::TimedOut,
            Self::Connect(tcp::ConnectError::NoRoute) => ErrorKind::AddrNotAvailable,
            Self::Connect(_) => ErrorKind::ConnectionRefused,
            Self::Accept(_) => ErrorKind::Other,
            Self::Reset => ErrorKind::ConnectionReset,
            Self::LinkDown => ErrorKind::NotConnected,
        }
    }
}

impl From<tcp::Error> for Error {
    fn from(_: tcp::Error) -> Self {
        Self::Reset
    }
}

/// What is received by TCP.
pub struct Reader<'c> {
    reader: TcpReader<'c>,
    stack: Stack<'c>,
}

impl core::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl ErrorType for Reader<'_> {
    type Error = Error;
}

impl Read for Reader<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut reading = pin!(self.reader.read(buf));
        loop {
            match select(reading.as_mut(), Timer::after(LINK)).await {
                Either::First(result) => return Ok(result?),
                Either::Second(()) if self.stack.is_link_up() => {}
                Either::Second(()) => return Err(Error::LinkDown),
            }
        }
    }
}

/// What is sent by TCP.
pub struct Writer<'c> {
    writer: TcpWriter<'c>,
}

impl core::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl ErrorType for Writer<'_> {
    type Error = Error;
}

impl Write for Writer<'_> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
        Ok(self.writer.write(buf).await?)
    }

    /// Does not wait: what was written leaves by itself.
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
