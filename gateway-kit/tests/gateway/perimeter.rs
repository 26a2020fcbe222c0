//! What is asked of a request before it is known who sends it: IP filter, CORS, security headers,
//! sizes, CSRF.

use std::net::SocketAddr;

use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Answer, Running, Upstream, read_head, routed, soon};

/// Routes below `/`, each with lines of its own, to one upstream, and lines at the top level.
pub(crate) fn config(upstream: SocketAddr, top: &str, routes: &[(&str, &str)]) -> String {
    let mut text = format!("{top}\n");
    for (prefix, own) in routes {
        text += &format!("[[route]]\nprefix = \"{prefix}\"\nupstream = \"shop\"\n{own}\n");
    }
    text + &format!("[upstream.shop]\nendpoints = [\"http://{upstream}\"]\n")
}

/// A request with these header lines, each with its end.
pub(crate) fn head(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{fields}\r\n")
}

pub(crate) fn code(answer: &Answer) -> (u16, String) {
    let code = answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status, code)
}

#[tokio::test]
async fn an_address_is_let_in_by_the_lists_and_deny_wins() {
    let upstream = Upstream::start().await;
    let top = "trusted_proxies = [\"127.0.0.9\"]\n\
        ip_filter = { allow = [\"127.0.0.0/8\"], deny = [\"127.0.0.2\", \"10.0.0.0/8\"] }";
    let routes = [
        ("/", ""),
        ("/open", "ip_filter = false"),
        ("/own", "ip_filter = { allow = [\"127.0.0.2\"] }"),
    ];
    let gateway = Running::start(&config(upstream.addr, top, &routes)).await;
    for (from, path, status) in [
        ("127.0.0.1", "/", 200),
        ("127.0.0.2", "/", 403),
        ("127.0.0.2", "/open", 200),
        ("127.0.0.2", "/own", 200),
        ("127.0.0.1", "/own", 403),
        ("127.0.0.2", "/health/live", 200),
    ] {
        let answer = gateway
            .raw_from(from, &head(&format!("GET {path}"), ""))
            .await;
        assert_eq!(answer.status, status, "{from} {path}");
    }
    assert_eq!(upstream.calls(), 3);
    // What a proxy says counts if the proxy is believed.
    for (from, said, status) in [
        ("127.0.0.9", "10.1.2.3", 403),
        ("127.0.0.9", "127.0.0.4", 200),
        ("127.0.0.2", "127.0.0.4", 403),
        ("127.0.0.1", "10.1.2.3", 200),
    ] {
        let fields = format!("x-forwarded-for: {said}\r\n");
        let answer = gateway.raw_from(from, &head("GET /", &fields)).await;
        assert_eq!(answer.status, status, "{from} {said}");
    }
    let refused = gateway.raw_from("127.0.0.2", &head("GET /", "")).await;
    assert_eq!(code(&refused), (403, "address_refused".to_owned()));
}

const PREFLIGHT: &str = "access-control-request-method: PUT\r\n\
    access-control-request-headers: content-type\r\n";

