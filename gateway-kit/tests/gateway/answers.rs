//! What upstreams may answer, byte by byte: a table of raw answers, and what becomes of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Answer, Running, read_head, routed, soon, until};

/// What the client and the upstream see.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// 502 `upstream_bad_answer`; the connection to the upstream is closed.
    Refused,
    /// 502 `upstream_broken`, after this many connections.
    Broken(usize),
    /// The answer begins and does not end as a whole one.
    Cut,
    /// The answer arrives; the connection is kept for the next.
    Kept(u16, &'static str),
    /// The answer arrives; the connection is closed.
    Closed(u16, &'static str),
}

use Then::{Broken, Closed, Cut, Kept, Refused};

/// An upstream that answers every request with the same bytes.
struct Raw {
    accepted: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Raw {
    /// `hang_up` closes the connection after the answer.
    fn serve(listener: TcpListener, answer: Vec<u8>, hang_up: bool) -> Self {
        let (accepted, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (count, gone) = (Arc::clone(&accepted), Arc::clone(&ended));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (gone, answer) = (Arc::clone(&gone), answer.clone());
                open.spawn(async move {
                    read_head(&mut stream).await;
                    let _ = stream.write_all(&answer).await;
                    if hang_up {
                        let _ = stream.shutdown().await;
                    }
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    gone.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            accepted,
            ended,
            task,
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    async fn all_ended(&self) {
        until(|| self.ended.load(Ordering::SeqCst) == self.accepted()).await;
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the client can tell that the body is whole.
fn is_whole(answer: &Answer) -> bool {
    match answer.header("content-length") {
        Some(length) => length.parse() == Ok(answer.body.len()),
        None => answer.body.ends_with("0\r\n\r\n"),
    }
}

async fn check(method: &str, answer: &[u8], hang_up: bool, then: Then) {
    let name = format!(
        "{method} {:?}",
        String::from_utf8_lossy(&answer[..answer.len().min(160)])
    );
    // Shown when a row fails by waiting.
    println!("{name}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let raw = Raw::serve(listener, answer.to_vec(), hang_up);
    let got = gateway
        .raw(&format!(
            "{method} / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
        ))
        .await;
    let idle = || gateway.handle.endpoints()[0].idle_connections;
    assert!(!got.head.contains("HTTP/1.1 1"), "{name}: {got:?}");
    match then {
        Refused | Broken(_) => {
            let code = match then {
                Refused => "upstream_bad_answer",
                _ => "upstream_broken",
            };
            assert_eq!(got.status, 502, "{name}: {got:?}");
            if method != "HEAD" {
                assert_eq!(got.json()["code"], code, "{name}: {got:?}");
            }
            assert!(!got.body.contains("secret"), "{name}: {got:?}");
            let connections = if let Broken(count) = then { count } else { 1 };
            assert_eq!(raw.accepted(), connections, "{name}");
            raw.all_ended().await;
            assert_eq!(idle(), 0, "{name}");
        }
        Cut => {
            // Cut before anything of the body came, perhaps not even the head is passed on.
            assert!(matches!(got.status, 0 | 200), "{name}: {got:?}");
            assert!(!is_whole(&got), "{name}: {got:?}");
            assert_eq!(raw.accepted(), 1, "{name}");
            raw.all_ended().await;
        }
        Kept(status, body) | Closed(status, body) => {
            assert_eq!(got.status, status, "{name}: {got:?}");
            if body.is_empty() {
                assert_eq!(got.body, "", "{name}");
            } else {
                assert!(is_whole(&got), "{name}: {got:?}");
                assert!(got.body.contains(body), "{name}: {got:?}");
            }
            if matches!(then, Kept(..)) {
                until(|| idle() == 1).await;
            } else {
                raw.all_ended().await;
                assert_eq!(idle(), 0, "{name}");
            }
        }
    }
}

async fn all(rows: &[(&str, Then)]) {
    for (answer, then) in rows {
        check("GET", answer.as_bytes(), false, *then).await;
    }
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_refused() {
    for fields in [
        "content-length: 6\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 6",
        "content-length: 6\r\ncontent-length: 7",
        "content-length: 6\r\ncontent-length: 6",
        "content-length: 6, 6",
        "content-length: 6, 7",
        "content-length: +6",
        "content-length: -6",
        "content-length: 0x6",
        "content-length: 6 6",
        "content-length: 6a",
        "content-length: 6.0",
        "content-length:",
        "content-length: ,",
        "content-length: 18446744073709551615",
        "content-length: 18446744073709551616",
        "content-length: 99999999999999999999999999",
        "transfer-encoding: gzip",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding:",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n6\r\nsecret\r\n0\r\n\r\n");
        check("GET", answer.as_bytes(), false, Refused).await;
    }
    let old = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n";
    check("GET", old.as_bytes(), false, Refused).await;
}

#[tokio::test]
async fn heads_that_are_not_well_formed_are_refused() {
    for head in [
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n",
        "HTTP/1.1 200 OK\r\nx\0: ab\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n",
        "HTTP/1.1 200 OK\r\nx: a\x01b\r\n",
        "HTTP/1.1 200 OK\r\nx: a\x7fb\r\n",
        "HTTP/1.1 200 OK\r\nx : a\r\n",
        "HTTP/1.1 200 OK\r\n x: a\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n",
        "HTTP/1.1 200 OK\r\nx(y): a\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "HTTP/1.1 200 O\rK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1 abc OK\r\n",
        "HTTP/1.1 -20 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/0.9 200 OK\r\n",
        "HTTP/1.2 200 OK\r\n",
        "http/1.1 200 OK\r\n",
        "ICY 200 OK\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "secret",
        "\x15\x03\x01\0\x02\x02\x46",
        "GET / HTTP/1.1\r\nhost: secret\r\n",
    ] {
        let answer = format!("{head}content-length: 6\r\n\r\nsecret");
        check("GET", answer.as_bytes(), true, Refused).await;
    }
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n";
    let one = format!("{ok}x: {}\r\n\r\n", "a".repeat(64 * 1024));
    check("GET", one.as_bytes(), false, Refused).await;
    let never_ending = format!("{ok}x: {}", "a".repeat(70 * 1024));
    check("GET", never_ending.as_bytes(), false, Refused).await;
    let many = format!(
        "{ok}{}\r\n",
        format!("x: {}\r\n", "a".repeat(1000)).repeat(66)
    );
    check("GET", many.as_bytes(), false, Refused).await;
    let fields = format!("{ok}{}\r\n", "x: y\r\n".repeat(101));
    check("GET", fields.as_bytes(), false, Refused).await;
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
    let hints = format!("{}{ok}\r\n", hint.repeat(64 * 1024 / hint.len() + 1));
    check("GET", hints.as_bytes(), false, Refused).await;
    let long = format!("{ok}x: {}\r\n\r\n", "a".repeat(60 * 1024));
    check("GET", long.as_bytes(), false, Kept(200, "")).await;
    let fields = format!("{ok}{}\r\n", "x: y\r\n".repeat(99));
    check("GET", fields.as_bytes(), false, Kept(200, "")).await;
}

#[tokio::test]
async fn a_body_where_there_can_be_none_is_refused() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (method, answer) in [
        ("HEAD", format!("{length}secret")),
        ("HEAD", format!("{chunked}6\r\nsecret\r\n0\r\n\r\n")),
        ("HEAD", "HTTP/1.1 404 No\r\n\r\nsecret".to_owned()),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nsecret".to_owned()),
        (
            "GET",
            "HTTP/1.1 204 No\r\ncontent-length: 6\r\n\r\n".to_owned(),
        ),
        (
            "GET",
            "HTTP/1.1 204 No\r\ncontent-length: 6\r\n\r\nsecret".to_owned(),
        ),
        (
            "GET",
            "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nsecret".to_owned()),
        (
            "GET",
            "HTTP/1.1 304 Not\r\ncontent-length: 6\r\n\r\nsecret".to_owned(),
        ),
        ("DELETE", format!("HTTP/1.1 204 No Content\r\n\r\n{length}")),
        (
            "GET",
            format!("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n{length}"),
        ),
    ] {
        check(method, answer.as_bytes(), false, Refused).await;
    }
    for (method, answer, status) in [
        ("HEAD", length, 200),
        ("HEAD", chunked, 200),
        ("HEAD", "HTTP/1.1 404 No\r\n\r\n", 404),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            204,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\n",
            304,
        ),
    ] {
        check(method, answer.as_bytes(), false, Kept(status, "")).await;
    }
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    all(&[
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Refused),
        (
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nsecret",
            Refused,
        ),
        (
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            Refused,
        ),
        (
            "HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
            Refused,
        ),
    ])
    .await;
}

#[tokio::test]
async fn interim_answers_are_not_passed_on_and_the_final_one_is() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 199 What\r\ncontent-length: 7\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n",
    ] {
        let answer = format!("{interim}{ok}");
        check("GET", answer.as_bytes(), false, Kept(200, "ok")).await;
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_tried_again_only_before_its_answer_began() {
    for (method, answer, connections) in [
        ("GET", "", 2),
        ("HEAD", "", 2),
        ("OPTIONS", "", 2),
        ("PUT", "", 2),
        ("DELETE", "", 2),
        ("POST", "", 1),
        ("PATCH", "", 1),
        ("GET", "H", 1),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-le", 1),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", 1),
        ("GET", "HTTP/1.1 103 Early Hints\r\n\r\n", 1),
    ] {
        check(method, answer.as_bytes(), true, Broken(connections)).await;
    }
}

#[tokio::test]
async fn a_cut_body_stays_visibly_cut() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "",
        "4",
        "4\r\nha",
        "4\r\nhalf",
        "4\r\nhalf\r\n",
        "4\r\nhalf\r\n0",
        "4\r\nhalf\r\n0\r\n",
        "4\r\nhalf\r\n0\r\nx: y\r\n",
        "4\r\nhalf\r\nzz\r\nmore\r\n0\r\n\r\n",
        "4\r\nhalf\r\n-1\r\nmore\r\n0\r\n\r\n",
        "4\r\nhalf\r\nfffffffffffffffff\r\nmore\r\n0\r\n\r\n",
        "4\r\nhalfmore\r\n0\r\n\r\n",
        "4\r\nhalf\r\n4 4\r\nmore\r\n0\r\n\r\n",
        "4\r\nhalf\r\n\r\n0\r\n\r\n",
    ] {
        let answer = format!("{chunked}{body}");
        check("GET", answer.as_bytes(), true, Cut).await;
    }
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    for body in ["", "half", "almost al"] {
        let answer = format!("{length}{body}");
        check("GET", answer.as_bytes(), true, Cut).await;
    }
}

#[tokio::test]
async fn whole_answers_pass_and_only_clean_connections_are_used_again() {
    all(&[
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Kept(200, "ok")),
        ("HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok", Kept(200, "ok")),
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", Kept(200, "ok")),
        ("HTTP/1.1 299 Odd\r\ncontent-length: 2\r\n\r\nok", Kept(299, "ok")),
        ("HTTP/1.1 599 Odd\r\ncontent-length: 2\r\n\r\nok", Kept(599, "ok")),
        ("HTTP/1.1 200 OK\ncontent-length: 2\n\nok", Kept(200, "ok")),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Kept(200, "ok"),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nx: y\r\n\r\n",
            Kept(200, "ok"),
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Kept(200, "")),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            Kept(200, "ok"),
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Closed(200, "ok")),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            Closed(200, "ok"),
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            Closed(200, "ok"),
        ),
        // Bytes that belong to nobody.
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokmore", Closed(200, "ok")),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
            Closed(200, "ok"),
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore", Closed(200, "")),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
            Closed(200, "ok"),
        ),
    ])
    .await;
    let to_the_end = b"HTTP/1.1 200 OK\r\n\r\nall of it";
    check("GET", to_the_end, true, Closed(200, "all of it")).await;
    let old = b"HTTP/1.0 200 OK\r\n\r\nall of it";
    check("GET", old, true, Closed(200, "all of it")).await;
}

