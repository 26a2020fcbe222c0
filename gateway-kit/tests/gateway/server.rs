//! Limits of the listening side: slow clients, unwanted bodies, many connections, panics.

use std::time::Duration;

use gateway_kit::Body;
use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::cases::{Recorder, config};
use crate::support::{Answer, PATIENCE, Running, Upstream, read_head, routed, soon, until};

/// Reads to the end, which must come without a reset.
async fn rest(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    Answer::parse(&bytes)
}

/// Reads to the end, in which no answer may begin.
async fn no_answer(stream: &mut TcpStream) {
    let Answer { head, body, .. } = rest(stream).await;
    assert!(
        !head.contains("HTTP/1.1") && !body.contains("HTTP/1.1"),
        "{head} {body}"
    );
}

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

/// Whether the other side has closed, in order or not.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(soon(stream.read(&mut [0; 64])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn an_unwanted_body_is_read_up_to_a_cap_and_the_connection_goes_on() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let mut client = gateway.connect().await;
    for framing in ["content-length: 100000", "transfer-encoding: chunked"] {
        let head = format!("POST /health HTTP/1.1\r\nhost: h\r\n{framing}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        // The answer is there before the body.
        let (answer, body) = read_head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        drop(body);
        if framing.ends_with("chunked") {
            client.write_all(b"186a0\r\n").await.unwrap();
        }
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        if framing.ends_with("chunked") {
            client.write_all(b"\r\n0\r\n\r\n").await.unwrap();
        }
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"ok") {
            assert_ne!(
                soon(client.read_buf(&mut bytes)).await.unwrap(),
                0,
                "{framing}"
            );
        }
    }
    assert_eq!(upstream.take().len(), 2);
}

#[tokio::test]
async fn above_the_cap_the_answer_arrives_and_the_connection_closes() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    // What follows is not read as a request, and the answer is not lost to a reset.
    for framing in ["content-length: 600000", "transfer-encoding: chunked"] {
        let mut client = gateway.connect().await;
        let head = format!("BREW / HTTP/1.1\r\nhost: h\r\n{framing}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        if framing.ends_with("chunked") {
            client.write_all(b"927c0\r\n").await.unwrap();
        }
        let (answer, _) = read_head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        // Whoever goes on writing is not cut off, and may find the answer later.
        let request = GET.repeat(30_000).into_bytes();
        for piece in request[..600_000].chunks(10_000) {
            client.write_all(piece).await.unwrap();
        }
        // Nor is what comes behind the end of the body, to which nobody has read.
        if framing.ends_with("chunked") {
            client.write_all(b"\r\n0\r\n\r\n").await.unwrap();
        }
        client.write_all(&request[..GET.len()]).await.unwrap();
        no_answer(&mut client).await;
    }
    assert!(upstream.take().is_empty());
}

/// Reading on, so that the answer is not lost, has an end as well.
#[tokio::test]
async fn who_never_ends_is_cut_off() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let mut client = gateway.connect().await;
    let head = b"BREW / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let (answer, _) = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let (piece, mut sent) = ([b'x'; 65_536], 0);
    while soon(client.write_all(&piece)).await.is_ok() {
        sent += piece.len();
    }
    // What is read on, and what the sockets hold.
    assert!(sent < 32 << 20, "{sent}");
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn a_refused_client_is_not_asked_for_its_body() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let mut client = gateway.connect().await;
    let head = b"BREW / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n";
    client.write_all(head).await.unwrap();
    let (answer, _) = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    // Whether the body comes after all nobody knows: nothing more is read here.
    client.write_all(b"0123456789").await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    no_answer(&mut client).await;
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn a_slow_head_ends_the_connection() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nheader_timeout = \"300ms\"\n";
    let gateway = Running::start(&text).await;
    for start in ["", "G", "PRI * HT", "GET / HTTP/1.1\r\nhost: h\r\n"] {
        let mut client = gateway.connect().await;
        client.write_all(start.as_bytes()).await.unwrap();
        assert!(is_closed(&mut client).await, "{start:?}");
    }
    // The same between requests.
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await.status, 200);
    assert_eq!(upstream.take().len(), 1);
}

