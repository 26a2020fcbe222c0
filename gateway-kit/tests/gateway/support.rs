//! What the tests share: a gateway on a free port, upstreams that record, raw requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway_kit::{Builder, Config, Gateway, Handle};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use resilience_core::clock::SharedClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No wait in a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Bounds a wait.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long"),
    }
}

/// Polls until `condition` holds.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) fn parsed(config: &str) -> Config {
    let text = format!("listen = \"127.0.0.1:0\"\n{config}");
    Config::from_toml(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A gateway that runs until it is stopped or dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    /// Where TLS is spoken.
    #[cfg(feature = "tls")]
    pub(crate) tls_addr: Option<SocketAddr>,
    /// Where the admin listens.
    #[cfg(feature = "admin")]
    pub(crate) admin_addr: Option<SocketAddr>,
    pub(crate) handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with_clock(config, SharedClock::std()).await
    }

    pub(crate) async fn start_with_clock(config: &str, clock: impl Into<SharedClock>) -> Self {
        Self::start_with(config, |builder| builder.clock(clock)).await
    }

    pub(crate) async fn start_with(config: &str, with: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(with(Gateway::builder(parsed(config)))).await
    }

    pub(crate) async fn of(builder: Builder) -> Self {
        let gateway = builder.bind().await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (addr, handle) = (gateway.local_addr(), gateway.handle());
        #[cfg(feature = "tls")]
        let tls_addr = gateway.tls_addr();
        #[cfg(feature = "admin")]
        let admin_addr = gateway.admin_addr();
        let task = tokio::spawn(gateway.serve(async {
            let _ = stopped.await;
        }));
        Self {
            addr,
            #[cfg(feature = "tls")]
            tls_addr,
            #[cfg(feature = "admin")]
            admin_addr,
            handle,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Sends one raw request on a connection of its own and reads to the end.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        self.raw_from("127.0.0.1", request).await
    }

    /// The same from another loopback address.
    pub(crate) async fn raw_from(&self, local: &str, request: &str) -> Answer {
        raw_between(local, self.addr, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.addr)).await.unwrap()
    }
}

/// Sends one raw request from one address to another and reads to the end.
pub(crate) async fn raw_between(local: &str, to: SocketAddr, request: &str) -> Answer {
    soon(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{local}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        Answer::parse(&bytes)
    })
    .await
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A raw response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Self {
            status: status.unwrap_or_default(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let start = self.body.find('{').unwrap_or_default();
        let end = self.body.rfind('}').map_or(self.body.len(), |end| end + 1);
        serde_json::from_str(&self.body[start..end]).unwrap_or_default()
    }
}

/// What an upstream saw of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A real hyper server that records requests and answers by a function.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Answers 200 `ok`.
    pub(crate) async fn start() -> Self {
        Self::answering(|_| Response::new(Full::from("ok"))).await
    }

    pub(crate) async fn answering(
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, answer)
    }

    /// Answers 200 `ok` on a listener.
    pub(crate) fn listening(listener: TcpListener) -> Self {
        Self::on(listener, |_| Response::new(Full::from("ok")))
    }

    fn on(
        listener: TcpListener,
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(answer);
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                count.fetch_add(1, Ordering::SeqCst);
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes());
                        let seen = Seen {
                            method: parts.method.to_string(),
                            target: parts.uri.to_string(),
                            headers: parts.headers,
                            body: body.unwrap_or_default(),
                        };
                        let response = answer(&seen);
                        log.lock().push(seen);
                        Ok::<_, Infallible>(response)
                    }
                });
                open.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            addr,
            seen,
            connections,
            task,
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().len()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen
            .lock()
            .last()
            .cloned()
            .expect("the upstream was called")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// One route from `/` to these endpoints.
pub(crate) fn routed(endpoints: &[SocketAddr]) -> String {
    let urls: Vec<String> = endpoints
        .iter()
        .map(|endpoint| format!("\"http://{endpoint}\""))
        .collect();
    format!(
        "[[route]]\nprefix = \"/\"\nupstream = \"shop\"\n[upstream.shop]\nendpoints = [{}]\n",
        urls.join(", ")
    )
}

/// Reads one head from a stream, and what came after it.
pub(crate) async fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = soon(stream.read(&mut chunk)).await.unwrap();
        assert_ne!(
            read,
            0,
            "closed inside a head: {:?}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&chunk[..read]);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = bytes.split_off(end + 4);
            return (String::from_utf8_lossy(&bytes).into_owned(), rest);
        }
    }
}
