//! Upstreams that speak HTTP/2: many calls on a connection, trailers, streams both ways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RESET, frame};
use crate::support::{Running, routed, soon, until};

type Frames = UnsyncBoxBody<Bytes, Infallible>;

/// What the upstream saw of a request.
#[derive(Clone, Debug)]
struct Seen {
    version: Version,
    authority: Option<String>,
    headers: HeaderMap,
    target: String,
}

/// An HTTP/2 server whose answers wait while it is held.
struct Server {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    open: Arc<watch::Sender<bool>>,
    /// Its connections say GOAWAY.
    leave: Arc<watch::Sender<u32>>,
    task: JoinHandle<()>,
}

/// Counts a call until the server drops it.
struct Running1(Arc<AtomicUsize>);

impl Drop for Running1 {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn frames(frames: Vec<Frame<Bytes>>) -> Frames {
    let frames = frames.into_iter().map(Ok::<_, Infallible>);
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

fn status(code: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers
}

/// Some that may be sent, and some that must not.
fn trailers() -> HeaderMap {
    let mut trailers = status("0");
    for name in ["grpc-message", "x-checksum"] {
        trailers.insert(name, "x".parse().unwrap());
    }
    for name in [
        "authorization",
        "content-length",
        "content_length",
        "host",
        "set-cookie",
        "trailer",
        "x-correlation-id",
        "x-forwarded-for",
        "x_real_ip",
    ] {
        trailers.insert(name, "1".parse().unwrap());
    }
    trailers
}

fn answer(request: Request<Incoming>) -> Response<Frames> {
    let response = Response::builder().header("content-type", "application/grpc");
    match request.uri().path() {
        "/unary" => {
            let data = Frame::data(Bytes::from_static(b"reply"));
            let end = Frame::trailers(status("0"));
            response.body(frames(vec![data, end])).unwrap()
        }
        "/refused" => response
            .header("grpc-status", "7")
            .header("grpc-message", "no")
            .body(Empty::new().boxed_unsync())
            .unwrap(),
        // Says which trailers came, and sends more than it may.
        "/trailers" => {
            let came = BodyStream::new(request.into_body())
                .filter_map(async |frame| frame.ok()?.into_trailers().ok())
                .flat_map(|trailers| {
                    let mut names: Vec<_> = trailers.keys().map(ToString::to_string).collect();
                    names.sort();
                    let data = Frame::data(Bytes::from(names.join(" ")));
                    futures_util::stream::iter([Ok::<_, Infallible>(data)])
                });
            let all = futures_util::stream::iter([Ok(Frame::trailers(trailers()))]);
            let body = StreamBody::new(came.chain(all));
            response.body(body.boxed_unsync()).unwrap()
        }
        // Answers each message as it comes.
        "/both" => {
            let echo = BodyStream::new(request.into_body())
                .filter_map(async |frame| frame.ok())
                .map(|frame| {
                    Ok::<_, Infallible>(match frame.into_data() {
                        Ok(data) => Frame::data(data),
                        Err(_) => Frame::trailers(status("13")),
                    })
                })
                .chain(futures_util::stream::iter([Ok(Frame::trailers(status(
                    "0",
                )))]));
            response.body(StreamBody::new(echo).boxed_unsync()).unwrap()
        }
        _ => {
            let data = Frame::data(Bytes::from_static(b"ok"));
            response.body(frames(vec![data])).unwrap()
        }
    }
}

impl Server {
    async fn start(max_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (connections, running) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let open = Arc::new(watch::Sender::new(true));
        let leave = Arc::new(watch::Sender::new(0));
        let mut server = Self {
            addr,
            seen,
            connections,
            running,
            open,
            leave,
            task: tokio::spawn(async {}),
        };
        let (seen, running) = (Arc::clone(&server.seen), Arc::clone(&server.running));
        let (count, open) = (Arc::clone(&server.connections), Arc::clone(&server.open));
        let leave = Arc::clone(&server.leave);
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (seen, running, open) =
                    (Arc::clone(&seen), Arc::clone(&running), Arc::clone(&open));
                let mut leaving = leave.subscribe();
                leaving.mark_unchanged();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    running.fetch_add(1, Ordering::SeqCst);
                    let call = Running1(Arc::clone(&running));
                    let mut open = open.subscribe();
                    seen.lock().push(Seen {
                        version: request.version(),
                        authority: request.uri().authority().map(ToString::to_string),
                        headers: request.headers().clone(),
                        target: request.uri().path().to_owned(),
                    });
                    async move {
                        let _ = open.wait_for(|open| *open).await;
                        drop(call);
                        Ok::<_, Infallible>(answer(request))
                    }
                });
                let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(max_streams)
                    .serve_connection(TokioIo::new(stream), service);
                serving.spawn(async move {
                    let mut serve = std::pin::pin!(serve);
                    tokio::select! {
                        _ = serve.as_mut() => {}
                        Ok(()) = leaving.changed() => {
                            serve.as_mut().graceful_shutdown();
                            let _ = serve.await;
                        }
                    }
                });
            }
        });
        server.task = task;
        server
    }

    fn config(&self) -> String {
        routed(&[self.addr]) + "protocol = \"http2\"\n"
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

type Client<B> = SendRequest<B>;

async fn client<B>(gateway: &Running) -> Client<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn call<B>(path: &str, body: B) -> Request<B> {
    Request::post(format!("http://shop.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn requests_arrive_as_http2_with_the_clients_host() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    for _ in 0..10 {
        let answer = gateway.get("/a/b?c").await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("ok"), "{answer:?}");
    }
    assert_eq!(server.connections(), 1);
    let seen = server.seen.lock()[0].clone();
    assert_eq!(seen.version, Version::HTTP_2);
    assert_eq!(seen.authority.as_deref(), Some("gateway.test"));
    assert_eq!(seen.target, "/a/b");
    assert!(!seen.headers.contains_key("host"));
    assert!(!seen.headers.contains_key("transfer-encoding"));
    assert_eq!(seen.headers["x-forwarded-host"], "gateway.test");
    until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
    assert_eq!(gateway.handle.endpoints()[0].idle_connections, 1);
}

#[tokio::test]
async fn trailers_and_trailers_only_answers_stay_what_they_are() {
    // I1.c5
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    let mut client = client(&gateway).await;
    let response = soon(client.send_request(call("/unary", Empty::new())))
        .await
        .unwrap();
    assert!(!response.headers().contains_key("grpc-status"));
    let body = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "reply");

    let response = soon(client.send_request(call("/refused", Empty::new())))
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "7");
    assert_eq!(response.headers()["grpc-message"], "no");
    assert!(http_body::Body::is_end_stream(response.body()));
    assert_eq!(server.seen.lock()[0].headers["te"], "trailers");
}

