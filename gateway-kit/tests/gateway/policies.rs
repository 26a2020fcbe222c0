//! Balancing, breakers and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use resilience_core::breaker::{Mode, State};
use resilience_core::clock::ManualClock;
use tokio::net::TcpListener;

use crate::support::{Running, Upstream, nobody, read_head, routed};

const BREAKER: &str =
    "[upstream.shop.breaker]\nconsecutive_failures = 3\nreset_timeout = \"30s\"\n";

#[tokio::test]
async fn three_endpoints_get_a_third_of_the_requests_each() {
    // I2.c1
    let upstreams = [
        Upstream::start().await,
        Upstream::start().await,
        Upstream::start().await,
    ];
    let addrs: Vec<_> = upstreams.iter().map(|upstream| upstream.addr).collect();
    let gateway = Running::start(&routed(&addrs)).await;
    for _ in 0..300 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    for upstream in &upstreams {
        assert_eq!(upstream.calls(), 100);
    }
}

#[tokio::test]
async fn a_dead_endpoint_costs_no_request_while_a_sibling_lives() {
    // I3.c3
    let upstream = Upstream::start().await;
    let config = routed(&[nobody().await, upstream.addr]) + BREAKER;
    let gateway = Running::start(&config).await;
    for sent in 1..=20 {
        let raw = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
        assert_eq!(gateway.raw(raw).await.status, 200);
        assert_eq!(upstream.calls(), sent);
    }
    assert_eq!(
        gateway.handle.breaker("shop", 0).unwrap().state(),
        State::Open
    );
    assert_eq!(
        gateway.handle.breaker("shop", 1).unwrap().state(),
        State::Closed
    );
}

#[tokio::test]
async fn with_all_endpoints_down_every_answer_is_503_with_retry_after() {
    // I2.c4
    let config = routed(&[nobody().await, nobody().await]) + BREAKER;
    let gateway = Running::start(&config).await;
    for _ in 0..20 {
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 503);
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=40).contains(&wait), "{wait}");
    }
    for breaker in gateway.handle.breakers() {
        assert_eq!(breaker.state(), State::Open, "{}", breaker.name());
    }
}

#[tokio::test]
async fn the_breaker_of_a_service_hears_how_calls_end_and_nothing_of_what_was_not_tried() {
    let healthy = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&healthy);
    let upstream = Upstream::answering(move |_| {
        let status = if switch.load(Ordering::SeqCst) {
            200
        } else {
            503
        };
        let response = Response::builder().status(status);
        response.body(Full::from("x")).unwrap()
    })
    .await;
    let clock = ManualClock::new();
    let up = Upstream::start().await;
    // The endpoints' own never open.
    let never = "breaker = { failure_rate = \"off\", consecutive_failures = 1000 }\n\
                 ejection = false\n";
    let config = format!(
        "{}{never}[upstream.shop.service_breaker]\nconsecutive_failures = 3\nreset_timeout = \"30s\"\n\
         [[route]]\nprefix = \"/up\"\nupstream = \"up\"\n\
         [upstream.up]\nendpoints = [\"http://{}\"]\n",
        routed(&[nobody().await, upstream.addr]),
        up.addr
    );
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    let breaker = gateway.handle.service_breaker("shop").unwrap();
    assert!(gateway.handle.service_breaker("up").is_none());
    for endpoint in gateway.handle.breakers() {
        endpoint.set_mode(Mode::ForcedOpen);
    }
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.json()["code"], "circuit_open");
    }
    assert_eq!(breaker.snapshot().failures, 0, "nobody was asked");
    for endpoint in gateway.handle.breakers() {
        endpoint.set_mode(Mode::Automatic);
    }
    // One outcome for each call, though some try two endpoints.
    for failed in [1, 2, 0] {
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(gateway.get("/").await.body, "x");
        assert_eq!(breaker.snapshot().failures, failed);
    }
    let answer = gateway.get("/").await;
    assert_eq!(answer.json()["code"], "circuit_open");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((20..=40).contains(&wait), "{wait}");
    assert_eq!(upstream.calls(), 3);
    assert_eq!(gateway.get("/up").await.status, 200);
    let metrics = gateway.handle.metrics();
    for line in [
        "circuit_breaker_state{name=\"shop\"} 2",
        "circuit_breaker_rejected_total{name=\"shop\"} 1",
        "circuit_breaker_transitions_total{name=\"shop\",from=\"closed\",to=\"open\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("name=\"up\""), "{metrics}");

    healthy.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(60));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn an_open_breaker_answers_503_without_a_call_and_closes_after_recovery() {
    let healthy = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&healthy);
    let upstream = Upstream::answering(move |_| {
        let status = if switch.load(Ordering::SeqCst) {
            200
        } else {
            500
        };
        Response::builder()
            .status(status)
            .body(Full::from("x"))
            .unwrap()
    })
    .await;
    let clock = ManualClock::new();
    let config = routed(&[upstream.addr]) + BREAKER;
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.status, 500);
    }
    for _ in 0..5 {
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["code"], "circuit_open");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        // The reset timeout is spread by a jitter.
        assert!((20..=40).contains(&wait), "{wait}");
    }
    assert_eq!(upstream.calls(), 3);
    let metrics = gateway.handle.metrics();
    let name = format!("name=\"shop/{}\"", upstream.addr);
    assert!(
        metrics.contains(&format!("circuit_breaker_state{{{name}}} 2")),
        "{metrics}"
    );
    assert!(
        metrics.contains(&format!("circuit_breaker_rejected_total{{{name}}} 5")),
        "{metrics}"
    );

    healthy.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(60));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(
        gateway.handle.breaker("shop", 0).unwrap().state(),
        State::Closed
    );
}

