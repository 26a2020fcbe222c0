//! HTTP/2 from clients: what is malformed, by frames (RFC 9113), and how connections end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cases::{Recorder, config};
use crate::support::{Running, read_head, routed, soon, until};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut all = length[1..].to_vec();
    all.extend([kind, flags]);
    all.extend(stream.to_be_bytes());
    all.extend(payload);
    all
}

/// A block of literal fields (RFC 7541, section 6.2.2), without Huffman coding.
fn block<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in fields {
        all.push(0);
        for text in [name, value] {
            // A prefix of 7 bits (section 5.1).
            let mut left = text.len();
            if left < 127 {
                all.push(u8::try_from(left).unwrap());
            } else {
                all.push(127);
                left -= 127;
                while left >= 128 {
                    all.push(u8::try_from(left % 128 + 128).unwrap());
                    left /= 128;
                }
                all.push(u8::try_from(left).unwrap());
            }
            all.extend(text.as_bytes());
        }
    }
    all
}

/// A GET with these fields, some of which may replace those of the request line; a value of `-`
/// leaves one out.
fn fields<'a>(method: &'a str, more: &'a [(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let plain = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h"),
    ];
    let line = plain
        .into_iter()
        .filter(|(name, _)| {
            !more
                .iter()
                .any(|(other, value)| other == name && *value == "-")
        })
        .map(|(name, value)| {
            let mut same = more.iter().filter(|(other, _)| *other == name);
            (name, same.next().map_or(value, |(_, value)| *value))
        });
    let mut seen = Vec::new();
    let rest = more.iter().copied().filter(|(name, value)| {
        let first = plain.iter().any(|(known, _)| known == name) && !seen.contains(name);
        seen.push(*name);
        !first && *value != "-"
    });
    line.chain(rest).collect()
}

/// One row: what is sent on stream 1, and what becomes of it.
struct Case {
    name: &'static str,
    send: Vec<u8>,
    /// A status, or `refused` for a reset of the stream or the end of the connection.
    outcome: &'static str,
    /// What the upstream sees.
    seen: &'static str,
}

/// A request without a body.
fn get(
    name: &'static str,
    more: &[(&str, &str)],
    outcome: &'static str,
    seen: &'static str,
) -> Case {
    request(name, "GET", more, outcome, seen)
}

fn request(
    name: &'static str,
    method: &str,
    more: &[(&str, &str)],
    outcome: &'static str,
    seen: &'static str,
) -> Case {
    let block = block(fields(method, more));
    Case {
        name,
        send: frame(HEADERS, END_STREAM | END_HEADERS, 1, &block),
        outcome,
        seen,
    }
}

/// A POST with a body.
fn post(
    name: &'static str,
    more: &[(&str, &str)],
    body: &str,
    outcome: &'static str,
    seen: &'static str,
) -> Case {
    let block = block(fields("POST", more));
    let head = frame(HEADERS, END_HEADERS, 1, &block);
    Case {
        name,
        send: [head, frame(DATA, END_STREAM, 1, body.as_bytes())].concat(),
        outcome,
        seen,
    }
}

/// Any frames.
fn frames(name: &'static str, frames: &[Vec<u8>], outcome: &'static str) -> Case {
    Case {
        name,
        send: frames.concat(),
        outcome,
        seen: "",
    }
}

/// The three digits of a `:status` that begins a block.
fn status(block: &[u8]) -> String {
    // RFC 7541, appendix A.
    const KNOWN: [(u8, &str); 7] = [
        (0x88, "200"),
        (0x89, "204"),
        (0x8a, "206"),
        (0x8b, "304"),
        (0x8c, "400"),
        (0x8d, "404"),
        (0x8e, "500"),
    ];
    let first = block.first().copied().unwrap_or_default();
    if let Some((_, known)) = KNOWN.iter().find(|(byte, _)| *byte == first) {
        return (*known).to_owned();
    }
    let length = block.get(1).copied().unwrap_or_default();
    let text = block
        .get(2..2 + usize::from(length & 0x7f))
        .unwrap_or_default();
    if length & 0x80 == 0 {
        return String::from_utf8_lossy(text).into_owned();
    }
    // Appendix B: `0`, `1` and `2` have five bits, the other digits six.
    let mut bits = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut digits = String::new();
    while digits.len() < 3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next().unwrap_or(1);
        }
        let digit = if code < 3 {
            code
        } else {
            (code << 1 | bits.next().unwrap_or(1)) - 0b01_1001 + 3
        };
        digits.push(char::from(b'0' + digit));
    }
    digits
}