#[tokio::test]
async fn trailers_that_must_not_be_are_left_out_both_ways() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    let mut client = client(&gateway).await;
    let body = vec![
        Frame::data(Bytes::from_static(b"x")),
        Frame::trailers(trailers()),
    ];
    let request = call("/trailers", frames(body));
    let response = soon(client.send_request(request)).await.unwrap();
    let body = soon(response.into_body().collect()).await.unwrap();
    let found = body.trailers().unwrap().keys().map(ToString::to_string);
    let mut found: Vec<_> = found.collect();
    found.sort();
    let may = ["grpc-message", "grpc-status", "x-checksum"];
    assert_eq!(found, may);
    assert_eq!(body.to_bytes(), may.join(" "));
}

/// Trailers of which nothing is left are an ordinary end.
#[tokio::test]
async fn trailers_that_are_all_left_out_end_the_body() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    let mut client = client(&gateway).await;
    let mut barred = HeaderMap::new();
    barred.insert("set-cookie", "a=b".parse().unwrap());
    let body = vec![
        Frame::data(Bytes::from_static(b"x")),
        Frame::trailers(barred),
    ];
    let response = soon(client.send_request(call("/trailers", frames(body))))
        .await
        .unwrap();
    let body = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes(), "");
}

#[tokio::test]
async fn messages_pass_both_ways_at_once() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    let mut client = client(&gateway).await;
    let (send, receive) = mpsc::unbounded_channel::<Bytes>();
    let messages = futures_util::stream::unfold(receive, async |mut receive| {
        let message = receive.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(message)), receive))
    });
    let request = call("/both", StreamBody::new(messages.boxed()));
    let response = soon(client.send_request(request)).await.unwrap();
    let mut replies = BodyStream::new(response.into_body());
    for turn in 0..20 {
        let message = Bytes::from(format!("message {turn}"));
        send.send(message.clone()).unwrap();
        // The request has not ended.
        let reply = soon(replies.next()).await.unwrap().unwrap();
        assert_eq!(reply.into_data().unwrap(), message);
    }
    drop(send);
    let end = soon(replies.next()).await.unwrap().unwrap();
    assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
}

