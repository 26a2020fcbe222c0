//! Compression of answers: when, in which coding, and that nothing is held back.

use bytes::Bytes;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{DecodeV2, GzipDecoder};
use http::{Response, response::Builder};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Running, Upstream, read_head, routed, soon};

/// An answer with its body in bytes, chunks joined.
struct Raw {
    head: String,
    body: Vec<u8>,
    /// The body came to its end.
    whole: bool,
}

impl Raw {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let named = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }
}

async fn ask(gateway: &Running, start: &str, fields: &str) -> Raw {
    soon(async {
        let mut stream = gateway.connect().await;
        let raw = format!("{start} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{fields}\r\n");
        stream.write_all(raw.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let chunked = head.contains("transfer-encoding: chunked");
        let (body, whole) = match chunked {
            true => unchunked(&bytes[end..]),
            false => (bytes[end..].to_vec(), true),
        };
        Raw { head, body, whole }
    })
    .await
}

async fn get(gateway: &Running, fields: &str) -> Raw {
    ask(gateway, "GET /", fields).await
}

fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let Some(data) = rest.get(end + 2..end + 2 + size) else {
            break;
        };
        body.extend_from_slice(data);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    (body, false)
}

/// All that can be read of a compressed text; whether that is its end.
fn decoded(decoder: &mut dyn DecodeV2, text: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut input = PartialBuffer::new(text);
    let mut scratch = vec![0; 64 * 1024];
    loop {
        let before = input.written_len();
        let mut output = WriteBuffer::new_initialized(&mut scratch);
        // Without more input some decoders fail, and some do nothing.
        let ended = decoder.decode(&mut input, &mut output).unwrap_or_default();
        out.extend_from_slice(output.written());
        if ended {
            return (out, true);
        }
        if output.written_len() == 0 && input.written_len() == before {
            return (out, false);
        }
        if input.unwritten().is_empty() && output.written_len() == 0 {
            return (out, false);
        }
    }
}

fn json(length: usize) -> Bytes {
    let text = "{\"name\":\"value\"},".repeat(length / 16 + 1);
    Bytes::from(text[..length].to_owned())
}

async fn compressing(
    body: Bytes,
    settings: &str,
    answer: impl Fn(Builder) -> Builder + Send + Sync + 'static,
) -> (Upstream, Running) {
    let upstream = Upstream::answering(move |_| {
        answer(Response::builder())
            .body(Full::from(body.clone()))
            .unwrap()
    })
    .await;
    let config = routed(&[upstream.addr]) + "[compression]\n" + settings;
    let gateway = Running::start(&config).await;
    (upstream, gateway)
}

fn of_json(answer: Builder) -> Builder {
    answer.header("content-type", "application/json; charset=utf-8")
}

#[tokio::test]
async fn a_long_text_is_compressed_in_the_coding_that_is_liked_best() {
    // K.c4
    let body = json(10 * 1024);
    let (_upstream, gateway) = compressing(body.clone(), "", |answer| {
        of_json(answer)
            .header("etag", "\"a\"")
            .header("accept-ranges", "bytes")
    })
    .await;
    let rows: [(&str, Option<&str>); 7] = [
        ("gzip", Some("gzip")),
        ("br;q=0.9, gzip;q=0.8", Some("br")),
        ("zstd", Some("zstd")),
        ("*", Some("br")),
        ("gzip;q=0", None),
        ("deflate", None),
        ("identity;q=1, gzip;q=0.5", None),
    ];
    for (accept, coding) in rows {
        let answer = get(&gateway, &format!("accept-encoding: {accept}\r\n")).await;
        assert_eq!(answer.header("content-encoding"), coding, "{accept}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{accept}");
        let (text, tag) = match coding {
            None => ((answer.body.clone(), true), "\"a\""),
            Some("gzip") => (decoded(&mut GzipDecoder::new(), &answer.body), "W/\"a\""),
            Some("br") => {
                let mut decoder = compression_codecs::BrotliDecoder::new();
                (decoded(&mut decoder, &answer.body), "W/\"a\"")
            }
            Some(_) => {
                let mut decoder = compression_codecs::ZstdDecoder::new();
                (decoded(&mut decoder, &answer.body), "W/\"a\"")
            }
        };
        assert!(text.1 && text.0 == body, "{accept}");
        assert_eq!(answer.header("etag"), Some(tag), "{accept}");
        let ranges = coding.is_none().then_some("bytes");
        assert_eq!(answer.header("accept-ranges"), ranges, "{accept}");
        if coding.is_some() {
            assert!(answer.body.len() < 1000, "{accept}");
            assert_eq!(answer.header("content-length"), None, "{accept}");
        }
    }
    assert_eq!(get(&gateway, "").await.body, body);
}

