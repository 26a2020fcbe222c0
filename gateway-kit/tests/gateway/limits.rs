//! Rate limits: several at once, by header, per route, changed while they count.

use std::num::NonZeroU32;
use std::time::Duration;

use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::Quota;

use crate::perimeter::{code, config, head};
use crate::support::{Running, Upstream, parsed};

async fn start(text: &str, clock: &ManualClock) -> Running {
    Running::start_with_clock(text, clock.clone()).await
}

#[tokio::test]
async fn a_limit_by_header_counts_its_values_and_addresses_without_it() {
    let upstream = Upstream::start().await;
    let top = "rate_limit = { requests = 2, window = \"1h\", key = { header = \"x-api-key\" } }";
    let clock = ManualClock::new();
    let gateway = start(&config(upstream.addr, top, &[("/", "")]), &clock).await;
    for (from, fields, status) in [
        ("127.0.0.1", "x-api-key: ada\r\n", 200),
        ("127.0.0.2", "x-api-key: ada\r\n", 200),
        ("127.0.0.3", "x-api-key: ada\r\n", 429),
        ("127.0.0.3", "x-api-key: eve\r\n", 200),
        // Left out, or said twice, it is the address that counts.
        ("127.0.0.3", "", 200),
        ("127.0.0.3", "x-api-key: a\r\nx-api-key: b\r\n", 200),
        ("127.0.0.3", "", 429),
        ("127.0.0.4", "", 200),
        // The bytes of an address are not its key.
        ("127.0.0.5", "x-api-key: \u{7f}\r\n", 400),
    ] {
        let answer = gateway.raw_from(from, &head("GET /", fields)).await;
        assert_eq!(answer.status, status, "{from} {fields}");
    }
    let refused = gateway
        .raw_from("127.0.0.9", &head("GET /", "x-api-key: ada\r\n"))
        .await;
    assert_eq!(code(&refused), (429, "rate_limited".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1800"));
    assert_eq!(refused.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(refused.header("x-ratelimit-reset"), Some("3600"));
    let metrics = gateway.handle.metrics();
    let wanted = "rate_limit_rejected_total{limit=\"header:x-api-key\"} 3";
    assert!(metrics.contains(wanted), "{metrics}");
}

#[tokio::test]
async fn several_limits_take_from_all_buckets_or_from_none() {
    let upstream = Upstream::start().await;
    let top = "[[rate_limit]]\nname = \"short\"\nrequests = 1\nwindow = \"1s\"\n\
        [[rate_limit]]\nname = \"long\"\nrequests = 3\nwindow = \"1h\"\n";
    let clock = ManualClock::new();
    let gateway = start(&config(upstream.addr, top, &[("/", "")]), &clock).await;
    for round in 0..3 {
        assert_eq!(gateway.get("/").await.status, 200, "{round}");
        // Refused by the short one, which costs the long one nothing.
        for _ in 0..5 {
            assert_eq!(gateway.get("/").await.status, 429);
        }
        clock.advance(Duration::from_secs(1));
    }
    let answer = gateway.get("/").await;
    assert_eq!(
        (answer.status, answer.header("x-ratelimit-limit")),
        (429, Some("3"))
    );
    let metrics = gateway.handle.metrics();
    // Where both refuse, the one that asks for the longest wait does.
    for (name, count) in [("short", 10), ("long", 6)] {
        let wanted = format!("rate_limit_rejected_total{{limit=\"{name}\"}} {count}");
        assert!(metrics.contains(&wanted), "{metrics}");
    }
}

#[tokio::test]
async fn a_route_shares_the_limit_of_all_has_its_own_or_none() {
    let upstream = Upstream::start().await;
    let routes = [
        ("/a", ""),
        ("/b", ""),
        ("/own", "rate_limit = { requests = 1, window = \"1h\" }"),
        ("/off", "rate_limit = false"),
    ];
    let top = "rate_limit = { requests = 2, window = \"1h\" }";
    let clock = ManualClock::new();
    let gateway = start(&config(upstream.addr, top, &routes), &clock).await;
    for (path, status) in [
        ("/a", 200),
        ("/own", 200),
        ("/own", 429),
        ("/b", 200),
        ("/a", 429),
        // Requests without a route are counted with them.
        ("/nowhere", 429),
        ("/off", 200),
        ("/off", 200),
        ("/off", 200),
    ] {
        assert_eq!(gateway.get(path).await.status, status, "{path}");
    }
    let metrics = gateway.handle.metrics();
    assert!(
        metrics.contains("rate_limit_rejected_total{limit=\"/own/address\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_flood_of_one_address_costs_no_other_anything() {
    // K.c6
    let upstream = Upstream::start().await;
    let top = "rate_limit = { requests = 10, window = \"1s\" }";
    let clock = ManualClock::new();
    let gateway = start(&config(upstream.addr, top, &[("/", "")]), &clock).await;
    let mut good = 0;
    for _ in 0..20 {
        clock.advance(Duration::from_millis(100));
        for _ in 0..50 {
            gateway.get("/").await;
        }
        let answer = gateway.raw_from("127.0.0.2", &head("GET /", "")).await;
        good += u32::from(answer.status == 200);
    }
    assert_eq!(good, 20);
    // The burst, and one each 100 ms.
    assert_eq!(upstream.calls(), 20 + 10 + 19);
}

#[tokio::test]
async fn a_limit_changes_while_it_counts_and_keeps_what_was_used() {
    let upstream = Upstream::start().await;
    let text = |requests: u32| {
        let top = format!("rate_limit = {{ requests = {requests}, window = \"1h\" }}");
        config(upstream.addr, &top, &[("/", "")])
    };
    let clock = ManualClock::new();
    let gateway = start(&text(4), &clock).await;
    let reload = async |requests| {
        let (handle, config) = (gateway.handle.clone(), parsed(&text(requests)));
        let report = tokio::task::spawn_blocking(move || handle.reload(config));
        assert_eq!(report.await.unwrap().reason, None);
    };
    let left = async || {
        let mut good = 0;
        while gateway.get("/").await.status == 200 {
            good += 1;
        }
        good
    };
    // Half is used, and half of what it is then is left.
    for _ in 0..2 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    reload(8).await;
    assert_eq!(left().await, 4);
    // At run time, until the configured one changes.
    let quota = Quota::new(2, Duration::from_secs(2)).unwrap();
    assert!(gateway.handle.set_rate_limit("address", quota));
    assert!(!gateway.handle.set_rate_limit("nobody", quota));
    // A client is brought to it with its next request.
    assert_eq!(left().await, 0);
    clock.advance(Duration::from_secs(2));
    assert_eq!(left().await, 2);
    reload(8).await;
    let state = gateway.handle.rate_limits().remove(0);
    assert_eq!(
        (state.name.as_str(), state.quota.burst_size()),
        ("address", 2)
    );
    assert_eq!(state.clients, 1);
    reload(5).await;
    let state = gateway.handle.rate_limits().remove(0);
    assert_eq!(
        NonZeroU32::new(state.quota.burst_size()),
        NonZeroU32::new(5)
    );
    // Used up stays used up.
    assert_eq!(left().await, 0);
}
