//! TLS, with authorities and servers made here.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use transport_tokio::transport::rustls::crypto::ring;
use transport_tokio::transport::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use transport_tokio::transport::rustls::server::WebPkiClientVerifier;
use transport_tokio::transport::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, HandshakeKind, RootCertStore,
    ServerConfig,
};
use transport_tokio::transport::{
    BoxedTransport, Connector, Dialer, Identity, Roots, Source, TlsOptions,
};

/// Who certifies servers and clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Certified {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        Self::with_key(name, KeyPair::generate().unwrap())
    }

    fn with_key(name: &str, key: KeyPair) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Certified {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        Certified { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn server(&self, name: &str) -> Certified {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self) -> Certified {
        self.issue("sensor-7", ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// Options to trust this authority.
    fn trusted(&self) -> TlsOptions {
        let root = Source::bytes(self.0.pem());
        TlsOptions { roots: Roots::Only(vec![root]), ..TlsOptions::default() }
    }
}

impl Certified {
    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    fn identity(&self) -> Identity {
        Identity {
            certificates: Source::bytes(self.certificate.pem()),
            key: Source::bytes(self.key.serialize_pem()),
        }
    }

    /// The configuration of a server that shows this, and demands that clients show something of `clients`.
    fn config(&self, clients: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(clients.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let chain = vec![self.certificate.der().clone()];
        builder.with_single_cert(chain, self.private()).unwrap()
    }
}

/// What a server learnt from a handshake.
#[derive(Debug)]
struct Seen {
    name: Option<String>,
    protocol: Option<Vec<u8>>,
    certificates: Vec<CertificateDer<'static>>,
    kind: HandshakeKind,
}

/// A server that sends back what it is sent, and tells what it sees.
struct Server {
    port: u16,
    seen: mpsc::UnboundedReceiver<io::Result<Seen>>,
}

impl Server {
    async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, seen) = mpsc::unbounded_channel();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let mut stream = match acceptor.accept(tcp).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        let _ = tell.send(Err(error));
                        continue;
                    }
                };
                let (_, tls) = stream.get_ref();
                let _ = tell.send(Ok(Seen {
                    name: tls.server_name().map(str::to_owned),
                    protocol: tls.alpn_protocol().map(<[u8]>::to_vec),
                    certificates: tls.peer_certificates().unwrap_or_default().to_vec(),
                    kind: tls.handshake_kind().unwrap(),
                }));
                let mut bytes = [0; 64];
                while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&bytes[..len]).await.unwrap();
                    stream.flush().await.unwrap();
                }
                let _ = stream.shutdown().await;
            }
        });
        Self { port, seen }
    }

    fn dialer(&self, host: &str, options: TlsOptions) -> Dialer {
        let url = format!("mqtts://{host}:{}", self.port);
        Dialer::new(url.parse().unwrap()).tls(options)
    }

    /// Connects once.
    async fn connect(&self, host: &str, options: TlsOptions) -> io::Result<BoxedTransport> {
        self.dialer(host, options).connect().await
    }

    async fn seen(&mut self) -> Seen {
        self.seen.recv().await.unwrap().unwrap()
    }
}

async fn echo(mut transport: BoxedTransport) -> io::Result<()> {
    transport.write_all(b"\xc0\0").await?;
    transport.flush().await?;
    let mut answer = [0; 2];
    transport.read_exact(&mut answer).await?;
    assert_eq!(answer, *b"\xc0\0");
    transport.shutdown().await?;
    assert_eq!(transport.read(&mut answer).await?, 0);
    Ok(())
}

