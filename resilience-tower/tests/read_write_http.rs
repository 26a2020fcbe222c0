//! HTTP backends with versions on loopback: reads see the writes before them, also after a failover.
#![cfg(all(feature = "http", feature = "read-write"))]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_core::route::{Counter, Reason};
use resilience_tower::read_write::http::{ByMethod, Node, Origin};
use resilience_tower::read_write::per_call::{Ask, ReadWrite, Went};
use resilience_tower::read_write::{
    Checkout, Cluster, Config, Error, Failure, Intent, NoRoute, Node as _, ReadFreshness, Role,
    Signer, SigningKey, Token, TokenCookie, TokenHeader, Why,
};
use resilience_tower::retry::http::ReplayBody;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};

type Body = Full<Bytes>;
type HttpClient = Client<HttpConnector, ReplayBody<Body>>;
type Backend = Node<HttpClient, ReplayBody<Body>>;
type Split = ReadWrite<Backend, ByMethod<fn(&ClientError) -> Failure>>;

/// A store whose nodes are behind HTTP: a log of values, of which each node has so many.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: Vec<Copy>,
}

struct Copy {
    role: Role,
    epoch: u64,
    history: Option<String>,
    log: Vec<Bytes>,
    down: bool,
    paused: bool,
    writes: u64,
    reads: u64,
}

impl Store {
    fn new(nodes: usize) -> Self {
        let node = |index| Copy {
            role: if index == 0 {
                Role::Primary
            } else {
                Role::Replica
            },
            epoch: 1,
            history: None,
            log: Vec::new(),
            down: false,
            paused: false,
            writes: 0,
            reads: 0,
        };
        let nodes = (0..nodes).map(node).collect();
        Self(Arc::new(Mutex::new(State { nodes })))
    }

    fn answer(&self, node: usize, method: &Method, body: Bytes) -> Response<Body> {
        let mut state = self.0.lock();
        let copy = &mut state.nodes[node];
        let mut response = Response::builder();
        if copy.down {
            return response.status(503).body(Body::default()).unwrap();
        }
        let mut value = Bytes::new();
        match *method {
            Method::GET => {
                copy.reads += 1;
                value = copy.log.last().cloned().unwrap_or_default();
            }
            Method::HEAD => {}
            _ if copy.role == Role::Replica => {
                return response.status(421).body(Body::default()).unwrap();
            }
            _ => {
                copy.writes += 1;
                copy.log.push(body);
            }
        }
        if let Some(history) = &copy.history {
            response = response.header("x-node-history", history);
        }
        response
            .header("x-node-role", copy.role.as_str())
            .header("x-node-epoch", copy.epoch)
            .header("x-node-position", copy.log.len())
            .header("x-node-cluster", 7)
            .body(Full::new(value))
            .unwrap()
    }

    /// Replicas take one more value from the primary of the newest epoch.
    fn apply(&self, node: usize) {
        let mut state = self.0.lock();
        let primaries = state
            .nodes
            .iter()
            .filter(|node| node.role == Role::Primary && !node.down);
        let Some(primary) = primaries.max_by_key(|node| node.epoch) else {
            return;
        };
        let (log, epoch) = (primary.log.clone(), primary.epoch);
        let copy = &mut state.nodes[node];
        if copy.role == Role::Replica && !copy.paused {
            copy.epoch = epoch;
            let next = (copy.log.len() + 1).min(log.len());
            copy.log = log[..next].to_vec();
        }
    }

    fn change<R>(&self, node: usize, change: impl FnOnce(&mut Copy) -> R) -> R {
        change(&mut self.0.lock().nodes[node])
    }

    /// `node` takes over, with what it has.
    fn promote(&self, node: usize) {
        self.change(node, |copy| {
            copy.role = Role::Primary;
            copy.history = Some(format!("{}:{}", copy.epoch, copy.log.len()));
            copy.epoch += 1;
        });
    }
}

/// A store of three nodes, and a service over them. Tasks end with it.
struct Bench {
    store: Store,
    service: Split,
    _tasks: JoinSet<()>,
}

