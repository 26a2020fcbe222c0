//! Who gets a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gateway_kit::EndpointState;
use http::Response;
use http_body_util::Full;
use resilience_core::clock::ManualClock;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::{Running, Upstream, nobody, read_head, routed, soon, until};

/// A breaker that never opens in these tests.
const PATIENT: &str =
    "[upstream.shop.breaker]\nconsecutive_failures = 1000\nfailure_rate = \"off\"\n";

async fn three() -> [Upstream; 3] {
    [
        Upstream::start().await,
        Upstream::start().await,
        Upstream::start().await,
    ]
}

fn calls(upstreams: &[Upstream]) -> Vec<usize> {
    upstreams.iter().map(Upstream::calls).collect()
}

/// One route from `/` to these endpoints, each with what is said of it.
fn with(endpoints: &[(&Upstream, &str)], settings: &str) -> String {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(upstream, more)| format!("{{ url = \"http://{}\"{more} }}", upstream.addr))
        .collect();
    format!(
        "[[route]]\nprefix = \"/\"\nupstream = \"shop\"\n[upstream.shop]\nendpoints = [{}]\n{settings}\n",
        list.join(", ")
    )
}

fn endpoint(gateway: &Running, upstream: &Upstream) -> EndpointState {
    let address = upstream.addr.to_string();
    let mut endpoints = gateway.handle.endpoints().into_iter();
    endpoints.find(|one| one.address == address).unwrap()
}

async fn get(gateway: &Running, times: usize) {
    for _ in 0..times {
        assert_eq!(gateway.get("/").await.status, 200);
    }
}

/// An upstream that answers 500 while the switch is on.
async fn failing(fails: &Arc<AtomicBool>) -> Upstream {
    let fails = Arc::clone(fails);
    Upstream::answering(move |_| {
        let status = if fails.load(Ordering::SeqCst) {
            500
        } else {
            200
        };
        let response = Response::builder().status(status);
        response.body(Full::from("x")).unwrap()
    })
    .await
}

#[tokio::test]
async fn weights_of_5_3_2_share_100_requests_50_30_20_and_smoothly() {
    // I2.c1
    let upstreams = three().await;
    let [a, b, c] = &upstreams;
    let config = with(
        &[
            (a, ", weight = 5"),
            (b, ", weight = 3"),
            (c, ", weight = 2"),
        ],
        "balance = { strategy = \"weighted_round_robin\" }",
    );
    let gateway = Running::start(&config).await;
    let (mut run, mut longest, mut before) = (0, 0, 0);
    for _ in 0..100 {
        let seen = a.calls();
        get(&gateway, 1).await;
        run = if a.calls() > seen { run + 1 } else { 0 };
        longest = longest.max(run);
        before += 1;
        // At no moment more than one off its share.
        assert!((2 * a.calls()).abs_diff(before) <= 2);
    }
    assert_eq!(calls(&upstreams), [50, 30, 20]);
    assert!(longest <= 2, "{longest}");
}

#[tokio::test]
async fn an_endpoint_that_holds_a_request_gets_no_other_under_least_connections() {
    // I2.c2
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let quick = Upstream::start().await;
    let config = routed(&[slow.local_addr().unwrap(), quick.addr])
        + "balance = { strategy = \"least_connections\" }\n";
    let gateway = Running::start(&config).await;
    let (mut stream, _client) = soon(async {
        loop {
            let mut client = gateway.connect().await;
            let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
            client.write_all(request).await.unwrap();
            tokio::select! {
                accepted = slow.accept() => break (accepted.unwrap().0, client),
                _ = read_head(&mut client) => {}
            }
        }
    })
    .await;
    read_head(&mut stream).await;
    let before = quick.calls();
    get(&gateway, 50).await;
    assert_eq!(quick.calls(), before + 50);
    assert_eq!(gateway.handle.endpoints()[0].in_flight, 1);
}

#[tokio::test]
async fn without_balancing_the_first_endpoint_gets_all() {
    // I2.c5
    let upstreams = three().await;
    let addrs: Vec<_> = upstreams.iter().map(|upstream| upstream.addr).collect();
    let gateway = Running::start(&(routed(&addrs) + "balance = false\n")).await;
    get(&gateway, 30).await;
    assert_eq!(calls(&upstreams), [30, 0, 0]);
}

