//! The response cache: what is kept, for whom, for how long, and one call where many ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{
    Answer, Running, Seen, Upstream, nobody, parsed, read_head, routed, soon, until,
};

type Fields = &'static [(&'static str, &'static str)];

/// An upstream that numbers its answers and adds these fields.
async fn numbering(fields: Fields) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let mut answer = Response::builder();
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        answer.body(Full::from(format!("answer {number}"))).unwrap()
    })
    .await
}

async fn start(config: &str) -> (Running, ManualClock) {
    let clock = ManualClock::new();
    let gateway = Running::start_with(config, |builder| {
        // Before all dates of upstreams, so that no answer is old when it comes.
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        builder.clock(clock.clone()).wall_clock(move || wall)
    })
    .await;
    (gateway, clock)
}

async fn cached(upstream: &Upstream, settings: &str) -> (Running, ManualClock) {
    start(&(routed(&[upstream.addr]) + "[cache]\n" + settings)).await
}

/// A GET of `/` with these further lines, each with its end.
async fn with(gateway: &Running, fields: &str) -> Answer {
    send(gateway, "GET /", fields).await
}

async fn send(gateway: &Running, start: &str, fields: &str) -> Answer {
    let raw = format!("{start} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{fields}\r\n");
    gateway.raw(&raw).await
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_default()
}

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"v1\"")];

#[tokio::test]
async fn a_fresh_answer_is_given_again_and_a_304_to_who_has_it() {
    // K.c7
    let upstream = numbering(MINUTE).await;
    let (gateway, clock) = cached(&upstream, "").await;
    let first = with(&gateway, "").await;
    assert_eq!(status(&first), "gateway-kit; fwd=uri-miss; stored");
    clock.advance(Duration::from_secs(7));
    let again = with(&gateway, "").await;
    assert_eq!((again.status, again.body.as_str()), (200, "answer 1"));
    assert_eq!(again.header("age"), Some("7"));
    assert_eq!(again.header("content-length"), Some("8"));
    assert_eq!(status(&again), "gateway-kit; hit; ttl=53");

    for known in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
        let answer = with(&gateway, &format!("if-none-match: {known}\r\n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
        assert_eq!(answer.header("etag"), Some("\"v1\""));
        assert_eq!(answer.header("content-length"), None);
    }
    let other = with(&gateway, "if-none-match: \"v2\"\r\n").await;
    assert_eq!((other.status, other.body.as_str()), (200, "answer 1"));

    let head = send(&gateway, "HEAD /", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some("8"));
    assert_eq!(upstream.calls(), 1);
    // Another query, another host.
    assert_eq!(send(&gateway, "GET /?a", "").await.body, "answer 2");
    let raw = "GET / HTTP/1.1\r\nhost: i\r\nconnection: close\r\n\r\n";
    assert_eq!(gateway.raw(raw).await.body, "answer 3");
    let metrics = gateway.handle.metrics();
    for line in [
        "cache_requests_total{tier=\"gateway\",result=\"hit\"} 7",
        "cache_requests_total{tier=\"gateway\",result=\"miss\"} 3",
        "cache_evictions_total 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("cache_bytes 0"), "{metrics}");
}

#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    // K.c7
    let rows: [&[(&str, &str)]; 9] = [
        &[("cache-control", "no-store")],
        &[("cache-control", "No-Store, max-age=60")],
        &[("cache-control", "private, max-age=60")],
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
        &[
            ("cache-control", "public, max-age=60"),
            ("set-cookie", "a=b"),
        ],
        &[("cache-control", "max-age=60"), ("vary", "*")],
        &[
            ("cache-control", "max-age=60"),
            ("content-type", "text/event-stream"),
        ],
        &[
            ("cache-control", "max-age=60"),
            ("content-encoding", "gzip"),
        ],
        &[],
    ];
    for fields in rows {
        let upstream = numbering(fields).await;
        let (gateway, _) = cached(&upstream, "").await;
        for number in 1..=3 {
            let answer = with(&gateway, "").await;
            assert_eq!(answer.body, format!("answer {number}"), "{fields:?}");
        }
        assert!(
            gateway.handle.metrics().contains("cache_bytes 0"),
            "{fields:?}"
        );
    }
}

#[tokio::test]
async fn a_stale_answer_is_asked_about_and_kept_on() {
    let changed = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&changed);
    let upstream = Upstream::answering(move |seen: &Seen| {
        let tag = if switch.load(Ordering::SeqCst) {
            "\"v2\""
        } else {
            "\"v1\""
        };
        let same = seen.header("if-none-match") == Some(tag);
        Response::builder()
            .status(if same { 304 } else { 200 })
            .header("etag", tag)
            .header("x-count", if same { "again" } else { "first" })
            .header("cache-control", "max-age=60")
            .body(Full::from(if same { "" } else { tag }))
            .unwrap()
    })
    .await;
    let (gateway, clock) = cached(&upstream, "").await;
    assert_eq!(with(&gateway, "").await.body, "\"v1\"");
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(with(&gateway, "").await.header("age"), Some("59"));
    assert_eq!(upstream.calls(), 1);
    clock.advance(Duration::from_millis(1));
    // The client's own condition is answered here.
    let answer = with(&gateway, "if-none-match: \"v0\"\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"v1\""));
    assert_eq!(answer.header("x-count"), Some("again"));
    assert_eq!(answer.header("age"), Some("0"));
    assert_eq!(
        status(&answer),
        "gateway-kit; fwd=stale; fwd-status=304; ttl=60"
    );
    assert_eq!(upstream.last().header("if-none-match"), Some("\"v1\""));
    clock.advance(Duration::from_secs(30));
    assert_eq!(with(&gateway, "").await.header("age"), Some("30"));
    assert_eq!(upstream.calls(), 2);

    changed.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(60));
    let answer = with(&gateway, "if-none-match: \"v1\"\r\n").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"v2\""));
    assert_eq!(status(&answer), "gateway-kit; fwd=stale; stored");
    assert_eq!(with(&gateway, "").await.body, "\"v2\"");
    assert_eq!(upstream.calls(), 3);
}

