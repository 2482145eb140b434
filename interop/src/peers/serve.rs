//! The broker that is tested, in a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use transport_tokio::broker::Broker;
use transport_tokio::transport::rustls::crypto::ring;
use transport_tokio::transport::rustls::pki_types::pem::PemObject;
use transport_tokio::transport::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use transport_tokio::transport::rustls::server::WebPkiClientVerifier;
use transport_tokio::transport::rustls::{RootCertStore, ServerConfig};

use crate::tokio_client::Authority;
use crate::{Error, Result};

/// The one who may connect to the port that asks.
pub(super) const USER: &str = "alice";
pub(super) const PASSWORD: &str = "secret";

/// A process, and where it listens.
pub(crate) struct Served {
    process: Child,
    pub(super) files: TempDir,
    /// Everybody may connect to these.
    pub(crate) tcp: String,
    pub(super) websocket: String,
    pub(super) tls: String,
    pub(super) websocket_tls: String,
    /// Here one has to know the password.
    pub(super) asks: String,
    /// Here one has to show a certificate.
    pub(super) certified: String,
}

impl Served {
    pub(crate) fn start() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let authority = Authority::new()?;
        authority.serve(files.path())?;
        authority.certify(files.path())?;
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(files.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = process.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let urls: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let urls: [String; 6] = urls.try_into().map_err(|_| format!("it says {line:?}"))?;
        let [tcp, websocket, tls, websocket_tls, asks, certified] = urls;
        Ok(Self { process, files, tcp, websocket, tls, websocket_tls, asks, certified })
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }

    /// The bytes of it that are in memory.
    pub(crate) fn resident(&self) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no size")?.parse::<usize>()? * 1024)
    }

    /// Where the certificates are.
    pub(super) fn directory(&self) -> PathBuf {
        self.files.path().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a server shows, and whether it demands the same of clients.
fn tls(directory: &Path, demands: bool) -> Result<Arc<ServerConfig>> {
    let read = |name: &str| fs::read(directory.join(name));
    let key = PrivateKeyDer::from_pem_slice(&read("key")?)?;
    let chain = vec![CertificateDer::from_pem_slice(&read("certificate")?)?];
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = if demands {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&read("authority")?)?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build()?)
    } else {
        builder.with_no_client_auth()
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

/// Prints where it listens, and serves until it is killed. The certificates are in the directory that it
/// is told.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(Err(error)) = arguments.first().map(|directory| serve(Path::new(directory))) else {
        return ExitCode::FAILURE;
    };
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn serve(directory: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let open = Broker::builder()
            .tls(tls(directory, false)?)
            .listen("mqtt://127.0.0.1:0")
            .listen("ws://127.0.0.1:0/mqtt")
            .listen("mqtts://127.0.0.1:0")
            .listen("wss://127.0.0.1:0/mqtt");
        let asks = Broker::builder().users([(USER, PASSWORD)]).listen("mqtt://127.0.0.1:0");
        let certified = Broker::builder().tls(tls(directory, true)?).listen("mqtts://127.0.0.1:0");
        let (open, asks, certified) =
            tokio::try_join!(open.serve(), asks.serve(), certified.serve())?;
        let urls = [open.urls(), asks.urls(), certified.urls()].concat();
        println!("{}", urls.join(" "));
        std::future::pending::<()>().await;
        drop((open, asks, certified));
        Ok::<(), Error>(())
    })
}