#[tokio::test]
async fn weights_moved_from_100_0_to_0_100_fail_no_request_and_count_at_once() {
    // I2.c6
    let (blue, green) = (Upstream::start().await, Upstream::start().await);
    let config = with(
        &[(&blue, ", weight = 100"), (&green, ", weight = 0")],
        "balance = { strategy = \"weighted_round_robin\" }",
    );
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    for round in 0..40 {
        if round == 20 {
            let (blue, green) = (blue.addr.to_string(), green.addr.to_string());
            assert!(gateway.handle.set_weight("shop", &green, 100));
            assert!(gateway.handle.drain("shop", &blue));
            assert!(!gateway.handle.drain("shop", "127.0.0.1:1"));
            assert!(!gateway.handle.drain("ship", &blue));
        }
        let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        client.write_all(request).await.unwrap();
        let (head, _) = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!((blue.calls(), green.calls()), (20, 20));
}

#[tokio::test]
async fn requests_of_one_key_stay_together() {
    let upstreams = three().await;
    let addrs: Vec<_> = upstreams.iter().map(|upstream| upstream.addr).collect();
    for (key, a, b) in [
        ("{ header = \"X-User\" }", "x-user: a", "x-user: b"),
        (
            "{ cookie = \"sid\" }",
            "cookie: x=1; sid=a",
            "cookie: sid=b; x=2",
        ),
    ] {
        let balance = format!("balance = {{ strategy = \"consistent_hash\", key = {key} }}\n");
        let gateway = Running::start(&(routed(&addrs) + &balance)).await;
        for line in [a, b] {
            let before = calls(&upstreams);
            for _ in 0..10 {
                let raw =
                    format!("GET / HTTP/1.1\r\nhost: h\r\n{line}\r\nconnection: close\r\n\r\n");
                assert_eq!(gateway.raw(&raw).await.status, 200);
            }
            let after = calls(&upstreams).into_iter().zip(before);
            let more: Vec<_> = after.map(|(after, before)| after - before).collect();
            assert!(more.contains(&10), "{key} {line}: {more:?}");
        }
    }
    for key in ["path", "address"] {
        let balance = format!("balance = {{ strategy = \"consistent_hash\", key = \"{key}\" }}\n");
        let gateway = Running::start(&(routed(&addrs) + &balance)).await;
        let before = calls(&upstreams);
        for n in 0..60 {
            assert_eq!(gateway.get(&format!("/{n}")).await.status, 200);
        }
        let after = calls(&upstreams).into_iter().zip(before);
        let alone = after.filter(|(after, before)| after - before == 60).count();
        // Sixty paths on one of three endpoints would be a broken ring.
        assert_eq!(alone, usize::from(key == "address"), "{key}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_ejected_for_a_time_and_the_last_one_never() {
    let fails = Arc::new(AtomicBool::new(true));
    let (bad, good) = (failing(&fails).await, Upstream::start().await);
    let clock = ManualClock::new();
    let config = routed(&[bad.addr, good.addr]) + "ejection = { time = \"30s\" }\n" + PATIENT;
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..10 {
        gateway.get("/").await;
    }
    assert_eq!((bad.calls(), good.calls()), (5, 5));
    let state = endpoint(&gateway, &bad);
    assert_eq!(
        (state.ejected_for, state.is_up),
        (Some(Duration::from_secs(30)), false)
    );
    get(&gateway, 20).await;
    assert_eq!((bad.calls(), good.calls()), (5, 25));
    let down = format!(
        "lb_backend_up{{service=\"shop\",backend=\"{}\"}} 0",
        bad.addr
    );
    assert!(gateway.handle.metrics().contains(&down));

    fails.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(30));
    get(&gateway, 20).await;
    assert_eq!((bad.calls(), good.calls()), (15, 35));

    fails.store(true, Ordering::SeqCst);
    let alone = Running::start(&(routed(&[bad.addr]) + PATIENT)).await;
    for _ in 0..50 {
        assert_eq!(alone.get("/").await.status, 500);
    }
    assert_eq!(endpoint(&alone, &bad).ejected_for, None);
}

#[tokio::test]
async fn never_more_than_the_allowed_share_is_ejected() {
    let fails = Arc::new(AtomicBool::new(true));
    let bad = [
        failing(&fails).await,
        failing(&fails).await,
        failing(&fails).await,
        failing(&fails).await,
    ];
    let addrs: Vec<_> = bad.iter().map(|upstream| upstream.addr).collect();
    for (share, most) in [("0.25", 1), ("0.5", 2), ("1", 3)] {
        let ejection = format!("ejection = {{ max_share = {share} }}\n");
        let gateway = Running::start(&(routed(&addrs) + &ejection + PATIENT)).await;
        for _ in 0..60 {
            assert_eq!(gateway.get("/").await.status, 500);
        }
        let endpoints = gateway.handle.endpoints();
        let out = endpoints
            .iter()
            .filter(|one| one.ejected_for.is_some())
            .count();
        assert_eq!(out, most, "{share}");
    }
    let gateway = Running::start(&(routed(&addrs) + "ejection = false\n" + PATIENT)).await;
    for _ in 0..60 {
        assert_eq!(gateway.get("/").await.status, 500);
    }
    let endpoints = gateway.handle.endpoints();
    assert!(endpoints.iter().all(|one| one.ejected_for.is_none()));
}

#[tokio::test]
async fn an_endpoint_that_is_back_starts_slowly() {
    let fails = Arc::new(AtomicBool::new(true));
    let (bad, good) = (failing(&fails).await, Upstream::start().await);
    let clock = ManualClock::new();
    let config = routed(&[bad.addr, good.addr])
        + "balance = { slow_start = \"100s\" }\nejection = { time = \"30s\" }\n"
        + PATIENT;
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..10 {
        gateway.get("/").await;
    }
    fails.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(31));
    let before = bad.calls();
    get(&gateway, 300).await;
    let cold = bad.calls() - before;
    // A tenth of its share is about 15 to 30 of 300; the whole is 150.
    assert!((1..100).contains(&cold), "{cold}");
    clock.advance(Duration::from_secs(100));
    let before = bad.calls();
    get(&gateway, 300).await;
    assert_eq!(bad.calls() - before, 150);
}

#[tokio::test]
async fn the_second_priority_is_used_only_while_the_first_has_nobody_healthy() {
    let fails = Arc::new(AtomicBool::new(false));
    let (first, second) = (failing(&fails).await, Upstream::start().await);
    let clock = ManualClock::new();
    let config = with(&[(&second, ", priority = 1"), (&first, "")], PATIENT);
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    get(&gateway, 30).await;
    assert_eq!((first.calls(), second.calls()), (30, 0));
    fails.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.status, 500);
    }
    get(&gateway, 30).await;
    assert_eq!((first.calls(), second.calls()), (35, 30));
    fails.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(30));
    get(&gateway, 30).await;
    assert_eq!((first.calls(), second.calls()), (65, 30));
}