/// An upstream whose first answer is kept for a minute, and that says this of it when it is asked.
async fn saying(first: Fields, then: Fields) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |seen: &Seen| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let asked = seen.headers.contains_key("if-none-match");
        let fields = if asked { then } else { first };
        let mut answer = Response::builder().status(if asked { 304 } else { 200 });
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let body = if asked {
            String::new()
        } else {
            format!("answer {number}")
        };
        answer.body(Full::from(body)).unwrap()
    })
    .await
}

#[tokio::test]
async fn a_304_brings_what_is_new_and_nothing_of_the_body() {
    let upstream = saying(
        &[
            ("cache-control", "max-age=60"),
            ("etag", "W/\"v1\""),
            ("content-type", "text/plain"),
            ("content-location", "/here"),
            ("x-a", "old"),
            ("x-b", "old"),
        ],
        &[
            ("cache-control", "max-age=10"),
            ("etag", "\"v1\""),
            ("content-type", "text/html"),
            ("content-encoding", "br"),
            ("x-a", "new"),
        ],
    )
    .await;
    let (gateway, clock) = cached(&upstream, "").await;
    with(&gateway, "").await;
    // By weak comparison.
    for known in ["\"v1\"", "W/\"v1\""] {
        let answer = with(&gateway, &format!("if-none-match: {known}\r\n")).await;
        assert_eq!(answer.status, 304, "{known}");
        // It has no body, and says nothing of one.
        assert_eq!(answer.header("content-type"), None);
        assert_eq!(answer.header("content-location"), Some("/here"));
    }
    clock.advance(Duration::from_secs(60));
    for _ in 0..2 {
        let answer = with(&gateway, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "answer 1"));
        for (name, wanted) in [
            ("x-a", Some("new")),
            ("x-b", Some("old")),
            ("content-type", Some("text/plain")),
            ("content-encoding", None),
            ("etag", Some("\"v1\"")),
        ] {
            assert_eq!(answer.header(name), wanted, "{name}");
        }
    }
    assert_eq!(upstream.calls(), 2);
    // Its time is the new one.
    clock.advance(Duration::from_secs(10));
    with(&gateway, "").await;
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn a_304_that_forbids_keeping_is_good_once() {
    for then in [
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("set-cookie", "a=b"),
    ] {
        let then: Fields = Box::leak(Box::new([then]));
        let upstream = saying(MINUTE, then).await;
        let (gateway, clock) = cached(&upstream, "").await;
        with(&gateway, "").await;
        clock.advance(Duration::from_secs(60));
        let answer = with(&gateway, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "answer 1"));
        // As the news have it: what is behind must not keep it either.
        let (name, value) = then[0];
        assert_eq!(answer.header(name), Some(value));
        let answer = with(&gateway, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "answer 3"));
        assert!(!upstream.last().headers.contains_key("if-none-match"));
    }
}

