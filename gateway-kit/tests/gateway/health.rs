//! Health checks, and endpoints that die and come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_kit::EndpointState;
use http::Response;
use http_body_util::Full;
use resilience_core::clock::ManualClock;
use tokio::net::{TcpListener, TcpSocket};

use crate::support::{Running, Seen, Upstream, parsed, read_head, routed, soon, until};

const QUICK: &str = "health = { path = \"/up\", interval = \"20ms\", timeout = \"10s\", healthy = 2, unhealthy = 2 }\n";

/// Answers checks of `/up` with 503 while the switch is on.
async fn checked(sick: &Arc<AtomicBool>) -> Upstream {
    let sick = Arc::clone(sick);
    Upstream::answering(move |seen| {
        let bad = seen.target.starts_with("/up") && sick.load(Ordering::SeqCst);
        let response = Response::builder().status(if bad { 503 } else { 200 });
        response.body(Full::from("x")).unwrap()
    })
    .await
}

fn requests(upstream: &Upstream) -> usize {
    let checks = |seen: &&Seen| seen.header("user-agent") == Some("gateway-kit/health");
    let seen = upstream.seen.lock();
    seen.len() - seen.iter().filter(checks).count()
}

fn endpoint(gateway: &Running, addr: SocketAddr) -> EndpointState {
    let address = addr.to_string();
    let mut endpoints = gateway.handle.endpoints().into_iter();
    endpoints.find(|one| one.address == address).unwrap()
}

#[tokio::test]
async fn an_unhealthy_endpoint_gets_no_requests_until_it_is_healthy_again() {
    let sick = Arc::new(AtomicBool::new(false));
    let (other, sometimes) = (Upstream::start().await, checked(&sick).await);
    let gateway = Running::start(&(routed(&[other.addr, sometimes.addr]) + QUICK)).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((requests(&other), requests(&sometimes)), (5, 5));

    sick.store(true, Ordering::SeqCst);
    until(|| !endpoint(&gateway, sometimes.addr).healthy).await;
    let up = |number| {
        let addr = sometimes.addr;
        format!("lb_backend_up{{service=\"shop\",backend=\"{addr}\"}} {number}")
    };
    assert!(gateway.handle.metrics().contains(&up(0)));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((requests(&other), requests(&sometimes)), (15, 5));
    // What the checks found is nothing that the breaker or the ejection count.
    let state = endpoint(&gateway, sometimes.addr);
    assert_eq!((state.ejected_for, state.is_up), (None, false));

    sick.store(false, Ordering::SeqCst);
    until(|| endpoint(&gateway, sometimes.addr).healthy).await;
    assert!(gateway.handle.metrics().contains(&up(1)));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((requests(&other), requests(&sometimes)), (20, 10));
}

#[tokio::test]
async fn a_check_is_sent_as_it_is_configured() {
    let upstream = Upstream::answering(|seen| {
        let good = seen.target == "/deep/check?full=1" && seen.header("host") == Some("probe.test");
        let response = Response::builder().status(if good { 418 } else { 200 });
        response.body(Full::from("x")).unwrap()
    })
    .await;
    let health = "balance = { refuse_unhealthy = true }\n[upstream.shop.health]\n\
                  path = \"/deep/check?full=1\"\nhost = \"probe.test\"\nstatuses = [\"300-399\", 418]\n\
                  interval = \"20ms\"\ninitial = \"unhealthy\"\n";
    let gateway = Running::start(&(routed(&[upstream.addr]) + health)).await;
    until(|| endpoint(&gateway, upstream.addr).healthy).await;
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn before_the_first_good_check_nobody_is_asked_if_that_is_wanted() {
    let sick = Arc::new(AtomicBool::new(true));
    let upstream = checked(&sick).await;
    let health = "required = true\nbalance = { refuse_unhealthy = true }\n\
                  health = { path = \"/up\", interval = \"20ms\", initial = \"unhealthy\" }\n";
    let gateway = Running::start(&(routed(&[upstream.addr]) + health)).await;
    let answer = gateway.get("/").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("no_endpoint"))
    );
    assert_eq!(gateway.get("/health/ready").await.status, 503);
    assert_eq!(requests(&upstream), 0);
    sick.store(false, Ordering::SeqCst);
    until(|| endpoint(&gateway, upstream.addr).healthy).await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_unhealthy() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let health = "health = { interval = \"10ms\", timeout = \"50ms\", unhealthy = 2 }\n";
    let gateway = Running::start(&(routed(&[addr]) + health)).await;
    until(|| !endpoint(&gateway, addr).healthy).await;
}

#[tokio::test]
async fn a_killed_endpoint_costs_what_ran_there_and_a_restarted_one_gets_requests_again() {
    // I2.c3
    let one = Upstream::start().await;
    // The port is ours and nobody listens yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let clock = ManualClock::new();
    let breaker = "[upstream.shop.breaker]\nconsecutive_failures = 2\nreset_timeout = \"30s\"\n";
    let config = routed(&[one.addr, addr]) + breaker;
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(one.calls(), 20);
    assert!(!endpoint(&gateway, addr).is_up);

    let other = Upstream::listening(socket.listen(64).unwrap());
    clock.advance(Duration::from_secs(60));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert!(other.calls() >= 5, "{}", other.calls());

    drop(one);
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(gateway.get("/").await.status != 200);
    }
    // Only a request on a connection that died with it.
    assert!(failed <= 1, "{failed}");
}

#[tokio::test]
async fn checks_end_with_the_endpoint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = routed(&[]).replace("endpoints = []", "discovery = { api = true }")
        + "health = { interval = \"10ms\" }\n";
    let gateway = Running::start(&config).await;
    let endpoint = gateway_kit::config::EndpointConfig::new(url.try_into().unwrap());
    let time = Duration::from_secs(60);
    gateway.handle.register("shop", &endpoint, time).unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    assert!(gateway.handle.deregister("shop", endpoint.url.authority()));
    // The check that runs is given up, and its connection closed.
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    assert!(matches!(soon(read).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn what_was_found_out_outlives_a_change_of_the_checks() {
    let sick = Arc::new(AtomicBool::new(true));
    let upstream = checked(&sick).await;
    let config = routed(&[upstream.addr]) + QUICK;
    let gateway = Running::start(&config).await;
    until(|| !endpoint(&gateway, upstream.addr).healthy).await;
    // The new checks begin with what is known, and not with `initial`.
    gateway
        .handle
        .reload(parsed(&config.replace("20ms", "19ms")));
    assert!(!endpoint(&gateway, upstream.addr).healthy);
    sick.store(false, Ordering::SeqCst);
    until(|| endpoint(&gateway, upstream.addr).healthy).await;
}