#[tokio::test]
async fn endpoints_of_the_gateways_own_zone_come_first() {
    let (here, there) = (Upstream::start().await, Upstream::start().await);
    let endpoints = [(&there, ", zone = \"b\""), (&here, ", zone = \"a\"")];
    let config = format!("zone = \"a\"\n{}", with(&endpoints, ""));
    let gateway = Running::start(&config).await;
    get(&gateway, 30).await;
    assert_eq!((here.calls(), there.calls()), (30, 0));
    gateway.handle.drain("shop", &here.addr.to_string());
    get(&gateway, 30).await;
    assert_eq!((here.calls(), there.calls()), (30, 30));
}

#[tokio::test]
async fn with_nobody_to_take_requests_the_answer_is_503_with_retry_after() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&with(&[(&upstream, ", weight = 0")], "")).await;
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["code"], "no_endpoint");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn an_endpoint_whose_breaker_refuses_is_passed_over_without_penalty() {
    // I3.c3
    let (up, dead) = (Upstream::start().await, nobody().await);
    let breaker = "[upstream.shop.breaker]\nconsecutive_failures = 2\n";
    let gateway = Running::start(&(routed(&[dead, up.addr]) + breaker)).await;
    get(&gateway, 40).await;
    assert_eq!(up.calls(), 40);
    let endpoints = gateway.handle.endpoints();
    // Two failures opened the breaker; refusals are none, or the balancer would have ejected it.
    assert_eq!(endpoints[0].ejected_for, None);
    assert!(!endpoints[0].is_up);
    until(|| {
        gateway
            .handle
            .endpoints()
            .iter()
            .all(|one| one.in_flight == 0)
    })
    .await;
}
