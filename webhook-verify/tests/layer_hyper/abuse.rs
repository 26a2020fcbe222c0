//! Bodies that are endless, slow, broken or not what was announced.

use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use webhook_verify::layer::WebhookLayer;

use super::support::{
    BODY, CHUNKED, Protocol, STACKS, Server, head, headers, memoryless, post, within,
};

#[tokio::test]
async fn good_and_forged_deliveries_are_told_apart_in_every_stack() {
    for stack in STACKS {
        let server = Server::http1(stack, memoryless()).await;
        for round in 0..4 {
            let good = server.send(post(&headers(BODY), BODY)).await;
            assert_eq!(
                (good.status, good.body.as_slice()),
                (200, BODY),
                "{stack:?}"
            );
            let forged = server.send(post(&headers(b"other"), BODY)).await;
            assert_eq!((forged.status, forged.body.len()), (401, 0));
            assert_eq!(server.handled(), round + 1);
        }
    }
}

#[tokio::test]
async fn chunks_of_any_size_are_joined_and_extensions_and_trailers_are_dropped() {
    for stack in STACKS {
        let server = Server::http1(stack, memoryless()).await;
        let head = head("/hook", &headers(b"abcdefghij"), CHUNKED);
        let request = format!(
            "{head}1;x=y\r\na\r\n2\r\nbc\r\n7;\"q\"\r\ndefghij\r\n0\r\nx-webhook-signature: no\r\n\r\n"
        );
        // Byte by byte on the wire as well.
        let mut connection = server.connect().await;
        for byte in request.as_bytes().chunks(1) {
            assert!(connection.write(byte).await);
        }
        let answer = connection.answer().await.unwrap();
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, b"abcdefghij".as_slice())
        );
        assert!(!answer.head.contains("trailer"));
    }
}