/// Reads until it is known what becomes of stream 1.
async fn outcome(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        while let Some(head) = bytes.get(..9).map(<[u8]>::to_vec) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(payload) = bytes.get(9..9 + length).map(<[u8]>::to_vec) else {
                break;
            };
            bytes.drain(..9 + length);
            match head[3] {
                HEADERS => return status(&payload),
                RESET | GOAWAY => return "refused".to_owned(),
                _ => {}
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return "refused".to_owned(),
            Ok(_) => {}
        }
    }
}

async fn check_all(cases: Vec<Case>) {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let mut wrong = String::new();
    let mut names = std::collections::BTreeSet::new();
    for case in &cases {
        assert!(names.insert(case.name), "{} is there twice", case.name);
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let _ = stream.write_all(&case.send).await;
        let found = soon(outcome(&mut stream)).await;
        let seen: Vec<String> = upstream.take().into_iter().map(|(line, _)| line).collect();
        if found != case.outcome || seen.join(" | ") != case.seen {
            wrong += &format!(
                "{}: {found}, wanted {}; seen {seen:?}, wanted {}\n",
                case.name, case.outcome, case.seen
            );
        }
    }
    assert!(wrong.is_empty(), "of {} cases:\n{wrong}", cases.len());
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_reaches_no_upstream() {
    let good = block(fields("POST", &[]));
    let long = "x".repeat(100_000);
    check_all(vec![
        get("plain", &[], "200", "GET / h"),
        get(
            "a path and a query",
            &[(":path", "/a/../b?x=/../%2e")],
            "200",
            "GET /b?x=/../%2e h",
        ),
        get("Host is the authority", &[("host", "h")], "200", "GET / h"),
        get("Host in other case", &[("host", "H")], "200", "GET / h"),
        get(
            "Host without an authority",
            &[(":authority", "-"), ("host", "a")],
            "200",
            "GET / a",
        ),
        get("https", &[(":scheme", "https")], "200", "GET / h"),
        get("TE trailers", &[("te", "trailers")], "200", "GET / h"),
        get("length zero", &[("content-length", "0")], "200", "GET / h"),
        post("a body", &[], "abc", "200", "POST / h abc"),
        post(
            "a body and its length",
            &[("content-length", "3")],
            "abc",
            "200",
            "POST / h abc",
        ),
        // Section 8.2.2: fields of one connection.
        get("Connection", &[("connection", "close")], "refused", ""),
        get(
            "Connection: upgrade",
            &[("connection", "upgrade")],
            "refused",
            "",
        ),
        get("Keep-Alive", &[("keep-alive", "1")], "refused", ""),
        get(
            "Proxy-Connection",
            &[("proxy-connection", "keep-alive")],
            "refused",
            "",
        ),
        get("Upgrade", &[("upgrade", "h2c")], "refused", ""),
        get(
            "Upgrade: websocket",
            &[("upgrade", "websocket")],
            "refused",
            "",
        ),
        get("TE gzip", &[("te", "gzip")], "refused", ""),
        get(
            "TE trailers and more",
            &[("te", "trailers, gzip")],
            "refused",
            "",
        ),
        // Request smuggling over a downgrade, H2.TE and H2.CL.
        post(
            "chunked",
            &[("transfer-encoding", "chunked")],
            "0\r\n\r\n",
            "refused",
            "",
        ),
        post(
            "identity",
            &[("transfer-encoding", "identity")],
            "x",
            "refused",
            "",
        ),
        post(
            "length too small",
            &[("content-length", "1")],
            "abc",
            "refused",
            "",
        ),
        post(
            "length too great",
            &[("content-length", "9")],
            "abc",
            "refused",
            "",
        ),
        post(
            "length zero and a body",
            &[("content-length", "0")],
            "GET /x",
            "refused",
            "",
        ),
        post(
            "two lengths",
            &[("content-length", "3"), ("content-length", "4")],
            "abc",
            "refused",
            "",
        ),
        post(
            "two lengths, the other first",
            &[("content-length", "4"), ("content-length", "3")],
            "abc",
            "refused",
            "",
        ),
        post(
            "signed length",
            &[("content-length", "+3")],
            "abc",
            "refused",
            "",
        ),
        post(
            "length as a list",
            &[("content-length", "3, 3")],
            "abc",
            "refused",
            "",
        ),
        post(
            "empty length",
            &[("content-length", "")],
            "abc",
            "refused",
            "",
        ),
        post(
            "hexadecimal length",
            &[("content-length", "0x3")],
            "abc",
            "refused",
            "",
        ),
        get(
            "a length without a body",
            &[("content-length", "3")],
            "refused",
            "",
        ),
        get(
            "line ends in a value",
            &[("x", "a\r\nhost: b")],
            "refused",
            "",
        ),
        get("LF in a value", &[("x", "a\nb")], "refused", ""),
        get("CR in a value", &[("x", "a\rb")], "refused", ""),
        get("NUL in a value", &[("x", "a\0b")], "refused", ""),
        get("line ends in a name", &[("x: y\r\nz", "a")], "refused", ""),
        get("a colon in a name", &[("x:y", "a")], "refused", ""),
        get("a space in a name", &[("x y", "a")], "refused", ""),
        get("capitals in a name", &[("X-Name", "a")], "refused", ""),
        get(
            "chunked in capitals",
            &[("Transfer-Encoding", "chunked")],
            "refused",
            "",
        ),
        get("an empty name", &[("", "a")], "refused", ""),
        get(
            "line ends in the path",
            &[(":path", "/ HTTP/1.1\r\nhost: b\r\n\r\n")],
            "refused",
            "",
        ),
        get("a space in the path", &[(":path", "/a b")], "refused", ""),
        get(
            "line ends in the method",
            &[(":method", "GET / HTTP/1.1\r\nx: y")],
            "refused",
            "",
        ),
        get(
            "a space in the method",
            &[(":method", "GET /x")],
            "refused",
            "",
        ),
        get(
            "line ends in the authority",
            &[(":authority", "h\r\nx: y")],
            "refused",
            "",
        ),
        get(
            "line ends in the scheme",
            &[(":scheme", "http\r\nx: y")],
            "refused",
            "",
        ),
        // Section 8.3: the request line.
        get("no method", &[(":method", "-")], "refused", ""),
        get("no scheme", &[(":scheme", "-")], "refused", ""),
        get("no path", &[(":path", "-")], "refused", ""),
        get("an empty path", &[(":path", "")], "refused", ""),
        get(
            "no authority and no Host",
            &[(":authority", "-")],
            "400",
            "",
        ),
        get(
            "two paths",
            &[(":path", "/"), (":path", "/x")],
            "refused",
            "",
        ),
        get(
            "two methods",
            &[(":method", "GET"), (":method", "POST")],
            "refused",
            "",
        ),
        get("an unknown pseudo field", &[(":x", "y")], "refused", ""),
        get(
            "a pseudo field of answers",
            &[(":status", "200")],
            "refused",
            "",
        ),
        get("Host is not the authority", &[("host", "b")], "400", ""),
        get("two Hosts", &[("host", "h"), ("host", "h")], "400", ""),
        get(
            "a user in the authority",
            &[(":authority", "u@h")],
            "400",
            "",
        ),
        get(
            "a list in the authority",
            &[(":authority", "a,b")],
            "400",
            "",
        ),
        get(
            "a path in the authority",
            &[(":authority", "a/b")],
            "refused",
            "",
        ),
        get("a bad port", &[(":authority", "a:x")], "400", ""),
        get("a port too great", &[(":authority", "a:99999")], "400", ""),
        get(
            "a user in Host",
            &[(":authority", "-"), ("host", "u@h")],
            "400",
            "",
        ),
        get("another scheme", &[(":scheme", "ftp")], "400", ""),
        get("a path without a slash", &[(":path", "x")], "refused", ""),
        get("an asterisk", &[(":path", "*")], "400", ""),
        get("dots above the root", &[(":path", "/../x")], "400", ""),
        get("an escaped slash", &[(":path", "/a%2fb")], "400", ""),
        get("a backslash", &[(":path", "/a\\b")], "400", ""),
        get("an escaped NUL", &[(":path", "/%00")], "400", ""),
        request("TRACE", "TRACE", &[], "405", ""),
        request("an unknown method", "BREW", &[], "405", ""),
        request(
            "CONNECT",
            "CONNECT",
            &[(":scheme", "-"), (":path", "-"), (":authority", "h:80")],
            "405",
            "",
        ),
        // RFC 8441; the upstream does not agree, and its 200 would look as if it did.
        request(
            "CONNECT for WebSocket",
            "CONNECT",
            &[(":protocol", "websocket")],
            "502",
            "GET / h",
        ),
        request(
            "CONNECT for another protocol",
            "CONNECT",
            &[(":protocol", "connect-udp")],
            "405",
            "",
        ),
        request(
            "CONNECT for WebSocket without a path",
            "CONNECT",
            &[(":protocol", "websocket"), (":path", "-")],
            "refused",
            "",
        ),
        request(
            "CONNECT for WebSocket with a bad path",
            "CONNECT",
            &[(":protocol", "websocket"), (":path", "/../x")],
            "400",
            "",
        ),
        get(
            "a protocol without CONNECT",
            &[(":protocol", "websocket")],
            "refused",
            "",
        ),
        get("an unknown expectation", &[("expect", "tea")], "417", ""),
        get(
            "too long a field",
            &[("x", &long[..60_000]), ("y", &long[..20_000])],
            "431",
            "",
        )
        .split(),
        // Sections 5 and 6: frames.
        frames(
            "a pseudo field behind others",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &block([
                    (":method", "GET"),
                    (":scheme", "http"),
                    ("x", "y"),
                    (":path", "/"),
                    (":authority", "h"),
                ]),
            )],
            "refused",
        ),
        // The library leaves them out instead of refusing the request (section 8.1); nothing of
        // them goes on.
        Case {
            seen: "POST / h",
            ..frames(
                "a pseudo field in trailers",
                &[
                    frame(HEADERS, END_HEADERS, 1, &good),
                    frame(
                        HEADERS,
                        END_STREAM | END_HEADERS,
                        1,
                        &block([(":path", "/x"), ("host", "x")]),
                    ),
                ],
                "200",
            )
        },
        frames(
            "trailers that do not end the stream",
            &[
                frame(HEADERS, END_HEADERS, 1, &good),
                frame(HEADERS, END_HEADERS, 1, &block([("x", "y")])),
            ],
            "refused",
        ),
        frames(
            "a stream of ours",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 2, &good)],
            "refused",
        ),
        frames(
            "stream zero",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 0, &good)],
            "refused",
        ),
        frames(
            "data before a head",
            &[frame(DATA, END_STREAM, 1, b"x")],
            "refused",
        ),
        frames(
            "a continuation of nothing",
            &[frame(CONTINUATION, END_HEADERS, 1, &good)],
            "refused",
        ),
        frames(
            "another frame inside a head",
            &[
                frame(HEADERS, END_STREAM, 1, &good),
                frame(DATA, 0, 1, b"x"),
            ],
            "refused",
        ),
        frames(
            "a head that is no HPACK",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                b"\xff\xff\xff\xff\xff\xff",
            )],
            "refused",
        ),
        frames(
            "padding longer than its frame",
            &[frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, b"\xff\x82")],
            "refused",
        ),
        frames(
            "a frame longer than agreed",
            &[frame(DATA, 0, 1, &[0; 20_000])],
            "refused",
        ),
        frames(
            "a push from a client",
            &[frame(5, END_HEADERS, 1, &[0, 0, 0, 2])],
            "refused",
        ),
        frames(
            "continuations without end",
            &std::iter::once(frame(HEADERS, END_STREAM, 1, &good))
                .chain((0..2_000).map(|_| frame(CONTINUATION, 0, 1, &[])))
                .collect::<Vec<_>>(),
            "refused",
        ),
    ])
    .await;
}