#[tokio::test]
async fn a_304_about_another_answer_is_refused_and_what_is_kept_forgotten() {
    let upstream = saying(MINUTE, &[("etag", "\"v9\"")]).await;
    let (gateway, clock) = cached(&upstream, "").await;
    with(&gateway, "").await;
    clock.advance(Duration::from_secs(60));
    let answer = with(&gateway, "").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (502, Some("upstream_bad_answer"))
    );
    // Whoever asks next asks for all of it.
    assert_eq!(with(&gateway, "").await.body, "answer 3");
}

#[tokio::test]
async fn what_is_asked_for_is_the_whole_answer_whatever_the_client_wants_of_it() {
    let upstream = numbering(MINUTE).await;
    let (gateway, clock) = cached(&upstream, "").await;
    let conditions =
        "if-none-match: \"v0\"\r\nif-modified-since: Sun, 22 Nov 2026 00:00:00 GMT\r\n";
    let answer = with(&gateway, conditions).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "answer 1"));
    for name in ["if-none-match", "if-modified-since"] {
        assert!(!upstream.last().headers.contains_key(name), "{name}");
    }
    // What came new to a HEAD is for everybody.
    clock.advance(Duration::from_secs(60));
    let head = send(&gateway, "HEAD /", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(upstream.last().method, "GET");
    assert_eq!(with(&gateway, "").await.body, "answer 2");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_client_has_what_its_tag_says_else_what_its_date_says() {
    let upstream = Upstream::answering(|seen| {
        let answer = Response::builder()
            .status(if seen.target == "/gone" { 404 } else { 200 })
            .header("cache-control", "max-age=60")
            .header("etag", "\"v1\"")
            .header("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT");
        answer.body(Full::from("all of it")).unwrap()
    })
    .await;
    let (gateway, _) = cached(&upstream, "").await;
    let (before, same, after) = ("Sat, 21", "Sun, 22", "Mon, 23");
    for (path, tag, date, wanted) in [
        ("/", None, Some(before), 200),
        ("/", None, Some(same), 304),
        ("/", None, Some(after), 304),
        // A tag is looked at alone.
        ("/", Some("\"v0\""), Some(after), 200),
        ("/", Some("\"v1\""), Some(before), 304),
        // Nobody has what is not there.
        ("/gone", Some("\"v1\""), None, 404),
        ("/gone", None, Some(after), 404),
    ] {
        let tag = tag.map(|tag| format!("if-none-match: {tag}\r\n"));
        let date = date.map(|day| format!("if-modified-since: {day} Nov 2026 00:00:00 GMT\r\n"));
        let fields = tag.clone().unwrap_or_default() + &date.clone().unwrap_or_default();
        for _ in 0..2 {
            let answer = send(&gateway, &format!("GET {path}"), &fields).await;
            assert_eq!(answer.status, wanted, "{path} {fields}");
            assert_eq!(answer.body.is_empty(), wanted == 304, "{path} {fields}");
        }
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn an_answer_is_chosen_by_the_fields_that_vary_names() {
    let upstream = Upstream::answering(|seen| {
        let language = seen.header("accept-language").unwrap_or("none").to_owned();
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", "Accept-Language")
            .header("vary", "x-b")
            .body(Full::from(language))
            .unwrap()
    })
    .await;
    let (gateway, _) = cached(&upstream, "").await;
    for _ in 0..2 {
        for language in ["de", "en", "de, en"] {
            let answer = with(&gateway, &format!("accept-language: {language}\r\n")).await;
            assert_eq!(answer.body, language);
        }
        assert_eq!(with(&gateway, "").await.body, "none");
        // Two lines are not the first one.
        let two = "accept-language: de\r\naccept-language: fr\r\n";
        assert_eq!(with(&gateway, two).await.body, "de");
        with(&gateway, "accept-language: de\r\nx-b: 1\r\n").await;
    }
    assert_eq!(upstream.calls(), 6);
}

#[tokio::test]
async fn many_requests_for_one_answer_are_one_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[cache]\nwait = \"1h\"\n";
    let gateway = Arc::new(start(&config).await.0);
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move { gateway.get("/").await });
    }
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    until(|| {
        gateway
            .handle
            .metrics()
            .contains("http_requests_in_flight 20")
    })
    .await;
    let answer = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nonce";
    stream.write_all(answer).await.unwrap();
    while let Some(answer) = soon(clients.join_next()).await {
        assert_eq!(answer.unwrap().body, "once");
    }
    // Nothing came after the one, on any connection.
    drop(gateway);
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    let more = tokio::time::timeout(Duration::ZERO, listener.accept());
    assert!(more.await.is_err());
}

