//! What a client sends, byte by byte, what it is answered, and what an upstream sees of it.
//!
//! Each row is sent on a connection of its own, and behind it a plain request. If the gateway
//! means the connection to go on, that one must be answered, and be what the upstream sees next:
//! so every row also shows that nobody lost the place in the stream. If not, the upstream must
//! never see it.
//!
//! Sources: RFC 9110, RFC 9112, RFC 3986, and the request smuggling advisories named at the rows.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, soon};

/// One row.
struct Case {
    name: &'static str,
    send: Vec<u8>,
    /// Statuses in order, then `close` if the connection must not go on.
    answers: &'static str,
    /// Complete requests that the upstream sees: `METHOD target host body`, joined by ` | `.
    seen: &'static str,
}

fn case(
    name: &'static str,
    send: impl AsRef<[u8]>,
    answers: &'static str,
    seen: &'static str,
) -> Case {
    Case {
        name,
        send: send.as_ref().to_vec(),
        answers,
        seen,
    }
}

/// An upstream on hyper that writes down every complete request.
pub(crate) struct Recorder {
    pub(crate) addr: std::net::SocketAddr,
    log: Arc<Mutex<Vec<(String, http::HeaderMap)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&kept);
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let log = Arc::clone(&log);
                    async move {
                        let (parts, body) = request.into_parts();
                        if let Ok(body) = body.collect().await {
                            let host = parts.headers.get("host");
                            let host = host.map_or("-", |host| host.to_str().unwrap());
                            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                            let line = format!("{} {} {host} {body}", parts.method, parts.uri);
                            let line = line.trim_end().to_owned();
                            log.lock().push((line, parts.headers));
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { addr, log, task }
    }

    /// What was seen since the last time.
    pub(crate) fn take(&self) -> Vec<(String, http::HeaderMap)> {
        std::mem::take(&mut self.log.lock())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const SENTINEL: &str = "GET /sentinel HTTP/1.1\r\nhost: end\r\nconnection: close\r\n\r\n";

/// The statuses in a stream of answers; all have a length.
fn statuses(mut bytes: &[u8], head: bool) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        bytes = &bytes[end + 4..];
        let status = text.split(' ').nth(1).unwrap_or("?").to_owned();
        let length = text.lines().find_map(|line| {
            let value = line.strip_prefix("content-length:")?;
            value.trim().parse::<usize>().ok()
        });
        let body = length.filter(|_| !(head && found.is_empty())).unwrap_or(0);
        bytes = bytes.get(body..).unwrap_or_default();
        found.push(status);
    }
    if !bytes.is_empty() {
        found.push(format!("rest {:?}", String::from_utf8_lossy(bytes)));
    }
    found
}

/// Sends a row and compares; what differs, as text.
async fn check(gateway: &Running, upstream: &Recorder, case: &Case) -> Result<(), String> {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let whole = [&case.send, SENTINEL.as_bytes()].concat();
    // The gateway may close before it has read all.
    let _ = stream.write_all(&whole).await;
    let mut bytes = Vec::new();
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    let answers = statuses(&bytes, case.send.starts_with(b"HEAD"));
    let wanted: Vec<String> = match case.answers.strip_suffix(" close") {
        Some(answers) => answers.split(' ').map(str::to_owned).collect(),
        None if case.answers.is_empty() => vec!["200".to_owned()],
        None => case
            .answers
            .split(' ')
            .chain(["200"])
            .map(str::to_owned)
            .collect(),
    };
    let closes = case.answers.ends_with(" close");
    let seen = upstream.take();
    let address = upstream.addr.to_string();
    let seen = seen
        .iter()
        .map(|(line, _)| line.replace(&address, "UPSTREAM"));
    let seen: Vec<String> = seen.collect();
    let mut expected: Vec<&str> = case.seen.split(" | ").filter(|s| !s.is_empty()).collect();
    if !closes {
        expected.push("GET /sentinel end");
    }
    if answers == wanted && seen == expected {
        return Ok(());
    }
    Err(format!(
        "{}: {:?}\n  answered {answers:?}, wanted {wanted:?}\n  seen {seen:?}, wanted {expected:?}\n",
        case.name,
        String::from_utf8_lossy(&case.send)
    ))
}

