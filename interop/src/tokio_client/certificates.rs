//! Certificates, made for the occasion.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use transport_tokio::transport::{Identity, Roots, Source, TlsOptions};

use crate::Result;

/// Certifies servers and clients.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "interop");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Certificate and key, in PEM.
    fn issue(&self, name: &str) -> Result<[String; 2]> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.0)?;
        Ok([certificate.pem(), key.serialize_pem()])
    }

    /// What a broker on the loopback interface needs, as files.
    pub(crate) fn serve(&self, directory: &Path) -> Result<()> {
        let [certificate, key] = self.issue("127.0.0.1")?;
        fs::write(directory.join("authority"), self.0.pem())?;
        fs::write(directory.join("certificate"), certificate)?;
        Ok(fs::write(directory.join("key"), key)?)
    }

    /// What a client shows, as files beside those.
    pub(crate) fn certify(&self, directory: &Path) -> Result<()> {
        let [certificate, key] = self.issue("sensor-7")?;
        fs::write(directory.join("client"), certificate)?;
        Ok(fs::write(directory.join("client-key"), key)?)
    }

    /// Trusts who is certified by it.
    pub(super) fn trusted(&self) -> TlsOptions {
        let roots = Roots::Only(vec![Source::bytes(self.0.pem())]);
        TlsOptions { roots, ..TlsOptions::default() }
    }

    /// A client that it certifies.
    pub(super) fn identity(&self) -> Result<Option<Identity>> {
        let [certificates, key] = self.issue("sensor-7")?.map(Source::bytes);
        Ok(Some(Identity { certificates, key }))
    }
}