#[tokio::test]
async fn nobody_waits_for_an_answer_that_cannot_be_kept() {
    let upstream = numbering(&[("cache-control", "private")]).await;
    let (gateway, _) = cached(&upstream, "wait = \"1h\"\n").await;
    let gateway = Arc::new(gateway);
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move { with(&gateway, "").await });
    }
    let mut bodies = Vec::new();
    while let Some(answer) = soon(clients.join_next()).await {
        bodies.push(answer.unwrap().body);
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 10);
    // From now on conditions go through.
    with(&gateway, "if-none-match: \"mine\"\r\n").await;
    assert_eq!(upstream.last().header("if-none-match"), Some("\"mine\""));
}

#[tokio::test]
async fn when_the_first_one_leaves_another_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[cache]\nwait = \"1h\"\n";
    let gateway = Arc::new(start(&config).await.0);
    let mut first = gateway.connect().await;
    let get = b"GET / HTTP/1.1\r\nhost: gateway.test\r\n\r\n";
    first.write_all(get).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let mut clients = JoinSet::new();
    for _ in 0..5 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move { gateway.get("/").await });
    }
    until(|| {
        gateway
            .handle
            .metrics()
            .contains("http_requests_in_flight 6")
    })
    .await;
    drop(first);
    let (mut next, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut next).await;
    let answer = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nnext";
    next.write_all(answer).await.unwrap();
    while let Some(answer) = soon(clients.join_next()).await {
        assert_eq!(answer.unwrap().body, "next");
    }
}

#[tokio::test]
async fn credentials_get_and_leave_only_what_is_for_all() {
    let open = Arc::new(AtomicBool::new(false));
    let (switch, count) = (Arc::clone(&open), AtomicUsize::new(0));
    let upstream = Upstream::answering(move |_| {
        let control = if switch.load(Ordering::SeqCst) {
            "public, max-age=60"
        } else {
            "max-age=60"
        };
        Response::builder()
            .header("cache-control", control)
            .body(Full::from(count.fetch_add(1, Ordering::SeqCst).to_string()))
            .unwrap()
    })
    .await;
    let (gateway, clock) = cached(&upstream, "").await;
    let mine = "authorization: Bearer mine\r\n";
    assert_eq!(with(&gateway, mine).await.body, "0");
    assert_eq!(with(&gateway, mine).await.body, "1");
    assert_eq!(with(&gateway, "").await.body, "2");
    assert_eq!(with(&gateway, "").await.body, "2");
    // What came without credentials may not be what is for them.
    assert_eq!(with(&gateway, mine).await.body, "3");
    open.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(60));
    assert_eq!(with(&gateway, mine).await.body, "4");
    assert_eq!(with(&gateway, mine).await.body, "4");
    assert_eq!(with(&gateway, "").await.body, "4");
}

