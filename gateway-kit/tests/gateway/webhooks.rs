//! Deliveries of webhooks on a route.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use http::Response;
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use webhook_verify::{Secret, Signer, presets};

use crate::support::{Answer, Running, Upstream, parsed, soon, until};

const NOW: u64 = 1_700_000_000;
const KEY: &str = "a-secret-that-nobody-prints";

/// A file that is removed again.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str) -> Self {
        let unique = format!("gateway-webhook-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        std::fs::write(&path, format!("{KEY}\n")).unwrap();
        Self(path)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config(upstream: &Upstream, key: &KeyFile, more: &str) -> String {
    format!(
        "[upstream.shop]\nendpoints = [\"http://{}\"]\n\
         [[route]]\nname = \"hooks\"\nprefix = \"/hooks\"\nupstream = \"shop\"\n\
         [route.webhook]\nprovider = \"timestamped\"\n\
         secrets = [{{ id = \"new\", file = \"{}\" }}]\n{more}",
        upstream.addr,
        key.0.display(),
    )
}

async fn start(config: &str) -> Running {
    Running::start_with(config, |builder| {
        builder.wall_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    })
    .await
}

/// The fields of a delivery signed under `key` at `at`, each with its end.
fn signed(key: &str, at: u64, body: &str) -> String {
    let signer = Signer::new(presets::timestamped(), Secret::new("s", key).unwrap());
    let fields = signer
        .sign_at(Duration::from_secs(at), body.as_bytes())
        .unwrap();
    let lines = fields
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
    lines.collect()
}

async fn deliver(gateway: &Running, fields: &str, body: &str) -> Answer {
    let length = body.len();
    let raw = format!(
        "POST /hooks HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    );
    gateway.raw(&raw).await
}

#[tokio::test]
async fn only_genuine_deliveries_in_time_reach_the_service_and_each_once() {
    let (upstream, key) = (Upstream::start().await, KeyFile::new("genuine"));
    let text = config(&upstream, &key, "");
    let gateway = start(&text).await;
    let body = "{\"a\": 1.0,\n  \"é\":2}";
    let good = signed(KEY, NOW, body);
    assert_eq!(deliver(&gateway, &good, body).await.status, 200);
    assert_eq!(upstream.last().body, body);

    let unverified = [
        (signed("another key", NOW, body), body),
        (signed(KEY, NOW, "{}"), body),
        (signed(KEY, NOW - 3600, body), body),
        (signed(KEY, NOW + 3600, body), body),
    ];
    let mut answers = Vec::new();
    for (fields, body) in unverified {
        let mut answer = deliver(&gateway, &fields, body).await;
        assert_eq!(answer.status, 401);
        let id = answer.json()["correlation_id"].as_str().unwrap().to_owned();
        answer.body = answer.body.replace(&id, "");
        answers.push(answer.body);
    }
    // They tell a forger nothing.
    assert!(
        answers
            .iter()
            .all(|body| *body == answers[0] && body.contains("webhook_unverified"))
    );
    assert_eq!(deliver(&gateway, "", body).await.status, 401);
    let get = gateway.get("/hooks").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(upstream.calls(), 1);

    // The same one again is well, and goes nowhere; also after a reload.
    let again = deliver(&gateway, &good, body).await;
    assert_eq!((again.status, again.body.as_str()), (200, ""));
    let report = gateway.handle.reload(parsed(&(text + "max_body = 1000\n")));
    assert!(report.reason.is_none(), "{report:?}");
    assert_eq!(deliver(&gateway, &good, body).await.status, 200);
    assert_eq!(upstream.calls(), 1);
    let other = signed(KEY, NOW + 1, body);
    assert_eq!(deliver(&gateway, &other, body).await.status, 200);
    assert_eq!(upstream.calls(), 2);

    let metrics = gateway.handle.metrics();
    for (step, result, count) in [
        ("all", "accepted", 2),
        ("signature", "refused", 2),
        ("timestamp", "refused", 3),
        ("method", "refused", 1),
        ("replay", "repeated", 2),
    ] {
        let line =
            format!("webhook_verifications_total{{step=\"{step}\",result=\"{result}\"}} {count}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn what_the_service_does_not_take_may_come_again() {
    let status = Arc::new(AtomicU16::new(500));
    let now = Arc::clone(&status);
    let upstream = Upstream::answering(move |_| {
        let answer = Response::builder().status(now.load(Ordering::SeqCst));
        answer.body(Full::default()).unwrap()
    })
    .await;
    let key = KeyFile::new("again");
    let gateway = start(&config(&upstream, &key, "")).await;
    let fields = signed(KEY, NOW, "{}");
    for (index, code) in [500, 404, 302, 204].into_iter().enumerate() {
        status.store(code, Ordering::SeqCst);
        assert_eq!(deliver(&gateway, &fields, "{}").await.status, code);
        assert_eq!(upstream.calls(), index + 1);
    }
    assert_eq!(deliver(&gateway, &fields, "{}").await.status, 200);
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn the_same_delivery_is_never_handled_twice_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let key = KeyFile::new("once");
    let quiet = Upstream::start().await;
    let text = config(&quiet, &key, "");
    let text = text.replace(
        &quiet.addr.to_string(),
        &listener.local_addr().unwrap().to_string(),
    );
    let gateway = Arc::new(start(&text).await);
    let fields = signed(KEY, NOW, "{}");
    let (first, sent) = (Arc::clone(&gateway), fields.clone());
    let first = tokio::spawn(async move { deliver(&first, &sent, "{}").await });
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let second = deliver(&gateway, &fields, "{}").await;
    assert_eq!(
        (second.status, second.json()["code"].as_str()),
        (409, Some("webhook_in_flight"))
    );
    assert!(second.header("retry-after").is_some());
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(soon(first).await.unwrap().status, 204);
}

#[tokio::test]
async fn a_body_is_bounded_and_asked_for_only_if_the_head_is_good() {
    let (upstream, key) = (Upstream::start().await, KeyFile::new("bounded"));
    let gateway = start(&config(&upstream, &key, "max_body = 10\n")).await;
    let fields = signed(KEY, NOW, "0123456789");
    assert_eq!(deliver(&gateway, &fields, "0123456789").await.status, 200);
    let fields = signed(KEY, NOW, "0123456789a");
    let large = deliver(&gateway, &fields, "0123456789a").await;
    assert_eq!(
        (large.status, large.json()["code"].as_str()),
        (413, Some("body_too_large"))
    );
    let chunked = format!(
        "POST /hooks HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{fields}\r\n\
         6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n"
    );
    assert_eq!(gateway.raw(&chunked).await.status, 413);
    let chunked = chunked.replace("6789a", "6789").replace("5\r\n6", "4\r\n6");
    let chunked = chunked.replace(&fields, &signed(KEY, NOW + 1, "0123456789"));
    assert_eq!(gateway.raw(&chunked).await.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.header("content-length"), Some("10"));
    assert_eq!(upstream.calls(), 2);
    // Refused by its head, without its body.
    let raw = "POST /hooks HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\
               connection: close\r\n\r\n";
    let answer = gateway.raw(raw).await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn only_some_may_send_and_only_one_kind() {
    let (upstream, key) = (Upstream::start().await, KeyFile::new("sender"));
    let more = "allow = [\"127.0.0.2\"]\ncontent_type = \"application/json\"\n";
    let gateway = start(&config(&upstream, &key, more)).await;
    let fields = signed(KEY, NOW, "{}") + "content-type: application/json\r\n";
    let raw = format!(
        "POST /hooks HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n{fields}\r\n{{}}"
    );
    let spoofed = raw.replace("host: h", "host: h\r\nx-forwarded-for: 127.0.0.2");
    let answer = gateway.raw(&spoofed).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (403, Some("webhook_source"))
    );
    let plain = raw.replace("application/json", "text/plain");
    assert_eq!(gateway.raw_from("127.0.0.2", &plain).await.status, 400);
    assert_eq!(upstream.calls(), 0);
    assert_eq!(gateway.raw_from("127.0.0.2", &raw).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_late_is_408() {
    let (upstream, key) = (Upstream::start().await, KeyFile::new("late"));
    let gateway = start(&config(&upstream, &key, "read_timeout = \"3s\"\n")).await;
    let mut client = gateway.connect().await;
    let fields = signed(KEY, NOW, "{}");
    let raw = format!("POST /hooks HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n{fields}\r\n{{");
    client.write_all(raw.as_bytes()).await.unwrap();
    let (head, _) = crate::support::read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn keys_are_replaced_by_a_reload_and_never_told() {
    let (upstream, key) = (Upstream::start().await, KeyFile::new("replaced"));
    let text = config(&upstream, &key, "");
    let gateway = start(&text).await;
    std::fs::write(&key.0, "the next key").unwrap();
    let reload = || gateway.handle.reload(parsed(&text));
    assert!(reload().reason.is_none());
    assert_eq!(
        deliver(&gateway, &signed(KEY, NOW, "{}"), "{}")
            .await
            .status,
        401
    );
    assert_eq!(
        deliver(&gateway, &signed("the next key", NOW, "{}"), "{}")
            .await
            .status,
        200
    );

    std::fs::write(&key.0, " \n").unwrap();
    let reason = reload().reason.unwrap();
    assert!(
        reason.contains("secret new") && reason.contains("is empty"),
        "{reason}"
    );
    std::fs::remove_file(&key.0).unwrap();
    let reason = reload().reason.unwrap();
    assert!(
        reason.contains("secret new") && reason.contains("cannot be read"),
        "{reason}"
    );
    let unset = text.replace("file = ", "env = \"NO_SUCH_VARIABLE\", x = ");
    let unset = unset.split(", x = ").next().unwrap().to_owned() + " }]\n";
    let reason = gateway.handle.reload(parsed(&unset)).reason.unwrap();
    assert!(
        reason.contains("the variable NO_SUCH_VARIABLE is not set"),
        "{reason}"
    );
    // Set by cargo for every test.
    let set = unset.replace("NO_SUCH_VARIABLE", "CARGO_PKG_NAME");
    assert!(gateway.handle.reload(parsed(&set)).reason.is_none());
    let fields = signed(env!("CARGO_PKG_NAME"), NOW, "{}");
    assert_eq!(deliver(&gateway, &fields, "{}").await.status, 200);
    assert_eq!(upstream.calls(), 2);

    // A key that is not of its form is not repeated in what is said of it.
    std::fs::write(&key.0, KEY).unwrap();
    let odd = text.replace("timestamped", "standard_webhooks");
    let reason = gateway.handle.reload(parsed(&odd)).reason.unwrap();
    assert!(
        reason.contains("secret new") && !reason.contains(KEY),
        "{reason}"
    );
    until(|| {
        !gateway
            .handle
            .metrics()
            .contains("http_requests_in_flight 1")
    })
    .await;
}

#[test]
fn bad_settings_are_refused() {
    let refused = |settings: &str| {
        let text = format!(
            "[upstream.a]\nendpoints = [\"http://a:1\"]\n[[route]]\nprefix = \"/\"\nupstream = \"a\"\n\
             [route.webhook]\n{settings}"
        );
        gateway_kit::Config::from_toml(&text)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let secret = "secrets = [{ id = \"a\", env = \"A\" }]\n";
    for (settings, part) in [
        (
            format!("{secret}provider = \"strip\""),
            "route[0].webhook.provider = \"strip\": must be one of: adyen,",
        ),
        (
            format!("{secret}provider = \"square\""),
            "route[0].webhook.url: is missing",
        ),
        (
            format!("{secret}provider = \"stripe\"\nurl = \"x\""),
            "route[0].webhook.url = \"x\": is of no use",
        ),
        (
            "provider = \"stripe\"\nsecrets = []".to_owned(),
            "needs at least one key",
        ),
        (
            "provider = \"stripe\"\nsecrets = [{ id = \"a\" }]".to_owned(),
            "needs either env",
        ),
        (
            "provider = \"stripe\"\nsecrets = [{ id = \"a\", env = \"A\", file = \"a\" }]"
                .to_owned(),
            "needs either env",
        ),
        (
            format!("{secret}provider = \"stripe\"\nmax_body = 0"),
            "must be from \"1B\" to \"64MiB\"",
        ),
        (
            format!("{secret}provider = \"stripe\"\nsecret = \"x\""),
            "unknown field `secret`",
        ),
    ] {
        let error = refused(&settings);
        assert!(error.contains(part), "{settings}: {error}");
    }
}
