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

/// RFC 8441: over HTTP/2.
#[cfg(feature = "http2")]
mod http2 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use h2::client::SendRequest;
    use h2::{RecvStream, SendStream};
    use http::{Method, Request, Response};
    use sha1::{Digest, Sha1};

    use super::*;

    async fn client(gateway: &Running) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
        tokio::spawn(connection);
        let client = soon(client.ready()).await.unwrap();
        until(|| client.is_extended_connect_protocol_enabled()).await;
        client
    }

    fn ask() -> Request<()> {
        let request = Request::builder().method(Method::CONNECT);
        let request = request.uri("http://h/chat?x=y");
        let request = request.extension(h2::ext::Protocol::from_static("websocket"));
        let request = request.header("sec-websocket-version", "13");
        request.body(()).unwrap()
    }

    /// Answers the upgrade with these lines and the right `Sec-WebSocket-Accept` for `ACCEPT`.
    async fn answer(listener: &TcpListener, lines: &str) -> TcpStream {
        let (mut upstream, _) = soon(listener.accept()).await.unwrap();
        let (head, _) = read_head(&mut upstream).await;
        for line in [
            "GET /chat?x=y HTTP/1.1",
            "host: h",
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
        ] {
            assert!(head.lines().any(|found| found == line), "{line}: {head}");
        }
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let key = key.unwrap();
        assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
        let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let lines = lines.replace("ACCEPT", &STANDARD.encode(accept));
        upstream
            .write_all(format!("{lines}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        upstream
    }

    const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                          upgrade: websocket\r\nsec-websocket-accept: ACCEPT";

    type Ends = (Response<RecvStream>, SendStream<Bytes>, TcpStream);

    async fn exchange(
        client: &mut SendRequest<Bytes>,
        listener: &TcpListener,
        lines: &str,
    ) -> Ends {
        let (response, send) = client.send_request(ask(), false).unwrap();
        let (response, upstream) =
            soon(async { tokio::join!(response, answer(listener, lines)) }).await;
        (response.unwrap(), send, upstream)
    }

    #[tokio::test]
    async fn a_tunnel_is_opened_for_a_client_of_http2_and_keeps_its_connection() {
        // Far less than the tunnel lives.
        let (gateway, listener) = start("[server]\nheader_timeout = \"300ms\"\n").await;
        let mut client = client(&gateway).await;
        let (response, mut send, mut upstream) = exchange(&mut client, &listener, AGREES).await;
        assert_eq!(response.status(), 200);
        for name in [
            "connection",
            "upgrade",
            "sec-websocket-accept",
            "content-length",
        ] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        let mut incoming = response.into_body();
        for turn in 0..100 {
            let text = format!("GET /{turn} HTTP/1.1\r\n\r\n");
            send.send_data(Bytes::from(text.clone()), false).unwrap();
            let mut got = vec![0; text.len()];
            soon(upstream.read_exact(&mut got)).await.unwrap();
            assert_eq!(got, text.as_bytes());
            upstream.write_all(&got).await.unwrap();
            let mut back = Vec::new();
            while back.len() < got.len() {
                let data = soon(incoming.data()).await.unwrap().unwrap();
                incoming
                    .flow_control()
                    .release_capacity(data.len())
                    .unwrap();
                back.extend(data);
            }
            assert_eq!(back, got);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(gateway.handle.endpoints()[0].in_flight, 1);
        drop(upstream);
        assert!(!matches!(soon(incoming.data()).await, Some(Ok(data)) if !data.is_empty()));
        drop((send, incoming));
        until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
    }

    #[tokio::test]
    async fn a_client_of_http2_that_leaves_its_tunnel_ends_it() {
        let (gateway, listener) = start("").await;
        let mut client = client(&gateway).await;
        let (response, mut send, mut upstream) = exchange(&mut client, &listener, AGREES).await;
        send.send_reset(h2::Reason::CANCEL);
        drop(response);
        assert!(is_closed(&mut upstream).await);
        drop(upstream);
        until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
    }

    #[tokio::test]
    async fn an_upstream_that_does_not_agree_is_no_tunnel() {
        let (gateway, listener) = start("").await;
        let mut client = client(&gateway).await;
        for (lines, status) in [
            (
                AGREES.replace("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                502,
            ),
            (AGREES.replace("\r\nsec-websocket-accept: ACCEPT", ""), 502),
            (AGREES.replace("upgrade: websocket", "upgrade: h2c"), 502),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0".to_owned(), 502),
            ("HTTP/1.1 204 No Content".to_owned(), 502),
            (
                "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0".to_owned(),
                403,
            ),
            (
                "HTTP/1.1 426 No\r\nconnection: close\r\ncontent-length: 0".to_owned(),
                426,
            ),
        ] {
            let (response, _send, upstream) = exchange(&mut client, &listener, &lines).await;
            assert_eq!(response.status(), status, "{lines}");
            drop(upstream);
        }
    }
}