#[tokio::test]
async fn requests_that_are_not_the_caches_pass_it_by() {
    let upstream = numbering(MINUTE).await;
    let (gateway, _) = cached(&upstream, "").await;
    with(&gateway, "").await;
    let rows = [
        "cookie: a=b\r\n",
        "range: bytes=0-1\r\n",
        "if-match: \"v1\"\r\n",
        "if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "x-http-method-override: DELETE\r\n",
        "x-original-url: /admin\r\n",
        "x-rewrite-url: /admin\r\n",
        "cache-control: no-store\r\n",
        "content-length: 2\r\n\r\nhi",
        "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nconnection: upgrade\r\n",
    ];
    for (passed, fields) in rows.into_iter().enumerate() {
        let answer = with(&gateway, fields).await;
        assert_eq!(answer.body, format!("answer {}", passed + 2), "{fields}");
        assert!(status(&answer).starts_with("gateway-kit; fwd="), "{fields}");
    }
    assert_eq!(with(&gateway, "").await.body, "answer 1");
    // A client that wants a newer one does not get it, unless that is allowed.
    assert_eq!(
        with(&gateway, "cache-control: no-cache\r\n").await.body,
        "answer 1"
    );

    let (gateway, _) = cached(
        &upstream,
        "cookies = true\nclient_refresh = true\nstatus = false\n",
    )
    .await;
    let before = with(&gateway, "").await;
    assert_eq!(before.header("cache-status"), None);
    assert_eq!(with(&gateway, "cookie: a=b\r\n").await.body, before.body);
    for wish in ["no-cache", "max-age=0", "min-fresh=61"] {
        let calls = upstream.calls();
        with(&gateway, "").await;
        assert_eq!(upstream.calls(), calls, "{wish}");
        let wish = format!("cache-control: {wish}\r\n");
        // Not older than 0 s: it is of this moment.
        let asks = usize::from(!wish.contains("max-age"));
        with(&gateway, &wish).await;
        assert_eq!(upstream.calls(), calls + asks, "{wish}");
    }
}

#[tokio::test]
async fn a_client_that_may_gets_no_older_answer_than_it_wants() {
    let upstream = numbering(MINUTE).await;
    let (gateway, clock) = cached(&upstream, "client_refresh = true\n").await;
    with(&gateway, "").await;
    clock.advance(Duration::from_secs(30));
    for (age, calls) in [(31, 1), (30, 1), (29, 2), (0, 2)] {
        with(&gateway, &format!("cache-control: max-age={age}\r\n")).await;
        assert_eq!(upstream.calls(), calls, "{age}");
    }
}

/// A failure is over soon; what cannot be kept stays so for a time.
#[tokio::test]
async fn a_second_after_a_failure_many_requests_are_one_call_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[cache]\nwait = \"1h\"\n";
    let (gateway, clock) = start(&config).await;
    let gateway = Arc::new(gateway);
    let fail = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(gateway.get("/"), fail) }).await;
    assert_eq!(answer.status, 503);
    clock.advance(Duration::from_secs(1));
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move { gateway.get("/").await });
    }
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let answer = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nonce";
    stream.write_all(answer).await.unwrap();
    while let Some(answer) = soon(clients.join_next()).await {
        assert_eq!(answer.unwrap().body, "once");
    }
}

#[tokio::test]
async fn only_if_cached_asks_nobody() {
    let upstream = numbering(MINUTE).await;
    let (gateway, _) = cached(&upstream, "").await;
    let answer = with(&gateway, "cache-control: only-if-cached\r\n").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (504, Some("not_cached"))
    );
    assert_eq!(upstream.calls(), 0);
    with(&gateway, "").await;
    let answer = with(&gateway, "cache-control: only-if-cached\r\n").await;
    assert_eq!(answer.body, "answer 1");
}

/// Answers with what could be taken for the address of the page.
async fn echoing() -> Upstream {
    Upstream::answering(|seen| {
        let told = |name: &str| seen.header(name).unwrap_or("-").to_owned();
        let body = format!(
            "{} {} {} {}",
            told("x-forwarded-host"),
            told("x-forwarded-proto"),
            told("x-forwarded-prefix"),
            told("x_forwarded_host")
        );
        Response::builder()
            .header("cache-control", "max-age=60")
            .body(Full::from(body))
            .unwrap()
    })
    .await
}