#[tokio::test]
async fn a_preflight_request_is_answered_here_and_tells_foreign_origins_nothing() {
    // K.c3
    let upstream = Upstream::start().await;
    let top = "cors = { origins = [\"https://shop.test\", \"https://*.example.com\"], \
        methods = [\"GET\", \"PUT\"], headers = [\"content-type\", \"x-a\"], max_age = \"1m\", \
        credentials = true }";
    let routes = [("/", ""), ("/off", "cors = false")];
    let gateway = Running::start(&config(upstream.addr, top, &routes)).await;
    for origin in ["https://shop.test", "https://a.b.example.com"] {
        let fields = format!("origin: {origin}\r\n{PREFLIGHT}");
        let answer = gateway.raw(&head("OPTIONS /", &fields)).await;
        assert_eq!(answer.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "content-type, x-a"),
            ("access-control-max-age", "60"),
            ("vary", "origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
    }
    for origin in [
        "https://evil.test",
        "https://example.com",
        "null",
        "http://shop.test",
    ] {
        let fields = format!("origin: {origin}\r\n{PREFLIGHT}");
        let answer = gateway.raw(&head("OPTIONS /", &fields)).await;
        assert_eq!(answer.status, 204, "{origin}");
        assert!(!answer.head.contains("access-control-"), "{}", answer.head);
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    assert_eq!(upstream.calls(), 0);
    // What is no preflight request is passed on, and so is one where CORS is off.
    let fields = "origin: https://shop.test\r\n";
    let plain = gateway.raw(&head("OPTIONS /", fields)).await;
    assert_eq!((plain.status, upstream.calls()), (200, 1));
    let fields = format!("{fields}{PREFLIGHT}");
    let off = gateway.raw(&head("OPTIONS /off", &fields)).await;
    assert_eq!((off.status, upstream.calls()), (200, 2));
    assert!(!off.head.contains("access-control-"), "{}", off.head);
}

#[tokio::test]
async fn a_preflight_request_is_about_the_route_of_the_method_that_it_names() {
    let upstream = Upstream::start().await;
    let routes = [
        (
            "/a",
            "methods = [\"GET\"]\ncors = { origins = [\"https://get.test\"] }",
        ),
        (
            "/a",
            "name = \"put\"\nmethods = [\"PUT\"]\ncors = { origins = [\"https://put.test\"] }",
        ),
    ];
    let gateway = Running::start(&config(upstream.addr, "", &routes)).await;
    for (origin, told) in [("https://put.test", true), ("https://get.test", false)] {
        let fields = format!("origin: {origin}\r\n{PREFLIGHT}");
        let answer = gateway.raw(&head("OPTIONS /a", &fields)).await;
        assert_eq!(answer.status, 204);
        let allowed = answer.header("access-control-allow-origin").is_some();
        assert_eq!(allowed, told, "{origin}");
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn answers_and_refusals_tell_allowed_origins_and_the_upstreams_own_word_is_replaced() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-private-network", "true")
            .header("vary", "accept-encoding")
            .body(Full::from("ok"))
            .unwrap()
    })
    .await;
    let top = "cors = { origins = [\"https://shop.test\"], expose = [\"x-total\"] }\n\
        size_limits = { path = 20 }";
    let routes = [("/a", ""), ("/off", "enabled = false")];
    let gateway = Running::start(&config(upstream.addr, top, &routes)).await;
    let long = format!("GET /a/{}", "x".repeat(40));
    for (line, status) in [
        ("GET /a", 200),
        ("GET /nowhere", 404),
        ("GET /off", 404),
        (long.as_str(), 414),
    ] {
        let answer = gateway
            .raw(&head(line, "origin: https://shop.test\r\n"))
            .await;
        assert_eq!(answer.status, status);
        let origin = answer.header("access-control-allow-origin");
        assert_eq!(origin, Some("https://shop.test"), "{line}");
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("x-total")
        );
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(answer.header("access-control-allow-private-network"), None);
        assert!(answer.head.contains("vary: origin"), "{}", answer.head);
        for fields in [
            "origin: https://evil.test\r\n",
            "",
            "origin: https://shop.test\r\norigin: x\r\n",
        ] {
            let answer = gateway.raw(&head(line, fields)).await;
            assert_eq!(answer.status, status);
            assert!(!answer.head.contains("access-control-"), "{}", answer.head);
            assert!(answer.head.contains("vary: origin"), "{}", answer.head);
        }
    }
    let gateway = Running::start(&config(
        upstream.addr,
        "cors = { origins = [\"*\"] }",
        &routes,
    ))
    .await;
    let answer = gateway.raw(&head("GET /a", "origin: null\r\n")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
}

const FIELDS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    (
        "content-security-policy",
        "base-uri 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

#[tokio::test]
async fn security_headers_are_on_every_answer_and_hsts_over_tls_only() {
    // K.c2
    let upstream = Upstream::start().await;
    let top = "trusted_proxies = [\"127.0.0.9\"]\nsecurity_headers = {}\n\
        ip_filter = { deny = [\"127.0.0.2\"] }";
    let gateway = Running::start(&config(
        upstream.addr,
        top,
        &[("/a", ""), ("/b", "security_headers = false")],
    ))
    .await;
    for (from, line, status) in [
        ("127.0.0.1", "GET /a", 200),
        ("127.0.0.1", "GET /nowhere", 404),
        ("127.0.0.1", "GET /%00", 400),
        ("127.0.0.1", "FOO /a", 405),
        ("127.0.0.1", "GET /health/live", 200),
        ("127.0.0.1", "POST /health/live", 405),
        ("127.0.0.2", "GET /a", 403),
    ] {
        let answer = gateway.raw_from(from, &head(line, "")).await;
        assert_eq!(answer.status, status, "{line}");
        for (name, value) in FIELDS {
            assert_eq!(answer.header(name), Some(value), "{line}");
        }
        assert_eq!(answer.header("strict-transport-security"), None);
        if status >= 400 {
            assert!(!code(&answer).1.is_empty(), "{}", answer.body);
            assert!(answer.json()["correlation_id"].is_string());
        }
    }
    let off = gateway.raw(&head("GET /b", "")).await;
    assert_eq!(off.header("x-frame-options"), None);
    for (from, fields, hsts) in [
        (
            "127.0.0.9",
            "x-forwarded-proto: https\r\n",
            Some("max-age=31536000"),
        ),
        ("127.0.0.9", "x-forwarded-proto: http\r\n", None),
        (
            "127.0.0.9",
            "x-forwarded-proto: https\r\nx-forwarded-proto: http\r\n",
            None,
        ),
        ("127.0.0.1", "x-forwarded-proto: https\r\n", None),
    ] {
        let answer = gateway.raw_from(from, &head("GET /a", fields)).await;
        assert_eq!(answer.header("strict-transport-security"), hsts, "{fields}");
    }
}

#[tokio::test]
async fn a_security_header_of_the_upstream_stays_or_is_replaced_as_configured() {
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .header("x-frame-options", "SAMEORIGIN")
            .header("cache-control", "max-age=5")
            .body(Full::from("ok"))
            .unwrap()
    })
    .await;
    let own = "frame_options = \"DENY\", referrer_policy = false, cache_control = \"no-store\", \
        content_security_policy = \"default-src 'none'\"";
    let routes = [
        ("/keep", format!("security_headers = {{ {own} }}")),
        (
            "/replace",
            format!("security_headers = {{ {own}, replace = true }}"),
        ),
    ];
    let routes: Vec<_> = routes
        .iter()
        .map(|(prefix, own)| (*prefix, own.as_str()))
        .collect();
    let gateway = Running::start(&config(upstream.addr, "", &routes)).await;
    for (path, frame) in [("/keep", "SAMEORIGIN"), ("/replace", "DENY")] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.header("x-frame-options"), Some(frame));
        assert_eq!(answer.header("referrer-policy"), None);
        assert_eq!(answer.header("cache-control"), Some("max-age=5"));
        let policy = answer.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'none'"));
    }
    // Without a section for requests that have no route.
    assert_eq!(gateway.get("/").await.header("x-frame-options"), None);
}