impl Case {
    /// The same with its head in frames of the size that is agreed on.
    fn split(mut self) -> Self {
        let block = self.send.split_off(9);
        let mut pieces = block.chunks(16_000).peekable();
        let mut all = frame(HEADERS, END_STREAM, 1, pieces.next().unwrap_or_default());
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            all.extend(frame(CONTINUATION, last, 1, piece));
        }
        self.send = all;
        self
    }
}

#[tokio::test]
async fn cookies_are_joined_and_bodies_of_unknown_length_arrive() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    // A GET too: hyper would leave its body out.
    for method in ["GET", "POST"] {
        let request = http::Request::builder()
            .method(method)
            .uri("http://h/")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from("one "), false).unwrap();
        body.send_data(Bytes::from("two"), true).unwrap();
        let answer = soon(answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("connection"));
        let (line, headers) = upstream.take().pop().unwrap();
        assert_eq!(line, format!("{method} / h one two"));
        assert_eq!(headers["cookie"], "a=1; b=2");
    }
}

#[tokio::test]
async fn requests_of_one_connection_run_side_by_side_up_to_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = routed(&[listener.local_addr().unwrap()]) + "[server]\nmax_concurrent_streams = 3\n";
    let gateway = Running::start(&text).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut client = soon(client.ready()).await.unwrap();
    // Once an answer is there, the settings are too.
    let request = || http::Request::get("http://h/health").body(()).unwrap();
    let (answer, _) = client.send_request(request(), true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    assert_eq!(client.current_max_send_streams(), 3);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let request = http::Request::get("http://h/").body(()).unwrap();
        answers.push(client.send_request(request, true).unwrap().0);
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut stream).await;
        held.push(stream);
    }
    for (mut stream, answer) in held.into_iter().zip(answers) {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(ok).await.unwrap();
        assert_eq!(soon(answer).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn stopping_says_goodbye_and_finishes_what_runs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = routed(&[listener.local_addr().unwrap()]) + "[shutdown]\ndelay = \"0s\"\n";
    let mut gateway = Running::start(&text).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://h/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    gateway.stop();
    until(|| gateway.handle.is_stopping()).await;
    // No new request is taken once the goodbye is there.
    soon(async {
        while client.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    stream.write_all(ok).await.unwrap();
    let answer = soon(answer).await.unwrap();
    let mut body = answer.into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "done");
    drop((client, body));
    let _ = soon(connection).await.unwrap();
    soon(&mut gateway.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = routed(&[listener.local_addr().unwrap()]) + "[server]\nheader_timeout = \"300ms\"\n";
    let gateway = Running::start(&text).await;
    // One that says nothing but its preface, and one that waits for an answer.
    let mut idle = TcpStream::connect(gateway.addr).await.unwrap();
    idle.write_all(PREFACE).await.unwrap();
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://h/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let mut bytes = Vec::new();
    let _ = soon(idle.read_to_end(&mut bytes)).await;
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    stream.write_all(ok).await.unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    let _ = soon(connection).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    // CVE-2023-44487
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = routed(&[listener.local_addr().unwrap()]);
    let gateway = Running::start(&text).await;
    // Takes connections, says nothing.
    let hold = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let block = block(fields("GET", &[]));
    let (mut reader, mut writer) = stream.into_split();
    let closed = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&closed);
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while reader.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        told.notify_one();
    });
    let flood = async {
        for stream in (1..).step_by(2) {
            let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
            let reset = frame(RESET, 0, stream, &8_u32.to_be_bytes());
            if writer.write_all(&[request, reset].concat()).await.is_err() {
                return;
            }
            // Lets the gateway take some of them.
            if stream % 16 == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    soon(async {
        tokio::select! {
            () = flood => {}
            () = closed.notified() => {}
        }
    })
    .await;
    assert_eq!(gateway.get("/health").await.status, 200);
    hold.abort();
}

#[tokio::test]
async fn a_stream_of_which_the_client_takes_nothing_is_reset_and_its_upstream_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = routed(&[listener.local_addr().unwrap()]) + "[server]\nwrite_timeout = \"50ms\"\n";
    let gateway = Running::start(&text).await;
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    // No window for any stream (SETTINGS_INITIAL_WINDOW_SIZE).
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let get = frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &block(fields("GET", &[])),
    );
    let opening = [&PREFACE[..24], &settings, &get].concat();
    client.write_all(&opening).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let endless = async {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
        let mut open = stream.write_all(head).await;
        while open.is_ok() {
            open = stream.write_all(&[0; 65_536]).await;
        }
    };
    let mut bytes = Vec::new();
    let (reset, ()) =
        soon(async { tokio::join!(next(&mut client, &mut bytes, RESET, 1), endless) }).await;
    // CANCEL.
    assert_eq!(reset, [0, 0, 0, 8]);
    until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
    // The connection goes on.
    let path = [(":path", "/health")];
    let get = block(fields("GET", &path));
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 3, &get);
    let window = frame(8, 0, 3, &1000_u32.to_be_bytes());
    client.write_all(&[get, window].concat()).await.unwrap();
    let body = soon(next(&mut client, &mut bytes, DATA, 3)).await;
    assert_eq!(body, b"{\"status\":\"ok\"}");
}