#[tokio::test]
async fn a_stranger_cannot_put_his_address_into_what_others_get() {
    let upstream = echoing().await;
    let (gateway, _) = cached(&upstream, "").await;
    let poison = "x-forwarded-host: evil\r\nx-forwarded-proto: https\r\nx-forwarded-prefix: /evil\r\n\
                  x_forwarded_host: evil\r\nforwarded: host=evil\r\n";
    for fields in [poison, "", poison] {
        assert_eq!(with(&gateway, fields).await.body, "h http - -");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_part_of_the_address() {
    let upstream = echoing().await;
    let config = format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n{}[cache]\n",
        routed(&[upstream.addr])
    );
    let (gateway, _) = start(&config).await;
    for _ in 0..2 {
        for host in ["a", "b"] {
            let fields = format!("x-forwarded-host: {host}\r\nx-forwarded-for: 10.0.0.1\r\n");
            assert_eq!(
                with(&gateway, &fields).await.body,
                format!("{host} http - -")
            );
        }
        assert_eq!(
            with(&gateway, "x-forwarded-prefix: /p\r\n").await.body,
            "h http /p -"
        );
        assert_eq!(with(&gateway, "").await.body, "h http - -");
    }
    assert_eq!(upstream.calls(), 4);
}

/// A proxy that writes `X-Forwarded-*` may pass on what a client wrote elsewhere.
#[tokio::test]
async fn what_a_trusted_proxy_does_not_look_at_is_part_of_the_address_too() {
    let upstream = Upstream::answering(|seen| {
        let told = |name: &str| seen.header(name).unwrap_or("-").to_owned();
        // As servers do that take the first.
        let forwarded = told("forwarded");
        let first = forwarded.split(',').next().unwrap_or_default();
        let mut pairs = first.split(';').map(str::trim);
        let host = pairs.find_map(|pair| pair.strip_prefix("host="));
        let host = host.map(|host| host.trim_matches('"'));
        let scheme = [told("x-scheme"), told("front-end-https")].join(" ");
        Response::builder()
            .header("cache-control", "max-age=60")
            .body(Full::from(format!("{} {scheme}", host.unwrap_or("-"))))
            .unwrap()
    })
    .await;
    let config = format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n{}[cache]\n",
        routed(&[upstream.addr])
    );
    let (gateway, _) = start(&config).await;
    for _ in 0..2 {
        for (fields, body) in [
            ("", "h - -"),
            ("forwarded: for=10.0.0.1;host=evil\r\n", "evil - -"),
            ("forwarded: For=10.0.0.2; host=evil\r\n", "evil - -"),
            ("forwarded: for=\"a;host=evil2\"\r\n", "evil2 - -"),
            ("x-scheme: https\r\n", "h https -"),
            ("front-end-https: on\r\n", "h - on"),
        ] {
            assert_eq!(with(&gateway, fields).await.body, body, "{fields}");
        }
    }
    // One for each that differs in more than the client's address.
    assert_eq!(upstream.calls(), 5);
    // And the address itself is no part of it.
    let other = with(&gateway, "forwarded: for=192.0.2.1;host=evil\r\n").await;
    assert_eq!((other.body.as_str(), upstream.calls()), ("evil - -", 5));
}

#[tokio::test]
async fn what_changes_something_makes_the_cache_forget() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::answering(move |seen| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let answer = Response::builder().header("cache-control", "max-age=60");
        match (seen.method.as_str(), seen.target.as_str()) {
            ("POST", "/list") => answer.status(201).header("location", "/list/../one?a=1"),
            ("POST", "/one?a=1") => answer.status(500),
            ("POST", "/far") => answer.header("content-location", "http://other.test/one?a=1"),
            ("POST", _) => answer.status(409),
            _ => answer,
        }
        .body(Full::from(number.to_string()))
        .unwrap()
    })
    .await;
    let (gateway, _) = cached(&upstream, "").await;
    let get = async |path: &str| send(&gateway, &format!("GET {path}"), "").await.body;
    let post = async |path: &str| {
        send(&gateway, &format!("POST {path}"), "content-length: 0\r\n").await;
    };
    let (list, one) = (get("/list").await, get("/one?a=1").await);
    post("/list?no").await;
    assert_eq!(
        (get("/list").await, get("/one?a=1").await),
        (list.clone(), one.clone())
    );
    // Nothing was changed.
    post("/one?a=1").await;
    post("/far").await;
    assert_eq!(get("/one?a=1").await, one);
    post("/list").await;
    assert_ne!(get("/list").await, list);
    assert_ne!(get("/one?a=1").await, one);
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_kept_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[cache]\n";
    let (gateway, _) = start(&config).await;
    let gateway = Arc::new(gateway);
    let reader = Arc::clone(&gateway);
    let reads = tokio::spawn(async move { with(&reader, "").await });
    let (mut old, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut old).await;
    let writer = Arc::clone(&gateway);
    let writes =
        tokio::spawn(async move { send(&writer, "DELETE /", "content-length: 0\r\n").await });
    let (mut other, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut other).await;
    other
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(soon(writes).await.unwrap().status, 204);
    let kept = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 3\r\n\r\nold";
    old.write_all(kept).await.unwrap();
    let answer = soon(reads).await.unwrap();
    assert_eq!(
        (answer.body.as_str(), status(&answer)),
        ("old", "gateway-kit; fwd=uri-miss")
    );
    assert_eq!(gateway.handle.cache().unwrap().addresses, 0);
}