#[tokio::test]
async fn what_pages_of_other_origins_do_in_a_users_name_is_refused() {
    let upstream = Upstream::start().await;
    let top = "trusted_proxies = [\"127.0.0.9\"]\ncsrf = { origins = [\"https://pay.test\"] }";
    let gateway = Running::start(&config(
        upstream.addr,
        top,
        &[("/", ""), ("/off", "csrf = false")],
    ))
    .await;
    let cookie = "cookie: sid=1\r\n";
    for (line, fields, status) in [
        ("POST /", "sec-fetch-site: same-origin\r\n", 200),
        ("POST /", "sec-fetch-site: none\r\n", 200),
        ("POST /", "sec-fetch-site: cross-site\r\n", 403),
        ("POST /", "sec-fetch-site: same-site\r\n", 403),
        (
            "POST /",
            "sec-fetch-site: same-origin\r\nsec-fetch-site: cross-site\r\n",
            403,
        ),
        ("DELETE /", "sec-fetch-site: cross-site\r\n", 403),
        ("GET /", "sec-fetch-site: cross-site\r\n", 200),
        ("HEAD /", "sec-fetch-site: cross-site\r\n", 200),
        ("OPTIONS /", "sec-fetch-site: cross-site\r\n", 200),
        // A listed origin may.
        (
            "POST /",
            "sec-fetch-site: cross-site\r\norigin: https://pay.test\r\n",
            200,
        ),
        ("POST /", "origin: https://pay.test\r\n", 200),
        // Older browsers tell the origin alone.
        ("POST /", "origin: http://shop.test\r\n", 200),
        ("POST /", "origin: https://shop.test\r\n", 200),
        ("POST /", "origin: https://SHOP.test\r\n", 200),
        ("POST /", "origin: https://shop.test:444\r\n", 403),
        ("POST /", "origin: https://evil.test\r\n", 403),
        ("POST /", "origin: null\r\n", 403),
        (
            "POST /",
            "origin: https://shop.test\r\norigin: https://pay.test\r\n",
            403,
        ),
        // No browser.
        ("POST /", "", 200),
        ("POST /off", "sec-fetch-site: cross-site\r\n", 200),
    ] {
        let answer = gateway.raw(&head(line, &format!("{cookie}{fields}"))).await;
        assert_eq!(answer.status, status, "{line} {fields}");
    }
    // With a token in place of cookies it is nobody else's name.
    let bearer = "sec-fetch-site: cross-site\r\nauthorization: Bearer x\r\n";
    assert_eq!(gateway.raw(&head("POST /", bearer)).await.status, 200);
    let both = gateway
        .raw(&head("POST /", &format!("{cookie}{bearer}")))
        .await;
    assert_eq!(code(&both), (403, "cross_origin".to_owned()));
    let basic = "sec-fetch-site: cross-site\r\nauthorization: Basic x\r\n";
    assert_eq!(gateway.raw(&head("POST /", basic)).await.status, 403);
    // Where the client came by TLS, a page without it is of another origin.
    let plain = "x-forwarded-proto: https\r\norigin: http://shop.test\r\n";
    let answer = gateway.raw_from("127.0.0.9", &head("POST /", plain)).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn a_websocket_of_another_origin_is_refused() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&config(upstream.addr, "csrf = {}", &[("/", "")])).await;
    let upgrade = "GET /ws HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\norigin: https://evil.test\r\nsec-websocket-key: x\r\n\
        cookie: sid=1\r\n\r\n";
    let mut stream = gateway.connect().await;
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let (head, _) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn what_is_too_large_costs_no_upstream_anything() {
    // K.c5
    let upstream = Upstream::start().await;
    let top =
        "[size_limits]\nbody = \"1KiB\"\npath = 50\nquery = 10\nheaders = 8\nheader_bytes = 300";
    let routes = [
        ("/", ""),
        ("/off", "size_limits = false"),
        ("/own", "size_limits = { body = false, path = 6 }"),
    ];
    let text = routes.iter().map(|(prefix, own)| {
        format!("[[route]]\nprefix = \"{prefix}\"\nupstream = \"shop\"\n{own}\n")
    });
    let text: String = text.collect();
    let text = format!(
        "{top}\n{text}[upstream.shop]\nendpoints = [\"http://{}\"]\n",
        upstream.addr
    );
    let gateway = Running::start(&text).await;
    let long = |path: &str, length: usize| format!("GET {path}{}", "x".repeat(length));
    let many: String = (0..9).map(|n| format!("x-{n}: 1\r\n")).collect();
    let wide = format!("x-wide: {}\r\n", "w".repeat(300));
    for (line, fields, status, name) in [
        (
            "POST /".to_owned(),
            "content-length: 1025\r\n",
            413,
            "body_too_large",
        ),
        (
            "POST /off".to_owned(),
            "content-length: 99999999999999999999\r\n",
            400,
            "",
        ),
        (long("/", 50), "", 414, "uri_too_long"),
        (long("/?", 11), "", 414, "uri_too_long"),
        (long("/own/", 2), "", 414, "uri_too_long"),
        ("GET /".to_owned(), many.as_str(), 431, "header_too_large"),
        ("GET /".to_owned(), wide.as_str(), 431, "header_too_large"),
        ("GET /%00".to_owned(), "", 400, "bad_path"),
        ("FOO /".to_owned(), "", 405, "method_not_allowed"),
    ] {
        let body = "b".repeat(if status == 413 { 1025 } else { 0 });
        let answer = gateway.raw(&(head(&line, fields) + &body)).await;
        assert_eq!(answer.status, status, "{line} {fields}");
        if !name.is_empty() {
            assert_eq!(code(&answer).1, name);
        }
    }
    assert_eq!(upstream.calls(), 0);
    // A client that waits for a word is told at once.
    let expect = "content-length: 1025\r\nexpect: 100-continue\r\n";
    assert_eq!(gateway.raw(&head("POST /", expect)).await.status, 413);
    let good = head("POST /", "content-length: 1024\r\n") + &"b".repeat(1024);
    assert_eq!(gateway.raw(&good).await.status, 200);
    assert_eq!(upstream.last().body.len(), 1024);
    for path in ["/off", "/own"] {
        let good = head(&format!("POST {path}"), "content-length: 2000\r\n") + &"b".repeat(2000);
        assert_eq!(gateway.raw(&good).await.status, 200, "{path}");
    }
    assert_eq!(gateway.raw(&head(&long("/", 49), "")).await.status, 200);
    assert_eq!(gateway.raw(&head(&long("/?", 10), "")).await.status, 200);
}

