//! Endpoints that come and go while the gateway runs.

use std::path::PathBuf;
use std::time::Duration;

use gateway_kit::RegisterError;
use gateway_kit::config::EndpointConfig;
use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Answer, Running, Upstream, parsed, read_head, routed, soon, until};

fn found_by(discovery: &str) -> String {
    let discovery = format!("discovery = {{ {discovery} }}");
    routed(&[]).replace("endpoints = []", &discovery)
}

fn endpoint(addr: impl std::fmt::Display) -> EndpointConfig {
    EndpointConfig::new(format!("http://{addr}").try_into().unwrap())
}

fn addresses(gateway: &Running) -> Vec<String> {
    let endpoints = gateway.handle.endpoints().into_iter();
    endpoints.map(|one| one.address).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_endpoint_is_registered_renewed_and_forgotten_when_its_time_is_over() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let clock = ManualClock::new();
    let gateway = Running::start_with_clock(&found_by("api = true"), clock.clone()).await;
    let answer = gateway.get("/").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("no_endpoint"))
    );

    let handle = &gateway.handle;
    handle.register("shop", &endpoint(a.addr), MINUTE).unwrap();
    handle.register("shop", &endpoint(b.addr), MINUTE).unwrap();
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((a.calls(), b.calls()), (5, 5));

    clock.advance(MINUTE - Duration::from_secs(1));
    handle.register("shop", &endpoint(a.addr), MINUTE).unwrap();
    assert_eq!(addresses(&gateway).len(), 2);
    clock.advance(Duration::from_secs(1));
    // Nobody asks: it is looked through every second.
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    until(|| addresses(&gateway) == [a.addr.to_string()]).await;
    let before = b.calls();
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(b.calls(), before);
    assert!(handle.deregister("shop", &a.addr.to_string()));
    assert!(!handle.deregister("shop", &a.addr.to_string()));
    assert_eq!(gateway.get("/").await.status, 503);
    // Its series are gone with it.
    assert!(!handle.metrics().contains(&a.addr.to_string()));
}

#[tokio::test]
async fn a_registration_that_is_not_allowed_changes_nothing() {
    let gateway = Running::start(&found_by("api = true")).await;
    let good = endpoint("127.0.0.1:1");
    let mut heavy = good.clone();
    heavy.weight = 1001;
    let day = Duration::from_secs(86_400);
    for (upstream, endpoint, time, wanted) in [
        ("ship", &good, MINUTE, RegisterError::UnknownUpstream),
        ("shop", &heavy, MINUTE, RegisterError::Weight),
        ("shop", &good, Duration::ZERO, RegisterError::Time),
        ("shop", &good, day + MINUTE, RegisterError::Time),
    ] {
        let refused = gateway.handle.register(upstream, endpoint, time);
        assert_eq!(refused, Err(wanted));
    }
    assert!(addresses(&gateway).is_empty());
    let closed = Running::start(&routed(&["127.0.0.1:1".parse().unwrap()])).await;
    let refused = closed.handle.register("shop", &good, MINUTE);
    assert_eq!(refused, Err(RegisterError::NotOpen));
}

#[tokio::test]
async fn what_runs_on_an_endpoint_that_goes_ends_and_then_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let gateway = Running::start(&found_by("api = true")).await;
    gateway
        .handle
        .register("shop", &endpoint(addr), MINUTE)
        .unwrap();
    let mut client = gateway.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    assert!(gateway.handle.deregister("shop", &addr.to_string()));
    assert_eq!(gateway.get("/").await.status, 503);

    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    stream.write_all(answer).await.unwrap();
    let mut bytes = Vec::new();
    soon(client.read_to_end(&mut bytes)).await.unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    assert!(matches!(soon(stream.read(&mut [0])).await, Ok(0) | Err(_)));
}

/// A file that is removed afterwards.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let name = format!("{}-{name}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_file_of_endpoints_is_read_again_and_a_bad_one_changes_nothing() {
    let a = Upstream::start().await;
    let file = File::new("endpoints.toml");
    file.write(&format!("endpoints = [\"http://{}\"]", a.addr));
    let discovery = format!("file = {:?}, interval = \"10ms\"", file.0);
    let gateway = Running::start(&found_by(&discovery)).await;
    until(|| addresses(&gateway) == [a.addr.to_string()]).await;
    assert_eq!(gateway.get("/").await.status, 200);

    // A marker that a good file sets tells when the bad ones before it were read.
    for (round, bad) in [
        "endpoints = []",
        "endpoints = [\"http://127.0.0.1:1\", 7]",
        "endpoints = [{ url = \"http://127.0.0.1:1\", weight = 1001 }]",
        "endpoint = []",
        "no toml",
    ]
    .into_iter()
    .enumerate()
    {
        file.write(bad);
        // Some polls later it has been seen, and the endpoint is there.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(addresses(&gateway), [a.addr.to_string()], "{bad}");
        }
        let priority = round + 1;
        let url = format!("{{ url = \"http://{}\", priority = {priority} }}", a.addr);
        file.write(&format!("endpoints = [{url}]"));
        let seen = || usize::from(gateway.handle.endpoints()[0].priority) == priority;
        until(seen).await;
    }
    std::fs::remove_file(&file.0).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_several_know_is_one_and_goes_with_who_told_of_it() {
    let file = File::new("several.toml");
    file.write("endpoints = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]");
    let listed = format!("file = {:?}, interval = \"10ms\"", file.0);
    let gateway = Running::start(&found_by(&format!("api = true, {listed}"))).await;
    for port in [2, 3] {
        let known = endpoint(format!("127.0.0.1:{port}"));
        gateway.handle.register("shop", &known, MINUTE).unwrap();
    }
    let all = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
    until(|| addresses(&gateway) == all).await;
    // Those who may no longer register are forgotten, and the others are not.
    let reload = |config: &str| {
        let report = gateway.handle.reload(parsed(config));
        assert!(!report.is_refused(), "{report:?}");
        addresses(&gateway)
    };
    assert_eq!(reload(&found_by(&listed)), all[..2]);
    assert_eq!(
        reload(&found_by(&format!("api = true, {listed}"))),
        all[..2]
    );
    let other = routed(&["127.0.0.1:4".parse().unwrap()]);
    assert_eq!(reload(&other), ["127.0.0.1:4"]);
}

#[tokio::test]
async fn a_json_file_says_the_same() {
    let a = Upstream::start().await;
    let file = File::new("endpoints.json");
    let url = format!("http://{}", a.addr);
    let list = serde_json::json!({ "endpoints": [{ "url": url, "weight": 3, "zone": "a" }] });
    file.write(&list.to_string());
    let discovery = format!("file = {:?}, interval = \"10ms\"", file.0);
    let gateway = Running::start(&found_by(&discovery)).await;
    until(|| !addresses(&gateway).is_empty()).await;
    let state = &gateway.handle.endpoints()[0];
    assert_eq!((state.weight, state.zone.as_deref()), (3, Some("a")));
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_name_is_resolved_to_its_addresses() {
    let a = Upstream::start().await;
    let discovery = format!("dns = [\"http://localhost:{}\"]", a.addr.port());
    let gateway = Running::start(&found_by(&discovery)).await;
    until(|| addresses(&gateway).contains(&a.addr.to_string())).await;
    let raw = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(gateway.raw(raw).await.status, 200);
    let host = format!("localhost:{}", a.addr.port());
    assert_eq!(a.last().header("host"), Some(host.as_str()));
}