/// An upstream that sends an answer to a request that nobody has made yet.
#[tokio::test]
async fn bytes_on_an_idle_connection_are_no_answer_to_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let idle = || gateway.handle.endpoints()[0].idle_connections;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let serve = async |stream: &mut TcpStream| {
        read_head(stream).await;
        stream.write_all(answer).await.unwrap();
    };
    let first = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(&mut stream).await;
        stream
    };
    let (got, mut stream) = soon(async { tokio::join!(gateway.get("/"), first) }).await;
    assert_eq!(got.body, "ok");
    until(|| idle() == 1).await;
    let unasked = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";
    stream.write_all(unasked).await.unwrap();
    // The connection is closed for it, and the next request gets another.
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
    let second = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(&mut stream).await;
    };
    let (got, ()) = soon(async { tokio::join!(gateway.get("/"), second) }).await;
    assert_eq!(got.body, "ok");
}

/// Reads until `bytes` ends with `end`.
async fn reads(client: &mut TcpStream, bytes: &mut Vec<u8>, end: &str) {
    while !bytes.ends_with(end.as_bytes()) {
        let read = soon(client.read_buf(bytes)).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn interim_answers_are_passed_on_in_order_where_that_is_switched_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "[server]\ninterim_answers = true\nmin_body_rate = 1\n";
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    let (mut upstream, mut seen) = (None, Vec::new());
    for turn in 0..20 {
        // Two at once: the second waits for the first.
        let request = "GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(2);
        client.write_all(request.as_bytes()).await.unwrap();
        for _ in 0..2 {
            let stream = match &mut upstream {
                Some(stream) => stream,
                none => none.insert(soon(listener.accept()).await.unwrap().0),
            };
            read_head(stream).await;
            let hint = format!(
                "HTTP/1.1 103 Early\r\nlink: </{turn}>\r\nconnection: x-a\r\nx-a: b\r\n\
                 content-length: 9\r\n\r\n"
            );
            let passed = format!("HTTP/1.1 103 Early Hints\r\nlink: </{turn}>\r\n\r\n");
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
            if turn % 2 == 0 {
                // Before there is an answer.
                stream.write_all(hint.as_bytes()).await.unwrap();
                reads(&mut client, &mut seen, &passed).await;
                seen.clear();
                stream
                    .write_all(format!("{head}ok").as_bytes())
                    .await
                    .unwrap();
                reads(&mut client, &mut seen, "\r\n\r\nok").await;
                assert!(seen.starts_with(b"HTTP/1.1 200 OK\r\n"));
            } else {
                // Together with it, between others.
                let other = "HTTP/1.1 100 Continue\r\n\r\n";
                let odd = "HTTP/1.1 199 What\r\n\r\n";
                let all = format!("{other}{hint}{other}{odd}{head}ok");
                stream.write_all(all.as_bytes()).await.unwrap();
                reads(&mut client, &mut seen, "\r\n\r\nok").await;
                let begin = format!("{passed}HTTP/1.1 199 Interim\r\n\r\nHTTP/1.1 200 OK\r\n");
                assert!(
                    seen.starts_with(begin.as_bytes()),
                    "{}",
                    String::from_utf8_lossy(&seen)
                );
            }
            seen.clear();
        }
    }
}

#[tokio::test]
async fn interim_answers_do_not_reach_clients_of_http_1_0_and_100_is_our_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[server]\ninterim_answers = true\n";
    let gateway = Running::start(&config).await;
    for (request, wanted) in [
        ("GET / HTTP/1.0\r\nhost: h\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
        (
            "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
        ),
    ] {
        let mut client = gateway.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        let (head, _) = read_head(&mut stream).await;
        assert!(!head.contains("expect"), "{head}");
        let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n\
                       HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        let mut seen = Vec::new();
        soon(client.read_to_end(&mut seen)).await.unwrap();
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.starts_with(wanted), "{seen}");
        assert!(seen.ends_with("\r\n\r\nok"), "{seen}");
    }
}

