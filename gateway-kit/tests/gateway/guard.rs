//! Requests that are refused before anything else sees them.

use crate::support::{Running, Upstream, routed};

#[tokio::test]
async fn a_request_with_two_readings_is_refused_and_reaches_no_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    for (raw, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: u@h\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a,b\r\n\r\n", 400),
        ("GET /a%2fb HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("GET /a%5cb HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("GET /a%00 HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("GET /../etc HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("GET /%2e%2e/etc HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("GET /a/..;/b HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", 400),
        ("CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nhost: h\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nhost: h\r\nexpect: tea\r\n\r\n", 417),
        (
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +3\r\n\r\nabc",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\nabc",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
    ] {
        let closing = raw.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        assert_eq!(gateway.raw(&closing).await.status, status, "{raw:?}");
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn an_absolute_target_replaces_the_host_on_its_way() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let raw = "GET http://real.test/x?y HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    assert_eq!(gateway.raw(raw).await.status, 200);
    let seen = upstream.last();
    assert_eq!(
        (seen.target.as_str(), seen.header("host")),
        ("/x?y", Some("real.test"))
    );
}

#[tokio::test]
async fn too_many_header_fields_are_431() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    let raw = format!("GET / HTTP/1.1\r\nhost: h\r\n{many}connection: close\r\n\r\n");
    assert_eq!(gateway.raw(&raw).await.status, 431);
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn content_length_beside_transfer_encoding_is_refused_and_the_connection_closed() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = "CONTENT-LENGTH: 5\r\n";
    let body = "0\r\n\r\n";
    for fields in [[chunked, length], [length, chunked]] {
        let [first, second] = fields;
        let both = format!("POST / HTTP/1.1\r\nhost: h\r\n{first}{second}\r\n{body}");
        // No `connection: close`: `raw` reads to the end, so the gateway must close.
        assert_eq!(gateway.raw(&both).await.status, 400, "{both}");
        let piped = format!("GET /health HTTP/1.1\r\nhost: h\r\n\r\n{both}");
        let answer = gateway.raw(&piped).await;
        assert!(answer.body.contains("HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!(upstream.calls(), 0);
    // One of the two is fine, also again and again on one connection.
    let one = format!("POST / HTTP/1.1\r\nhost: h\r\n{chunked}\r\n3\r\nabc\r\n{body}");
    let other = format!("POST / HTTP/1.1\r\nhost: h\r\n{length}\r\nhello");
    let mut client = gateway.connect().await;
    for request in [&one, &other, &one, &other] {
        use tokio::io::AsyncWriteExt;
        client.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = crate::support::read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}