#[tokio::test]
async fn a_stale_answer_serves_while_a_newer_one_comes() {
    let upstream = numbering(&[("cache-control", "max-age=10, stale-while-revalidate=20")]).await;
    let (gateway, clock) = cached(&upstream, "").await;
    with(&gateway, "").await;
    clock.advance(Duration::from_secs(15));
    let answer = with(&gateway, "").await;
    assert_eq!(
        (answer.body.as_str(), status(&answer)),
        ("answer 1", "gateway-kit; hit; ttl=-5")
    );
    until(|| upstream.calls() == 2).await;
    soon(async {
        while with(&gateway, "").await.body != "answer 2" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(upstream.calls(), 2);
    // Too old for that.
    clock.advance(Duration::from_secs(30));
    assert_eq!(with(&gateway, "").await.body, "answer 3");
    // The fetch by itself is no request.
    assert!(!gateway.handle.metrics().contains("status=\"499\""));
}

#[tokio::test]
async fn a_stale_answer_stands_in_for_a_failure() {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let upstream = Upstream::answering(move |_| {
        let fails = switch.load(Ordering::SeqCst);
        Response::builder()
            .status(if fails { 503 } else { 200 })
            .header("cache-control", "max-age=10, stale-if-error=20")
            .body(Full::from(if fails { "failed" } else { "good" }))
            .unwrap()
    })
    .await;
    let (gateway, clock) = cached(&upstream, "").await;
    assert_eq!(with(&gateway, "").await.body, "good");
    fails.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(15));
    for _ in 0..3 {
        let answer = with(&gateway, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "good"));
        assert_eq!(answer.header("age"), Some("15"));
    }
    assert_eq!(upstream.calls(), 4);
    clock.advance(Duration::from_secs(15));
    assert_eq!(with(&gateway, "").await.status, 503);

    // As well when nobody is there.
    fails.store(false, Ordering::SeqCst);
    let (gateway, clock) = cached(&upstream, "").await;
    assert_eq!(with(&gateway, "").await.body, "good");
    let dead = parsed(&(routed(&[nobody().await]) + "[cache]\n"));
    assert!(gateway.handle.reload(dead).reason.is_none());
    clock.advance(Duration::from_secs(15));
    let answer = with(&gateway, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "good"));
    clock.advance(Duration::from_secs(15));
    assert!(with(&gateway, "").await.status >= 500);
}

#[tokio::test]
async fn what_is_too_large_is_passed_on_and_not_kept() {
    let body: Bytes = vec![b'x'; 5000].into();
    let large = body.clone();
    let upstream = Upstream::answering(move |_| {
        Response::builder()
            .header("cache-control", "max-age=60")
            .body(Full::from(large.clone()))
            .unwrap()
    })
    .await;
    let (gateway, _) = cached(&upstream, "max_object = 4999\n").await;
    for calls in 1..=3 {
        assert_eq!(with(&gateway, "").await.body.as_bytes(), body);
        assert_eq!(upstream.calls(), calls);
    }
    let (gateway, _) = cached(&upstream, "max_object = 5000\n").await;
    for _ in 0..3 {
        assert_eq!(with(&gateway, "").await.body.as_bytes(), body);
    }
    assert_eq!(upstream.calls(), 4);
}

/// Gives each connection's request this answer, and closes.
async fn raw_upstream(answer: &'static str) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            count.fetch_add(1, Ordering::SeqCst);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (addr, calls)
}