fn chunks(count: usize) -> String {
    let mut body = String::new();
    for _ in 0..count {
        body += &format!("100\r\n{}\r\n", "b".repeat(256));
    }
    body + "0\r\n\r\n"
}

#[tokio::test]
async fn a_streamed_body_is_cut_at_the_limit_and_the_client_is_told() {
    let upstream = Upstream::start().await;
    let limit = "size_limits = { body = 1024 }";
    let gateway = Running::start(&config(upstream.addr, limit, &[("/", "")])).await;
    let request = head("POST /", "transfer-encoding: chunked\r\n");
    assert_eq!(
        gateway.raw(&(request.clone() + &chunks(4))).await.status,
        200
    );
    assert_eq!(upstream.last().body.len(), 1024);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let gateway = Running::start(&config(slow, limit, &[("/", "")])).await;
    let answer = gateway.raw(&(request + &chunks(5))).await;
    assert_eq!(code(&answer), (413, "body_too_large".to_owned()));
    let seen = soon(seen).await.unwrap();
    assert!(
        !seen.ends_with("0\r\n\r\n"),
        "the upstream took it for whole: {seen}"
    );
    let (_, body) = seen.split_once("\r\n\r\n").unwrap_or_default();
    assert!(body.matches('b').count() <= 1024, "{body}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_cut_where_the_body_is_too_large() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let early = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
        let _ = read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let limit = "size_limits = { body = 1024 }";
    let gateway = Running::start(&config(early, limit, &[("/", "")])).await;
    let mut stream = gateway.connect().await;
    let request = head("POST /", "transfer-encoding: chunked\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (head, mut body) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let _ = stream.write_all(chunks(8).as_bytes()).await;
    let _ = soon(stream.read_to_end(&mut body)).await;
    let body = String::from_utf8_lossy(&body);
    assert!(!body.ends_with("0\r\n\r\n"), "{body}");
}

#[test]
fn settings_that_weaken_what_they_are_for_are_refused() {
    let good = config(([127, 0, 0, 1], 1).into(), "TOP", &[("/", "ROUTE")]);
    let refused = |top: &str, route: &str| {
        let text = good.replace("TOP", top).replace("ROUTE", route);
        gateway_kit::Config::from_toml(&text)
            .expect_err(top)
            .to_string()
    };
    for (setting, wanted) in [
        (
            "cors = { origins = [] }",
            "cors.origins = []: needs at least one",
        ),
        (
            "cors = { origins = [\"*\"], credentials = true }",
            "cors.origins = [\"*\"]: must not have \"*\"",
        ),
        (
            "cors = { origins = [\"https://a.test\"], headers = [\"*\"], credentials = true }",
            "cors.headers = [\"*\"]: must not",
        ),
        (
            "cors = { origins = [\"a.test\"] }",
            "cors.origins[0] = \"a.test\": must be \"https://",
        ),
        (
            "csrf = { origins = [\"*\"] }",
            "csrf.origins = [\"*\"]: must not have \"*\"",
        ),
        ("ip_filter = {}", "ip_filter.allow: is missing"),
        (
            "ip_filter = { allow = [\"10.0.0.1/8\"] }",
            "ip_filter.allow[0] = \"10.0.0.1/8\": ",
        ),
        (
            "size_limits = { path = 0 }",
            "size_limits.path = 0: must be from 1",
        ),
        (
            "size_limits = { body = \"1 MB\" }",
            "size_limits.body = \"1 MB\": ",
        ),
        (
            "security_headers = { hsts = { preload = true } }",
            "security_headers.hsts.preload = true: needs",
        ),
        (
            "security_headers = { frame_options = \"a\\nb\" }",
            "security_headers.frame_options = ",
        ),
        (
            "rate_limit = { requests = 1, ipv6_prefix = 0 }",
            "rate_limit.ipv6_prefix = 0: must be",
        ),
        (
            "rate_limit = [{ requests = 1 }, { requests = 2 }]",
            "rate_limit[1]",
        ),
        (
            "rate_limit = { requests = 1, key = \"adress\" }",
            "rate_limit.key = \"adress\": ",
        ),
    ] {
        let at_top = refused(setting, "");
        assert!(at_top.contains(wanted), "{at_top}");
        let on_route = refused("", setting);
        assert!(
            on_route.contains(&format!("route[0].{wanted}")),
            "{on_route}"
        );
    }
}

#[tokio::test]
async fn with_no_section_nothing_is_added() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let fields = "origin: https://evil.test\r\nsec-fetch-site: cross-site\r\ncookie: a=b\r\n";
    let answer = gateway.raw(&head("POST /", fields)).await;
    assert_eq!(answer.status, 200);
    for name in FIELDS.iter().map(|(name, _)| *name) {
        assert_eq!(answer.header(name), None);
    }
    assert!(!answer.head.contains("access-control"), "{}", answer.head);
}