async fn hold(gateway: &Running, server: &Server, calls: usize) -> Vec<JoinHandle<u16>> {
    let before = server.running();
    let mut tasks = Vec::new();
    for call in 1..=calls {
        let mut stream = gateway.connect().await;
        tasks.push(tokio::spawn(async move {
            let get = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
            stream.write_all(get).await.unwrap();
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            crate::support::Answer::parse(&bytes).status
        }));
        until(|| server.running() == before + call).await;
    }
    tasks
}

#[tokio::test]
async fn calls_share_connections_up_to_what_either_side_admits() {
    for (of_server, of_gateway, calls, connections) in
        [(100, 100, 8, 1), (100, 3, 8, 3), (2, 100, 7, 4)]
    {
        let server = Server::start(of_server).await;
        let config = server.config() + &format!("max_streams = {of_gateway}\n");
        let gateway = Running::start(&config).await;
        // The server has said how many it takes once it has answered.
        assert_eq!(gateway.get("/").await.status, 200);
        until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
        server.open.send_replace(false);
        let held = hold(&gateway, &server, calls).await;
        assert_eq!(
            server.connections(),
            connections,
            "{of_server} {of_gateway}"
        );
        server.open.send_replace(true);
        for call in held {
            assert_eq!(soon(call).await.unwrap(), 200);
        }
    }
}

#[tokio::test]
async fn a_burst_before_the_first_connection_opens_one() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    let calls = (0..20).map(|_| gateway.get("/"));
    for answer in soon(futures_util::future::join_all(calls)).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_is_idle_too_long_takes_no_more() {
    let server = Server::start(100).await;
    let clock = ManualClock::new();
    let config = server.config() + "idle_timeout = \"30s\"\n";
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for (wait, connections) in [(0, 1), (29, 1), (30, 2), (29, 2)] {
        clock.advance(Duration::from_secs(wait));
        assert_eq!(gateway.get("/").await.status, 200);
        until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
        assert_eq!(server.connections(), connections, "{wait}");
    }
}

