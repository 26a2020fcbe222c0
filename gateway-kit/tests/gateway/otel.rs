//! Spans of requests, at a collector of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gateway_kit::Config;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{Running, Upstream, nobody, routed, soon, until};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn section(endpoint: impl std::fmt::Display, more: &str) -> String {
    format!("[otel]\nendpoint = \"http://{endpoint}/v1/traces\"\ninterval = \"1ms\"\n{more}")
}

/// A collector that answers with a status and an empty message.
async fn collector(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Upstream {
    let calls = Arc::new(AtomicUsize::new(0));
    Upstream::answering(move |_| {
        let status = status(calls.fetch_add(1, Ordering::SeqCst));
        let answer = Response::builder()
            .status(status)
            .header("retry-after", "0");
        answer.body(Full::from("{}")).unwrap()
    })
    .await
}

/// The spans of all messages that a collector got.
fn spans(collector: &Upstream) -> Vec<Value> {
    let seen = collector.seen.lock();
    let messages = seen.iter().map(|seen| &seen.body);
    messages.flat_map(spans_of).collect()
}

fn spans_of(body: &Bytes) -> Vec<Value> {
    let message: Value = serde_json::from_slice(body).unwrap();
    let spans = &message["resourceSpans"][0]["scopeSpans"][0]["spans"];
    spans.as_array().unwrap().clone()
}

fn attribute<'s>(span: &'s Value, key: &str) -> Option<&'s str> {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|one| one["key"] == key)?;
    let value = found["value"].as_object().unwrap();
    value.values().next().unwrap().as_str()
}

fn ask(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: shop.test:81\r\n{more}connection: close\r\n\r\n")
}