async fn check_all(cases: Vec<Case>) {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&config(upstream.addr)).await;
    let mut wrong = String::new();
    let mut names = std::collections::BTreeSet::new();
    for case in &cases {
        assert!(names.insert(case.name), "{} is there twice", case.name);
        if let Err(text) = check(&gateway, &upstream, case).await {
            wrong += &text;
        }
    }
    assert!(wrong.is_empty(), "of {} cases:\n{wrong}", cases.len());
}

/// Everything goes to one upstream; below `/slash` with escaped slashes, `/app` has a prefix of
/// its own.
pub(crate) fn config(upstream: std::net::SocketAddr) -> String {
    format!(
        "[[route]]\nprefix = \"/\"\nupstream = \"u\"\n\
         [[route]]\nprefix = \"/slash\"\nupstream = \"u\"\nencoded_slash = true\n\
         [[route]]\nprefix = \"/app\"\nrewrite = \"/in\"\nupstream = \"u\"\n\
         [upstream.u]\nendpoints = [\"http://{upstream}\"]\n"
    )
}

/// A GET with these lines in its head.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}\r\n\r\n")
}

/// A POST with these lines in its head, and this after it.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: h\r\n{lines}\r\n\r\n{body}")
}

/// A GET of this target.
fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n")
}

/// A GET with these lines for a Host.
fn host(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n")
}

/// RFC 9112, section 6.3: how long a body is.
#[tokio::test]
async fn bodies_have_one_length() {
    const CHUNKED: &str = "transfer-encoding: chunked";
    let cases = vec![
        case("length", post("content-length: 3", "abc"), "200", "POST / h abc"),
        case("length zero", post("content-length: 0", ""), "200", "POST / h"),
        case("length with leading zeros", post("content-length: 003", "abc"), "200", "POST / h abc"),
        case("length with spaces", post("content-length:  \t3 \t", "abc"), "200", "POST / h abc"),
        case("length twice the same", post("content-length: 3\r\ncontent-length: 3", "abc"), "200", "POST / h abc"),
        case("GET with a body", get("content-length: 3") + "abc", "200", "GET / h abc"),
        case("GET with a chunked body", get(CHUNKED) + "3\r\nabc\r\n0\r\n\r\n", "200", "GET / h abc"),
        case("DELETE with a body", "DELETE / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nx", "200", "DELETE / h x"),
        case("two lengths", post("content-length: 3\r\ncontent-length: 4", "abc"), "400 close", ""),
        case("two lengths, the other first", post("content-length: 4\r\ncontent-length: 3", "abc"), "400 close", ""),
        case("length as a list of one twice", post("content-length: 3, 3", "abc"), "400 close", ""),
        case("length as a list of two", post("content-length: 3, 4", "abc"), "400 close", ""),
        case("length with an empty list item", post("content-length: 3,", "abc"), "400 close", ""),
        case("signed length", post("content-length: +3", "abc"), "400 close", ""),
        case("negative length", post("content-length: -3", "abc"), "400 close", ""),
        case("minus zero", post("content-length: -0", ""), "400 close", ""),
        case("hexadecimal length", post("content-length: 0x3", "abc"), "400 close", ""),
        case("hexadecimal digits", post("content-length: a", "0123456789"), "400 close", ""),
        case("empty length", post("content-length:", "abc"), "400 close", ""),
        case("length of spaces", post("content-length:   ", "abc"), "400 close", ""),
        case("overflowing length", post("content-length: 18446744073709551617", "abc"), "400 close", ""),
        case("greatest length", post("content-length: 18446744073709551615", "abc"), "400 close", ""),
        case("one below the greatest length", post("content-length: 18446744073709551614", "abc"), "400 close", ""),
        case("the greatest length behind a body", post("content-length: 1", "x") + &post("content-length: 18446744073709551615", ""), "200 400 close", "POST / h x"),
        case("length with a fraction", post("content-length: 3.0", "abc"), "400 close", ""),
        case("length with an exponent", post("content-length: 3e0", "abc"), "400 close", ""),
        case("length with a space inside", post("content-length: 3 3", "abc"), "400 close", ""),
        case("length with an underscore", post("content-length: 1_0", "0123456789"), "400 close", ""),
        case("length in quotes", post("content-length: \"3\"", "abc"), "400 close", ""),
        case("length with a parameter", post("content-length: 3;x", "abc"), "400 close", ""),
        case("length with a vertical tab", post("content-length: \x0b3", "abc"), "400 close", ""),
        case("length in full-width digits", post("content-length: \u{ff13}", "abc"), "400 close", ""),
        case("Content_Length is another field", get("content_length: 3"), "200", "GET / h"),
        // CL.TE and TE.CL.
        case("length before chunked", post("content-length: 6\r\ntransfer-encoding: chunked", "0\r\n\r\nX"), "400 close", ""),
        case("chunked before length", post("transfer-encoding: chunked\r\ncontent-length: 6", "0\r\n\r\nX"), "400 close", ""),
        case("chunked and length zero", post("transfer-encoding: chunked\r\ncontent-length: 0", "0\r\n\r\n"), "400 close", ""),
        case("chunked and a bad length", post("transfer-encoding: chunked\r\ncontent-length: x", "0\r\n\r\n"), "400 close", ""),
        case("chunked and an empty length", post("transfer-encoding: chunked\r\ncontent-length:", "0\r\n\r\n"), "400 close", ""),
        case("chunked between lengths", post("content-length: 5\r\ntransfer-encoding: chunked\r\ncontent-length: 5", "0\r\n\r\n"), "400 close", ""),
        case("names in other case", post("CoNtEnT-LeNgTh: 5\r\nTRANSFER-encoding: CHUNKED", "0\r\n\r\n"), "400 close", ""),
        case("length and gzip", post("content-length: 3\r\ntransfer-encoding: gzip", "abc"), "400 close", ""),
        // Behind other requests, in the same read.
        case("both behind a GET", target("/1") + &post("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"), "200 400 close", "GET /1 h"),
        case("both behind a body with a length", post("content-length: 1", "x") + &post("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"), "200 400 close", "POST / h x"),
        case("both behind a chunked body", post(CHUNKED, "1\r\nx\r\n0\r\n\r\n") + &post("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"), "200 400 close", "POST / h x"),
        case("both behind trailers", post(CHUNKED, "1\r\nx\r\n0\r\na: b\r\n\r\n") + &post("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n"), "200 400 close", "POST / h x"),
        case("a body that looks like both", post("content-length: 80", "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n") .replace("content-length: 80", "content-length: 75"), "200", "POST / h POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ntransfer-encoding: chunked"),
    ];
    check_all(cases).await;
}