fn signer(secret: u8) -> Signer {
    let key = SigningKey::new("k", [secret; 32]).unwrap();
    Signer::new([key]).unwrap().cluster(7)
}

fn rules() -> ByMethod<fn(&ClientError) -> Failure> {
    let signer = signer(7);
    let failure: fn(&ClientError) -> Failure = |error| match error.is_connect() {
        true => Failure::NotSent,
        false => Failure::Lost,
    };
    ByMethod::new()
        .header(TokenHeader::new(signer.clone()))
        .cookie(TokenCookie::new(signer))
        .errors(failure)
}

async fn bench() -> Bench {
    let store = Store::new(3);
    let mut tasks = JoinSet::new();
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    let mut nodes = Vec::new();
    for node in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let backend = Backend::new(client.clone(), &uri).unwrap();
        let path = "/state".parse().unwrap();
        nodes.push((["a", "b", "c"][node], backend.path(path)));
        tasks.spawn(serve(listener, store.clone(), node));
        let store = store.clone();
        tasks.spawn(async move {
            loop {
                // Each at a pace of its own.
                sleep(Duration::from_millis(3 + 4 * node as u64)).await;
                store.apply(node);
            }
        });
    }
    // However slow the machine is, an answer counts, a write waits, and nothing is used up.
    let long = Duration::from_secs(300);
    let plenty = BudgetConfig::new(1.0, 1_000).unwrap();
    let config = Config::builder()
        .observation_ttl(long)
        .max_lag(None)
        .spill(plenty);
    let cluster = Cluster::builder(nodes)
        .config(config.build().unwrap())
        .observe_timeout(long)
        .write_wait(long)
        .retry_budget(RetryBudget::new(plenty))
        .spawn()
        .unwrap();
    Bench {
        store,
        service: ReadWrite::new(cluster, rules()),
        _tasks: tasks,
    }
}