#[tokio::test]
async fn a_body_below_the_least_rate_is_408_and_reaches_no_upstream_whole() {
    let upstream = Recorder::start().await;
    let text =
        config(upstream.addr) + "[server]\nbody_timeout = \"500ms\"\nmin_body_rate = 1000000000\n";
    let gateway = Running::start(&text).await;
    let mut client = gateway.connect().await;
    let head = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let (mut reader, mut writer) = client.split();
    // No pause is ever as long as `body_timeout`.
    let trickle = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let mut bytes = Vec::new();
    soon(async {
        tokio::select! {
            () = trickle => {}
            read = reader.read_buf(&mut bytes) => assert_ne!(read.unwrap(), 0),
        }
    })
    .await;
    assert_eq!(Answer::parse(&bytes).status, 408);
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_closed_and_its_upstream_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = routed(&[listener.local_addr().unwrap()]) + "[server]\nwrite_timeout = \"50ms\"\n";
    let gateway = Running::start(&text).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let endless = async {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
        let mut open = stream.write_all(head).await;
        while open.is_ok() {
            open = stream.write_all(&[0; 65_536]).await;
        }
    };
    soon(endless).await;
    until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nmax_connections_per_client = 2\n";
    let gateway = Running::start(&text).await;
    async fn served(gateway: &Running, from: &str) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut client = soon(socket.connect(gateway.addr)).await.ok()?;
        let request = b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n";
        client.write_all(request).await.ok()?;
        let read = soon(client.read(&mut [0; 4096])).await.ok()?;
        (read > 0).then_some(client)
    }
    let first = served(&gateway, "127.0.0.1").await;
    let second = served(&gateway, "127.0.0.1").await;
    assert!(first.is_some() && second.is_some());
    assert!(served(&gateway, "127.0.0.1").await.is_none());
    assert!(
        gateway
            .handle
            .metrics()
            .contains("connections_refused_total 1")
    );
    // Another address is not concerned.
    assert!(served(&gateway, "127.0.0.2").await.is_some());
    drop(first);
    soon(async { while served(&gateway, "127.0.0.1").await.is_none() {} }).await;
}

#[tokio::test]
async fn a_connection_above_the_limit_waits_for_its_turn() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nmax_connections = 1\n";
    let gateway = Running::start(&text).await;
    let mut first = gateway.connect().await;
    first
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut first).await;
    let mut second = gateway.connect().await;
    second
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    drop(first);
    read_head(&mut second).await;
}

#[tokio::test]
async fn the_last_request_of_a_connection_is_told_so() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nmax_requests_per_connection = 2\n";
    let gateway = Running::start(&text).await;
    let mut client = gateway.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(3);
    client.write_all(&request).await.unwrap();
    let mut bytes = Vec::new();
    let _ = soon(client.read_to_end(&mut bytes)).await;
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    assert_eq!(text.matches("connection: close").count(), 1, "{text}");
    assert_eq!(upstream.take().len(), 2);
}

#[tokio::test]
async fn a_panic_answers_500_and_concerns_no_other_connection() {
    let upstream = Recorder::start().await;
    let gateway = Running::start_with(&config(upstream.addr), |builder| {
        builder.edge(tower_layer::layer_fn(|next: gateway_kit::Next| {
            next.map_request(|request: Request<Body>| {
                assert_ne!(request.uri().path(), "/panic", "as asked");
                request
            })
        }))
    })
    .await;
    let mut other = gateway.connect().await;
    other
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut other).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET /panic HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut client).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["code"], "internal");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("x-correlation-id").is_some());
    other
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut other).await;
    let counted = "http_requests_total{service=\"u\",method=\"GET\",route=\"/\",status=\"500\"} 1";
    assert!(gateway.handle.metrics().contains(counted));
}