#[tokio::test]
async fn a_connection_that_is_leaving_ends_its_calls_and_takes_no_more() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    assert_eq!(gateway.get("/").await.status, 200);
    for round in 2..=6 {
        server.open.send_replace(false);
        let held = hold(&gateway, &server, 1).await;
        server.leave.send_modify(|times| *times += 1);
        server.open.send_replace(true);
        for call in held {
            assert_eq!(soon(call).await.unwrap(), 200, "{round}");
        }
        for _ in 0..5 {
            assert_eq!(gateway.get("/").await.status, 200, "{round}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_and_no_other() {
    let server = Server::start(100).await;
    let gateway = Running::start(&server.config()).await;
    assert_eq!(gateway.get("/").await.status, 200);
    server.open.send_replace(false);
    let stays = hold(&gateway, &server, 1).await;
    let leaves = hold(&gateway, &server, 1).await;
    for call in leaves {
        call.abort();
    }
    until(|| server.running() == 1).await;
    server.open.send_replace(true);
    for call in stays {
        assert_eq!(soon(call).await.unwrap(), 200);
    }
    assert_eq!(server.connections(), 1);
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a raw server does with a request.
#[derive(Clone, Copy, Debug)]
enum Does {
    Answers,
    /// Resets its stream with this code (RFC 9113, section 7).
    Resets(u32),
    /// Says goodbye with this code, and whether it has taken the request; then closes.
    Leaves(u32, bool),
    Closes,
    Nothing,
}

/// A server that takes requests whole and does this with one after the other.
struct Scripted {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    async fn start(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                open.spawn(scripted(stream, script, count));
            }
        });
        Self {
            addr,
            requests,
            task,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn scripted(mut stream: TcpStream, script: &[Does], count: Arc<AtomicUsize>) {
    let settings = frame(4, 0, 0, &[]);
    stream.write_all(&settings).await.unwrap();
    let mut bytes = vec![0; 24];
    stream.read_exact(&mut bytes).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        bytes.resize(length as usize, 0);
        stream.read_exact(&mut bytes).await.unwrap();
        let ends = matches!(head[3], HEADERS | DATA) && head[4] & END_STREAM != 0;
        if !ends {
            continue;
        }
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let number = count.fetch_add(1, Ordering::SeqCst);
        let (answer, stays) = match script.get(number).unwrap_or(&Does::Answers) {
            // `:status: 200`
            Does::Answers => (frame(HEADERS, END_STREAM | END_HEADERS, id, &[0x88]), true),
            Does::Resets(code) => (frame(RESET, 0, id, &code.to_be_bytes()), true),
            Does::Leaves(code, taken) => {
                let last = if *taken { id } else { id - 1 };
                let told = [last.to_be_bytes(), code.to_be_bytes()].concat();
                (frame(GOAWAY, 0, 0, &told), false)
            }
            Does::Closes => (Vec::new(), false),
            Does::Nothing => (Vec::new(), true),
        };
        let written = stream.write_all(&answer).await;
        if written.is_err() || !stays {
            return;
        }
    }
}

/// RFC 9113, sections 6.8 and 8.7: what the server says that it has not looked at was not sent,
/// whatever the method; everything else may have been acted on.
#[tokio::test]
async fn only_what_the_server_has_not_looked_at_is_sent_again_whatever_the_method() {
    use Does::{Answers, Closes, Leaves, Nothing, Resets};
    const NO_ERROR: u32 = 0;
    const PROTOCOL_ERROR: u32 = 1;
    const REFUSED: u32 = 7;
    const CANCEL: u32 = 8;
    let short = "content-length: 2\r\n\r\nhi";
    let rows: [(&'static [Does], &str, &str, u16, usize); 19] = [
        (&[Resets(REFUSED)], "POST", "\r\n", 200, 2),
        (&[Resets(REFUSED)], "PATCH", "\r\n", 200, 2),
        (&[Resets(REFUSED)], "GET", "\r\n", 200, 2),
        // The body has passed whole, and is kept.
        (&[Resets(REFUSED)], "POST", short, 200, 2),
        // Once.
        (&[Resets(REFUSED), Resets(REFUSED)], "POST", "\r\n", 502, 2),
        (&[Leaves(NO_ERROR, false)], "POST", "\r\n", 200, 2),
        (&[Leaves(NO_ERROR, false)], "POST", short, 200, 2),
        (&[Leaves(NO_ERROR, false)], "GET", "\r\n", 200, 2),
        // It was taken, or nothing is said of it.
        (&[Leaves(NO_ERROR, true)], "POST", "\r\n", 502, 1),
        (&[Leaves(NO_ERROR, true)], "POST", short, 502, 1),
        (&[Leaves(NO_ERROR, true)], "GET", "\r\n", 200, 2),
        (&[Leaves(PROTOCOL_ERROR, true)], "POST", "\r\n", 502, 1),
        (&[Resets(CANCEL)], "POST", "\r\n", 502, 1),
        (&[Resets(CANCEL)], "GET", "\r\n", 200, 2),
        (&[Closes], "POST", "\r\n", 502, 1),
        (&[Closes], "GET", "\r\n", 200, 2),
        (&[Nothing], "POST", "\r\n", 504, 1),
        (&[Nothing], "GET", "\r\n", 200, 2),
        (&[Answers], "POST", "\r\n", 200, 1),
    ];
    for (script, method, rest, status, requests) in rows {
        let name = format!("{method} {rest:?}: {script:?}");
        let server = Scripted::start(script).await;
        let patience = match script {
            [Nothing] => "500ms",
            _ => "20s",
        };
        let more = format!(
            "protocol = \"http2\"\nreplay_bytes = 2\ntry_timeout = \"{patience}\"\n\
             response_timeout = \"30s\"\n"
        );
        let gateway = Running::start(&(routed(&[server.addr]) + &more)).await;
        let answer = gateway
            .raw(&format!(
                "{method} / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{rest}"
            ))
            .await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert_eq!(server.requests(), requests, "{name}");
    }
}
