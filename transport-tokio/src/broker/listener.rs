//! Where connections come from.

#[cfg(any(feature = "tls", feature = "websocket"))]
use std::collections::VecDeque;
use std::{fmt, io, sync::Arc, time::Duration};

#[cfg(unix)]
use std::path::{Path, PathBuf};

#[cfg(unix)]
use tokio::net::UnixListener;
#[cfg(any(feature = "tls", feature = "websocket"))]
use tokio::task::{AbortHandle, JoinSet};
use tokio::{net::TcpListener, sync::mpsc, time};
#[cfg(feature = "tls")]
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    ServeError,
    origin::Origin,
    sockets::{Port, Raw},
    stream::Stream,
};
#[cfg(feature = "websocket")]
use crate::transport::accept_websocket;
use crate::transport::{Endpoint, EndpointError, Scheme};

/// How long to wait when the system has no more descriptors, or the like.
const BACKOFF: Duration = Duration::from_millis(100);

/// How many TLS and WebSocket handshakes of one listener go on at once.
#[cfg(any(feature = "tls", feature = "websocket"))]
const HANDSHAKES: usize = 256;

/// How long each may take for certain, when there are as many. After that it makes room for the next.
#[cfg(any(feature = "tls", feature = "websocket"))]
const HASTE: Duration = Duration::from_secs(1);

/// A connection, and where it comes from.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) origin: Origin,
}

/// A socket that is listened at, and what connections to it run over.
#[derive(Debug)]
pub(super) struct Listener {
    /// Where it listens, as clients are told.
    pub(super) url: Arc<Arc<str>>,
    socket: Socket,
    layers: Layers,
}

#[derive(Debug)]
enum Socket {
    Tcp(Port),
    #[cfg(unix)]
    Unix(Named),
}

/// What lies between a socket and MQTT, and how long it may take to get there.
#[derive(Clone)]
struct Layers {
    #[cfg(feature = "tls")]
    tls: Option<TlsAcceptor>,
    /// The path, and the longest message.
    #[cfg(feature = "websocket")]
    websocket: Option<(Arc<str>, usize)>,
    #[cfg(any(feature = "tls", feature = "websocket"))]
    patience: Duration,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers").field("is_plain", &self.is_plain()).finish_non_exhaustive()
    }
}

/// How listeners are to be.
pub(super) struct Terms {
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<ServerConfig>>,
    #[cfg(feature = "websocket")]
    pub(super) max_message_size: usize,
    #[cfg(any(feature = "tls", feature = "websocket"))]
    pub(super) patience: Duration,
}

impl Layers {
    fn new(url: &str, endpoint: &Endpoint, terms: &Terms) -> Result<Self, ServeError> {
        let scheme = endpoint.scheme();
        #[cfg(feature = "tls")]
        let tls = match (scheme, &terms.tls) {
            (Scheme::Mqtts | Scheme::Wss, None) => {
                return Err(ServeError::Certificate { url: url.to_owned() });
            }
            (Scheme::Mqtts | Scheme::Wss, Some(config)) => Some(TlsAcceptor::from(config.clone())),
            _ => None,
        };
        #[cfg(feature = "websocket")]
        let websocket = matches!(scheme, Scheme::Ws | Scheme::Wss)
            .then(|| (Arc::from(endpoint.path()), terms.max_message_size));
        let _ = (url, scheme, terms); // without any layer
        Ok(Self {
            #[cfg(feature = "tls")]
            tls,
            #[cfg(feature = "websocket")]
            websocket,
            #[cfg(any(feature = "tls", feature = "websocket"))]
            patience: terms.patience,
        })
    }

    /// Whether there is nothing in between.
    fn is_plain(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return false;
        }
        #[cfg(feature = "websocket")]
        if self.websocket.is_some() {
            return false;
        }
        true
    }

    /// Puts in between what is to be.
    #[cfg(any(feature = "tls", feature = "websocket"))]
    async fn over(&self, raw: Raw, origin: Origin) -> io::Result<Accepted> {
        #[cfg(feature = "tls")]
        let mut origin = origin;
        let mut transport = raw.boxed()?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.accept(transport).await?;
            let shown = stream.get_ref().1.peer_certificates();
            let shown = shown.unwrap_or_default();
            origin.certificates = shown.iter().map(|one| one.to_vec()).collect();
            transport = Box::new(stream);
        }
        #[cfg(feature = "websocket")]
        if let Some((path, most)) = &self.websocket {
            transport = accept_websocket(transport, path, *most).await?;
        }
        Ok(Accepted { stream: transport.into(), origin })
    }
}

/// Handshakes of one listener that go on.
#[cfg(any(feature = "tls", feature = "websocket"))]
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<()>,
    /// When each began, in this order; some may be over.
    begun: VecDeque<(time::Instant, AbortHandle)>,
}

