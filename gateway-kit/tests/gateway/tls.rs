//! TLS towards clients: versions, names, replaced certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_kit::ReloadOutcome;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cases::{Recorder, config};
use crate::support::{Answer, Running, parsed, soon};

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gateway-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// Writes a new certificate for `names`, and its key.
    fn issue(&self, file: &str, names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        // As a careful operator does it: the new file takes the place of the old at once.
        for (kind, text) in [
            ("pem", made.cert.pem()),
            ("key", made.signing_key.serialize_pem()),
        ] {
            let new = self.0.join(format!("{file}.{kind}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, self.0.join(format!("{file}.{kind}"))).unwrap();
        }
        made.cert.der().clone()
    }

    fn certificate(&self, file: &str) -> String {
        let path = |kind: &str| self.0.join(format!("{file}.{kind}"));
        format!(
            "[[tls.certificate]]\ncertificate = {:?}\nkey = {:?}\n",
            path("pem"),
            path("key")
        )
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// A connection by TLS that believes these certificates.
async fn connect(
    addr: std::net::SocketAddr,
    name: &str,
    trusted: &[&CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(async {
        let stream = TcpStream::connect(addr).await?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    })
    .await
}

async fn get(stream: &mut TlsStream<TcpStream>) -> Answer {
    let request =
        b"GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-proto: http\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    Answer::parse(&bytes)
}

/// What an ordinary client sees.
async fn status(addr: std::net::SocketAddr, name: &str, trusted: &CertificateDer<'static>) -> u16 {
    match connect(addr, name, &[trusted], BOTH, &[]).await {
        Ok(mut stream) => get(&mut stream).await.status,
        Err(_) => 0,
    }
}

#[tokio::test]
async fn with_1_3_as_the_least_version_a_1_3_client_works_and_a_1_2_client_is_refused() {
    // I1.c8
    let upstream = Recorder::start().await;
    let dir = Dir::new("versions");
    let cert = dir.issue("a", &["a.test"]);
    for (min, old_works) in [("min_version = \"1.3\"\n", false), ("", true)] {
        let text = config(upstream.addr) + "[tls]\n" + min + &dir.certificate("a");
        let gateway = Running::start(&text).await;
        let mut new = connect(gateway.addr, "a.test", &[&cert], &[&TLS13], &[])
            .await
            .unwrap();
        assert_eq!(get(&mut new).await.status, 200);
        let seen = upstream.take();
        let headers = &seen[0].1;
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert!(
            headers["forwarded"]
                .to_str()
                .unwrap()
                .contains("proto=https")
        );
        let old = connect(gateway.addr, "a.test", &[&cert], &[&TLS12], &[]).await;
        assert_eq!(old.is_ok(), old_works, "{min}");
        if let Ok(mut old) = old {
            assert_eq!(get(&mut old).await.status, 200);
            upstream.take();
        }
        // Not TLS at all.
        let plain = gateway.raw("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert_eq!(plain.status, 0);
        assert!(upstream.take().is_empty());
    }
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let upstream = Recorder::start().await;
    let dir = Dir::new("names");
    let first = dir.issue("first", &["first.test"]);
    let second = dir.issue("second", &["second.test", "*.wild.test"]);
    let text =
        config(upstream.addr) + "[tls]\n" + &dir.certificate("first") + &dir.certificate("second");
    let gateway = Running::start(&text).await;
    for (name, wanted) in [
        ("first.test", &first),
        ("second.test", &second),
        ("SECOND.test", &second),
        ("any.wild.test", &second),
    ] {
        assert_eq!(status(gateway.addr, name, wanted).await, 200, "{name}");
    }
    // Whoever asks for another name, or by address, gets the first and may refuse it.
    assert_eq!(status(gateway.addr, "other.test", &first).await, 0);
    assert_eq!(status(gateway.addr, "127.0.0.1", &first).await, 0);
}

#[tokio::test]
async fn a_replaced_certificate_is_used_by_new_connections_and_a_bad_one_is_not() {
    // I1.c8
    let upstream = Recorder::start().await;
    let dir = Dir::new("reload");
    let old = dir.issue("a", &["a.test"]);
    let text =
        config(upstream.addr) + "[tls]\nreload_interval = \"10ms\"\n" + &dir.certificate("a");
    let gateway = Running::start(&text).await;
    let mut open = connect(gateway.addr, "a.test", &[&old], BOTH, &[])
        .await
        .unwrap();

    let new = dir.issue("a", &["a.test"]);
    soon(async { while status(gateway.addr, "a.test", &new).await != 200 {} }).await;
    assert_eq!(status(gateway.addr, "a.test", &old).await, 0);
    // The connection from before goes on.
    assert_eq!(get(&mut open).await.status, 200);

    std::fs::write(dir.path().join("a.pem"), "nothing").unwrap();
    let refused = gateway.handle.reload_certificates().unwrap_err();
    assert!(refused.to_string().contains("a.pem"), "{refused}");
    assert_eq!(status(gateway.addr, "a.test", &new).await, 200);
    // A key of another certificate is no better.
    let other = dir.issue("other", &["a.test"]);
    std::fs::copy(dir.path().join("other.pem"), dir.path().join("a.pem")).unwrap();
    assert!(gateway.handle.reload_certificates().is_err());
    assert_eq!(status(gateway.addr, "a.test", &new).await, 200);
    // Once both are there it is used.
    std::fs::copy(dir.path().join("other.key"), dir.path().join("a.key")).unwrap();
    gateway.handle.reload_certificates().unwrap();
    assert_eq!(status(gateway.addr, "a.test", &other).await, 200);
}

#[tokio::test]
async fn http_and_https_are_served_side_by_side() {
    let upstream = Recorder::start().await;
    let dir = Dir::new("both");
    let cert = dir.issue("a", &["a.test"]);
    let text = config(upstream.addr) + "[tls]\nlisten = \"127.0.0.1:0\"\n" + &dir.certificate("a");
    let gateway = Running::start(&text).await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(upstream.take()[0].1["x-forwarded-proto"], "http");
    assert_eq!(
        status(gateway.tls_addr.unwrap(), "a.test", &cert).await,
        200
    );
    assert_eq!(upstream.take()[0].1["x-forwarded-proto"], "https");
}

#[tokio::test]
async fn the_protocol_is_agreed_on_in_the_handshake() {
    let upstream = Recorder::start().await;
    let dir = Dir::new("alpn");
    let cert = dir.issue("a", &["a.test"]);
    for (setting, offered, agreed) in [
        ("", &[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        ("", &[b"http/1.1", b"h2"], Some(b"h2")),
        ("", &[b"http/1.1"], Some(b"http/1.1")),
        ("", &[], None),
        (
            "[server]\nhttp2 = false\n",
            &[b"h2", b"http/1.1"],
            Some(b"http/1.1"),
        ),
    ] {
        let text = config(upstream.addr) + setting + "[tls]\n" + &dir.certificate("a");
        let gateway = Running::start(&text).await;
        let mut stream = connect(gateway.addr, "a.test", &[&cert], BOTH, offered)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        if agreed != Some(b"h2") {
            assert_eq!(get(&mut stream).await.status, 200);
            continue;
        }
        let (mut client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://a.test/x").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        assert_eq!(soon(answer).await.unwrap().status(), 200);
        let seen = upstream.take();
        assert_eq!(seen.last().unwrap().0, "GET /x a.test");
        assert_eq!(seen.last().unwrap().1["x-forwarded-proto"], "https");
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_is_closed() {
    let upstream = Recorder::start().await;
    let dir = Dir::new("slow");
    dir.issue("a", &["a.test"]);
    let text =
        config(upstream.addr) + "[tls]\nhandshake_timeout = \"50ms\"\n" + &dir.certificate("a");
    let gateway = Running::start(&text).await;
    let mut silent = gateway.connect().await;
    assert_eq!(soon(silent.read(&mut [0; 8])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start_and_is_named() {
    let dir = Dir::new("bad");
    dir.issue("a", &["a.test"]);
    dir.issue("b", &["a.test"]);
    std::fs::copy(dir.path().join("b.key"), dir.path().join("a.key")).unwrap();
    std::fs::write(dir.path().join("c.pem"), "").unwrap();
    std::fs::write(dir.path().join("c.key"), "secret").unwrap();
    for (file, named) in [("a", "a.key"), ("c", "c.pem"), ("missing", "missing.pem")] {
        let text = config(([127, 0, 0, 1], 1).into()) + "[tls]\n" + &dir.certificate(file);
        let text = format!("listen = \"127.0.0.1:0\"\n{text}");
        let config = gateway_kit::Config::from_toml(&text).unwrap();
        let error = gateway_kit::Gateway::bind(config).await.unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_reload_takes_other_certificates_and_refuses_bad_ones_with_all_the_rest() {
    let dir = Dir::new("reload");
    let old = dir.issue("old", &["shop.test"]);
    let new = dir.issue("new", &["shop.test"]);
    let text = |file: &str| config("127.0.0.1:1".parse().unwrap()) + &dir.certificate(file);
    let gateway = Running::start(&text("old")).await;
    let addr = gateway.tls_addr.unwrap();
    assert!(connect(addr, "shop.test", &[&old], BOTH, &[]).await.is_ok());
    let report = gateway.handle.reload(parsed(&text("new")));
    assert_eq!(report.diff.settings, ["tls"]);
    assert!(
        connect(addr, "shop.test", &[&old], BOTH, &[])
            .await
            .is_err()
    );
    assert!(connect(addr, "shop.test", &[&new], BOTH, &[]).await.is_ok());
    // The address belongs to a socket.
    let moved = "[tls]\nlisten = \"127.0.0.1:1\"\n";
    let mut moved =
        parsed(&(config("127.0.0.1:1".parse().unwrap()) + moved + &dir.certificate("new")));
    moved.listen = gateway.handle.config().listen;
    let report = gateway.handle.reload(moved);
    assert_eq!(
        (report.outcome, &*report.at_next_start),
        (ReloadOutcome::Unchanged, &["tls.listen"][..])
    );
    let now = gateway.handle.config().tls.as_ref().map(|tls| tls.listen);
    assert_eq!(now, parsed(&text("new")).tls.map(|tls| tls.listen));
    // What else the bad configuration says is not in force either.
    let bad = text("none") + "[[route]]\nprefix = \"/more\"\nupstream = \"u\"\n";
    let report = gateway.handle.reload(parsed(&bad));
    let reason = report.reason.unwrap();
    assert!(reason.contains("none.pem: cannot be read"), "{reason}");
    assert_eq!(
        gateway.handle.config().routes.len(),
        parsed(&text("new")).routes.len()
    );
    assert!(connect(addr, "shop.test", &[&new], BOTH, &[]).await.is_ok());
    // The same names with other content.
    let newest = dir.issue("new", &["shop.test"]);
    let report = gateway.handle.reload(parsed(&text("new")));
    assert_eq!(report.diff.files.len(), 2);
    assert!(
        connect(addr, "shop.test", &[&newest], BOTH, &[])
            .await
            .is_ok()
    );
}
