//! nginx as the upstream: a server that we did not write.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, routed, soon};

/// An nginx of its own, in a folder of its own.
struct Nginx {
    addr: SocketAddr,
    child: Child,
    folder: PathBuf,
}

const LARGE: usize = 8 << 20;

fn program() -> &'static Path {
    let places = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
    let found = places.map(Path::new).into_iter().find(|path| path.exists());
    found.expect("nginx is installed by scripts/deps.sh")
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

impl Nginx {
    async fn start() -> Self {
        // Another may take the port that was free a moment ago.
        for _ in 0..20 {
            if let Some(nginx) = Self::try_start().await {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    async fn try_start() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("gateway-nginx-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("www")).unwrap();
        fs::write(folder.join("www/large"), large()).unwrap();
        fs::write(folder.join("www/text.html"), "gateway ".repeat(4096)).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let here = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {here}/{kind};"))
            .concat();
        // Its workers may read what only we may.
        let user = "user root;";
        let config = format!(
            "{user} daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;
            events {{ worker_connections 256; }}
            http {{ access_log off; {temporary} gzip on; gzip_min_length 100; gzip_proxied any;
            server {{ listen {addr}; default_type text/html; root {here}/www;
            location = /ok {{ return 200 \"ok\"; }}
            location = /connection {{ return 200 \"$connection $connection_requests\"; }} }} }}"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Self {
            addr,
            child,
            folder,
        };
        let started = soon(async {
            loop {
                if TcpStream::connect(addr).await.is_ok() {
                    return true;
                }
                if nginx.child.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        started.await.then_some(nginx)
    }

    /// Has it read its configuration again: another worker takes over.
    fn reload(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it in order, and not by a kill.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sends one request and reads to the end of the connection: the head in lower case, and the body.
async fn ask(gateway: &Running, request: &str) -> (String, Vec<u8>) {
    let mut stream = gateway.connect().await;
    let request = format!("{request}host: h\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("a head") + 4);
    (String::from_utf8(bytes).unwrap().to_lowercase(), body)
}

#[tokio::test]
async fn files_ranges_and_compressed_answers_pass_as_they_are() {
    let nginx = Nginx::start().await;
    let gateway = Running::start(&routed(&[nginx.addr])).await;
    let (head, body) = ask(&gateway, "GET /large HTTP/1.1\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body == large(), "{} bytes", body.len());
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: "));
    let etag = etag.expect("nginx tells one").to_owned();

    let (head, body) = ask(
        &gateway,
        "GET /large HTTP/1.1\r\nrange: bytes=1000-1999\r\n",
    )
    .await;
    assert!(head.starts_with("http/1.1 206"), "{head}");
    let range = format!("content-range: bytes 1000-1999/{LARGE}");
    assert!(head.contains(&range), "{head}");
    assert!(body == large()[1000..2000], "{} bytes", body.len());

    let request = format!("GET /large HTTP/1.1\r\nif-none-match: {etag}\r\n");
    let (head, body) = ask(&gateway, &request).await;
    assert!(
        head.starts_with("http/1.1 304") && body.is_empty(),
        "{head}"
    );

    let (head, body) = ask(&gateway, "HEAD /large HTTP/1.1\r\n").await;
    assert!(head.contains(&format!("content-length: {LARGE}")), "{head}");
    assert!(body.is_empty());

    // Of a length that nginx does not know beforehand.
    let (head, body) = ask(
        &gateway,
        "GET /text.html HTTP/1.1\r\naccept-encoding: gzip\r\n",
    )
    .await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(body.ends_with(b"0\r\n\r\n"), "{} bytes", body.len());
    let (head, body) = ask(&gateway, "GET /nothing HTTP/1.1\r\n").await;
    assert!(
        head.starts_with("http/1.1 404") && !body.is_empty(),
        "{head}"
    );
}

#[tokio::test]
async fn connections_are_kept_and_a_reload_of_nginx_fails_no_request() {
    let nginx = Nginx::start().await;
    let gateway = Running::start(&routed(&[nginx.addr])).await;
    let mut used = Vec::new();
    for _ in 0..3 {
        let answer = gateway.get("/connection").await;
        assert_eq!(answer.status, 200);
        used.push(answer.body.split(' ').next().map(str::to_owned));
    }
    // All on one, the last after it was given back.
    assert!(used.iter().all(|one| *one == used[0]), "{used:?}");
    for turn in 0..200 {
        if turn % 40 == 20 {
            nginx.reload();
        }
        let answer = gateway.get("/ok").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{turn}");
    }
}
