//! What it tells.

use super::{get, start};
use crate::support::{Upstream, nobody, routed, until};

const MORE: &str = "[[route]]\nname = \"parted\"\nprefix = \"/parted\"\n\
    split = [{ upstream = \"shop\", weight = 9 }, { upstream = \"off\", weight = 1 }]\n\
    [upstream.off]\nenabled = false\nendpoints = [\"http://127.0.0.1:1\"]\n\
    bulkhead = { limit = 3, max_queue = 2 }\n\
    [rate_limit]\nrequests = 60\nburst = 5\n";

#[tokio::test]
async fn each_read_tells_what_runs() {
    let (upstream, dead) = (Upstream::start().await, nobody().await);
    let shop =
        routed(&[upstream.addr, dead]) + "[upstream.shop.breaker]\nconsecutive_failures = 1\n";
    let gateway = start(&(shop + MORE)).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    let status = get("/admin/status").of(&gateway).await;
    assert_eq!(status.header("cache-control"), Some("no-store"));
    assert_eq!(status.header("x-content-type-options"), Some("nosniff"));
    let status = status.json();
    for (field, value) in [
        ("services", 2),
        ("endpoints", 3),
        ("endpoints_up", 2),
        ("routes", 2),
        ("breakers_open", 1),
    ] {
        assert_eq!(status[field], value, "{field}: {status}");
    }
    assert_eq!(status["stopping"], false);

    let services = get("/admin/services").of(&gateway).await.json();
    assert_eq!(services["revision"], status["revision"]);
    // I1.c2
    assert_eq!(services["services"][0]["name"], "off");
    assert_eq!(services["services"][0]["enabled"], false);
    let shop = &services["services"][1];
    assert_eq!(
        (&shop["name"], &shop["enabled"]),
        (&"shop".into(), &true.into())
    );

    let lb = get("/admin/loadbalancer/shop").of(&gateway).await.json();
    assert_eq!(lb["strategy"], "round_robin");
    let [alive, down] = [&lb["endpoints"][0], &lb["endpoints"][1]];
    assert_eq!(alive["address"], upstream.addr.to_string());
    assert_eq!(
        (&alive["state"], &alive["up"]),
        (&"up".into(), &true.into())
    );
    assert_eq!(alive["successes"], 4);
    assert!(alive["latency_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(down["state"], "breaker_open");
    assert_eq!(down["source"], "config");

    let breakers = get("/admin/circuitbreaker/shop").of(&gateway).await.json();
    assert_eq!(breakers["breakers"][0]["state"], "closed");
    assert_eq!(breakers["breakers"][1]["state"], "open");
    assert!(
        breakers["breakers"][1]["retry_after_seconds"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    for path in [
        "/admin/loadbalancer/none",
        "/admin/circuitbreaker/none",
        "/admin/loadbalancer/",
    ] {
        assert_eq!(get(path).of(&gateway).await.status, 404, "{path}");
    }

    let routes = get("/admin/routes").of(&gateway).await.json();
    assert_eq!(routes["routes"][1]["name"], "parted");
    assert_eq!(routes["routes"][1]["upstreams"][0]["weight"], 9);

    let limits = get("/admin/limits").of(&gateway).await.json();
    let rate = &limits["rates"][0];
    assert_eq!(
        (&rate["per_second"], &rate["burst"]),
        (&1.0.into(), &5.into())
    );
    assert_eq!(
        (&rate["clients"], &rate["changed"]),
        (&1.into(), &false.into())
    );
    let bulkhead = &limits["bulkheads"][0];
    assert_eq!(
        (&bulkhead["service"], &bulkhead["limit"]),
        (&"off".into(), &3.into())
    );

    until(|| gateway.handle.metrics().contains("http_requests_total")).await;
    let metrics = get("/admin/metrics").of(&gateway).await.json();
    let samples = metrics["samples"].as_array().unwrap();
    let is_requests = |one: &&serde_json::Value| one["name"] == "http_requests_total";
    let requests = samples.iter().find(is_requests).unwrap();
    assert_eq!(requests["labels"]["service"], "shop");
    assert_eq!(requests["value"], 4.0);

    let changes = get("/admin/changes").of(&gateway).await.json();
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(0));
}

/// A configuration with a bit of everything.
const RICH: &str = r#"
    listen = "127.0.0.1:0"
    trusted_proxies = ["10.0.0.0/8", "::1"]
    reload = false
    [[route]]
    hosts = ["*.example.com"]
    prefix = "/a/"
    methods = ["GET"]
    split = [{ upstream = "a", weight = 1 }, { upstream = "b", weight = 2 }]
    split_key = { header = "X-User" }
    rate_limit = false
    [[route]]
    prefix = "/"
    upstream = "a"
    fixed_path = "/x/"
    [upstream.a]
    endpoints = ["http://127.0.0.1:1", { url = "http://[::1]:2", weight = 7, zone = "z" }]
    bulkhead = { limit = 3, max_wait = "off" }
    retry = { share = 0.1 }
    breaker = { consecutive_failures = 3, count_window = "off", time_window = "10s" }
    health = { path = "/h?x=1", host = "a.test", statuses = [204, "300-399"] }
    balance = { strategy = "consistent_hash", key = { cookie = "sid" }, slow_start = "1m" }
    [upstream.b]
    balance = false
    retry = false
    ejection = { consecutive_failures = false }
    discovery = { dns = ["http://b.test:80"], api = true }
    [[rate_limit]]
    requests = 10
    key = { claim = "sub" }
    [[rate_limit]]
    requests = 20
    window = "500ms"
    [admin]
    listen = false
    allow = ["127.0.0.1"]
"#;

#[tokio::test]
async fn the_configuration_in_force_is_told_in_the_form_in_which_it_is_read() {
    let config = gateway_kit::Config::from_toml(RICH).unwrap();
    let shown = serde_json::to_value(&config).unwrap();
    let read: gateway_kit::Config = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), shown);
    assert_eq!(read.routes, config.routes);
    assert_eq!(read.rate_limit, config.rate_limit);
    assert_eq!(read.admin, config.admin);
    for (name, upstream) in &config.upstreams {
        let other = &read.upstreams[name];
        assert_eq!(other.endpoints, upstream.endpoints);
        assert_eq!(other.balance, upstream.balance);
        assert_eq!(other.ejection, upstream.ejection);
        assert_eq!(other.health, upstream.health);
        assert_eq!(other.discovery, upstream.discovery);
        assert_eq!(
            (other.bulkhead, &other.retry),
            (upstream.bulkhead, &upstream.retry)
        );
    }

    let otel = match cfg!(feature = "otel") {
        true => "[otel]\nheaders = { authorization = \"Bearer s3cret\" }\n",
        false => "",
    };
    let gateway = start(&(routed(&[nobody().await]) + otel)).await;
    let answer = get("/admin/config").of(&gateway).await;
    assert!(!answer.body.contains("s3cret"));
    let config = answer.json();
    assert_eq!(
        config["config"]["upstream"]["shop"]["connect_timeout"],
        "1s"
    );
    assert_eq!(config["config"]["admin"]["token"], "[redacted]");
    assert!(!answer.body.contains(super::TOKEN));
}

#[tokio::test]
async fn the_page_is_three_files_that_load_nothing_from_elsewhere() {
    let gateway = start(&routed(&[nobody().await])).await;
    for (path, kind) in [
        ("/admin/", "text/html; charset=utf-8"),
        ("/admin/admin.js", "text/javascript; charset=utf-8"),
        ("/admin/admin.css", "text/css; charset=utf-8"),
    ] {
        let answer = get(path).token(None).of(&gateway).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{policy}"
        );
        for elsewhere in ["http://", "https://", "\"//"] {
            assert!(!answer.body.contains(elsewhere), "{path}");
        }
        let other = super::Ask {
            method: "POST",
            ..get(path)
        };
        assert_eq!(other.of(&gateway).await.status, 405);
    }
    let html = get("/admin/").of(&gateway).await.body;
    for inline in ["<style", " style=", "onclick", "onload", "javascript:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    let js = get("/admin/admin.js").of(&gateway).await.body;
    for markup in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
    ] {
        assert!(!js.contains(markup), "{markup}");
    }
    let moved = get("/admin").of(&gateway).await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, Some("/admin/"))
    );
    let head = super::Ask {
        method: "HEAD",
        ..get("/admin/status")
    }
    .of(&gateway)
    .await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
