//! A server on a free port, and a client that writes what it likes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use webhook_verify::{
    Builder, Secret, Signer, Verified, Verifier,
    clock::ManualWallClock,
    layer::{Event, ResponseBody, VerifiedBody, WebhookLayer},
    presets,
    replay::MemoryReplayStore,
};

pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const BODY: &[u8] = b"{\"a\":1}";
pub(crate) const LIMIT: usize = 64 * 1024;

/// Nothing here takes longer, on the slowest machine either.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn secret() -> Secret {
    Secret::new("k1", "key").unwrap()
}

pub(crate) fn verifier() -> Builder {
    Verifier::builder(presets::timestamped())
        .secret(secret())
        .clock(ManualWallClock::new(NOW))
        .body_limit(LIMIT)
}

pub(crate) fn headers(body: &[u8]) -> HeaderMap {
    let signer = Signer::new(presets::timestamped(), secret());
    signer.sign_at(Duration::from_secs(NOW), body).unwrap()
}

pub(crate) type App =
    BoxCloneService<Request<Incoming>, Response<ResponseBody<Full<Bytes>>>, BoxError>;

/// How the handler is reached from the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stack {
    Plain,
    ConcurrencyLimit,
    Buffer,
}

pub(crate) const STACKS: [Stack; 3] = [Stack::Plain, Stack::ConcurrencyLimit, Stack::Buffer];

/// A server, what its layer told, and what its handler did.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) events: mpsc::UnboundedReceiver<String>,
    pub(crate) handled: Arc<AtomicUsize>,
    /// One permit for each call that the handler holds back; none: it holds none.
    pub(crate) hold: Arc<Semaphore>,
    pub(crate) begun: Arc<Semaphore>,
}

/// The path under which the handler waits for a permit of [`Server::hold`].
pub(crate) const SLOW: &str = "/slow";

#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Server {
    pub(crate) async fn start(stack: Stack, layer: WebhookLayer, protocol: Protocol) -> Self {
        let (told, events) = mpsc::unbounded_channel();
        let layer = layer.on_event(move |event| {
            let text = match event {
                Event::Rejected { error, .. } => format!("{} {}", event.name(), error.reason()),
                _ => event.name().to_owned(),
            };
            let _ = told.send(text);
        });
        let (handled, hold) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let begun = Arc::new(Semaphore::new(0));
        let app = app(
            stack,
            layer,
            [&hold, &begun].map(Arc::clone),
            Arc::clone(&handled),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, app, protocol));
        Self {
            address,
            events,
            handled,
            hold,
            begun,
        }
    }

    pub(crate) async fn http1(stack: Stack, builder: Builder) -> Self {
        let layer = WebhookLayer::new(builder.build().unwrap());
        Self::start(stack, layer, Protocol::Http1).await
    }

    pub(crate) fn handled(&self) -> usize {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) async fn event(&mut self) -> String {
        within(self.events.recv()).await.unwrap()
    }

    /// Writes `request` in one go and gives the first answer.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut connection = self.connect().await;
        connection.write(request).await;
        connection.answer().await.expect("an answer")
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.address).await.unwrap(), Vec::new())
    }
}

fn app(
    stack: Stack,
    layer: WebhookLayer,
    [hold, begun]: [Arc<Semaphore>; 2],
    handled: Arc<AtomicUsize>,
) -> App {
    let handler = service_fn(move |request: Request<VerifiedBody>| {
        let (handled, hold, begun) = (handled.clone(), hold.clone(), begun.clone());
        async move {
            assert_eq!(
                request.extensions().get::<Verified>().unwrap().key_id(),
                "k1"
            );
            handled.fetch_add(1, Ordering::Relaxed);
            begun.add_permits(1);
            if request.uri().path() == SLOW {
                hold.acquire().await.unwrap().forget();
            }
            Ok::<_, Infallible>(Response::new(Full::new(request.into_body().into_bytes())))
        }
    });
    let base = ServiceBuilder::new().layer(layer);
    match stack {
        Stack::Plain => boxed(base.service(handler)),
        Stack::ConcurrencyLimit => boxed(base.concurrency_limit(1).service(handler)),
        Stack::Buffer => boxed(base.buffer(1).concurrency_limit(1).service(handler)),
    }
}

fn boxed<S>(service: S) -> App
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody<Full<Bytes>>>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    BoxCloneService::new(service.map_err(Into::into))
}

async fn accept(listener: TcpListener, app: App, protocol: Protocol) {
    while let Ok((stream, _)) = listener.accept().await {
        let (io, service) = (TokioIo::new(stream), TowerToHyperService::new(app.clone()));
        match protocol {
            Protocol::Http1 => {
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(io, service));
            }
            Protocol::Http2 => {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(io, service));
            }
        }
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("nothing may hang")
}

/// A layer without a replay store.
pub(crate) fn memoryless() -> Builder {
    verifier()
}

pub(crate) fn remembering() -> Builder {
    verifier().replay(MemoryReplayStore::new(1024))
}

/// A request head; `framing` are whole lines.
pub(crate) fn head(path: &str, headers: &HeaderMap, framing: &str) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()))
        .collect();
    format!("POST {path} HTTP/1.1\r\nhost: h\r\n{lines}{framing}\r\n")
}

/// A whole request with `content-length`.
pub(crate) fn post(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    post_to("/hook", headers, body)
}

pub(crate) fn post_to(path: &str, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let head = head(
        path,
        headers,
        &format!("content-length: {}\r\n", body.len()),
    );
    [head.as_bytes(), body].concat()
}

pub(crate) const CHUNKED: &str = "transfer-encoding: chunked\r\n";

/// An answer as it came, without its `date`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The client's side, and what was read ahead.
pub(crate) struct Connection(pub(crate) TcpStream, Vec<u8>);

impl Connection {
    /// A server that has answered may have closed already.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within(self.0.write_all(bytes.as_ref())).await.is_ok()
    }

    /// The next answer (1xx ones too); `None` when the connection ended without one.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.1, b"\r\n\r\n") {
                break at;
            }
            self.more().await?;
        };
        let text = String::from_utf8(self.1.drain(..end + 4).collect()).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("date:"));
        let head = lines.collect::<Vec<_>>().join("\n");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.1.len() < length {
            self.more().await?;
        }
        let body = self.1.drain(..length).collect();
        Some(Answer { status, head, body })
    }

    async fn more(&mut self) -> Option<()> {
        let mut room = [0; 4096];
        let read = within(self.0.read(&mut room))
            .await
            .ok()
            .filter(|read| *read > 0)?;
        self.1.extend_from_slice(&room[..read]);
        Some(())
    }

    /// Whether the server has closed.
    pub(crate) async fn ended(&mut self) -> bool {
        self.more().await.is_none()
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