#[tokio::test]
async fn an_ignored_status_is_passed_on_and_never_opens_the_breaker() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .status(503)
            .header("retry-after", "7")
            .body(Full::from("my own dependency is down"))
            .unwrap()
    })
    .await;
    let config = routed(&[upstream.addr]) + "ignored_statuses = [503]\n" + BREAKER;
    let gateway = Running::start(&config).await;
    for _ in 0..10 {
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
    assert_eq!(upstream.calls(), 10);
}

#[tokio::test]
async fn the_eleventh_quick_request_is_429_and_one_more_passes_after_600_ms() {
    // I3.c1
    let upstream = Upstream::start().await;
    let clock = ManualClock::new();
    let limit = "[rate_limit]\nrequests = 100\nwindow = \"1m\"\nburst = 10\n";
    let config = routed(&[upstream.addr]) + limit;
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("x-ratelimit-limit"), Some("10"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(answer.header("x-ratelimit-reset"), Some("6"));
    assert_eq!(answer.json()["code"], "rate_limited");
    clock.advance(Duration::from_millis(599));
    assert_eq!(gateway.get("/").await.status, 429);
    clock.advance(Duration::from_millis(1));
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.get("/").await.status, 429);
    let get =
        "GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 127.0.0.9\r\nconnection: close\r\n\r\n";
    assert_eq!(
        gateway.raw(get).await.status,
        429,
        "a spoofed address is no new client"
    );
    assert_eq!(
        gateway.raw_from("127.0.0.2", get).await.status,
        200,
        "another client"
    );
    assert_eq!(upstream.calls(), 12);
    // Health is not limited.
    assert_eq!(gateway.get("/health/live").await.status, 200);
    assert!(
        gateway
            .handle
            .metrics()
            .contains("rate_limit_rejected_total{limit=\"address\"} 4")
    );
}

/// What the call came to, not what a try on the way did.
#[tokio::test]
async fn the_breaker_of_a_service_hears_the_last_try_of_a_call() {
    let (well, mute) = (
        Upstream::start().await,
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let config = format!(
        "{}breaker = {{ failure_rate = \"off\", consecutive_failures = 1000 }}\nejection = false\n\
         [upstream.shop.service_breaker]\nconsecutive_failures = 1\n",
        routed(&[mute.local_addr().unwrap(), well.addr]),
    );
    let gateway = Running::start(&config).await;
    let count = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&count);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = mute.accept().await {
            read_head(&mut stream).await;
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_ne!(count.load(Ordering::SeqCst), 0);
    let breaker = gateway.handle.service_breaker("shop").unwrap();
    assert_eq!(breaker.state(), State::Closed);
    // A call that a POST cannot try twice fails.
    let post = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for _ in 0..2 {
        gateway.raw(post).await;
    }
    assert_eq!(breaker.state(), State::Open);
    task.abort();
}
