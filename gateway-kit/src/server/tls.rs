//! TLS towards clients: certificates by name, replaced while the gateway runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::config::{TlsConfig, TlsVersion, files};
use crate::server::connection::Serving;
use crate::server::stream::Start;

/// The TLS side of a listener.
pub(crate) struct Tls {
    settings: Mutex<Settings>,
    /// What the files held when they were read last, good or bad. Held by whoever replaces them.
    read: Mutex<Vec<Files>>,
    current: ArcSwap<rustls::ServerConfig>,
}

#[derive(Clone)]
struct Settings {
    tls: TlsConfig,
    http2: bool,
}

/// Settings and certificates that are good, and not yet in use.
pub(crate) struct Prepared {
    settings: Settings,
    read: Vec<Files>,
    next: rustls::ServerConfig,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub(crate) struct CertificateError {
    file: PathBuf,
    reason: String,
}

/// A certificate chain and its key, as written.
#[derive(Clone, Eq, PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn new(settings: &TlsConfig, http2: bool) -> Result<Self, CertificateError> {
        let Prepared {
            settings,
            read,
            next,
        } = Self::prepare(settings, http2)?;
        Ok(Self {
            settings: Mutex::new(settings),
            read: Mutex::new(read),
            current: ArcSwap::from_pointee(next),
        })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    pub(super) fn handshake_timeout(&self) -> Duration {
        self.settings.lock().tls.handshake_timeout
    }

    pub(super) fn reload_interval(&self) -> Duration {
        self.settings.lock().tls.reload_interval
    }

    /// Reads the files of `settings`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn prepare(settings: &TlsConfig, http2: bool) -> Result<Prepared, CertificateError> {
        let read = read(settings)?;
        let next = build(settings, &read, http2)?;
        Ok(Prepared {
            settings: Settings {
                tls: settings.clone(),
                http2,
            },
            read,
            next,
        })
    }

    /// Takes what was prepared for connections that begin from now on.
    pub(crate) fn replace(&self, prepared: Prepared) {
        let mut read = self.read.lock();
        *self.settings.lock() = prepared.settings;
        *read = prepared.read;
        self.current.store(Arc::new(prepared.next));
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// What is wrong with them; the old ones stay in use.
    pub(crate) fn reread(&self) -> Result<(), CertificateError> {
        // As below.
        let mut before = self.read.lock();
        let Settings { tls, http2 } = self.settings.lock().clone();
        let prepared = Self::prepare(&tls, http2)?;
        *before = prepared.read;
        self.current.store(Arc::new(prepared.next));
        Ok(())
    }

    /// Looks whether the files have changed, and takes what they hold now. True if it did.
    ///
    /// # Errors
    /// What is wrong with the new files, once per change; the old ones stay in use. A chain that
    /// was written before its key is such a case, and mended at the next look.
    pub(crate) fn refresh(&self) -> Result<bool, CertificateError> {
        // Held to the end: a reload that comes meanwhile has the last word.
        let mut before = self.read.lock();
        let Settings { tls, http2 } = self.settings.lock().clone();
        let found = read(&tls)?;
        if *before == found {
            return Ok(false);
        }
        before.clone_from(&found);
        let next = build(&tls, &found, http2)?;
        self.current.store(Arc::new(next));
        Ok(true)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn failed(file: &Path, reason: impl fmt::Display) -> CertificateError {
    CertificateError {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(settings: &TlsConfig) -> Result<Vec<Files>, CertificateError> {
    let file = |path: &Path| {
        files::read(path, files::MOST).map_err(|e| failed(path, format!("cannot be read: {e}")))
    };
    let pairs = settings.certificates.iter();
    pairs
        .map(|pair| {
            Ok(Files {
                certificate: file(&pair.certificate)?,
                key: file(&pair.key)?,
            })
        })
        .collect()
}

fn build(
    settings: &TlsConfig,
    files: &[Files],
    http2: bool,
) -> Result<rustls::ServerConfig, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    let mut keys = Vec::with_capacity(files.len());
    for (pair, files) in settings.certificates.iter().zip(files) {
        let chain = CertificateDer::pem_slice_iter(&files.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(&pair.certificate, error))?;
        if chain.is_empty() {
            return Err(failed(&pair.certificate, "holds no certificate (PEM)"));
        }
        // The reason of a refusal says nothing of the key.
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|_| failed(&pair.key, "holds no private key (PEM)"))?;
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| failed(&pair.key, error))?;
        keys.push(Arc::new(key));
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::Tls12 => &[&TLS12, &TLS13],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let first = settings.certificates.first();
    let file = first.map_or_else(|| Path::new("tls"), |pair| &pair.certificate);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| failed(file, error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { keys }));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

/// The first certificate that is valid for the name a client asks for, else the first.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .filter(|_| self.keys.len() > 1)
            .and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let matching = named.and_then(|name| {
            self.keys.iter().find(|key| {
                let certificate = key.end_entity_cert().ok();
                certificate
                    .and_then(|certificate| ParsedCertificate::try_from(certificate).ok())
                    .is_some_and(|parsed| verify_server_name(&parsed, &name).is_ok())
            })
        });
        matching.or_else(|| self.keys.first()).cloned()
    }
}

impl Serving {
    /// Serves a connection after its handshake, in the protocol that was agreed on.
    pub(super) async fn tls(self, stream: TcpStream, acceptor: TlsAcceptor, timeout: Duration) {
        match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.http2(stream, Start::default()).await;
                } else {
                    self.http1(stream, Start::default()).await;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.downstream.peer, %error, "no TLS handshake");
            }
            Err(_) => tracing::debug!(peer = %self.downstream.peer, "slow TLS handshake"),
        }
    }
}