#[tokio::test]
async fn a_request_is_a_span_and_so_is_its_try() {
    let (collector, upstream) = (collector(|_| 200).await, Upstream::start().await);
    let route = "[[route]]\nprefix = \"/a\"\nname = \"books\"\nupstream = \"shop\"\n";
    let more = "service_name = \"edge\"\nheaders = { \"x-key\" = \"s3cret\" }\n";
    let config = routed(&[upstream.addr]) + route + &section(collector.addr, more);
    let gateway = Running::start(&config).await;
    let more = format!(
        "traceparent: {PARENT}\r\ntracestate: v=1\r\nauthorization: Bearer hidden-token\r\n"
    );
    let answer = gateway.raw(&ask("/a/b?secret=hidden-query", &more)).await;
    assert_eq!(answer.status, 200);
    until(|| spans(&collector).len() == 2).await;
    let message = collector.last();
    assert_eq!(message.method, "POST");
    assert_eq!(message.target, "/v1/traces");
    assert_eq!(message.header("content-type"), Some("application/json"));
    assert_eq!(message.header("x-key"), Some("s3cret"));
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    assert!(
        !text.contains("hidden") && !text.contains("s3cret"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        json["resourceSpans"][0]["resource"]["attributes"][0],
        json!({ "key": "service.name", "value": { "stringValue": "edge" } })
    );

    let [server, client] = <[Value; 2]>::try_from(spans(&collector)).unwrap();
    let told = upstream.last();
    let told: Vec<_> = told.header("traceparent").unwrap().split('-').collect();
    for span in [&server, &client] {
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span["traceState"], "v=1");
        let nanos = |field: &str| span[field].as_str().unwrap().parse::<u64>().unwrap();
        let (start, end) = (nanos("startTimeUnixNano"), nanos("endTimeUnixNano"));
        assert!(start > 1_600_000_000_000_000_000 && start <= end, "{span}");
        assert_eq!(span["status"], json!({}));
    }
    assert_eq!(server["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(told[1], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(client["spanId"], told[2]);
    assert_ne!(client["spanId"], server["spanId"]);
    assert_eq!((&server["kind"], &client["kind"]), (&json!(2), &json!(3)));
    assert_eq!(
        (&server["flags"], &client["flags"]),
        (&json!(0x301), &json!(0x101))
    );
    assert_eq!(
        (&server["name"], &client["name"]),
        (&json!("GET books"), &json!("GET"))
    );
    let port = upstream.addr.port().to_string();
    for (span, key, value) in [
        (&server, "http.request.method", "GET"),
        (&server, "http.route", "books"),
        (&server, "url.path", "/a/b"),
        (&server, "url.scheme", "http"),
        (&server, "server.address", "shop.test"),
        (&server, "server.port", "81"),
        (&server, "client.address", "127.0.0.1"),
        (&server, "http.response.status_code", "200"),
        (&client, "http.request.method", "GET"),
        (&client, "server.address", "127.0.0.1"),
        (&client, "server.port", &port),
        (&client, "http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(span, key), Some(value), "{key}");
    }
    for span in [&server, &client] {
        assert_eq!(attribute(span, "error.type"), None);
        assert_eq!(attribute(span, "http.request.resend_count"), None);
    }
}

#[tokio::test]
async fn each_try_and_each_refusal_is_told() {
    let (collector, upstream) = (collector(|_| 200).await, Upstream::start().await);
    let dead = nobody().await;
    // Almost always the dead one first, and so the first time.
    let first = format!("{{ url = \"http://{dead}\", weight = 1000 }}");
    let limit = "balance = { strategy = \"weighted_round_robin\" }\n[rate_limit]\nrequests = 1\nwindow = \"1h\"\nburst = 1\n";
    let routed = routed(&[dead, upstream.addr]);
    let routed = routed.replace(&format!("\"http://{dead}\""), &first);
    let config = routed + limit + &section(collector.addr, "");
    let gateway = Running::start(&config).await;
    assert_eq!(gateway.raw(&ask("/", "")).await.status, 200);
    until(|| spans(&collector).len() == 3).await;
    let [server, first, second] = <[Value; 3]>::try_from(spans(&collector)).unwrap();
    assert_eq!(
        attribute(&first, "error.type"),
        Some("upstream_unreachable")
    );
    assert_eq!(first["status"]["code"], 2);
    assert_eq!(attribute(&first, "http.request.resend_count"), None);
    assert_eq!(attribute(&second, "error.type"), None);
    assert_eq!(attribute(&second, "http.request.resend_count"), Some("1"));
    assert_ne!(first["spanId"], second["spanId"]);
    for one in [&first, &second] {
        assert_eq!(one["parentSpanId"], server["spanId"]);
    }
    assert_eq!(server["parentSpanId"], Value::Null);
    let told = upstream.last();
    let told = told.header("traceparent").unwrap().split('-').nth(2);
    assert_eq!(second["spanId"].as_str(), told);

    assert_eq!(gateway.raw(&ask("/", "")).await.status, 429);
    until(|| spans(&collector).len() == 4).await;
    let refused = spans(&collector).remove(3);
    assert_eq!(attribute(&refused, "error.type"), Some("rate_limited"));
    assert_eq!(
        attribute(&refused, "http.response.status_code"),
        Some("429")
    );
    // An error of the client is none of the server.
    assert_eq!(refused["status"], json!({}));
}

#[tokio::test]
async fn nothing_is_told_of_what_is_not_sampled() {
    let (collector, upstream) = (collector(|_| 200).await, Upstream::start().await);
    let trace = "[trace]\nsample = 0\n";
    let config = routed(&[upstream.addr]) + trace + &section(collector.addr, "");
    let gateway = Running::start(&config).await;
    for _ in 0..5 {
        assert_eq!(gateway.raw(&ask("/", "")).await.status, 200);
    }
    let not = PARENT.replace("-01", "-00");
    let not = format!("traceparent: {not}\r\n");
    assert_eq!(gateway.raw(&ask("/", &not)).await.status, 200);
    assert_eq!(gateway.get("/health/live").await.status, 200);
    // A parent that is sampled comes after all of those.
    let sampled = format!("traceparent: {PARENT}\r\n");
    assert_eq!(gateway.raw(&ask("/", &sampled)).await.status, 200);
    until(|| !spans(&collector).is_empty()).await;
    let spans = spans(&collector);
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
}

#[tokio::test]
async fn what_clients_send_is_escaped_and_cut() {
    let collector = collector(|_| 200).await;
    let gateway = Running::start(&section(collector.addr, "")).await;
    let path = format!("/%22%7b{}", "x".repeat(2000));
    let request = format!("BREW {path} HTTP/1.1\r\nhost: a\"b\r\nconnection: close\r\n\r\n");
    assert!(gateway.raw(&request).await.status >= 400);
    until(|| spans(&collector).len() == 1).await;
    let span = spans(&collector).remove(0);
    assert_eq!(span["name"], "HTTP");
    assert_eq!(attribute(&span, "http.request.method"), Some("_OTHER"));
    assert_eq!(attribute(&span, "url.path"), Some(&path[..256]));
    assert_eq!(attribute(&span, "http.route"), None);
    assert_eq!(attribute(&span, "server.address"), None);
    assert!(attribute(&span, "error.type").is_some());
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again() {
    let collector = collector(|call| if call == 0 { 503 } else { 200 }).await;
    let gateway = Running::start(&section(collector.addr, "")).await;
    assert_eq!(gateway.get("/").await.status, 404);
    let exported = || {
        gateway
            .handle
            .metrics()
            .contains("otel_spans_exported_total 1\n")
    };
    until(exported).await;
    assert_eq!(collector.calls(), 2);
    let seen = collector.seen.lock();
    assert_eq!(seen[0].body, seen[1].body);
}

/// A layer of the program around the upstream that has a span of its own: what comes behind it is
/// told of that one, at each try.
#[tokio::test]
async fn the_span_of_a_layer_stays_the_parent_of_what_is_behind_it() {
    let (collector, upstream) = (collector(|_| 200).await, Upstream::start().await);
    // The first try ends without an answer.
    let breaks = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = format!("http://{}", breaks.local_addr().unwrap());
    let heads = tokio::spawn(async move {
        let (mut stream, _) = breaks.accept().await.unwrap();
        crate::support::read_head(&mut stream).await.0
    });
    let routed = routed(&[upstream.addr]).replace(
        "endpoints = [",
        &format!("endpoints = [{{ url = \"{first}\", weight = 1000 }}, "),
    );
    let own = "balance = { strategy = \"weighted_round_robin\" }\n";
    let config = routed + own + &section(collector.addr, "");
    let told = PARENT.replace("b7ad6b7169203331", "00f067aa0ba902b7");
    let value = http::HeaderValue::try_from(&told).unwrap();
    let layer = tower::util::MapRequestLayer::new(move |mut request: http::Request<_>| {
        request.headers_mut().insert("traceparent", value.clone());
        request
    });
    let gateway = Running::start_with(&config, |builder| builder.upstream(layer)).await;
    let parent = format!("traceparent: {PARENT}\r\n");
    assert_eq!(gateway.raw(&ask("/", &parent)).await.status, 200);
    let head = soon(heads).await.unwrap();
    assert!(head.contains(&format!("traceparent: {told}\r\n")), "{head}");
    assert_eq!(upstream.last().header("traceparent"), Some(&*told));
    // The tries are told to the collector all the same, under the request's own span.
    until(|| spans(&collector).len() == 3).await;
    let [server, first, second] = <[Value; 3]>::try_from(spans(&collector)).unwrap();
    assert_eq!(server["parentSpanId"], "b7ad6b7169203331");
    for one in [&first, &second] {
        assert_eq!(one["parentSpanId"], server["spanId"]);
        assert_ne!(one["spanId"], "00f067aa0ba902b7");
    }
}

/// A span leaves by TLS to a collector whose authority is believed, and to no other.
#[cfg(all(feature = "http2", feature = "tls"))]
#[tokio::test]
async fn a_collector_is_verified_by_its_ca_file() {
    use crate::upstream_tls::Authority;
    use tokio::io::AsyncWriteExt;

    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("localhost");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (believed, is_good) in [(&authority, true), (&other, false)] {
        let file = believed.file();
        let more = format!("ca_file = {:?}\n", file.0);
        let section = section(format!("localhost:{port}"), &more).replace("http:", "https:");
        let gateway = Running::start(&section).await;
        assert_eq!(gateway.get("/").await.status, 404);
        let (stream, _) = soon(listener.accept()).await.unwrap();
        let stream = soon(acceptor.accept(stream)).await;
        if !is_good {
            assert!(stream.is_err());
            continue;
        }
        let mut stream = stream.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"}") {
            assert_ne!(soon(stream.read_buf(&mut head)).await.unwrap(), 0);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains("content-length: ") && !head.contains("chunked"),
            "{head}"
        );
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).await.unwrap();
        let exported = || {
            let metrics = gateway.handle.metrics();
            metrics.contains("otel_spans_exported_total 1\n")
        };
        until(exported).await;
    }
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_no_request() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = hanging.local_addr().unwrap();
    let reads = tokio::spawn(async move {
        let (mut stream, _) = hanging.accept().await.unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
    });
    let stop = "[shutdown]\ndelay = \"0s\"\ntimeout = \"100ms\"\n";
    let config = section(addr, "max_queue = 16\ntimeout = \"1h\"\n") + stop;
    let mut gateway = Running::start(&config).await;
    let dropped = || {
        let metrics = gateway.handle.metrics();
        let series = "otel_spans_dropped_total{reason=\"queue_full\"} ";
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.strip_prefix(series)).unwrap();
        found.parse::<u64>().unwrap()
    };
    // One batch is on its way, and the queue is full.
    let mut requests = 0;
    while dropped() == 0 {
        assert_eq!(gateway.get("/").await.status, 404);
        requests += 1;
        assert!(requests < 5000);
    }
    assert!(requests > 16);
    gateway.stop();
    soon(&mut gateway.task).await.unwrap().unwrap();
    reads.abort();
}

#[tokio::test]
async fn spans_that_wait_are_sent_when_the_gateway_stops() {
    let (collector, upstream) = (collector(|_| 200).await, Upstream::start().await);
    let stop = "[shutdown]\ndelay = \"0s\"\n";
    let otel = section(collector.addr, "").replace("1ms", "1h");
    let mut gateway = Running::start(&(routed(&[upstream.addr]) + &otel + stop)).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(collector.calls(), 0);
    gateway.stop();
    soon(&mut gateway.task).await.unwrap().unwrap();
    assert_eq!(spans(&collector).len(), 6);
}

#[tokio::test]
async fn a_reload_sends_spans_elsewhere_and_loses_none() {
    let (one, two) = (collector(|_| 200).await, collector(|_| 200).await);
    let config = |to: &Upstream, more: &str| {
        let text = section(to.addr, more).replace("1ms", "1h");
        crate::support::parsed(&text)
    };
    let gateway = Running::of(gateway_kit::Gateway::builder(config(&one, ""))).await;
    assert_eq!(gateway.get("/").await.status, 404);
    let report = gateway.handle.reload(config(&two, "max_queue = 99\n"));
    assert_eq!(report.diff.settings, ["otel"]);
    until(|| spans(&one).len() == 1).await;
    assert_eq!(gateway.get("/").await.status, 404);
    let off = crate::support::parsed("");
    assert!(!gateway.handle.reload(off).is_refused());
    until(|| spans(&two).len() == 1).await;
}

#[test]
fn secrets_are_not_shown_and_bad_settings_are_named() {
    let text = section(
        "127.0.0.1:1",
        "headers = { authorization = \"Bearer s3cret\" }\n",
    );
    let config = Config::from_toml(&text).unwrap();
    let shown = serde_json::to_value(&config).unwrap();
    assert_eq!(shown["otel"]["headers"]["authorization"], "[redacted]");
    assert!(!format!("{shown} {config:?}").contains("s3cret"));
    for (bad, field) in [
        ("[otel]\nendpoint = \"127.0.0.1:1\"", "otel.endpoint"),
        ("[otel]\nmax_queue = 15", "otel.max_queue"),
        ("[otel]\ninterval = \"0s\"", "otel.interval"),
        ("[otel]\ntimeout = \"2days\"", "otel.timeout"),
        ("[otel]\nservice_name = \"\"", "otel.service_name"),
        ("[otel]\nca_file = \"/none\"", "otel.ca_file"),
        ("[otel]\nheaders = { host = \"s3cret\" }", "otel.headers"),
        (
            "[otel]\nheaders = { x-key = \"s3cret\\n\" }",
            "otel.headers",
        ),
        ("[otel.headers]\nx-key = \"s3cret\\n\"", "otel.headers"),
        ("trace = false\n[otel]", "trace"),
    ] {
        let told = Config::from_toml(bad).expect_err(bad).to_string();
        assert!(
            told.contains(field) && told.contains("must") || told.contains("needs"),
            "{told}"
        );
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[test]
fn variables_say_where_spans_go() {
    let config = |pairs: &[(&str, &str)]| {
        let get = |name: &str| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::from_env(get).map_err(|error| error.to_string())
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
    let name = ("OTEL_SERVICE_NAME", "edge");
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret, b = c=d");
    assert_eq!(config(&[name, headers]).unwrap().otel, None);
    let otel = config(&[endpoint, name, headers]).unwrap().otel.unwrap();
    assert_eq!(otel.endpoint.as_str(), "http://c:4318/v1/traces");
    assert_eq!(otel.service_name, "edge");
    let names: Vec<_> = otel.headers.keys().collect();
    assert_eq!(names, ["a", "b"]);
    let bad = ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318");
    let told = config(&[bad]).unwrap_err();
    assert!(told.contains(bad.0) && told.contains("must be"), "{told}");
    let bad = ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret");
    let told = config(&[endpoint, bad]).unwrap_err();
    assert!(told.contains(bad.0) && !told.contains("s3cret"), "{told}");
}
