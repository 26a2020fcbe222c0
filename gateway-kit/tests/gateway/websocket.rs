//! WebSocket: after a 101 that was asked for, bytes go both ways as they are.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, read_head, routed, soon, until};

const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A gateway, and the listener behind it.
async fn start(more: &str) -> (Running, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + more;
    (Running::start(&config).await, listener)
}

/// Opens a tunnel: the client's end and the upstream's.
async fn open(gateway: &Running, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = gateway.connect().await;
    client.write_all(ASK).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    let (head, rest) = read_head(&mut upstream).await;
    for line in [
        "GET /chat HTTP/1.1",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "x-forwarded-for: 127.0.0.1",
    ] {
        let found = head.lines().any(|found| found.eq_ignore_ascii_case(line));
        assert!(found, "{line}: {head}");
    }
    assert!(rest.is_empty());
    upstream.write_all(AGREE).await.unwrap();
    let (head, rest) = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ] {
        let found = head.lines().any(|found| found.eq_ignore_ascii_case(line));
        assert!(found, "{line}: {head}");
    }
    assert!(rest.is_empty(), "{rest:?}");
    (client, upstream)
}

/// Sends `bytes` from one end and reads them at the other.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    let (sent, got) =
        soon(async { tokio::join!(from.write_all(bytes), to.read_exact(&mut read)) }).await;
    sent.unwrap();
    got.unwrap();
    assert!(read == bytes);
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(soon(stream.read(&mut [0; 8])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn bytes_go_both_ways_as_they_are() {
    let (gateway, listener) = start("").await;
    let (mut client, mut upstream) = open(&gateway, &listener).await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for bytes in [
        &b"hello"[..],
        // What would be refused as a request.
        b"GET / HTTP/1.1\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\n\n\0\r\r\n",
        &large,
    ] {
        pass(&mut client, &mut upstream, bytes).await;
        pass(&mut upstream, &mut client, bytes).await;
    }
    drop(client);
    assert!(is_closed(&mut upstream).await);
    let (mut client, upstream) = open(&gateway, &listener).await;
    drop(upstream);
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn what_a_client_sends_before_the_101_is_the_first_in_the_tunnel() {
    let (gateway, listener) = start("").await;
    let mut client = gateway.connect().await;
    client.write_all(&[ASK, b"early\n"].concat()).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    let (_, rest) = read_head(&mut upstream).await;
    assert!(rest.is_empty());
    upstream
        .write_all(&[AGREE, b"also early"].concat())
        .await
        .unwrap();
    let (_, mut got) = read_head(&mut client).await;
    while got.len() < 10 {
        assert_ne!(soon(client.read_buf(&mut got)).await.unwrap(), 0);
    }
    assert_eq!(got, b"also early");
    let mut got = [0; 6];
    soon(upstream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"early\n");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let (gateway, listener) = start("").await;
    let mut client = gateway.connect().await;
    for status in ["426 Upgrade Required", "200 OK"] {
        client.write_all(ASK).await.unwrap();
        let (mut upstream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut upstream).await;
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        upstream.write_all(answer.as_bytes()).await.unwrap();
        let (head, _) = read_head(&mut client).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {}", &status[..3])),
            "{head}"
        );
        assert!(!head.contains("upgrade: websocket"), "{head}");
    }
}

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_until_it_ends() {
    let (gateway, listener) = start("[server]\nmax_connections = 1\n").await;
    let (mut client, mut upstream) = open(&gateway, &listener).await;
    let mut second = gateway.connect().await;
    let request = b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n";
    second.write_all(request).await.unwrap();
    for _ in 0..20 {
        pass(&mut client, &mut upstream, b"ping").await;
        pass(&mut upstream, &mut client, b"pong").await;
    }
    assert!(second.try_read(&mut [0; 8]).is_err());
    drop((client, upstream));
    let (head, _) = read_head(&mut second).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_stop_leaves_a_tunnel_until_its_deadline() {
    let (mut gateway, listener) = start("[shutdown]\ndelay = \"0s\"\ntimeout = \"10m\"\n").await;
    let (mut client, mut upstream) = open(&gateway, &listener).await;
    gateway.stop();
    until(|| gateway.handle.is_stopping()).await;
    soon(async { while TcpStream::connect(gateway.addr).await.is_ok() {} }).await;
    pass(&mut client, &mut upstream, b"still here").await;
    pass(&mut upstream, &mut client, b"so am I").await;
    drop((client, upstream));
    soon(&mut gateway.task).await.unwrap().unwrap();

    let (mut gateway, listener) = start("[shutdown]\ndelay = \"0s\"\ntimeout = \"50ms\"\n").await;
    let (mut client, mut upstream) = open(&gateway, &listener).await;
    gateway.stop();
    assert!(is_closed(&mut client).await);
    assert!(is_closed(&mut upstream).await);
    soon(&mut gateway.task).await.unwrap().unwrap();
}