async fn serve(listener: TcpListener, store: Store, node: usize) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let store = store.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let store = store.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes());
                let body = body.unwrap_or_default();
                Ok::<_, Infallible>(store.answer(node, &head.method, body))
            }
        });
        connections.spawn(async move {
            let http1 = hyper::server::conn::http1::Builder::new();
            let _ = http1.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Result<(Response<()>, String), Error<ClientError>>;

impl Bench {
    async fn send(&self, method: Method, value: &str, headers: HeaderMap) -> Answer {
        let mut request = Request::new(Full::new(Bytes::from(value.to_owned())));
        *request.method_mut() = method;
        *request.uri_mut() = "/value".parse().unwrap();
        *request.headers_mut() = headers;
        self.call(request).await
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let called = self.service.clone().oneshot(request);
        let answered = timeout(Duration::from_secs(120), called).await;
        let (head, body) = answered.expect("an answer")?.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Ok((Response::from_parts(head, ()), text))
    }

    async fn write(&self, value: &str) -> (Response<()>, HeaderMap) {
        let (response, _) = self
            .send(Method::POST, value, HeaderMap::new())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        let token = response.headers()["x-read-after"].clone();
        headers.insert("x-read-after", token);
        (response, headers)
    }

    async fn read(&self, headers: HeaderMap) -> Answer {
        self.send(Method::GET, "", headers).await
    }
}

fn went<T>(response: &Response<T>) -> &Went {
    response.extensions().get().expect("where it went")
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// Until it holds; the bound is for a machine that is stuck.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let polled = timeout(Duration::from_secs(120), async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    });
    polled.await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn every_read_sees_the_write_before_it_and_replicas_answer_reads() {
    let bench = bench().await;
    for round in 1..=150_u64 {
        let (written, headers) = bench.write(&round.to_string()).await;
        assert_eq!(
            (&*went(&written).node, went(&written).why),
            ("a", Why::Write)
        );
        let token = written.extensions().get::<Token<Counter>>().unwrap();
        assert_eq!(
            (token.cluster, token.epoch, token.position),
            (7, 1, Counter(round))
        );
        let (read, value) = bench.read(headers).await.unwrap();
        assert!(read.extensions().get::<Token<Counter>>().is_none());
        assert!(
            number(&value) >= round,
            "{value} after {round}, from {:?}",
            went(&read)
        );
    }
    // The same by a cookie, and by a freshness of one's own.
    let (written, _) = bench.write("151").await;
    let cookie = written.headers()[SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().parse().unwrap();
    let (_, value) = bench
        .read([(COOKIE, cookie)].into_iter().collect())
        .await
        .unwrap();
    assert_eq!(value, "151");
    let mut request = Request::new(Body::default());
    let freshness: ReadFreshness<Counter> = ReadFreshness::Primary;
    request.extensions_mut().insert(freshness);
    let (read, value) = bench.call(request).await.unwrap();
    assert_eq!((&*went(&read).node, &*value), ("a", "151"));
    // Once they have it, replicas answer.
    let (_, headers) = bench.write("152").await;
    until("a replica has it", || async {
        let (read, value) = bench.read(headers.clone()).await.unwrap();
        assert_eq!(value, "152");
        went(&read).why == Why::Fresh
    })
    .await;
    for _ in 0..20 {
        let (read, value) = bench.read(headers.clone()).await.unwrap();
        assert_eq!(value, "152");
        assert_ne!(&*went(&read).node, "a");
    }
    let replicas = bench.store.0.lock().nodes[1..]
        .iter()
        .map(|node| node.writes)
        .sum::<u64>();
    assert_eq!(replicas, 0);
}

#[tokio::test]
async fn a_failover_by_epoch_keeps_what_was_kept_and_tells_what_was_lost() {
    let bench = bench().await;
    let (_, kept) = bench.write("1").await;
    until("all have it", || async {
        bench
            .store
            .0
            .lock()
            .nodes
            .iter()
            .all(|node| node.log.len() == 1)
    })
    .await;
    for node in [1, 2] {
        bench.store.change(node, |copy| copy.paused = true);
    }
    let (_, lost) = bench.write("2").await;
    // The primary goes, and `b` takes over without the last write.
    bench.store.change(0, |copy| copy.down = true);
    bench.store.promote(1);
    bench.store.change(2, |copy| copy.paused = false);
    // A write that came meanwhile waits, or is answered by the old primary that it was sent to.
    until("a write on b", || async {
        match bench.send(Method::PUT, "3", HeaderMap::new()).await {
            Ok((written, _)) => &*went(&written).node == "b",
            Err(error) => {
                assert!(error.retry_after().is_some(), "{error:?}");
                false
            }
        }
    })
    .await;
    let (_, value) = bench.read(kept.clone()).await.unwrap();
    assert!(["1", "3"].contains(&&*value), "{value}");
    let error = bench.read(lost.clone()).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoRoute(NoRoute {
                reason: Reason::Diverged,
                ..
            })
        ),
        "{error:?}"
    );
    // The old primary is back, and takes itself for one: it is given nothing.
    let writes = bench.store.change(0, |copy| {
        copy.down = false;
        copy.reads = 0;
        copy.writes
    });
    until("it is fenced", || async {
        bench.service.cluster().snapshot().route.nodes[0].fenced
    })
    .await;
    for value in 4..30 {
        let (written, headers) = bench.write(&value.to_string()).await;
        assert_eq!(&*went(&written).node, "b");
        let (_, read) = bench.read(headers).await.unwrap();
        assert!(number(&read) >= value);
    }
    let (reads, after) = bench.store.change(0, |copy| (copy.reads, copy.writes));
    assert_eq!((reads, after), (0, writes));
}

#[tokio::test]
async fn a_read_goes_elsewhere_when_a_node_fails_and_a_misrouted_write_finds_the_primary() {
    let bench = bench().await;
    let (_, headers) = bench.write("1").await;
    until("replicas answer", || async {
        let (read, _) = bench.read(headers.clone()).await.unwrap();
        went(&read).why == Why::Fresh
    })
    .await;
    // Both replicas answer 503 from now on: no read fails.
    for node in [1, 2] {
        bench.store.change(node, |copy| copy.down = true);
    }
    for _ in 0..10 {
        let (read, value) = bench.read(headers.clone()).await.unwrap();
        assert_eq!((&*went(&read).node, &*value), ("a", "1"));
    }
    bench.store.change(1, |copy| copy.down = false);
    until("b is up", || async {
        bench.service.cluster().snapshot().route.nodes[1].up
    })
    .await;
    // It is switched over by hand, and the first write that is sent to the old primary tells.
    bench.store.change(0, |copy| copy.role = Role::Replica);
    bench.store.promote(1);
    let (written, _) = bench.write("2").await;
    assert_eq!(&*went(&written).node, "b");
}

#[test]
fn the_method_or_a_key_says_what_may_run_twice() {
    let asked = |method, headers: &[(&'static str, &'static str)]| {
        let mut request = Request::new(Body::default());
        *request.method_mut() = method;
        for (name, value) in headers {
            let value = value.parse().unwrap();
            request.headers_mut().insert(*name, value);
        }
        format!("{:?}", rules().checkout(&request))
    };
    let once = format!("{:?}", Checkout::<Counter>::write());
    let twice = format!("{:?}", Checkout::<Counter>::write().idempotent());
    let read = format!("{:?}", Checkout::<Counter>::read(ReadFreshness::Any));
    let key: &[_] = &[("idempotency-key", "1")];
    for (method, headers, expected) in [
        (Method::GET, key, &read),
        (Method::POST, &[], &once),
        (Method::PATCH, &[], &once),
        (Method::POST, key, &twice),
        (Method::PUT, &[], &twice),
        (Method::DELETE, &[], &twice),
    ] {
        assert_eq!(asked(method, headers), *expected);
    }
}

#[tokio::test]
async fn a_token_that_was_not_signed_is_as_none() {
    let bench = bench().await;
    bench.write("1").await;
    // One of a write that nobody made, by the key and by another.
    let token = Token {
        cluster: 7,
        epoch: 1,
        position: Counter(1_000),
    };
    let signed = |secret| {
        let value = TokenHeader::new(signer(secret)).write(&token).unwrap();
        HeaderMap::from_iter([("x-read-after".parse().unwrap(), value)])
    };
    let error = bench.read(signed(7)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoRoute(NoRoute {
                reason: Reason::Future,
                ..
            })
        ),
        "{error:?}"
    );
    let (read, _) = bench.read(signed(8)).await.unwrap();
    assert_eq!(read.status(), StatusCode::OK);
}

/// What a look is made of, told by a service without a network.
#[tokio::test]
async fn a_look_is_answered_with_headers_of_the_documented_form() {
    async fn look(status: u16, headers: &[(&str, &str)]) -> Result<String, String> {
        let requests = Arc::new(AtomicU64::new(0));
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let head = response.body(()).unwrap().into_parts().0;
        let client = {
            let requests = Arc::clone(&requests);
            tower::service_fn(move |request: Request<()>| {
                requests.fetch_add(1, Ordering::Relaxed);
                assert_eq!(request.method(), Method::HEAD);
                assert_eq!(request.uri(), "http://10.0.0.1:80/state?x=1");
                let head = head.clone();
                async move { Ok::<_, std::io::Error>(Response::from_parts(head, ())) }
            })
        };
        let node = Node::<_, ()>::new(client, "http://10.0.0.1:80").unwrap();
        let node = node.path("/state?x=1".parse().unwrap());
        let observed = node.observe(Duration::ZERO).await;
        assert_eq!(requests.load(Ordering::Relaxed), 1);
        observed
            .map(|seen| format!("{seen:?}"))
            .map_err(|error| error.to_string())
    }
    let full = [
        ("x-node-role", "primary"),
        ("x-node-epoch", "2"),
        ("x-node-position", "18446744073709551615"),
        ("x-node-cluster", "7"),
        ("x-node-incarnation", "3"),
        ("x-node-history", "0:5, 1:100"),
    ];
    let seen = look(200, &full).await.unwrap();
    for part in [
        "Primary",
        "epoch: 2",
        "Counter(18446744073709551615)",
        "cluster: 7",
        "incarnation: 3",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(
        seen.contains("Fork { epoch: 1, position: Counter(100) }"),
        "{seen}"
    );
    assert!(
        look(204, &full[..3])
            .await
            .unwrap()
            .contains("history: None")
    );
    for (index, wrong) in [
        (0, "Primary"),
        (0, ""),
        (1, "01"),
        (1, "-1"),
        (2, "18446744073709551616"),
        (2, "1 "),
        (3, "x"),
        (4, ""),
        (5, ""),
        (5, "1"),
        (5, "1:2,"),
        (5, "1:x"),
    ] {
        let mut headers = full;
        headers[index].1 = wrong;
        let name = headers[index].0;
        let error = look(200, &headers).await;
        assert_eq!(
            error,
            Err(format!("the header {name} is missing or malformed"))
        );
    }
    for missing in 0..3 {
        let mut headers = full.to_vec();
        let (name, value) = headers.remove(missing);
        let expected = Err(format!("the header {name} is missing or malformed"));
        assert_eq!(look(200, &headers).await, expected);
        headers.extend([(name, value), (name, value)]);
        assert_eq!(look(200, &headers).await, expected);
    }
    assert_eq!(
        look(404, &full).await,
        Err("the node answered with 404 Not Found".into())
    );
}

/// An acknowledged write is not made again because nobody says where it is.
#[tokio::test]
async fn a_commit_without_a_token_is_not_tried_again() {
    for (role, epoch, known) in [
        ("primary", "3", true),
        ("replica", "3", false),
        ("primary", "x", false),
    ] {
        let client = tower::service_fn(move |_: Request<()>| async move {
            let response = Response::builder()
                .header("x-node-role", role)
                .header("x-node-epoch", epoch)
                .header("x-node-position", 5);
            Ok::<_, std::io::Error>(response.body(()).unwrap())
        });
        let node = Node::<_, ()>::new(client, "http://10.0.0.1:80").unwrap();
        let mut connection = node.connect(0, Intent::Write).await.unwrap();
        match node.position(&mut connection).await {
            Ok(told) => assert_eq!((told, known), ((3, Counter(5)), true)),
            Err(error) => {
                assert!(!known);
                assert_eq!(node.failure(&error), Failure::Failed);
            }
        }
    }
    let broken = tower::service_fn(|_: Request<()>| async {
        Err::<Response<()>, _>(std::io::Error::other("cut off"))
    });
    let node = Node::<_, ()>::new(broken, "http://10.0.0.1:80").unwrap();
    let mut connection = node.connect(0, Intent::Write).await.unwrap();
    let error = node.position(&mut connection).await.unwrap_err();
    assert_eq!(node.failure(&error), Failure::Failed);
    let error = node.observe(Duration::ZERO).await.unwrap_err();
    assert_eq!(node.failure(&error), Failure::Lost);
}

#[tokio::test]
async fn a_request_goes_to_the_address_whatever_its_uri_says() {
    for (uri, expected) in [
        ("/a?b=c", "https://10.0.0.1:8443/a?b=c"),
        ("http://elsewhere/a", "https://10.0.0.1:8443/a"),
        ("elsewhere:80", "https://10.0.0.1:8443/"),
    ] {
        let client = tower::service_fn(move |request: Request<()>| async move {
            assert_eq!(request.uri(), expected);
            Ok::<_, Infallible>(Response::new(()))
        });
        let mut origin = Origin::new(client, "https://10.0.0.1:8443/").unwrap();
        let request = Request::builder().uri(uri).body(()).unwrap();
        origin.ready().await.unwrap().call(request).await.unwrap();
    }
    for wrong in [
        "",
        "/",
        "10.0.0.1",
        "http://10.0.0.1/path",
        "http://",
        "a b",
    ] {
        let error = Origin::new((), wrong).unwrap_err();
        assert_eq!(error.uri, wrong);
    }
}