/// The payload of the next frame of this kind on this stream; `bytes` is what was read before.
async fn next(client: &mut TcpStream, bytes: &mut Vec<u8>, kind: u8, stream: u32) -> Vec<u8> {
    loop {
        while let Some(head) = bytes.get(..9).map(<[u8]>::to_vec) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(payload) = bytes.get(9..9 + length).map(<[u8]>::to_vec) else {
                break;
            };
            bytes.drain(..9 + length);
            if head[3] == kind && head[5..9] == stream.to_be_bytes() {
                return payload;
            }
            assert_ne!(head[3], GOAWAY, "{payload:?}");
        }
        assert_ne!(client.read_buf(bytes).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_long_answer_arrives_whole_through_a_small_window() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let handshake = h2::client::Builder::new()
        .initial_window_size(10_000)
        .handshake::<_, Bytes>(stream);
    let (mut client, connection) = soon(handshake).await.unwrap();
    tokio::spawn(connection);
    let body: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let whole = [head.as_bytes(), &body].concat();
    let request = http::Request::get("http://h/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let writing = tokio::spawn(async move { stream.write_all(&whole).await });
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "500000");
    let mut incoming = answer.into_body();
    let mut got = Vec::new();
    while let Some(data) = soon(incoming.data()).await {
        let data = data.unwrap();
        incoming
            .flow_control()
            .release_capacity(data.len())
            .unwrap();
        got.extend(data);
    }
    assert!(got == body, "{}", got.len());
    soon(writing).await.unwrap().unwrap();
    until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
}

#[tokio::test]
async fn after_its_last_request_a_connection_is_closed_in_order() {
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nmax_requests_per_connection = 2\n";
    let gateway = Running::start(&text).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..2 {
        let request = http::Request::get("http://h/").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        assert_eq!(soon(answer).await.unwrap().status(), 200);
    }
    let _ = soon(connection).await.unwrap();
    assert_eq!(upstream.take().len(), 2);
}

/// Streams that are reset before the gateway has taken them.
#[tokio::test]
async fn a_burst_of_resets_is_told_to_be_calm() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let block = block(fields("GET", &[]));
    let mut burst = PREFACE.to_vec();
    for stream in (1..120).step_by(2) {
        burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
        burst.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
    }
    // Should one come in parts, some of its streams are taken.
    let mut said = Vec::new();
    for _ in 0..10 {
        let mut client = gateway.connect().await;
        client.write_all(&burst).await.unwrap();
        said = goodbye(&mut client).await;
        if !said.is_empty() {
            break;
        }
    }
    assert_eq!(said, ENHANCE_YOUR_CALM);
    assert_eq!(gateway.get("/").await.status, 200);
}

