//! WebSockets: what is asked of the upstream, and the bytes after its 101.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, read_head, routed, soon, until};

const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, Upgrade\r\nupgrade: \
    websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A client and an upstream with a tunnel between them; `early` comes right behind the 101.
async fn tunnel(gateway: &Running, listener: &TcpListener, early: &str) -> (TcpStream, TcpStream) {
    let mut client = gateway.connect().await;
    client.write_all(ASK).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    let (asked, _) = read_head(&mut upstream).await;
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        assert!(asked.contains(line), "{asked}");
    }
    let answer = format!("{AGREE}{early}");
    upstream.write_all(answer.as_bytes()).await.unwrap();
    let (head, mut rest) = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3p",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(
        !head.contains("content-length") && !head.contains("chunked"),
        "{head}"
    );
    while rest.len() < early.len() {
        assert_ne!(soon(client.read_buf(&mut rest)).await.unwrap(), 0);
    }
    assert_eq!(rest, early.as_bytes());
    (client, upstream)
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).await.unwrap();
    let mut got = vec![0; text.len()];
    soon(to.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, text);
}

async fn ends(stream: &mut TcpStream) {
    let end = soon(stream.read(&mut [0; 16])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn after_a_101_that_was_asked_for_bytes_pass_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let in_flight = || gateway.handle.endpoints()[0].in_flight;
    let (mut client, mut upstream) = tunnel(&gateway, &listener, "early bytes").await;
    for turn in 0..20 {
        let text = format!("message {turn}");
        passes(&mut client, &mut upstream, text.as_bytes()).await;
        passes(&mut upstream, &mut client, text.as_bytes()).await;
    }
    // What looks like a request is none here.
    passes(&mut client, &mut upstream, b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(in_flight(), 1);
    drop(client);
    ends(&mut upstream).await;
    drop(upstream);
    until(|| in_flight() == 0).await;

    let (mut client, upstream) = tunnel(&gateway, &listener, "").await;
    drop(upstream);
    ends(&mut client).await;
}

#[tokio::test]
async fn a_tunnel_on_which_nothing_moves_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "upgrade_timeout = \"300ms\"\n";
    let gateway = Running::start(&config).await;
    let (mut client, mut upstream) = tunnel(&gateway, &listener, "").await;
    ends(&mut client).await;
    ends(&mut upstream).await;
    until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
}

#[tokio::test]
async fn an_upstream_that_does_not_agree_is_answered_as_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    for (answer, wanted) in [
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
            "HTTP/1.1 403 ",
        ),
        (
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            "HTTP/1.1 502 ",
        ),
        (
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 502 ",
        ),
        (
            "HTTP/1.1 101 Switching\r\nupgrade: websocket, h2c\r\n\r\n",
            "HTTP/1.1 502 ",
        ),
    ] {
        let mut client = gateway.connect().await;
        client.write_all(ASK).await.unwrap();
        let (mut upstream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut upstream).await;
        upstream.write_all(answer.as_bytes()).await.unwrap();
        let (head, _) = read_head(&mut client).await;
        assert!(head.starts_with(wanted), "{answer:?}: {head}");
        drop(upstream);
    }
}

#[tokio::test]
async fn tunnels_end_with_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "[shutdown]\ndelay = \"0s\"\ntimeout = \"50ms\"\n";
    let mut gateway = Running::start(&config).await;
    let (mut client, mut upstream) = tunnel(&gateway, &listener, "").await;
    gateway.stop();
    ends(&mut client).await;
    ends(&mut upstream).await;
    soon(&mut gateway.task).await.unwrap().unwrap();
}