#[tokio::test]
async fn what_is_short_fixed_or_compressed_already_stays_as_it_is() {
    // K.c4
    type Fields = fn(Builder) -> Builder;
    let rows: [(usize, bool, Fields); 13] = [
        (100, true, of_json),
        (1023, true, of_json),
        (9000, false, |answer| {
            answer.header("content-type", "image/png")
        }),
        (9000, false, |answer| answer),
        (9000, false, |answer| {
            of_json(answer).header("content-encoding", "br")
        }),
        (9000, false, |answer| {
            of_json(answer).header("cache-control", "max-age=1, No-Transform")
        }),
        (9000, false, |answer| {
            of_json(answer).header("set-cookie", "a=b")
        }),
        (9000, false, |answer| {
            of_json(answer).header("content-digest", "sha-256=:eA==:")
        }),
        (9000, false, |answer| {
            of_json(answer)
                .status(206)
                .header("content-range", "bytes 0-8999/10000")
        }),
        (9000, false, |answer| {
            answer.header("content-type", "text/event-stream")
        }),
        (9000, false, |answer| {
            answer.header("content-type", "application/grpc+json")
        }),
        (9000, false, |answer| {
            of_json(answer).header("content-range", "bytes 0-8999/9000")
        }),
        (0, true, of_json),
    ];
    for (index, (length, varies, fields)) in rows.into_iter().enumerate() {
        let body = json(length);
        let (_upstream, gateway) = compressing(body.clone(), "", fields).await;
        let answer = get(&gateway, "accept-encoding: gzip\r\n").await;
        assert_eq!(answer.body, body, "{index}");
        assert_ne!(answer.header("content-encoding"), Some("gzip"), "{index}");
        assert_eq!(answer.header("vary").is_some(), varies, "{index}");
        assert_eq!(
            answer.header("content-length").unwrap(),
            length.to_string(),
            "{index}"
        );
    }
}

/// RFC 9111, section 5.2.1.6: a client may ask for what the service sent.
#[tokio::test]
async fn what_a_client_wants_unchanged_stays_as_it_is() {
    let body = json(9000);
    let (_upstream, gateway) = compressing(body.clone(), "", of_json).await;
    for (fields, is_plain) in [
        ("cache-control: no-transform\r\n", true),
        ("cache-control: max-age=0, No-Transform\r\n", true),
        (
            "cache-control: max-age=0\r\ncache-control: no-transform\r\n",
            true,
        ),
        ("cache-control: transform\r\n", false),
        ("", false),
    ] {
        let fields = format!("accept-encoding: gzip\r\n{fields}");
        let answer = get(&gateway, &fields).await;
        let coding = answer.header("content-encoding");
        assert_eq!(coding, (!is_plain).then_some("gzip"), "{fields}");
        assert_eq!(answer.body == body, is_plain, "{fields}");
    }
}

