//! TLS for a broker.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use transport_tokio::transport::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::document::Document;

/// As a file of settings has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Tls {
    /// The broker's certificate first, then those of the authorities that certify it; PEM.
    certificate: PathBuf,
    /// Its private key; PEM.
    key: PathBuf,
    /// The authorities that certify clients; PEM. With them, clients have to show a certificate.
    client_ca: Option<PathBuf>,
    /// Whether they have to.
    #[serde(default)]
    client_certificate: Demand,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Demand {
    #[default]
    Required,
    Optional,
}

/// A key, and what is wrong with its value.
pub(super) type Wrong = (&'static str, String);

impl Tls {
    pub(super) fn demands_certificates(&self) -> bool {
        self.client_ca.is_some() && self.client_certificate == Demand::Required
    }

    /// With all paths relative to the file.
    pub(super) fn beside(mut self, file: &Document) -> Self {
        let paths = [&mut self.certificate, &mut self.key].into_iter().chain(&mut self.client_ca);
        paths.for_each(|path| *path = file.beside(path));
        self
    }
}

/// How the broker does it.
pub(super) fn server(tls: &Tls) -> Result<Arc<ServerConfig>, Wrong> {
    let provider = Arc::new(ring::default_provider());
    let certificates = certificates("certificate", &tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key);
    let key = key.map_err(|error| wrong("key", &tls.key, error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("certificate", error.to_string()))?;
    let builder = match &tls.client_ca {
        Some(path) => builder.with_client_cert_verifier(verifier(tls, path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(certificates, key);
    Ok(Arc::new(config.map_err(|error| wrong("key", &tls.key, error))?))
}

fn verifier(
    tls: &Tls,
    path: &Path,
    provider: Arc<transport_tokio::transport::rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client-ca", path)? {
        roots.add(certificate).map_err(|error| wrong("client-ca", path, error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match tls.client_certificate {
        Demand::Required => builder,
        Demand::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| wrong("client-ca", path, error))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let certificates =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(wrong(key, path, "there is no certificate in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(key, path, error)),
    }
}

fn wrong(key: &'static str, path: &Path, what: impl Display) -> Wrong {
    (key, format!("{}: {what}", path.display()))
}
