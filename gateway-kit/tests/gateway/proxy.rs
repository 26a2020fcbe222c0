//! Routing, rewriting, errors: what a client sees.

use crate::support::{Running, Upstream, nobody, routed};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;

#[tokio::test]
async fn status_headers_and_body_pass_through_and_rewriting_is_exact() {
    // I1.c1
    let upstream = Upstream::answering(|_| {
        Response::builder()
            .status(207)
            .header("x-from", "upstream")
            .body(Full::from("brewed"))
            .unwrap()
    })
    .await;
    let gateway = Running::start(&format!(
        r#"
        [[route]]
        prefix = "/keep"
        upstream = "shop"
        [[route]]
        prefix = "/api"
        upstream = "shop"
        strip_prefix = true
        [[route]]
        prefix = "/api/payments"
        upstream = "shop"
        rewrite = "/v2/pay"
        [upstream.shop]
        endpoints = ["http://{}"]
        "#,
        upstream.addr
    ))
    .await;
    for (asked, wanted) in [
        ("/keep/a?b=%2F&c", "/keep/a?b=%2F&c"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x", "/?x"),
        ("/api/products/7?q=//", "/products/7?q=//"),
        ("/api/payments", "/v2/pay"),
        ("/api/payments/9", "/v2/pay/9"),
        ("/api/payments2", "/payments2"),
        ("/api//x/../%70roducts", "/products"),
    ] {
        let answer = gateway.get(asked).await;
        assert_eq!(answer.status, 207, "{asked}");
        assert_eq!(answer.header("x-from"), Some("upstream"));
        assert_eq!(answer.body, "brewed");
        assert_eq!(upstream.last().target, wanted, "{asked}");
    }
    let raw =
        "POST /keep HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    assert_eq!(gateway.raw(raw).await.status, 207);
    let seen = upstream.last();
    assert_eq!(
        (seen.method.as_str(), seen.body),
        ("POST", Bytes::from("hello"))
    );
    assert_eq!(seen.headers["host"], "h");
}

#[tokio::test]
async fn an_unknown_path_is_404_as_a_problem_with_the_correlation_id() {
    // I1.c2
    let upstream = Upstream::start().await;
    let config = routed(&[upstream.addr]).replace("prefix = \"/\"", "prefix = \"/api\"");
    let gateway = Running::start(&config).await;
    for path in ["/", "/apis", "/ap", "/API"] {
        let answer = gateway
            .raw(&format!(
                "GET {path} HTTP/1.1\r\nhost: h\r\nx-correlation-id: abc-1\r\nconnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.header("x-correlation-id"), Some("abc-1"));
        let problem = answer.json();
        assert_eq!(problem["status"], 404);
        assert_eq!(problem["code"], "route_not_found");
        assert_eq!(problem["correlation_id"], "abc-1");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].is_string(), "{field}");
        }
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn an_unreachable_upstream_is_503_and_a_silent_one_504() {
    let config = routed(&[nobody().await]);
    let gateway = Running::start(&config).await;
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["code"], "upstream_unreachable");

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[silent.local_addr().unwrap()]) + "response_timeout = \"50ms\"\n";
    let gateway = Running::start(&config).await;
    let answer = gateway.get("/").await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (504, Some("upstream_timeout"))
    );
}

#[tokio::test]
async fn an_answer_without_a_head_is_502_and_tells_nothing_of_the_upstream() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "retry = false\n";
    let gateway = Running::start(&config).await;
    for raw in [
        "",
        "secret\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: secret\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 6\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nsecret",
    ] {
        let answer = async {
            use tokio::io::AsyncWriteExt;
            let (mut stream, _) = listener.accept().await.unwrap();
            crate::support::read_head(&mut stream).await;
            stream.write_all(raw.as_bytes()).await.unwrap();
        };
        let (answer, ()) =
            crate::support::soon(async { tokio::join!(gateway.get("/"), answer) }).await;
        assert_eq!(answer.status, 502, "{raw:?}");
        assert!(
            !answer.body.contains("secret") && !answer.head.contains("secret"),
            "{answer:?}"
        );
    }
}
