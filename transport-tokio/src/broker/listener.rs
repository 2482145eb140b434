//! Where connections come from.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

#[cfg(unix)]
use std::path::PathBuf;

#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time,
};

use super::ServeError;
use crate::transport::{Endpoint, EndpointError, Scheme};

/// How long to wait when the system has no more descriptors, or the like.
const BACKOFF: Duration = Duration::from_millis(100);

/// A connection, and where it comes from.
pub(super) type Accepted = (Stream, Option<SocketAddr>);

/// What a connection runs over.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Within the process.
    Pipe(DuplexStream),
}

/// Does the same with each kind of stream.
macro_rules! each {
    ($stream:expr, $io:ident => $do:expr) => {
        match $stream {
            Stream::Tcp($io) => $do,
            #[cfg(unix)]
            Stream::Unix($io) => $do,
            Stream::Pipe($io) => $do,
        }
    };
}

impl Stream {
    /// Reads once. How much; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = each!(self, io => Pin::new(io).poll_read(cx, &mut buffer));
        read.map_ok(|()| buffer.filled().len())
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(cx, pieces))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

/// A socket that is listened at.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(Named),
}

/// A Unix socket, whose name goes with it.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Named {
    socket: UnixListener,
    path: PathBuf,
}

#[cfg(unix)]
impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a socket's name stays");
        }
    }
}

impl Listener {
    /// Listens at a URL. The listener, and the URL with the port that it has become.
    pub(super) async fn bind(url: &str) -> Result<(Self, String), ServeError> {
        let wrong = |error| ServeError::Address { url: url.to_owned(), error };
        let endpoint = Endpoint::parse(url).map_err(wrong)?;
        if endpoint.user_name().is_some() || endpoint.password().is_some() {
            return Err(wrong(EndpointError::Host));
        }
        let failed = |error| ServeError::Bind { url: url.to_owned(), error };
        match endpoint.scheme() {
            Scheme::Mqtt => {
                let address = (endpoint.host(), endpoint.port());
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                Ok((Self::Tcp(listener), format!("mqtt://{address}")))
            }
            #[cfg(unix)]
            Scheme::Unix => {
                let path = PathBuf::from(endpoint.path());
                let socket = UnixListener::bind(&path).map_err(failed)?;
                Ok((Self::Unix(Named { socket, path }), url.to_owned()))
            }
            scheme => Err(ServeError::Unsupported(scheme)),
        }
    }

    /// Accepts connections until nobody takes them any more.
    pub(super) async fn run(self, accepted: mpsc::Sender<Accepted>) {
        // None is taken from the system that there is no place for.
        while let Ok(place) = accepted.reserve().await {
            match self.accept().await {
                Ok(connection) => place.send(connection),
                // It has gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    time::sleep(BACKOFF).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Packets are small and answered: waiting to fill a segment costs a delayed
                // acknowledgement each. That it cannot be set is no reason not to serve.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Some(address)))
            }
            #[cfg(unix)]
            Self::Unix(named) => {
                let (stream, _) = named.socket.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}
