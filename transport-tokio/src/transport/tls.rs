//! TLS by rustls.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, fs, io};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use super::tcp::Tcp;

/// How TLS is done.
///
/// ```
/// # use transport_tokio::transport::{Identity, Roots, Source, TlsOptions};
/// let tls = TlsOptions {
///     roots: Roots::Only(vec![Source::file("/etc/broker/ca.pem")]),
///     identity: Some(Identity {
///         certificates: Source::file("/etc/device/chain.pem"),
///         key: Source::file("/etc/device/key.pem"),
///     }),
///     ..TlsOptions::default()
/// };
/// ```
///
/// Files are read when a connection is opened. Those that have changed since the last one take effect:
/// certificates can be replaced under a running program. While nothing changes, TLS sessions are
/// resumed.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Whom to trust.
    pub roots: Roots,
    /// The certificate to show to a server that asks for one.
    pub identity: Option<Identity>,
    /// The application protocols (ALPN) to offer. `None` offers what the scheme runs over TLS: `mqtt`, or
    /// `http/1.1` for a WebSocket. An empty list offers nothing.
    pub alpn: Option<Vec<Vec<u8>>>,
    /// The name that the server's certificate has to have, and that is sent as server name indication,
    /// when it is not the endpoint's host.
    pub server_name: Option<String>,
    /// A configuration to use as it is, for what cannot be said here. Of the other fields, only
    /// `server_name` has a meaning then.
    pub config: Option<Arc<ClientConfig>>,
}

/// The authorities trusted to certify servers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Roots {
    /// Those of the operating system, or of the file and directory that the environment variables
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name. They are not watched for changes.
    #[default]
    System,
    /// Only the given certificates.
    Only(Vec<Source>),
}

/// Who the client is: a certificate chain and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The client's own certificate first.
    pub certificates: Source,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: Source,
}

/// Where certificates or a key come from. They are in PEM, or one certificate or key in DER.
#[derive(Clone)]
#[non_exhaustive]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The text or bytes themselves.
    Bytes(Vec<u8>),
}

impl Source {
    /// A file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// The text or bytes themselves.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::File(path) => fs::read(path)
                .map_err(|error| io::Error::new(error.kind(), format!("{self:?}: {error}"))),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    fn certificates(&self, bytes: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
        if !is_pem(bytes) {
            return Ok(vec![CertificateDer::from(bytes.to_vec())]);
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => Err(self.wrong("no certificate in it")),
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(self.wrong(error)),
        }
    }

    fn key(&self, bytes: &[u8]) -> io::Result<PrivateKeyDer<'static>> {
        if is_pem(bytes) {
            PrivateKeyDer::from_pem_slice(bytes).map_err(|error| self.wrong(error))
        } else {
            PrivateKeyDer::try_from(bytes.to_vec()).map_err(|error| self.wrong(error))
        }
    }

    fn wrong(&self, what: impl fmt::Display) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{self:?}: {what}"))
    }
}

/// Shows no bytes: they may be a key.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    let marker = b"-----BEGIN";
    bytes.windows(marker.len()).any(|window| window == marker)
}

/// The options, and what they made last time.
#[derive(Debug, Default)]
pub(super) struct Tls {
    options: Arc<TlsOptions>,
    built: Option<Built>,
}

#[derive(Clone, Debug)]
struct Built {
    from: Arc<Material>,
    config: Arc<ClientConfig>,
}

/// What was in the sources.
#[derive(PartialEq, Eq)]
struct Material {
    roots: Vec<Vec<u8>>,
    identity: Option<[Vec<u8>; 2]>,
}

/// Shows no bytes: they may be a key.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").finish_non_exhaustive()
    }
}

impl From<TlsOptions> for Tls {
    fn from(options: TlsOptions) -> Self {
        Self { options: Arc::new(options), built: None }
    }
}

impl Tls {
    /// Gets ready for a handshake with `host`, to speak `protocol` over it.
    pub(super) async fn prepare(
        &mut self,
        host: &str,
        protocol: &'static [u8],
    ) -> io::Result<Handshake> {
        let name = self.options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let config = match &self.options.config {
            Some(config) => Arc::clone(config),
            None => {
                let (options, last) = (Arc::clone(&self.options), self.built.clone());
                // Reads files.
                let built = tokio::task::spawn_blocking(move || options.load(last, protocol));
                Arc::clone(&self.built.insert(built.await??).config)
            }
        };
        Ok(Handshake { connector: TlsConnector::from(config), name })
    }
}

/// A handshake that is yet to begin.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Handshake {
    pub(super) async fn over(self, tcp: Tcp) -> io::Result<TlsStream<Tcp>> {
        self.connector.connect(self.name, tcp).await
    }
}

impl TlsOptions {
    /// The last configuration, if it was made from the same; it knows the sessions to resume.
    fn load(&self, last: Option<Built>, protocol: &[u8]) -> io::Result<Built> {
        let from = self.read()?;
        match last {
            Some(last) if *last.from == from => Ok(last),
            _ => {
                let config = Arc::new(self.build(&from, protocol)?);
                Ok(Built { from: Arc::new(from), config })
            }
        }
    }

    fn read(&self) -> io::Result<Material> {
        let roots = match &self.roots {
            Roots::System => Vec::new(),
            Roots::Only(sources) => sources.iter().map(Source::read).collect::<io::Result<_>>()?,
        };
        let identity = match &self.identity {
            Some(identity) => Some([identity.certificates.read()?, identity.key.read()?]),
            None => None,
        };
        Ok(Material { roots, identity })
    }

    fn build(&self, from: &Material, protocol: &[u8]) -> io::Result<ClientConfig> {
        let roots = match &self.roots {
            Roots::System => system_roots()?,
            Roots::Only(sources) => given_roots(sources, &from.roots)?,
        };
        // The provider by name: what the program has set as the default for its process is its own affair.
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match (&self.identity, &from.identity) {
            (Some(identity), Some([certificates, key])) => builder
                .with_client_auth_cert(
                    identity.certificates.certificates(certificates)?,
                    identity.key.key(key)?,
                )
                .map_err(|error| identity.key.wrong(error))?,
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match &self.alpn {
            Some(protocols) => protocols.clone(),
            None => vec![protocol.to_vec()],
        };
        Ok(config)
    }
}

fn system_roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some systems carry certificates too old to be understood.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        let message = format!("the system has no root certificates{why}");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(roots)
}

fn given_roots(sources: &[Source], contents: &[Vec<u8>]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for (source, bytes) in sources.iter().zip(contents) {
        for certificate in source.certificates(bytes)? {
            roots.add(certificate).map_err(|error| source.wrong(error))?;
        }
    }
    if roots.is_empty() {
        let message = "no root certificate is given: no server could be trusted";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(roots)
}