#[tokio::test]
async fn other_methods_pass_when_they_are_named() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nextra_methods = [\"PROPFIND\"]\n";
    let gateway = Running::start(&text).await;
    for (method, status) in [("PROPFIND", 200), ("BREW", 405), ("TRACE", 405)] {
        let raw = format!("{method} / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let answer = gateway.raw(&raw).await;
        assert_eq!(answer.status, status, "{method}");
        if status == 405 {
            let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, PROPFIND";
            assert_eq!(answer.header("allow"), Some(allow));
        }
    }
    assert_eq!(upstream.take().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_told_why_and_counted_once() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let get = "GET / HTTP/1.1\r\nhost: h\r\n";
    let rows = [
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed_request"),
        (format!("{get}no colon\r\n\r\n"), 400, "malformed_request"),
        (
            format!("{get}content-length: x\r\n\r\n"),
            400,
            "malformed_request",
        ),
        (
            "GET / HTTP/1.7\r\n\r\n".to_owned(),
            400,
            "malformed_request",
        ),
        (
            format!("{get}content-length: {}\r\n\r\n", u64::MAX),
            400,
            "ambiguous_framing",
        ),
        (
            format!("{get}{}\r\n", "x: y\r\n".repeat(101)),
            431,
            "head_too_large",
        ),
        (
            format!("{get}x: {}\r\n\r\n", "y".repeat(70_000)),
            431,
            "head_too_large",
        ),
    ];
    // Alone, and behind answers of each kind.
    let before = [
        "",
        "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
        "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /health HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n",
    ];
    let counts = |status: u16| {
        let series = format!("method=\"OTHER\",route=\"none\",status=\"{status}\"}} ");
        let metrics = gateway.handle.metrics();
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.split_once(&series)?.1.parse::<usize>().ok());
        found.unwrap_or_default()
    };
    for before in before {
        for (bytes, status, code) in &rows {
            // Shown when a row fails by waiting.
            println!("{before:?} {:?}", &bytes[..bytes.len().min(100)]);
            let counted = counts(*status);
            let answer = gateway.raw(&format!("{before}{bytes}")).await;
            let whole = format!("{}\r\n\r\n{}", answer.head, answer.body);
            let at = whole.rfind("HTTP/1.1 ").unwrap_or_default();
            let answer = Answer::parse(&whole.as_bytes()[at..]);
            assert_eq!(answer.status, *status, "{before:?} {whole}");
            assert_eq!(answer.json()["code"], *code, "{before:?} {whole}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(answer.header("date").is_some());
            let length = answer
                .header("content-length")
                .and_then(|text| text.parse().ok());
            assert_eq!(length, Some(answer.body.len()));
            let id = answer.header("x-correlation-id").unwrap();
            assert_eq!(answer.json()["correlation_id"], id);
            until(|| counts(*status) == counted + 1).await;
        }
    }
    let in_flight = "http_requests_in_flight 0\n";
    until(|| gateway.handle.metrics().contains(in_flight)).await;
}

/// A body whose end reads like an answer that hyper gives by itself.
#[tokio::test]
async fn a_body_that_looks_like_a_refusal_is_passed_on_as_it_is() {
    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                        date: Sun, 22 Nov 2026 00:40:13 GMT\r\n\r\n";
    let upstream = Upstream::answering(|seen| {
        Response::new(match &*seen.target {
            "/alike" => Full::from(BARE),
            _ => Full::from(format!("text{BARE}")),
        })
    })
    .await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    for path in ["/alike", "/behind"] {
        let get = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        let last = get.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        for (second, end) in [(&last, ""), (&get, "nonsense\r\n\r\n")] {
            let mut client = gateway.connect().await;
            let requests = format!("{get}{second}{end}");
            client.write_all(requests.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            let _ = soon(client.read_to_end(&mut bytes)).await;
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
            assert_eq!(text.matches(BARE).count(), 2, "{text}");
            let refused = usize::from(!end.is_empty());
            let found = text.matches("HTTP/1.1 400 Bad Request").count();
            assert_eq!(found, 2 + refused, "{text}");
        }
    }
    // Whoever wrote the refusals, they are counted.
    let counted = "method=\"OTHER\",route=\"none\",status=\"400\"} 2\n";
    until(|| gateway.handle.metrics().contains(counted)).await;
}

/// Sends a byte every now and then until the gateway closes the connection.
async fn trickle(mut client: TcpStream) {
    let (mut reader, mut writer) = client.split();
    let bytes = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = bytes => {}
        _ = reader.read_to_end(&mut answer) => {}
    }
}

#[tokio::test]
async fn a_thousand_clients_that_trickle_are_cut_while_another_is_served() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr)
        + "[server]\nheader_timeout = \"2s\"\nbody_timeout = \"2s\"\nmin_body_rate = 1000000000\n";
    let gateway = Running::start(&text).await;
    let mut slow = JoinSet::new();
    for n in 0..1000 {
        let mut client = gateway.connect().await;
        let start: &[u8] = match n % 3 {
            0 => b"G",
            1 => b"GET / HTTP/1.1\r\nhost: h\r\nx: ",
            _ => b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nx",
        };
        client.write_all(start).await.unwrap();
        slow.spawn(trickle(client));
    }
    let all_cut = async {
        while !slow.is_empty() {
            assert_eq!(gateway.get("/").await.status, 200);
            while let Some(cut) = slow.try_join_next() {
                cut.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // As many take their time on a busy machine.
    let in_time = tokio::time::timeout(6 * PATIENCE, all_cut).await;
    in_time.expect("all are cut");
    assert_eq!(gateway.get("/").await.status, 200);
    let seen = upstream.take();
    assert!(
        seen.iter().all(|(line, _)| line == "GET / gateway.test"),
        "{seen:?}"
    );
}