#[tokio::test]
async fn an_answer_of_unknown_length_that_grows_too_long_is_passed_on_whole() {
    let (addr, calls) = raw_upstream(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nabc\r\n3\r\ndef\r\n3\r\nghi\r\n0\r\n\r\n",
    )
    .await;
    let (gateway, _) = start(&(routed(&[addr]) + "[cache]\nmax_object = 7\n")).await;
    for call in 1..=2 {
        let answer = with(&gateway, "").await;
        let body: String = answer
            .body
            .chars()
            .filter(char::is_ascii_lowercase)
            .collect();
        assert_eq!(body, "abcdefghi");
        assert!(answer.body.ends_with("0\r\n\r\n"));
        assert_eq!(calls.load(Ordering::SeqCst), call);
    }
    let (gateway, _) = start(&(routed(&[addr]) + "[cache]\nmax_object = 9\n")).await;
    assert_eq!(with(&gateway, "").await.body, "abcdefghi");
    assert_eq!(with(&gateway, "").await.body, "abcdefghi");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn half_an_answer_is_never_kept_nor_made_whole() {
    let (addr, calls) = raw_upstream(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf",
    )
    .await;
    let (gateway, clock) = start(&(routed(&[addr]) + "[cache]\n")).await;
    for call in 1..=2 {
        let answer = with(&gateway, "").await;
        // Nothing was passed on yet, so it can be said.
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (502, Some("upstream_broken"))
        );
        assert_eq!(calls.load(Ordering::SeqCst), call);
        clock.advance(Duration::from_secs(300));
    }
}

#[tokio::test]
async fn the_cache_is_bounded_and_counts_what_it_lets_go() {
    let upstream = numbering(MINUTE).await;
    let config = routed(&[upstream.addr]) + "[cache]\n[cache_store]\nmax_entries = 20\n";
    let (gateway, _) = start(&config).await;
    for path in 0..60 {
        assert_eq!(
            send(&gateway, &format!("GET /{path}"), "").await.status,
            200
        );
    }
    let kept = gateway.handle.cache().unwrap();
    assert!((1..=20).contains(&kept.addresses), "{kept:?}");
    let metrics = gateway.handle.metrics();
    let evicted = 60 - kept.addresses;
    assert!(
        metrics.contains(&format!("cache_evictions_total {evicted}")),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_is_kept_outlives_a_reload_and_is_purged_by_hand() {
    let upstream = numbering(MINUTE).await;
    let config = routed(&[upstream.addr]) + "[cache]\n";
    let (gateway, _) = start(&config).await;
    let get = async |path: &str| send(&gateway, &format!("GET {path}"), "").await.body;
    let before = get("/a").await;
    let report = gateway
        .handle
        .reload(parsed(&(config + "max_object = 1000\n")));
    assert!(report.reason.is_none(), "{report:?}");
    assert_eq!(get("/a").await, before);
    let (b, c) = (get("/b/1").await, get("/b/2").await);
    assert_eq!(gateway.handle.cache().unwrap().addresses, 3);
    assert!(gateway.handle.purge("h/a") && !gateway.handle.purge("h/a"));
    assert_ne!(get("/a").await, before);
    assert_eq!(gateway.handle.purge_below("h/b/"), 2);
    assert!(get("/b/1").await != b && get("/b/2").await != c);
    assert_eq!(gateway.handle.purge_route("/"), 3);
    assert_eq!(gateway.handle.purge_below(""), 0);
    // Without a cache nothing is left of it.
    gateway.handle.reload(parsed(&routed(&[upstream.addr])));
    assert!(gateway.handle.cache().is_none());
    assert_ne!(get("/a").await, get("/a").await);
}

#[tokio::test]
async fn a_route_has_its_own_cache_or_none() {
    let upstream = numbering(MINUTE).await;
    let config = format!(
        "[[route]]\nprefix = \"/\"\nupstream = \"shop\"\n\
         [[route]]\nprefix = \"/live\"\nupstream = \"shop\"\ncache = false\n\
         [upstream.shop]\nendpoints = [\"http://{}\"]\n[cache]\n",
        upstream.addr
    );
    let (gateway, _) = start(&config).await;
    let get = async |path: &str| send(&gateway, &format!("GET {path}"), "").await.body;
    assert_eq!(get("/").await, get("/").await);
    assert_ne!(get("/live").await, get("/live").await);
}