#[tokio::test]
async fn the_settings_say_what_is_compressed() {
    let settings =
        "codings = [\"gzip\"]\nmin_size = 10\ntypes = [\"image/*\"]\neffort = \"small\"\n";
    let (_upstream, gateway) = compressing(json(10), settings, |answer| {
        answer
            .header("content-type", "Image/BMP")
            .header("vary", "Origin")
    })
    .await;
    let answer = get(&gateway, "accept-encoding: br, gzip;q=0.1\r\n").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.headers("vary"), ["Origin", "accept-encoding"]);
    assert!(decoded(&mut GzipDecoder::new(), &answer.body) == (json(10).to_vec(), true));
    // A client that takes nothing else gets it compressed, short or not.
    let (_upstream, gateway) = compressing(json(10), "", of_json).await;
    let answer = get(&gateway, "accept-encoding: gzip, identity;q=0\r\n").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn head_says_what_get_would() {
    let (_upstream, gateway) = compressing(json(9000), "", of_json).await;
    let accept = "accept-encoding: gzip\r\n";
    let (get, head) = (
        get(&gateway, accept).await,
        ask(&gateway, "HEAD /", accept).await,
    );
    assert!(head.body.is_empty());
    for name in ["content-encoding", "vary", "content-type", "content-length"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_304_is_about_the_answer_that_the_client_has() {
    let upstream = Upstream::answering(|seen| {
        let known = seen.header("if-none-match").is_some();
        Response::builder()
            .status(if known { 304 } else { 200 })
            .header("etag", "\"a\"")
            .body(Full::default())
            .unwrap()
    })
    .await;
    let gateway = Running::start(&(routed(&[upstream.addr]) + "[compression]\n")).await;
    for (known, told) in [
        ("W/\"a\"", "W/\"a\""),
        ("\"b\", W/\"a\"", "W/\"a\""),
        ("\"a\"", "\"a\""),
    ] {
        let fields = format!("accept-encoding: gzip\r\nif-none-match: {known}\r\n");
        let answer = get(&gateway, &fields).await;
        assert!(answer.head.starts_with("HTTP/1.1 304"));
        assert_eq!(answer.header("etag"), Some(told));
        let varies = told.starts_with('W').then_some("accept-encoding");
        assert_eq!(answer.header("vary"), varies, "{known}");
    }
}

/// A gateway with compression before an upstream that is played by hand, and the client's request
/// sent there.
async fn by_hand(fields: &str) -> (Running, tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "[compression]\n";
    let gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    let raw = format!("GET / HTTP/1.1\r\nhost: h\r\nte: trailers\r\n{fields}\r\n");
    client.write_all(raw.as_bytes()).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut upstream).await;
    (gateway, client, upstream)
}

#[tokio::test]
async fn a_slow_stream_is_not_held_back() {
    for coding in ["gzip", "br", "zstd"] {
        let (_gateway, mut client, mut upstream) =
            by_hand(&format!("accept-encoding: {coding}\r\n")).await;
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        let (head, mut bytes) = read_head(&mut client).await;
        assert!(
            head.contains(&format!("content-encoding: {coding}")),
            "{head}"
        );
        let mut sent = String::new();
        for piece in ["first", "second", "third"] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            upstream.write_all(chunk.as_bytes()).await.unwrap();
            sent.push_str(piece);
            // Each piece is there before the next one is sent.
            soon(async {
                loop {
                    let mut decoder: Box<dyn DecodeV2> = match coding {
                        "gzip" => Box::new(GzipDecoder::new()),
                        "br" => Box::new(compression_codecs::BrotliDecoder::new()),
                        _ => Box::new(compression_codecs::ZstdDecoder::new()),
                    };
                    let (text, _) = decoded(&mut *decoder, &unchunked(&bytes).0);
                    if text == sent.as_bytes() {
                        break;
                    }
                    assert_ne!(client.read_buf(&mut bytes).await.unwrap(), 0);
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn trailers_come_after_the_end_and_a_cut_answer_stays_cut() {
    let start = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntrailer: x-sum\r\n\
                  transfer-encoding: chunked\r\n\r\n4\r\ntext\r\n";
    let accept = "accept-encoding: gzip\r\nconnection: close\r\n";
    let (_gateway, mut client, mut upstream) = by_hand(accept).await;
    upstream.write_all(start).await.unwrap();
    upstream.write_all(b"0\r\nx-sum: 7\r\n\r\n").await.unwrap();
    let (_, mut bytes) = read_head(&mut client).await;
    soon(client.read_to_end(&mut bytes)).await.unwrap();
    assert!(
        bytes.ends_with(b"0\r\nx-sum: 7\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
    let text = unchunked(&bytes).0;
    assert!(decoded(&mut GzipDecoder::new(), &text) == (b"text".to_vec(), true));

    let (_gateway, mut client, mut upstream) = by_hand(accept).await;
    upstream.write_all(start).await.unwrap();
    let (_, mut bytes) = read_head(&mut client).await;
    drop(upstream);
    let _ = soon(client.read_to_end(&mut bytes)).await;
    let (text, whole) = unchunked(&bytes);
    assert!(!whole);
    assert!(!decoded(&mut GzipDecoder::new(), &text).1);
}

#[tokio::test]
#[cfg(feature = "cache")]
async fn one_answer_is_kept_and_compressed_for_each_client() {
    let (upstream, gateway) = compressing(json(9000), "[cache]\n", |answer| {
        of_json(answer)
            .header("cache-control", "max-age=60")
            .header("etag", "\"a\"")
    })
    .await;
    for coding in ["gzip", "br", "identity", "gzip"] {
        let answer = get(&gateway, &format!("accept-encoding: {coding}\r\n")).await;
        let named = Some(coding).filter(|coding| *coding != "identity");
        assert_eq!(answer.header("content-encoding"), named);
        assert!(answer.whole);
    }
    let known = "accept-encoding: gzip\r\nif-none-match: W/\"a\"\r\n";
    let answer = get(&gateway, known).await;
    assert!(answer.head.starts_with("HTTP/1.1 304"));
    assert_eq!(answer.header("etag"), Some("W/\"a\""));
    assert_eq!(upstream.calls(), 1);
    assert_eq!(upstream.last().header("accept-encoding"), None);
}

#[tokio::test]
#[cfg(feature = "cache")]
async fn what_an_upstream_compressed_unasked_is_not_kept() {
    let (upstream, gateway) = compressing(json(9000), "[cache]\n", |answer| {
        of_json(answer)
            .header("cache-control", "max-age=60")
            .header("vary", "accept-encoding")
            .header("content-encoding", "gzip")
    })
    .await;
    get(&gateway, "accept-encoding: gzip\r\n").await;
    get(&gateway, "").await;
    assert_eq!(upstream.calls(), 2);
}

#[test]
fn bad_settings_are_refused() {
    let refused = |settings: &str| {
        let route = "[[route]]\nprefix = \"/\"\nupstream = \"a\"\n[upstream.a]\nendpoints = [\"http://a:1\"]\n";
        let text = format!("{route}[compression]\n{settings}");
        gateway_kit::Config::from_toml(&text)
            .unwrap_err()
            .to_string()
    };
    for (settings, field) in [
        ("codings = []", "compression.codings"),
        ("codings = [\"gzip\", \"gzip\"]", "compression.codings[1]"),
        ("codings = [\"deflate\"]", "compression.codings[0]"),
        ("types = []", "compression.types"),
        ("types = [\"text\"]", "compression.types[0]"),
        ("types = [\"*/*\"]", "compression.types[0]"),
        ("effort = \"max\"", "compression.effort"),
        ("level = 9", "compression.level"),
    ] {
        let error = refused(settings);
        assert!(
            error.contains(field) || error.contains("compression"),
            "{settings}: {error}"
        );
        assert!(
            error.contains("line 7") || error.contains("line 6"),
            "{settings}: {error}"
        );
    }
}