/// RFC 9112, sections 6.1 and 7.
#[tokio::test]
async fn transfer_codings_are_one_chunked() {
    let te = |value: &str| {
        post(
            &format!("transfer-encoding: {value}"),
            "1\r\nx\r\n0\r\n\r\n",
        )
    };
    let chunks = |body: &str| post("transfer-encoding: chunked", body);
    let cases = vec![
        case("chunked", te("chunked"), "200", "POST / h x"),
        case("chunked in capitals", te("Chunked"), "200", "POST / h x"),
        case(
            "chunked with spaces",
            te(" \tchunked \t"),
            "200",
            "POST / h x",
        ),
        case("gzip", te("gzip"), "400 close", ""),
        case("identity", te("identity"), "400 close", ""),
        case("empty", te(""), "400 close", ""),
        case("a comma", te(","), "400 close", ""),
        case("gzip, chunked", te("gzip, chunked"), "501 close", ""),
        case(
            "identity, chunked",
            te("identity, chunked"),
            "501 close",
            "",
        ),
        case("chunked, gzip", te("chunked, gzip"), "400 close", ""),
        case(
            "chunked, identity",
            te("chunked, identity"),
            "400 close",
            "",
        ),
        case(
            "chunked twice in a line",
            te("chunked, chunked"),
            "501 close",
            "",
        ),
        case(
            "chunked in two lines",
            te("chunked\r\ntransfer-encoding: chunked"),
            "501 close",
            "",
        ),
        case(
            "gzip in a line before",
            te("gzip\r\ntransfer-encoding: chunked"),
            "501 close",
            "",
        ),
        case(
            "gzip in a line behind",
            te("chunked\r\ntransfer-encoding: gzip"),
            "400 close",
            "",
        ),
        case(
            "identity in a line behind",
            te("chunked\r\ntransfer-encoding: identity"),
            "400 close",
            "",
        ),
        case("a comma before", te(",chunked"), "501 close", ""),
        case("a comma behind", te("chunked,"), "400 close", ""),
        case("xchunked", te("xchunked"), "400 close", ""),
        case("chunkedx", te("chunkedx"), "400 close", ""),
        case("chunk", te("chunk"), "400 close", ""),
        case("a parameter", te("chunked;x=1"), "400 close", ""),
        case(
            "a parameter with a comma",
            te("x;a=\", chunked"),
            "501 close",
            "",
        ),
        case("quotes", te("\"chunked\""), "400 close", ""),
        case("apostrophes", te("'chunked'"), "400 close", ""),
        case("vertical tab before", te("\x0bchunked"), "400 close", ""),
        case("form feed behind", te("chunked\x0c"), "400 close", ""),
        case("a NUL behind", te("chunked\0"), "400 close", ""),
        case(
            "a byte of Latin-1 behind",
            b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\xa0\r\n\r\n0\r\n\r\n"
                .as_slice(),
            "400 close",
            "",
        ),
        case(
            "a fullwidth name",
            post("transfer\u{ff0d}encoding: chunked", ""),
            "400 close",
            "",
        ),
        case(
            "in HTTP/1.0",
            "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "in HTTP/1.0 with keep-alive",
            "POST / HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "gzip in HTTP/1.0",
            "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "named by Connection",
            post(
                "connection: transfer-encoding\r\ntransfer-encoding: chunked",
                "1\r\nx\r\n0\r\n\r\n",
            ),
            "200",
            "POST / h x",
        ),
        case(
            "length named by Connection",
            post("connection: content-length\r\ncontent-length: 1", "x"),
            "200",
            "POST / h x",
        ),
        case(
            "folded name is another field",
            get("transfer_encoding: chunked"),
            "200",
            "GET / h",
        ),
        // Chunks.
        case("no chunk", chunks("0\r\n\r\n"), "200", "POST / h"),
        case(
            "two chunks",
            chunks("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
            "200",
            "POST / h abc",
        ),
        case(
            "size with zeros",
            chunks("0001\r\na\r\n000\r\n\r\n"),
            "200",
            "POST / h a",
        ),
        case(
            "size in capitals",
            chunks("A\r\n0123456789\r\n0\r\n\r\n"),
            "200",
            "POST / h 0123456789",
        ),
        case(
            "extension",
            chunks("1;a=b\r\nx\r\n0;c\r\n\r\n"),
            "200",
            "POST / h x",
        ),
        case(
            "extension in quotes",
            chunks("1;a=\"b;c\"\r\nx\r\n0\r\n\r\n"),
            "200",
            "POST / h x",
        ),
        case(
            "trailer",
            chunks("1\r\nx\r\n0\r\na: b\r\n\r\n"),
            "200",
            "POST / h x",
        ),
        case(
            "a trailer of framing",
            chunks("1\r\nx\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: x\r\n\r\n"),
            "200",
            "POST / h x",
        ),
        case(
            "a request in a chunk",
            chunks("17\r\nGET /x HTTP/1.1\r\nhost: \r\n0\r\n\r\n"),
            "200",
            "POST / h GET /x HTTP/1.1\r\nhost:",
        ),
        case(
            "size with a sign",
            chunks("+1\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "negative size",
            chunks("-1\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "size with 0x",
            chunks("0x1\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "size with an underscore",
            chunks("1_0\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case("empty size", chunks("\r\n\r\n"), "400 close", ""),
        case(
            "a space before the size",
            chunks(" 1\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "overflowing size",
            chunks("fffffffffffffffff\r\nx"),
            "400 close",
            "",
        ),
        case(
            "size not hexadecimal",
            chunks("g\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case("size and LF", chunks("1\nx\r\n0\r\n\r\n"), "400 close", ""),
        case(
            "LF in an extension",
            chunks("1;\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "CR in an extension",
            chunks("1;a\rb\r\nx\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "more than its size",
            chunks("1\r\nxy\r\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "LF behind a chunk",
            chunks("1\r\nx\n0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "nothing behind a chunk",
            chunks("1\r\nx0\r\n\r\n"),
            "400 close",
            "",
        ),
        case("a length instead of chunks", chunks("x=1"), "400 close", ""),
    ];
    check_all(cases).await;
}

/// RFC 9112, sections 2.2, 3 and 5.
#[tokio::test]
async fn lines_are_lines() {
    let raw = |text: &str| text.as_bytes().to_vec();
    let long = "x".repeat(70_000);
    let many: String = (0..120).map(|n| format!("x-{n}: 1\r\n")).collect();
    let cases = vec![
        case("plain", target("/"), "200", "GET / h"),
        case(
            "an empty line before",
            "\r\n".to_owned() + &target("/"),
            "200",
            "GET / h",
        ),
        case(
            "HEAD",
            "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n",
            "200",
            "HEAD / h",
        ),
        case(
            "LF behind the request line",
            "GET / HTTP/1.1\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "LF behind a field",
            "GET / HTTP/1.1\r\nhost: h\nx: y\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "LF at the end of the head",
            "GET / HTTP/1.1\r\nhost: h\r\n\n",
            "400 close",
            "",
        ),
        case(
            "LF everywhere",
            "GET / HTTP/1.1\nhost: h\n\n",
            "400 close",
            "",
        ),
        case(
            "LF before the head",
            "\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "LF behind a request",
            target("/1") + "GET / HTTP/1.1\nhost: h\n\n",
            "200 400 close",
            "GET /1 h",
        ),
        case(
            "LF hides a field",
            "GET / HTTP/1.1\r\nhost: h\r\nx: a\nhost: b\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "CR behind the request line",
            "GET / HTTP/1.1\rhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case("CR in a value", get("x: a\rb"), "400 close", ""),
        case(
            "CR hides a field",
            get("x: a\rcontent-length: 5"),
            "400 close",
            "",
        ),
        case(
            "CR CR LF",
            "GET / HTTP/1.1\r\nhost: h\r\r\n\r\n",
            "400 close",
            "",
        ),
        case("NUL in a value", get("x: a\0b"), "400 close", ""),
        case("NUL in a name", get("x\0: a"), "400 close", ""),
        case("NUL in the target", target("/\0"), "400 close", ""),
        case("DEL in a value", get("x: a\x7fb"), "400 close", ""),
        case("escape in a value", get("x: a\x1bb"), "400 close", ""),
        case(
            "Latin-1 in a value",
            raw("GET / HTTP/1.1\r\nhost: h\r\nx: \u{e4}\r\n\r\n"),
            "200",
            "GET / h",
        ),
        case("Latin-1 in a name", get("\u{e4}: x"), "400 close", ""),
        case("a space before the colon", get("x : y"), "400 close", ""),
        case("a tab before the colon", get("x\t: y"), "400 close", ""),
        case(
            "a space before the colon of a length",
            post("content-length : 3", "abc"),
            "400 close",
            "",
        ),
        case(
            "a space before the colon of a coding",
            post("transfer-encoding : chunked", "0\r\n\r\n"),
            "400 close",
            "",
        ),
        case("a space in a name", get("x y: z"), "400 close", ""),
        case("no name", get(": x"), "400 close", ""),
        case("no colon", get("x"), "400 close", ""),
        case("a name in quotes", get("\"x\": y"), "400 close", ""),
        case("a slash in a name", get("x/y: z"), "400 close", ""),
        case("brackets in a name", get("x[y]: z"), "400 close", ""),
        case("no space behind the colon", get("x:y"), "200", "GET / h"),
        case("an empty value", get("x:"), "200", "GET / h"),
        case("a folded line", get("x: a\r\n b"), "400 close", ""),
        case(
            "a line folded by a tab",
            get("x: a\r\n\tb"),
            "400 close",
            "",
        ),
        case(
            "a folded coding",
            post("transfer-encoding:\r\n chunked", "0\r\n\r\n"),
            "400 close",
            "",
        ),
        case(
            "a folded first line",
            "GET / HTTP/1.1\r\n host: h\r\n\r\n",
            "400 close",
            "",
        ),
        case("a fold of spaces only", get("x: a\r\n  "), "400 close", ""),
        case(
            "two spaces before the target",
            "GET  / HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "two spaces behind the target",
            "GET /  HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "a tab for a space",
            "GET\t/ HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "a space before the method",
            " GET / HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "a space behind the version",
            "GET / HTTP/1.1 \r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case("no version", "GET /\r\nhost: h\r\n\r\n", "400 close", ""),
        case(
            "HTTP/0.9",
            "GET / HTTP/0.9\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "HTTP/1.2",
            "GET / HTTP/1.2\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "HTTP/2.0",
            "GET / HTTP/2.0\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "HTTP/1.10",
            "GET / HTTP/1.10\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "http/1.1",
            "GET / http/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "HTTP/11",
            "GET / HTTP/11\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "a method in lower case",
            "get / HTTP/1.1\r\nhost: h\r\n\r\n",
            "405",
            "",
        ),
        case(
            "an unknown method",
            "BREW / HTTP/1.1\r\nhost: h\r\n\r\n",
            "405",
            "",
        ),
        case(
            "PROPFIND",
            "PROPFIND / HTTP/1.1\r\nhost: h\r\n\r\n",
            "405",
            "",
        ),
        case("PRI", "PRI / HTTP/1.1\r\nhost: h\r\n\r\n", "405", ""),
        case("TRACE", "TRACE / HTTP/1.1\r\nhost: h\r\n\r\n", "405", ""),
        case(
            "CONNECT",
            "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n",
            "405",
            "",
        ),
        case(
            "a method with a colon",
            "GE:T / HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "an unknown method with a body",
            "BREW / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc",
            "405",
            "",
        ),
        case(
            "an unknown method with chunks",
            "BREW / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "405",
            "",
        ),
        case(
            "too many fields",
            format!("GET / HTTP/1.1\r\nhost: h\r\n{many}\r\n"),
            "431 close",
            "",
        ),
        case(
            "too long a value",
            get(&format!("x: {long}")),
            "431 close",
            "",
        ),
        case(
            "too long a target",
            target(&format!("/{long}")),
            "431 close",
            "",
        ),
        case(
            "HTTP/1.0",
            "GET / HTTP/1.0\r\nhost: h\r\n\r\n",
            "200 close",
            "GET / h",
        ),
        case(
            "Connection: close",
            get("connection: close"),
            "200 close",
            "GET / h",
        ),
        case(
            "close in a list",
            get("connection: x, CLOSE"),
            "200 close",
            "GET / h",
        ),
        case(
            "close and keep-alive",
            get("connection: close\r\nconnection: keep-alive"),
            "200 close",
            "GET / h",
        ),
        case(
            "100-continue and a body",
            post("expect: 100-continue\r\ncontent-length: 3", "abc"),
            "100 200",
            "POST / h abc",
        ),
        case(
            "100-continue without a body",
            get("expect: 100-continue"),
            "200",
            "GET / h",
        ),
        case(
            "an unknown expectation",
            get("expect: tea"),
            "417 close",
            "",
        ),
        case(
            "two expectations",
            get("expect: 100-continue\r\nexpect: tea"),
            "417 close",
            "",
        ),
        case(
            "an expectation with more",
            get("expect: 100-continue, tea"),
            "417 close",
            "",
        ),
    ];
    check_all(cases).await;
}

/// RFC 9112, section 3.2; RFC 9110, section 7.2.
#[tokio::test]
async fn there_is_one_host() {
    let absolute =
        |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let cases = vec![
        case(
            "a name",
            host("host: shop.example"),
            "200",
            "GET / shop.example",
        ),
        case(
            "a port",
            host("host: shop.example:8080"),
            "200",
            "GET / shop.example:8080",
        ),
        case(
            "an IPv4 address",
            host("host: 127.0.0.1"),
            "200",
            "GET / 127.0.0.1",
        ),
        case(
            "an IPv6 address",
            host("host: [::1]:80"),
            "200",
            "GET / [::1]:80",
        ),
        case("an underscore", host("host: a_b"), "200", "GET / a_b"),
        case("none", host("x: y"), "400 close", ""),
        case("two", host("host: a\r\nhost: b"), "400 close", ""),
        case(
            "the same twice",
            host("host: a\r\nhost: a"),
            "400 close",
            "",
        ),
        case("empty", host("host:"), "400 close", ""),
        case("a path", host("host: a/b"), "400 close", ""),
        case("a user", host("host: u@h"), "400 close", ""),
        case(
            "a user with a password",
            host("host: u:p@h"),
            "400 close",
            "",
        ),
        case("a list", host("host: a,b"), "400 close", ""),
        case("a space", host("host: a b"), "400 close", ""),
        case("a tab", host("host: a\tb"), "400 close", ""),
        case("a question mark", host("host: a?b"), "400 close", ""),
        case("a number sign", host("host: a#b"), "400 close", ""),
        case("a backslash", host("host: a\\b"), "400 close", ""),
        case("an escape", host("host: a%2eb"), "400 close", ""),
        case("a quote", host("host: \"a\""), "400 close", ""),
        case("a semicolon", host("host: a;b"), "400 close", ""),
        case("not ASCII", host("host: \u{e4}"), "400 close", ""),
        case("a port of letters", host("host: a:b"), "400 close", ""),
        case("a port too great", host("host: a:65536"), "400 close", ""),
        case("a signed port", host("host: a:+80"), "400 close", ""),
        case("two ports", host("host: a:1:2"), "400 close", ""),
        case("only a port", host("host: :80"), "400 close", ""),
        case("open brackets", host("host: [::1"), "400 close", ""),
        case("no address in brackets", host("host: [a]"), "400 close", ""),
        case(
            "text behind brackets",
            host("host: [::1]a"),
            "400 close",
            "",
        ),
        case("a scheme", host("host: http://a"), "400 close", ""),
        case(
            "a Host that ends in a dot",
            host("host: a."),
            "200",
            "GET / a.",
        ),
        case(
            "Host behind a space",
            "GET / HTTP/1.1\r\nx: y\r\n host: a\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "none in HTTP/1.0",
            "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            "200",
            "GET / UPSTREAM",
        ),
        case(
            "two in HTTP/1.0",
            "GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "absolute form",
            absolute("http://a/x", "a"),
            "200",
            "GET /x a",
        ),
        case(
            "absolute form wins",
            absolute("http://a/x?y", "b"),
            "200",
            "GET /x?y a",
        ),
        case(
            "absolute form without a path",
            absolute("http://a", "a"),
            "200",
            "GET / a",
        ),
        case(
            "absolute form with a query only",
            absolute("http://a?q", "a"),
            "200",
            "GET /?q a",
        ),
        case(
            "absolute form by https",
            absolute("https://a/", "b"),
            "200",
            "GET / a",
        ),
        case(
            "absolute form without Host",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "absolute form with a bad Host",
            absolute("http://a/", "u@b"),
            "400 close",
            "",
        ),
        case(
            "absolute form with two Hosts",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "400 close",
            "",
        ),
        case(
            "absolute form with a user",
            absolute("http://u@a/", "a"),
            "400 close",
            "",
        ),
        case(
            "absolute form with a bad port",
            absolute("http://a:x/", "a"),
            "400 close",
            "",
        ),
        case(
            "absolute form of another scheme",
            absolute("ftp://a/", "a"),
            "400 close",
            "",
        ),
        case(
            "absolute form of a file",
            absolute("file:///etc", "a"),
            "400 close",
            "",
        ),
        case("no authority", absolute("http:///x", "a"), "400 close", ""),
        case("an authority", absolute("a:80", "a"), "400 close", ""),
        case(
            "a path without a slash",
            absolute("x", "x"),
            "400 close",
            "",
        ),
        case(
            "an asterisk",
            "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n",
            "400 close",
            "",
        ),
        case("an asterisk in a GET", absolute("*", "h"), "400 close", ""),
        case(
            "two slashes are a path",
            absolute("//a/b", "h"),
            "200",
            "GET /a/b h",
        ),
    ];
    check_all(cases).await;
}

/// RFC 3986, section 6; path confusion between servers.
#[tokio::test]
async fn a_path_has_one_form() {
    let cases = vec![
        case("the root", target("/"), "200", "GET / h"),
        case(
            "unreserved escapes",
            target("/%41%7e%2D%5f"),
            "200",
            "GET /A~-_ h",
        ),
        case(
            "other escapes in capitals",
            target("/a%20b%c3%a4"),
            "200",
            "GET /a%20b%C3%A4 h",
        ),
        case(
            "nothing is decoded twice",
            target("/%252e%252e/a"),
            "200",
            "GET /%252e%252e/a h",
        ),
        case(
            "an escaped percent",
            target("/%25%32%65"),
            "200",
            "GET /%252e h",
        ),
        case(
            "slashes are merged",
            target("/a//b///c/"),
            "200",
            "GET /a/b/c/ h",
        ),
        case("one dot", target("/a/./b"), "200", "GET /a/b h"),
        case("two dots", target("/a/../b"), "200", "GET /b h"),
        case("escaped dots", target("/a/%2e%2E/b"), "200", "GET /b h"),
        case("half escaped dots", target("/a/.%2e/b"), "200", "GET /b h"),
        case("dots at the end", target("/a/b/.."), "200", "GET /a/ h"),
        case(
            "dots in a name",
            target("/..a/b.."),
            "200",
            "GET /..a/b.. h",
        ),
        case("three dots", target("/.../a"), "200", "GET /.../a h"),
        case(
            "dots behind merged slashes",
            target("/a//../b"),
            "200",
            "GET /b h",
        ),
        case(
            "a query is not touched",
            target("/a?x=/../%2e%2f//&y=\\"),
            "200",
            "GET /a?x=/../%2e%2f//&y=\\ h",
        ),
        case("a question mark alone", target("/a?"), "200", "GET /a? h"),
        case(
            "a parameter",
            target("/a;v=1/b;w"),
            "200",
            "GET /a;v=1/b;w h",
        ),
        case("above the root", target("/../a"), "400 close", ""),
        case(
            "above the root, escaped",
            target("/%2e%2e/a"),
            "400 close",
            "",
        ),
        case(
            "above the root behind a name",
            target("/a/../../b"),
            "400 close",
            "",
        ),
        case("dots with a parameter", target("/a/..;/b"), "400 close", ""),
        case(
            "escaped dots with a parameter",
            target("/a/%2e%2e;x/b"),
            "400 close",
            "",
        ),
        case(
            "a dot with a parameter",
            target("/a/.;x/b"),
            "400 close",
            "",
        ),
        case(
            "dots behind an empty name",
            target("/a/;x/../b"),
            "400 close",
            "",
        ),
        case("an escaped slash", target("/a%2fb"), "400 close", ""),
        case(
            "an escaped slash in capitals",
            target("/a%2Fb"),
            "400 close",
            "",
        ),
        case("an escaped backslash", target("/a%5cb"), "400 close", ""),
        case("a backslash", target("/a\\b"), "400 close", ""),
        case("dots and a backslash", target("/..\\a"), "400 close", ""),
        case("an escaped NUL", target("/a%00"), "400 close", ""),
        case("an escape cut off", target("/a%"), "400 close", ""),
        case("an escape cut in half", target("/a%4"), "400 close", ""),
        case(
            "an escape of other letters",
            target("/a%zz"),
            "400 close",
            "",
        ),
        case(
            "an escape of wide digits",
            target("/a%u002f"),
            "400 close",
            "",
        ),
        case("not ASCII in a path", target("/\u{e4}"), "400 close", ""),
        case(
            "escaped line ends stay escaped",
            target("/a%0d%0ax:%20y"),
            "200",
            "GET /a%0D%0Ax:%20y h",
        ),
        // Routes.
        case(
            "a prefix and its rewriting",
            target("/app/x"),
            "200",
            "GET /in/x h",
        ),
        case(
            "a prefix by dots",
            target("/x/../app/y"),
            "200",
            "GET /in/y h",
        ),
        case(
            "a prefix by escapes",
            target("/%61pp/y"),
            "200",
            "GET /in/y h",
        ),
        case(
            "a prefix by slashes",
            target("//app//y"),
            "200",
            "GET /in/y h",
        ),
        case(
            "a prefix left by dots",
            target("/app/../y"),
            "200",
            "GET /y h",
        ),
        case(
            "a longer name is no prefix",
            target("/apple"),
            "200",
            "GET /apple h",
        ),
        case(
            "a parameter behind the prefix",
            target("/app/x;v=1"),
            "200",
            "GET /in/x;v=1 h",
        ),
        case(
            "a parameter in the prefix",
            target("/app;v=1/x"),
            "400 close",
            "",
        ),
        case(
            "an empty name before the prefix",
            target("/;x/app/y"),
            "400 close",
            "",
        ),
        case(
            "a route with escaped slashes",
            target("/slash/a%2fb%5Cc"),
            "200",
            "GET /slash/a%2Fb%5Cc h",
        ),
        case(
            "no dots behind escaped slashes",
            target("/slash/..%2fapp"),
            "400 close",
            "",
        ),
        case(
            "no dots before escaped slashes",
            target("/slash/a%2f.."),
            "400 close",
            "",
        ),
        case(
            "no dots between escaped slashes",
            target("/slash/a%2f%2e%2e%2fb"),
            "400 close",
            "",
        ),
        case(
            "no dots by backslashes",
            target("/slash/a%5c..%5cb"),
            "400 close",
            "",
        ),
        case("no NUL in it", target("/slash/%00"), "400 close", ""),
        case(
            "an escaped slash before it",
            target("/%2fslash/a"),
            "400 close",
            "",
        ),
        case(
            "an escaped slash in its name",
            target("/slash%2fa"),
            "400 close",
            "",
        ),
        case("left by dots", target("/slash/../a%2fb"), "400 close", ""),
    ];
    check_all(cases).await;
}
