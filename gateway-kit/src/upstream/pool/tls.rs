//! TLS to upstreams, by rustls. Certificates are always verified.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Protocol, UpstreamTlsConfig, files};

/// What a client of TLS needs; compared by what was configured and read.
#[derive(Clone)]
pub(super) struct Client {
    config: UpstreamTlsConfig,
    /// The contents of the files, so that a changed certificate makes another client.
    files: Result<Files, String>,
    protocol: Protocol,
    /// Made by the first connection: most upstreams have no use for it.
    connector: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Files {
    authorities: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.files == other.files && self.protocol == other.protocol
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The files hold a private key.
        f.debug_struct("Client")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(config: &UpstreamTlsConfig, protocol: Protocol) -> Self {
        Self {
            config: config.clone(),
            files: Files::read(config),
            protocol,
            connector: Arc::default(),
        }
    }

    pub(super) fn set_protocol(&mut self, protocol: Protocol) {
        *self = Self::new(&self.config, protocol);
    }

    fn connector(&self) -> Result<Arc<ClientConfig>, String> {
        let compiled = self.connector.get_or_init(|| {
            let files = self.files.as_ref().map_err(Clone::clone)?;
            compile(files, self.protocol).map(Arc::new)
        });
        compiled.clone()
    }

    /// Shakes hands; the name is that of `authority` (`host:port`) unless another is configured.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        authority: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = self.connector().map_err(io::Error::other)?;
        let name = self.config.server_name.as_deref();
        let name = name.unwrap_or_else(|| host(authority)).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }
}

/// Whether the files are good.
pub(crate) fn check(config: &UpstreamTlsConfig) -> Result<(), String> {
    if let Some(name) = config.server_name.clone() {
        ServerName::try_from(name).map_err(|_| "server_name must be a host name or address")?;
    }
    Client::new(config, Protocol::Auto).connector().map(|_| ())
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn host(authority: &str) -> &str {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Files {
    fn read(config: &UpstreamTlsConfig) -> Result<Self, String> {
        Ok(Self {
            authorities: read("ca_file", config.ca_file.as_deref())?,
            certificate: read("certificate_file", config.certificate_file.as_deref())?,
            key: read("key_file", config.key_file.as_deref())?,
        })
    }
}

fn read(field: &str, path: Option<&Path>) -> Result<Vec<u8>, String> {
    path.map_or(Ok(Vec::new()), |path| files::read(path, files::MOST))
        .map_err(|error| format!("{field} cannot be read: {error}"))
}

fn compile(files: &Files, protocol: Protocol) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(&files.authorities)?);
    let mut config = if files.certificate.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain = certificates("certificate_file", &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|error| format!("key_file holds no private key in PEM: {error}"))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("key_file does not belong to certificate_file: {error}"))?
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
        Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// The authorities of the file, or Mozilla's.
fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    if pem.is_empty() {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("ca_file holds a certificate that is not good: {error}"))?;
    }
    Ok(roots)
}

fn certificates(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("{field} is not PEM: {error}"))?;
    if read.is_empty() {
        return Err(format!("{field} holds no certificate in PEM"));
    }
    Ok(read)
}
