//! How a connection is opened, and over what.
//!
//! An [`Endpoint`] is a parsed server address:
//!
//! | URL | also written | port | runs over | cargo feature |
//! |---|---|---|---|---|
//! | `mqtt://host` | `tcp://` | 1883 | TCP | |
//! | `mqtts://host` | `ssl://`, `tls://` | 8883 | TLS | `tls` |
//! | `ws://host/path` | | 80 | WebSocket | `websocket` |
//! | `wss://host/path` | | 443 | WebSocket over TLS | `tls` and `websocket` |
//! | `unix:///path` | | | Unix domain socket (on Unix) | |
//!
//! A [`Dialer`] opens connections to one. Whatever else bytes can be sent over is handed in as a closure
//! that opens it, or as any other [`Connector`].
//!
//! ```no_run
//! # use transport_tokio::transport::{Connector, Dialer, Endpoint};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint: Endpoint = "mqtt://sensor:secret@broker.example".parse()?;
//! assert_eq!((endpoint.host(), endpoint.port()), ("broker.example", 1883));
//! let connection = Dialer::new(endpoint).connect().await?;
//!
//! // Anything that tokio can read and write will do: here, a pipe.
//! let mut pipes = || async { Ok(tokio::io::duplex(4096).0) };
//! let connection = pipes.connect().await?;
//! # Ok(())
//! # }
//! ```

mod endpoint;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::endpoint::{Endpoint, EndpointError, Scheme};
#[cfg(feature = "tls")]
pub use self::tls::{Identity, Roots, Source, TlsOptions};
#[cfg(feature = "websocket")]
pub use self::websocket::WebSocketOptions;
/// The TLS library, for who prepares a [`TlsOptions::config`].
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;

/// What a connection runs over: bytes in order, both ways.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> Transport for T {}

/// A connection, whatever it runs over.
pub type BoxedTransport = Box<dyn Transport>;

/// A connection being opened. Dropping it gives up.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<BoxedTransport>> + Send + 'a>>;

/// Opens connections, one after the other, as the client reconnects.
///
/// Implemented for closures that return a future of a [`Transport`]. One that makes an [`Endpoint`] anew
/// each time suits servers whose address expires, such as signed WebSocket URLs:
///
/// ```no_run
/// # use transport_tokio::transport::{BoxedTransport, Connector, Dialer, Endpoint};
/// # use std::io;
/// # fn signed_url() -> String { String::new() }
/// # fn takes(_: impl Connector) {}
/// let connector = || async {
///     let endpoint: Endpoint = signed_url().parse().map_err(io::Error::other)?;
///     Dialer::new(endpoint).connect().await
/// };
/// # takes(connector);
/// ```
pub trait Connector: Send {
    /// Opens a connection. Takes as long as it takes: who calls this sets a limit.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way, as the operating system or the library that met it says it. A
    /// later attempt may succeed.
    fn connect(&mut self) -> Connecting<'_>;
}

impl<F, C, T> Connector for F
where
    F: FnMut() -> C + Send,
    C: Future<Output = io::Result<T>> + Send + 'static,
    T: Transport + 'static,
{
    fn connect(&mut self) -> Connecting<'_> {
        let opening = self();
        Box::pin(async move { Ok(Box::new(opening.await?) as BoxedTransport) })
    }
}

impl Connector for Box<dyn Connector> {
    fn connect(&mut self) -> Connecting<'_> {
        (**self).connect()
    }
}

/// Opens connections to an [`Endpoint`].
///
/// TCP connections have `TCP_NODELAY` set. Of a host with several addresses, the first that answers is
/// taken; one that does not answer delays the next by a quarter of a second.
///
/// What [`connect`](Connector::connect) fails with:
///
/// - what the resolver or the socket says: `ConnectionRefused`, ...;
/// - `InvalidData` with a `rustls::Error` inside: the handshake failed, the server's certificate is not
///   trusted or is for another name. That the server refuses the *client's* certificate may be told only by
///   the first read from the connection;
/// - `InvalidInput`: a certificate, key, server name or header in the options makes no sense. A file that
///   cannot be read is named;
/// - `PermissionDenied` for HTTP status 401 and 403, else `InvalidData`, with the WebSocket library's error
///   inside: the server did not agree to speak MQTT over WebSocket.
#[derive(Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    #[cfg(feature = "tls")]
    tls: tls::Tls,
    #[cfg(feature = "websocket")]
    websocket: WebSocketOptions,
}

impl Dialer {
    /// A dialer with default options.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            #[cfg(feature = "tls")]
            tls: tls::Tls::default(),
            #[cfg(feature = "websocket")]
            websocket: WebSocketOptions::default(),
        }
    }

    /// How TLS is done, where the endpoint's scheme asks for it.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = tls::Tls::from(options);
        self
    }

    /// How the WebSocket is opened, where the endpoint's scheme asks for one.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn websocket(mut self, options: WebSocketOptions) -> Self {
        self.websocket = options;
        self
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn open(&mut self) -> io::Result<BoxedTransport> {
        let Endpoint { scheme, host, port, .. } = &self.endpoint;
        match scheme {
            Scheme::Mqtt => Ok(Box::new(tcp::connect(host, *port).await?)),
            #[cfg(feature = "tls")]
            Scheme::Mqtts => {
                let handshake = self.tls.prepare(host, b"mqtt").await?;
                Ok(Box::new(handshake.over(tcp::connect(host, *port).await?).await?))
            }
            #[cfg(feature = "websocket")]
            Scheme::Ws => {
                let tcp = tcp::connect(host, *port).await?;
                Ok(Box::new(websocket::connect(tcp, &self.endpoint, &self.websocket).await?))
            }
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Scheme::Wss => {
                let handshake = self.tls.prepare(host, b"http/1.1").await?;
                let tls = handshake.over(tcp::connect(host, *port).await?).await?;
                Ok(Box::new(websocket::connect(tls, &self.endpoint, &self.websocket).await?))
            }
            #[cfg(unix)]
            Scheme::Unix => {
                Ok(Box::new(tokio::net::UnixStream::connect(&self.endpoint.path).await?))
            }
            // The parser makes no such endpoint.
            #[cfg(not(all(unix, feature = "tls", feature = "websocket")))]
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// The server's end of a WebSocket: at this path, for messages of so many bytes.
#[cfg(feature = "websocket")]
pub(crate) async fn accept_websocket(
    transport: BoxedTransport,
    path: &str,
    max_message_size: usize,
) -> io::Result<BoxedTransport> {
    Ok(Box::new(websocket::accept(transport, path, max_message_size).await?))
}

impl Connector for Dialer {
    fn connect(&mut self) -> Connecting<'_> {
        Box::pin(self.open())
    }
}