/// The first try is gone without a word; what the second one says in between reaches the client.
#[tokio::test]
async fn interim_answers_of_a_second_try_are_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[server]\ninterim_answers = true\n";
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut first, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut first).await;
    drop(first);
    let (mut second, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut second).await;
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </2>\r\n\r\n";
    second.write_all(hint.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    reads(&mut client, &mut seen, hint).await;
    assert_eq!(seen, hint.as_bytes());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    second.write_all(answer).await.unwrap();
    soon(client.read_to_end(&mut seen)).await.unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert!(
        seen.starts_with(&format!("{hint}HTTP/1.1 200 OK\r\n")) && seen.ends_with("ok"),
        "{seen}"
    );
}

/// The client was told of one answer; the hints of another one are not mixed with it.
#[tokio::test]
async fn interim_answers_come_from_one_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "try_timeout = \"10m\"\nresponse_timeout = \"1h\"\n\
           [server]\ninterim_answers = true\nmin_body_rate = 1\n";
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut first, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut first).await;
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </1>\r\n\r\n";
    first.write_all(hint.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    reads(&mut client, &mut seen, hint).await;
    // And then nothing, for longer than a try may take.
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(601)).await;
    tokio::time::resume();
    let (mut second, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut second).await;
    let answer = b"HTTP/1.1 103 Early Hints\r\nlink: </2>\r\n\r\n\
                   HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    second.write_all(answer).await.unwrap();
    soon(client.read_to_end(&mut seen)).await.unwrap();
    let seen = String::from_utf8(seen).unwrap();
    assert!(
        seen.starts_with(&format!("{hint}HTTP/1.1 200 OK\r\n")) && seen.ends_with("ok"),
        "{seen}"
    );
}