fn tls_error(error: &io::Error) -> &rustls::Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn a_trusted_server() {
    let authority = Authority::new("ours");
    let mut server = Server::start(authority.server("localhost").config(None)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots");
    // A bundle, as systems have them: comments, and others first.
    std::fs::write(
        &path,
        format!("# Two.\n{}\n{}", Authority::new("theirs").0.pem(), authority.0.pem()),
    )
    .unwrap();
    for source in [
        Source::bytes(authority.0.pem()),
        Source::bytes(authority.0.der().as_ref()),
        Source::file(&path),
    ] {
        let options = TlsOptions { roots: Roots::Only(vec![source]), ..TlsOptions::default() };
        echo(server.connect("localhost", options).await.unwrap()).await.unwrap();
        assert_eq!(server.seen().await.name.as_deref(), Some("localhost"));
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted() {
    let server = Server::start(Authority::new("theirs").server("localhost").config(None)).await;
    let error = server.connect("localhost", Authority::new("ours").trusted()).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let expected = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(tls_error(&error), &expected);
}

#[tokio::test]
async fn a_server_of_another_name() {
    let authority = Authority::new("ours");
    let mut server = Server::start(authority.server("broker.example").config(None)).await;
    for host in ["localhost", "127.0.0.1"] {
        let error = server.connect(host, authority.trusted()).await.err().unwrap();
        let rustls::Error::InvalidCertificate(wrong) = tls_error(&error) else { panic!("{error}") };
        assert!(matches!(wrong, CertificateError::NotValidForNameContext { .. }), "{wrong:?}");
        assert!(server.seen.recv().await.unwrap().is_err());
    }

    // It is the one that was meant.
    let name = Some("broker.example".to_owned());
    let options = TlsOptions { server_name: name.clone(), ..authority.trusted() };
    echo(server.connect("127.0.0.1", options).await.unwrap()).await.unwrap();
    assert_eq!(server.seen().await.name, name);
}

#[tokio::test]
async fn an_address_as_name() {
    let authority = Authority::new("ours");
    let mut server = Server::start(authority.server("127.0.0.1").config(None)).await;
    echo(server.connect("127.0.0.1", authority.trusted()).await.unwrap()).await.unwrap();
    assert_eq!(server.seen().await.name, None);
}

#[tokio::test]
async fn a_client_certificate() {
    let authority = Authority::new("ours");
    let client = authority.client();
    let mut server = Server::start(authority.server("localhost").config(Some(&authority))).await;
    let der = Identity {
        certificates: Source::bytes(client.certificate.der().as_ref()),
        key: Source::bytes(client.key.serialize_der()),
    };
    for identity in [client.identity(), der] {
        let options = TlsOptions { identity: Some(identity), ..authority.trusted() };
        echo(server.connect("localhost", options).await.unwrap()).await.unwrap();
        assert_eq!(server.seen().await.certificates, [client.certificate.der().clone()]);
    }
}

/// The handshake is over for the client before the server has seen its certificate: the refusal is read.
#[tokio::test]
async fn no_client_certificate() {
    let authority = Authority::new("ours");
    let mut server = Server::start(authority.server("localhost").config(Some(&authority))).await;
    let stranger = Some(Authority::new("theirs").client().identity());
    for (identity, refusal) in
        [(None, AlertDescription::CertificateRequired), (stranger, AlertDescription::UnknownCA)]
    {
        let options = TlsOptions { identity, ..authority.trusted() };
        let mut transport = server.connect("localhost", options).await.unwrap();
        let error = transport.read_u8().await.unwrap_err();
        assert_eq!(tls_error(&error), &rustls::Error::AlertReceived(refusal));
        assert!(server.seen.recv().await.unwrap().is_err());
    }
}

#[tokio::test]
async fn application_protocols() {
    let authority = Authority::new("ours");
    let mut config = authority.server("localhost").config(None);
    config.alpn_protocols =
        vec![b"x-amzn-mqtt-ca".to_vec(), b"mqtt".to_vec(), b"http/1.1".to_vec()];
    let mut server = Server::start(config).await;
    for (alpn, expected) in [
        (None, Some(b"mqtt".to_vec())),
        (Some(vec![b"x-amzn-mqtt-ca".to_vec()]), Some(b"x-amzn-mqtt-ca".to_vec())),
        (Some(Vec::new()), None),
    ] {
        let options = TlsOptions { alpn, ..authority.trusted() };
        echo(server.connect("localhost", options).await.unwrap()).await.unwrap();
        assert_eq!(server.seen().await.protocol, expected);
    }

    // One that knows only other protocols says so.
    let options = TlsOptions { alpn: Some(vec![b"amqp".to_vec()]), ..authority.trusted() };
    let error = server.connect("localhost", options).await.err().unwrap();
    let refusal = AlertDescription::NoApplicationProtocol;
    assert_eq!(tls_error(&error), &rustls::Error::AlertReceived(refusal));
}

/// A WebSocket is HTTP to whoever looks at the handshake.
#[cfg(feature = "websocket")]
#[tokio::test]
async fn application_protocol_of_a_websocket() {
    let authority = Authority::new("ours");
    let mut config = authority.server("localhost").config(None);
    config.alpn_protocols = vec![b"mqtt".to_vec(), b"http/1.1".to_vec()];
    let mut server = Server::start(config).await;
    let url = format!("wss://localhost:{}", server.port);
    let mut dialer = Dialer::new(url.parse().unwrap()).tls(authority.trusted());
    // The echo of the request is no answer to it.
    assert!(dialer.connect().await.is_err());
    assert_eq!(server.seen().await.protocol.as_deref(), Some(&b"http/1.1"[..]));
}

/// What has not changed is not made anew: the session is resumed. What has changed takes effect.
#[tokio::test]
async fn files_that_change() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mut old_server = Server::start(old.server("localhost").config(None)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    std::fs::write(&path, old.0.pem()).unwrap();
    let options =
        TlsOptions { roots: Roots::Only(vec![Source::file(&path)]), ..TlsOptions::default() };
    let mut dialer = old_server.dialer("localhost", options);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        echo(dialer.connect().await.unwrap()).await.unwrap();
        assert_eq!(old_server.seen().await.kind, kind);
    }

    std::fs::write(&path, new.0.pem()).unwrap();
    let error = dialer.connect().await.err().unwrap();
    let expected = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(tls_error(&error), &expected);

    std::fs::write(&path, old.0.pem()).unwrap();
    echo(dialer.connect().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn options_that_make_no_sense() {
    let authority = Authority::new("ours");
    let (client, other) = (authority.client(), authority.client());
    let roots =
        |sources: Vec<Source>| TlsOptions { roots: Roots::Only(sources), ..TlsOptions::default() };
    let identity = |certificates: &str, key: &str| TlsOptions {
        identity: Some(Identity {
            certificates: Source::bytes(certificates),
            key: Source::bytes(key),
        }),
        ..authority.trusted()
    };
    let (pem, key) = (client.certificate.pem(), client.key.serialize_pem());
    let named = TlsOptions { server_name: Some("not a name".to_owned()), ..authority.trusted() };
    // They are looked at before anything is sent: nobody needs to be there.
    let nobody = Server { port: 1, seen: mpsc::unbounded_channel().1 };
    for (options, kind, text) in [
        (roots(vec![]), io::ErrorKind::InvalidInput, "no root certificate"),
        (roots(vec![Source::bytes("")]), io::ErrorKind::InvalidInput, "0 bytes: "),
        (
            roots(vec![Source::bytes(key.as_str())]),
            io::ErrorKind::InvalidInput,
            "no certificate in it",
        ),
        (roots(vec![Source::bytes(&pem[..80])]), io::ErrorKind::InvalidInput, "80 bytes: "),
        (roots(vec![Source::file("/not/there")]), io::ErrorKind::NotFound, "\"/not/there\": "),
        (identity(&pem, &pem), io::ErrorKind::InvalidInput, " bytes: "),
        (identity(&key, &key), io::ErrorKind::InvalidInput, "no certificate in it"),
        (identity(&pem, "neither"), io::ErrorKind::InvalidInput, "7 bytes: "),
        (identity(&pem, &other.key.serialize_pem()), io::ErrorKind::InvalidInput, "KeyMismatch"),
        (named, io::ErrorKind::InvalidInput, "invalid"),
    ] {
        let error = nobody.connect("localhost", options).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// A ready configuration is used as it is.
#[tokio::test]
async fn a_ready_configuration() {
    let authority = Authority::new("ours");
    let mut config = authority.server("localhost").config(None);
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let mut server = Server::start(config).await;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let options = TlsOptions { config: Some(Arc::new(config)), ..TlsOptions::default() };
    echo(server.connect("localhost", options).await.unwrap()).await.unwrap();
    assert_eq!(server.seen().await.protocol, None);
}

/// The system's roots are those of a file that the environment names: of this program, started again.
#[test]
fn roots_of_the_system() {
    const TRUSTED: &str = "TRANSPORT_TLS_TRUSTED";
    if let Ok(trusted) = std::env::var(TRUSTED) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(trust_the_system(&trusted));
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (root, key, empty) =
        (folder.path().join("root"), folder.path().join("key"), folder.path().join("empty"));
    std::fs::write(&root, authority.0.pem()).unwrap();
    std::fs::write(&key, authority.0.key().serialize_pem()).unwrap();
    std::fs::write(&empty, "").unwrap();
    for (file, trusted) in [(&root, key.as_path()), (&empty, "".as_ref())] {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "roots_of_the_system"])
            .env("SSL_CERT_FILE", file)
            .env_remove("SSL_CERT_DIR")
            .env(TRUSTED, trusted)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && output.contains("1 passed"), "{output}");
    }
}

async fn trust_the_system(key: &str) {
    if key.is_empty() {
        let nobody = Server { port: 1, seen: mpsc::unbounded_channel().1 };
        let error = nobody.connect("localhost", TlsOptions::default()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        return;
    }
    let key = KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
    let authority = Authority::with_key("ours", key);
    let server = Server::start(authority.server("localhost").config(None)).await;
    echo(server.connect("localhost", TlsOptions::default()).await.unwrap()).await.unwrap();
}

/// Giving up in the middle of a handshake spoils nothing.
#[tokio::test]
async fn a_handshake_given_up() {
    let authority = Authority::new("ours");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("mqtts://localhost:{port}");
    let mut dialer = Dialer::new(url.parse().unwrap()).tls(authority.trusted());
    let (tcp, given_up) = {
        let mut connecting = dialer.connect();
        let mut tcp = None;
        let given_up = tokio::select! {
            biased;
            _ = &mut connecting => false,
            () = async {
                let (mut accepted, _) = silent.accept().await.unwrap();
                // The beginning of its greeting.
                accepted.read_u8().await.unwrap();
                tcp = Some(accepted);
            } => true,
        };
        (tcp, given_up)
    };
    assert!(given_up);
    let mut rest = Vec::new();
    // The connection is closed, not left.
    let end = tcp.unwrap().read_to_end(&mut rest).await;
    assert!(end.is_ok() && !rest.is_empty());

    let acceptor = TlsAcceptor::from(Arc::new(authority.server("localhost").config(None)));
    let (transport, accepted) =
        tokio::join!(dialer.connect(), async { acceptor.accept(silent.accept().await?.0).await });
    transport.unwrap();
    accepted.unwrap();
}