#[cfg(any(feature = "tls", feature = "websocket"))]
impl Handshakes {
    fn spawn(&mut self, handshake: impl Future<Output = ()> + Send + 'static) {
        self.begun.push_back((time::Instant::now(), self.tasks.spawn(handshake)));
    }

    /// Waits until there is room for one more. Those who say nothing do not keep others out.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= HANDSHAKES {
            self.begun.retain(|(_, task)| !task.is_finished());
            let Some((began, oldest)) = self.begun.front() else { return };
            if time::timeout_at(*began + HASTE, self.tasks.join_next()).await.is_err() {
                oldest.abort();
                self.tasks.join_next().await;
            }
        }
        self.begun.retain(|(_, task)| !task.is_finished());
    }
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

/// Listens at a name, also at one that a program has left which was killed: that of a socket at which nobody
/// listens.
#[cfg(unix)]
fn bind_name(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::{fs::FileTypeExt, net::UnixStream as Knock};

    let bound = UnixListener::bind(path);
    let is_stale = || {
        std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
            && Knock::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale() => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

impl Listener {
    /// Listens at a URL.
    pub(super) async fn bind(url: &str, terms: &Terms) -> Result<Self, ServeError> {
        let wrong = |error| ServeError::Address { url: url.to_owned(), error };
        let endpoint = Endpoint::to_listen(url).map_err(wrong)?;
        if endpoint.user_name().is_some() || endpoint.password().is_some() {
            return Err(wrong(EndpointError::Host));
        }
        let layers = Layers::new(url, &endpoint, terms)?;
        let failed = |error| ServeError::Bind { url: url.to_owned(), error };
        let (socket, url) = match endpoint.scheme() {
            #[cfg(unix)]
            Scheme::Unix => {
                let path = PathBuf::from(endpoint.path());
                let socket = bind_name(&path).map_err(failed)?;
                (Socket::Unix(Named { socket, path }), url.to_owned())
            }
            scheme => {
                let address = (endpoint.host(), endpoint.port());
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                let url = format!("{}://{address}{}", scheme.as_str(), endpoint.path());
                (Socket::Tcp(Port::new(listener).map_err(failed)?), url)
            }
        };
        Ok(Self { url: Arc::new(url.into()), socket, layers })
    }

    /// Accepts connections until nobody takes them any more.
    pub(super) async fn run(self, accepted: mpsc::Sender<Accepted>) {
        let is_plain = self.layers.is_plain();
        #[cfg(any(feature = "tls", feature = "websocket"))]
        if !is_plain {
            return self.run_layered(accepted).await;
        }
        debug_assert!(is_plain, "without features there is nothing in between");
        // None is taken from the system that there is no place for.
        while let Ok(place) = accepted.reserve().await {
            let Some((raw, origin)) = self.accept().await else { continue };
            match raw.plain() {
                Ok(stream) => place.send(Accepted { stream, origin }),
                Err(error) => tracing::warn!(%error, "a connection cannot be taken over"),
            }
        }
    }

    /// The same with a task for each connection until it is as far as MQTT.
    #[cfg(any(feature = "tls", feature = "websocket"))]
    async fn run_layered(self, accepted: mpsc::Sender<Accepted>) {
        let mut handshakes = Handshakes::default();
        while !accepted.is_closed() {
            handshakes.make_room().await;
            let Some((raw, origin)) = self.accept().await else { continue };
            let (layers, accepted) = (self.layers.clone(), accepted.clone());
            handshakes.spawn(async move {
                let address = origin.address;
                match time::timeout(layers.patience, layers.over(raw, origin)).await {
                    // If nobody takes it, the broker has ended.
                    Ok(Ok(connection)) => drop(accepted.send(connection).await),
                    Ok(Err(error)) => tracing::debug!(%error, ?address, "a handshake failed"),
                    Err(_) => tracing::debug!(?address, "a handshake took too long"),
                }
            });
        }
    }

    /// The next connection; `None` if there is none just now.
    async fn accept(&self) -> Option<(Raw, Origin)> {
        let accepted = match &self.socket {
            Socket::Tcp(port) => port.accept().await.map(|(stream, address)| {
                // Packets are small and answered: waiting to fill a segment costs a delayed
                // acknowledgement each. That it cannot be set is no reason not to serve.
                let _ = stream.set_nodelay(true);
                (Raw::Tcp(stream), Some(address))
            }),
            #[cfg(unix)]
            Socket::Unix(named) => {
                named.socket.accept().await.map(|(stream, _)| (Raw::Unix(stream), None))
            }
        };
        match accepted {
            Ok((raw, address)) => {
                let listener = Some(Arc::clone(&self.url));
                Some((raw, Origin { address, listener, certificates: Vec::new() }))
            }
            // It has gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                time::sleep(BACKOFF).await;
                None
            }
        }
    }
}
