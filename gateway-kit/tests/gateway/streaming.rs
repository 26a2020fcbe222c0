//! Bodies on their way: bounded memory, and what happens when one side leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, read_head, routed, soon, until};

const MIB: usize = 1 << 20;
const PIECES: usize = 128;
/// What the sockets of two hops may hold; far below what is sent.
const BOUND: usize = 64 * MIB;

/// Waits until a counter stands still.
async fn stalled(counter: &AtomicUsize) -> usize {
    soon(async {
        let mut seen = usize::MAX;
        loop {
            let now = counter.load(Ordering::SeqCst);
            if now == seen && now > 0 {
                return now;
            }
            seen = now;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_slow_reader_slows_the_upstream_down_and_gets_every_byte() {
    // I1.c4
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            PIECES * MIB
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'x'; MIB];
        for _ in 0..PIECES {
            stream.write_all(&piece).await.unwrap();
            count.fetch_add(MIB, Ordering::SeqCst);
        }
    });
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let (_, rest) = read_head(&mut client).await;
    let held = stalled(&sent).await;
    assert!(
        held < BOUND,
        "{held} bytes taken from the upstream for a client that does not read"
    );
    let mut got = rest.len();
    let mut chunk = vec![0; MIB];
    while got < PIECES * MIB {
        let read = soon(client.read(&mut chunk)).await.unwrap();
        assert_ne!(read, 0);
        got += read;
    }
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn a_slow_upstream_slows_the_client_down() {
    // I1.c4
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let mut client = gateway.connect().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            PIECES * MIB
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'x'; MIB];
        for _ in 0..PIECES {
            client.write_all(&piece).await.unwrap();
            count.fetch_add(MIB, Ordering::SeqCst);
        }
        read_head(&mut client).await.0
    });
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let (_, rest) = read_head(&mut stream).await;
    let held = stalled(&sent).await;
    assert!(
        held < BOUND,
        "{held} bytes taken from the client for an upstream that does not read"
    );
    let mut got = rest.len();
    let mut chunk = vec![0; MIB];
    while got < PIECES * MIB {
        let read = soon(stream.read(&mut chunk)).await.unwrap();
        assert_ne!(read, 0);
        got += read;
    }
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await
        .unwrap();
    assert!(soon(sender).await.unwrap().starts_with("HTTP/1.1 204"));
}

/// A call ends upstream a second after its client left at the latest; a machine that stood still
/// meanwhile gets another try.
async fn in_a_second(call: impl AsyncFn() -> (TcpStream, TcpStream)) {
    for _ in 0..5 {
        let (client, mut upstream) = call().await;
        drop(client);
        let mut bytes = [0; 16];
        let end = tokio::time::timeout(Duration::from_secs(1), upstream.read(&mut bytes));
        if let Ok(end) = end.await {
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            return;
        }
    }
    panic!("each time it took longer than a second");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_upstream_call() {
    // I1.c4
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    in_a_second(async || {
        let mut client = gateway.connect().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut stream).await;
        (client, stream)
    })
    .await;
    until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
    // A client's impatience is not the upstream's failure.
    assert_eq!(gateway.handle.endpoints()[0].breaker.failures, 0);
    until(|| gateway.handle.metrics().contains("status=\"499\"")).await;
}

#[tokio::test]
async fn a_client_that_leaves_inside_the_answer_ends_the_upstream_call() {
    // I1.c4
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    in_a_second(async || {
        let mut client = gateway.connect().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await
            .unwrap();
        read_head(&mut client).await;
        (client, stream)
    })
    .await;
}

#[tokio::test]
async fn a_cut_answer_stays_visibly_cut_and_a_cut_request_never_looks_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let cut = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    stream.write_all(cut).await.unwrap();
    drop(stream);
    let mut bytes = Vec::new();
    let _ = soon(client.read_to_end(&mut bytes)).await;
    assert!(
        !bytes.ends_with(b"0\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );

    let mut client = gateway.connect().await;
    let half = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    client.write_all(half).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let (_, mut seen) = read_head(&mut stream).await;
    drop(client);
    let _ = soon(stream.read_to_end(&mut seen)).await;
    assert!(
        !seen.ends_with(b"0\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&seen)
    );
}

#[tokio::test]
async fn a_client_that_stalls_in_its_body_is_408_and_not_the_upstreams_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "response_timeout = \"300ms\"\n[server]\nbody_timeout = \"300ms\"\n";
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    let half = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhalf";
    client.write_all(half).await.unwrap();
    let (_stream, _) = soon(listener.accept()).await.unwrap();
    let (head, _) = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    assert_eq!(gateway.handle.endpoints()[0].breaker.failures, 0);
}

/// A client that has nothing to say for a while, which others may not.
#[tokio::test]
async fn a_stream_of_grpc_is_silent_as_long_as_it_likes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "response_timeout = \"100ms\"\n[server]\nbody_timeout = \"100ms\"\n";
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    let half = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\n\
                 content-length: 8\r\n\r\nhalf";
    client.write_all(half).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let (_, mut body) = read_head(&mut stream).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.write_all(b"more").await.unwrap();
    while body.len() < 8 {
        assert_ne!(soon(stream.read_buf(&mut body)).await.unwrap(), 0);
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    let (head, _) = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}
