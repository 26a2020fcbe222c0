//! Upstreams behind TLS: who is believed, by which name, and what is spoken.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::support::Running;

/// A file that is removed again.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    pub(crate) fn new(text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("gateway-upstream-{}-{count}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn file(&self) -> TempFile {
        TempFile::new(&self.0.pem())
    }

    /// A certificate for `name`, and its key.
    pub(crate) fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.0.der().to_vec()))
            .unwrap();
        roots
    }
}

/// A TLS server that answers `ok` and counts requests.
struct Server {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(
        authority: &Authority,
        name: &str,
        alpn: &[&str],
        asks: Option<&Authority>,
    ) -> Self {
        let (certificate, key) = authority.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match asks {
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let chain = vec![certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, key.into()).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        count.fetch_add(1, Ordering::SeqCst);
                        let spoken = format!("ok over {:?}", request.version());
                        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(spoken))) }
                    });
                    let io = TokioIo::new(stream);
                    if is_http2 {
                        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await;
                    } else {
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(io, service)
                            .await;
                    }
                });
            }
        });
        Self {
            addr,
            requests,
            task,
        }
    }

    /// The status and what was spoken.
    async fn ask(&self, settings: &str) -> (u16, String) {
        let config = format!(
            "[[route]]\nprefix = \"/\"\nupstream = \"shop\"\n[upstream.shop]\n\
             endpoints = [\"https://{}\"]\n{settings}",
            self.addr
        );
        let gateway = Running::start(&config).await;
        let answer = gateway.get("/").await;
        (answer.status, answer.body)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn believing(authority: &TempFile) -> String {
    format!("[upstream.shop.tls]\nca_file = {:?}\n", authority.0)
}

#[tokio::test]
async fn only_a_certificate_of_a_believed_authority_for_that_name_is_good() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (file, other) = (authority.file(), other.file());
    let server = Server::start(&authority, "127.0.0.1", &[], None).await;
    let (status, body) = server.ask(&believing(&file)).await;
    assert_eq!((status, body.as_str()), (200, "ok over HTTP/1.1"));
    assert_eq!(server.requests(), 1);
    // Another authority, Mozilla's, and another name.
    for settings in [
        believing(&other),
        String::new(),
        believing(&file) + "server_name = \"shop.internal\"\n",
    ] {
        let (status, body) = server.ask(&settings).await;
        assert_eq!(status, 503, "{settings}");
        assert!(body.contains("upstream_unreachable"), "{body}");
    }
    assert_eq!(server.requests(), 1);

    let named = Server::start(&authority, "shop.internal", &[], None).await;
    let settings = believing(&file) + "server_name = \"shop.internal\"\n";
    assert_eq!(named.ask(&settings).await.0, 200);
    assert_eq!(named.ask(&believing(&file)).await.0, 503);
}

#[tokio::test]
async fn the_gateway_shows_its_certificate_if_it_has_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let file = authority.file();
    let server = Server::start(&authority, "127.0.0.1", &[], Some(&clients)).await;
    assert_ne!(server.ask(&believing(&file)).await.0, 200);
    let (certificate, key) = clients.issue("gateway");
    let certificate = TempFile::new(&certificate.pem());
    let key = TempFile::new(&key.serialize_pem());
    let settings = format!(
        "{}certificate_file = {:?}\nkey_file = {:?}\n",
        believing(&file),
        certificate.0,
        key.0
    );
    assert_eq!(server.ask(&settings).await.0, 200);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn the_protocol_is_agreed_by_alpn() {
    let authority = Authority::new();
    let file = authority.file();
    for (speaks, wanted, status, spoken) in [
        (&["h2", "http/1.1"][..], "http1", 200, "ok over HTTP/1.1"),
        (&["h2", "http/1.1"], "http2", 200, "ok over HTTP/2.0"),
        (&["h2", "http/1.1"], "auto", 200, "ok over HTTP/2.0"),
        (&["http/1.1"], "auto", 200, "ok over HTTP/1.1"),
        (&[], "auto", 200, "ok over HTTP/1.1"),
        (&["http/1.1"], "http2", 503, "upstream_unreachable"),
        (&[], "http2", 503, "upstream_unreachable"),
        (&["h2"], "http1", 503, "upstream_unreachable"),
    ] {
        let server = Server::start(&authority, "127.0.0.1", speaks, None).await;
        let settings = format!("protocol = \"{wanted}\"\n{}", believing(&file));
        let (got, body) = server.ask(&settings).await;
        assert_eq!(got, status, "{speaks:?} {wanted}: {body}");
        assert!(body.contains(spoken), "{speaks:?} {wanted}: {body}");
    }
}