/// Streams that the gateway resets, because the client breaks the protocol on them (CVE-2025-8671):
/// here by a window that grows beyond what there is (RFC 9113, section 6.9.1).
#[tokio::test]
async fn a_client_that_has_its_streams_reset_is_told_to_be_calm() {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let mut client = gateway.connect().await;
    client.write_all(PREFACE).await.unwrap();
    let health = block(fields("GET", &[(":path", "/health")]));
    let mut bytes = Vec::new();
    let mut stream = 1;
    // More that end well, or the resets alone would do.
    for _ in 0..300 {
        let get = frame(HEADERS, END_STREAM | END_HEADERS, stream, &health);
        client.write_all(&get).await.unwrap();
        soon(next(&mut client, &mut bytes, DATA, stream)).await;
        stream += 2;
    }
    let bad = block(fields("POST", &[]));
    for turn in 0..300 {
        let post = frame(HEADERS, END_HEADERS, stream, &bad);
        let window = frame(8, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        if client.write_all(&[post, window].concat()).await.is_err() {
            break;
        }
        if turn < 256 {
            // FLOW_CONTROL_ERROR
            let reset = soon(next(&mut client, &mut bytes, RESET, stream)).await;
            assert_eq!(reset, [0, 0, 0, 3], "{turn}");
        }
        stream += 2;
    }
    assert_eq!(goodbye(&mut client).await, ENHANCE_YOUR_CALM);
    assert_eq!(gateway.get("/").await.status, 200);
}

const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

/// Reads to the end; the code of a GOAWAY on the way, if it names an error.
async fn goodbye(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = soon(client.read_to_end(&mut bytes)).await;
    let mut rest = &bytes[..];
    let mut said = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, after)) = after.split_at_checked(length) else {
            break;
        };
        if head[3] == GOAWAY && payload[4..8] != [0; 4] {
            said = payload[4..8].to_vec();
        }
        rest = after;
    }
    said
}

