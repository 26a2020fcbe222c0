//! Header fields on their way through.

use http::Response;
use http_body_util::Full;

use crate::support::{Running, Upstream, routed};

#[tokio::test]
async fn each_hop_by_hop_field_of_a_request_ends_at_the_gateway() {
    // I1.c3
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    for (name, value) in [
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "Basic x"),
        ("te", "gzip"),
        ("upgrade", "websocket"),
        ("x-named", "by connection"),
        ("authorization-extra", "by connection"),
    ] {
        let answer = gateway
            .raw(&format!(
                "GET / HTTP/1.1\r\nhost: h\r\n{name}: {value}\r\nx-stays: 1\r\n\
                 connection: close, X-Named\r\nconnection: ,authorization-extra\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 200, "{name}");
        let seen = upstream.last();
        assert_eq!(seen.header(name), None, "{name}");
        assert_eq!(seen.header("connection"), None, "{name}");
        assert_eq!(seen.header("x-stays"), Some("1"), "{name}");
    }
}

#[tokio::test]
async fn each_hop_by_hop_field_of_a_response_ends_at_the_gateway() {
    // I1.c3
    for (name, value) in [
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "Basic x"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("x-named", "by connection"),
    ] {
        let upstream = Upstream::answering(move |_| {
            Response::builder()
                .header(name, value)
                .header("connection", "x-named, x-correlation-id, content-length")
                .header("x-stays", "1")
                .body(Full::from("ok"))
                .unwrap()
        })
        .await;
        let gateway = Running::start(&routed(&[upstream.addr])).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.header(name), None, "{name}: {}", answer.head);
        assert_eq!(answer.header("x-stays"), Some("1"));
        assert_eq!(answer.header("content-length"), Some("2"));
        assert!(answer.header("x-correlation-id").is_some());
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn te_trailers_is_passed_on_and_other_codings_are_not() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    gateway
        .raw("GET / HTTP/1.1\r\nhost: h\r\nte: gzip, Trailers\r\nconnection: close, te\r\n\r\n")
        .await;
    assert_eq!(upstream.last().header("te"), Some("trailers"));
    assert_eq!(upstream.last().header("connection"), Some("te"));
}

#[tokio::test]
async fn connection_cannot_name_away_framing_host_or_what_the_gateway_adds() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let answer = gateway
        .raw(
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\nx-correlation-id: c1\r\n\
             connection: close, host, content-length, x-forwarded-for, forwarded, x-correlation-id\
             \r\n\r\nabc",
        )
        .await;
    assert_eq!(answer.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.header("host"), Some("h"));
    assert_eq!(seen.header("content-length"), Some("3"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-correlation-id"), Some("c1"));
    assert_eq!(&seen.body[..], b"abc");
}

#[tokio::test]
async fn a_chunked_get_keeps_its_body() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    let raw = "GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
               3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(gateway.raw(raw).await.status, 200);
    let seen = upstream.last();
    assert_eq!(&seen.body[..], b"abc");
    assert_eq!(seen.headers.get_all("transfer-encoding").iter().count(), 1);
    assert_eq!(seen.header("content-length"), None);
}

const SPOOFED: &str = "GET / HTTP/1.1\r\nhost: shop.test\r\nx-forwarded-for: 203.0.113.9, 10.1.1.1\r\n\
    x-forwarded-proto: https\r\nx-forwarded-host: evil\r\nx-forwarded-port: 1\r\n\
    forwarded: for=203.0.113.9\r\nx-real-ip: 203.0.113.9\r\nX_Forwarded_For: 203.0.113.9\r\n\
    connection: close\r\n\r\n";

#[tokio::test]
async fn forwarding_fields_of_an_untrusted_peer_are_replaced_by_the_real_peer() {
    // I1.c3
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    gateway.raw(SPOOFED).await;
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.test"));
    assert_eq!(seen.header("x-forwarded-port"), None);
    assert_eq!(seen.header("x_forwarded_for"), None);
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    let forwarded = "for=127.0.0.1;host=\"shop.test\";proto=http";
    assert_eq!(seen.header("forwarded"), Some(forwarded));
}

#[tokio::test]
async fn forwarding_fields_of_a_trusted_peer_are_kept_and_extended_by_the_real_peer() {
    // I1.c3
    let upstream = Upstream::start().await;
    let config = format!(
        "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n{}",
        routed(&[upstream.addr])
    );
    let gateway = Running::start(&config).await;
    gateway.raw(SPOOFED).await;
    let seen = upstream.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("203.0.113.9, 10.1.1.1, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        seen.header("forwarded"),
        Some("for=203.0.113.9, for=127.0.0.1;host=\"shop.test\";proto=http")
    );
    assert_eq!(seen.header("x-real-ip"), Some("203.0.113.9"));
    assert_eq!(seen.header("x_forwarded_for"), None);
}

#[tokio::test]
async fn a_correlation_id_is_taken_if_well_formed_else_made_passed_on_and_returned() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    for (given, taken) in [
        ("abc-1.2_3", true),
        ("a b", false),
        ("", false),
        ("<x>", false),
    ] {
        let raw = format!(
            "GET / HTTP/1.1\r\nhost: h\r\nx-correlation-id: {given}\r\nconnection: close\r\n\r\n"
        );
        let answer = gateway.raw(&raw).await;
        let returned = answer.header("x-correlation-id").unwrap().to_owned();
        assert_eq!(
            upstream.last().header("x-correlation-id"),
            Some(returned.as_str())
        );
        assert_eq!(returned == given, taken, "{given:?} became {returned:?}");
        assert!(!returned.is_empty());
    }
}