/// Writes `head` and then one kind of bytes until the server has had enough; gives the status
/// and how many it took.
async fn flood(server: &Server, head: &str, bytes: Vec<u8>) -> (u16, usize) {
    let mut connection = server.connect().await;
    assert!(connection.write(head).await);
    let (mut reader, mut writer) = connection.0.into_split();
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while writer.write_all(&bytes).await.is_ok() {
            written += bytes.len();
            assert!(written < 1 << 28, "the server never stops reading");
        }
        written
    });
    let mut first = [0; 12];
    within(reader.read_exact(&mut first)).await.unwrap();
    let status = std::str::from_utf8(&first[9..]).unwrap().parse().unwrap();
    (status, within(writing).await.unwrap())
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    for stack in STACKS {
        let mut server = Server::http1(stack, memoryless()).await;
        let chunked = head("/hook", &headers(BODY), CHUNKED);
        let large = format!("4000\r\n{}\r\n", "a".repeat(0x4000)).into_bytes();
        for chunk in [large, b"1\r\na\r\n".repeat(1000)] {
            let (status, taken) = flood(&server, &chunked, chunk).await;
            assert_eq!(status, 413);
            assert_eq!(
                server.event().await,
                "webhook.rejected body larger than 65536 bytes"
            );
            // What the buffers of two sockets hold comes on top.
            assert!(taken < 64 << 20, "{taken} bytes were taken");
        }
        assert_eq!(server.send(post(&headers(BODY), BODY)).await.status, 200);
        assert_eq!(server.handled(), 1);
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_left_at_the_read_deadline() {
    for stack in STACKS {
        let layer = WebhookLayer::new(memoryless().build().unwrap());
        let layer = layer.read_deadline(Duration::from_millis(50));
        let mut server = Server::start(stack, layer, Protocol::Http1).await;
        let announced = head("/hook", &headers(BODY), "content-length: 7\r\n");
        let chunked = head("/hook", &headers(BODY), CHUNKED);
        for begun in [
            announced.clone(),
            format!("{announced}{{\"a\":1"),
            chunked.clone(),
            format!("{chunked}7\r\n{{\"a\":1}}\r\n"),
        ] {
            let answer = server.send(begun).await;
            assert_eq!((answer.status, answer.body.len()), (408, 0));
            assert_eq!(
                server.event().await,
                "webhook.rejected body did not arrive in time"
            );
        }
        assert_eq!(server.handled(), 0);
        assert_eq!(server.send(post(&headers(BODY), BODY)).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_reaches_the_handler() {
    for stack in STACKS {
        let mut server = Server::http1(stack, memoryless()).await;
        let announced = head("/hook", &headers(BODY), "content-length: 8\r\n");
        let chunked = head("/hook", &headers(BODY), CHUNKED);
        for begun in [
            format!("{announced}{{\"a\":1}}"),
            format!("{chunked}7\r\n{{\"a\":1}}\r\n"),
            format!("{chunked}7\r\n{{\"a\":1}}\r\n0\r\n"),
            format!("{chunked}8\r\n{{\"a\":1}}"),
        ] {
            let mut connection = server.connect().await;
            assert!(connection.write(begun).await);
            within(connection.0.shutdown()).await.unwrap();
            let status = connection.answer().await.map(|answer| answer.status);
            assert!(matches!(status, None | Some(400)), "{status:?}");
            assert!(connection.ended().await);
        }
        for malformed in [
            "zz\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\na",
            "7\r\n{\"a\":1}XX",
        ] {
            let answer = server.send(format!("{chunked}{malformed}")).await;
            assert_eq!(answer.status, 400, "{malformed}");
            assert_eq!(
                server.event().await,
                "webhook.rejected body could not be read"
            );
        }
        assert_eq!(server.handled(), 0);
        assert_eq!(server.send(post(&headers(BODY), BODY)).await.status, 200);
    }
}

/// Kilobytes of memory that this process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.unwrap_or(0)
}

#[tokio::test]
async fn tebibytes_that_are_only_announced_cost_nothing() {
    let before = resident();
    // The limit lets them pass, so that only their coming could be refused.
    for (builder, expected) in [
        (memoryless(), Some(413)),
        (memoryless().body_limit(usize::MAX), None),
    ] {
        let server = Server::http1(STACKS[0], builder).await;
        let head = head(
            "/hook",
            &headers(BODY),
            "content-length: 70368744177664\r\n",
        );
        let mut connections = Vec::new();
        for _ in 0..8 {
            let mut connection = server.connect().await;
            assert!(connection.write(format!("{head}{{\"a\":1}}")).await);
            if let Some(expected) = expected {
                assert_eq!(connection.answer().await.unwrap().status, expected);
            }
            connections.push(connection);
        }
        // In between, others are served.
        assert_eq!(server.send(post(&headers(BODY), BODY)).await.status, 200);
        assert_eq!(server.handled(), 1);
    }
    let more = resident().saturating_sub(before);
    assert!(more < 64 * 1024, "{more} kB");
}

#[tokio::test]
async fn lengths_that_contradict_each_other_are_refused() {
    let server = Server::http1(STACKS[0], memoryless()).await;
    for framing in [
        "content-length: 7\r\ncontent-length: 6\r\n",
        "content-length: +7\r\n",
        "content-length: 0x7\r\n",
        "content-length: 7, 6\r\n",
        "transfer-encoding: gzip\r\n",
    ] {
        let answer =
            server.send([head("/hook", &headers(BODY), framing).as_bytes(), BODY].concat());
        assert_eq!(answer.await.status, 400, "{framing}");
    }
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn bytes_beyond_the_announced_length_belong_to_no_delivery() {
    let server = Server::http1(STACKS[0], memoryless()).await;
    let mut connection = server.connect().await;
    let mut request = post(&headers(BODY), BODY);
    request.extend_from_slice(b"more than was said\r\n\r\n");
    assert!(connection.write(request).await);
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, BODY));
    assert_eq!(connection.answer().await.unwrap().status, 400);
    assert!(connection.ended().await);
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn a_sender_that_asks_first_is_told_to_continue_only_when_its_head_may_pass() {
    for stack in STACKS {
        let server = Server::http1(stack, memoryless()).await;
        let ask = |headers: &HeaderMap| {
            head(
                "/hook",
                headers,
                "content-length: 7\r\nexpect: 100-continue\r\n",
            )
        };
        let mut stale = headers(BODY);
        stale.insert("x-webhook-timestamp", "1600000000".parse().unwrap());
        let mut connection = server.connect().await;
        assert!(connection.write(ask(&stale)).await);
        assert_eq!(connection.answer().await.unwrap().status, 401, "and no 100");

        let mut connection = server.connect().await;
        assert!(connection.write(ask(&headers(BODY))).await);
        assert_eq!(connection.answer().await.unwrap().status, 100);
        assert!(connection.write(BODY).await);
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
}