/// Calls that were made and then given up: so many, and more than of others.
#[tokio::test]
async fn a_connection_that_gives_most_of_its_calls_up_is_closed_and_another_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    for finished in [0, 250] {
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (mut client, connection) = soon(h2::client::handshake(stream)).await.unwrap();
        let mut connection = tokio::spawn(connection);
        for _ in 0..finished {
            let request = http::Request::get("http://h/health").body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            let mut body = soon(answer).await.unwrap().into_body();
            while let Some(data) = soon(body.data()).await {
                data.unwrap();
            }
        }
        let mut given_up = 0;
        while given_up < 400 {
            let Ok(mut ready) = soon(client.clone().ready()).await else {
                break;
            };
            let request = http::Request::get("http://h/").body(()).unwrap();
            let Ok((answer, mut call)) = ready.send_request(request, true) else {
                break;
            };
            let taken = soon(async {
                tokio::select! {
                    taken = listener.accept() => Some(taken.unwrap().0),
                    _ = &mut connection => None,
                }
            });
            let Some(mut upstream) = taken.await else {
                break;
            };
            read_head(&mut upstream).await;
            call.send_reset(h2::Reason::CANCEL);
            drop(answer);
            given_up += 1;
            // The call upstream ends with it.
            let _ = soon(upstream.read_to_end(&mut Vec::new())).await;
        }
        let least = finished.max(200) + 1;
        assert!(
            (least..least + 5).contains(&given_up),
            "{finished}: {given_up}"
        );
        assert_eq!(gateway.get("/health").await.status, 200);
    }
}

/// CVE-2019-9512, CVE-2019-9515: each is to be answered, and nobody takes the answers.
#[tokio::test]
async fn a_flood_that_wants_answers_and_takes_none_is_held_up_and_closed() {
    const PING: u8 = 6;
    const SETTINGS: u8 = 4;
    let upstream = Recorder::start().await;
    let text = config(upstream.addr) + "[server]\nwrite_timeout = \"100ms\"\n";
    let gateway = Running::start(&text).await;
    for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = soon(socket.connect(gateway.addr)).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        let flood = flood.repeat(1000);
        soon(async { while client.write_all(&flood).await.is_ok() {} }).await;
        assert_eq!(gateway.get("/").await.status, 200);
    }
}
