//! What becomes of each field of a request on its way: RFC 9110, sections 7.6 and 10.1; RFC 7239.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cases::{Recorder, config};
use crate::support::{Running, read_head, routed, soon};

/// Name of the row; lines of the head; a field, and what the upstream sees of it (`-`: nothing).
type Row = (&'static str, &'static str, &'static str, &'static str);

async fn check_all(before: &str, rows: &[Row]) {
    let upstream = Recorder::start().await;
    let gateway = Running::start(&(before.to_owned() + &config(upstream.addr))).await;
    let mut wrong = String::new();
    for (name, lines, field, wanted) in rows {
        let raw = format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}\r\nconnection: close\r\n\r\n");
        let answer = gateway.raw(&raw).await;
        let seen = upstream.take();
        let found = seen.first().map(|(_, headers)| {
            let values = headers.get_all(*field).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            values.collect::<Vec<_>>().join(" | ")
        });
        let found = found
            .as_deref()
            .map(|text| if text.is_empty() { "-" } else { text });
        if answer.status != 200 || found != Some(wanted) {
            let status = answer.status;
            wrong += &format!("{name}: {status}, {field} is {found:?}, wanted {wanted}\n");
        }
    }
    assert!(wrong.is_empty(), "of {} rows:\n{wrong}", rows.len());
}

#[tokio::test]
async fn fields_of_one_connection_end_and_others_pass() {
    check_all(
        "",
        &[
            ("an unknown field", "x-a: b", "x-a", "b"),
            ("two lines", "x-a: b\r\nx-a: c", "x-a", "b | c"),
            ("an empty value", "x-a:\r\nx-b: c", "x-b", "c"),
            ("Latin-1", "x-a: a\u{e4}b", "x-a", "a\u{e4}b"),
            ("Cookie", "cookie: a=b; c=d", "cookie", "a=b; c=d"),
            ("Authorization", "authorization: Basic x", "authorization", "Basic x"),
            ("Accept-Encoding", "accept-encoding: gzip", "accept-encoding", "gzip"),
            ("Connection", "connection: x", "connection", "-"),
            ("named by Connection", "connection: x-a\r\nx-a: b", "x-a", "-"),
            ("named in capitals", "connection: X-A\r\nx-a: b", "x-a", "-"),
            ("named in a list", "connection: x-b , x-a\r\nx-a: b", "x-a", "-"),
            ("named behind an empty item", "connection: ,,x-a\r\nx-a: b", "x-a", "-"),
            ("named in a second line", "connection: x-b\r\nconnection: x-a\r\nx-a: b", "x-a", "-"),
            ("named by a tab", "connection: x-b,\tx-a\r\nx-a: b", "x-a", "-"),
            // Not to be named away: what says who reads what, and what we add.
            ("Host named", "connection: host", "host", "h"),
            ("X-Forwarded-For named", "connection: x-forwarded-for", "x-forwarded-for", "127.0.0.1"),
            ("X-Forwarded-Proto named", "connection: x-forwarded-proto", "x-forwarded-proto", "http"),
            ("X-Real-IP named", "connection: x-real-ip", "x-real-ip", "127.0.0.1"),
            ("Forwarded named", "connection: forwarded", "forwarded", "for=127.0.0.1;host=\"h\";proto=http"),
            ("Content-Type named", "connection: content-type\r\ncontent-type: a/b", "content-type", "a/b"),
            ("X-Correlation-ID named", "connection: x-correlation-id\r\nx-correlation-id: abc", "x-correlation-id", "abc"),
            ("Keep-Alive", "keep-alive: timeout=5", "keep-alive", "-"),
            ("Proxy-Connection", "proxy-connection: keep-alive", "proxy-connection", "-"),
            ("Proxy-Authorization", "proxy-authorization: x", "proxy-authorization", "-"),
            ("TE", "te: gzip", "te", "-"),
            ("TE trailers", "te: trailers", "te", "trailers"),
            ("TE trailers among others", "te: gzip, trailers", "te", "trailers"),
            ("TE trailers says TE", "te: trailers", "connection", "te"),
            ("Trailer", "trailer: x", "trailer", "x"),
            // Upgrades.
            ("h2c", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__", "upgrade", "-"),
            ("h2c and its settings", "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__", "http2-settings", "-"),
            ("settings alone", "http2-settings: AAMAAABkAAQAAP__", "http2-settings", "-"),
            ("h2c in capitals", "connection: Upgrade\r\nupgrade: H2C", "upgrade", "-"),
            ("h2c among others", "connection: upgrade\r\nupgrade: websocket, h2c", "upgrade", "-"),
            ("another protocol", "connection: upgrade\r\nupgrade: TLS/1.0", "upgrade", "-"),
            ("Upgrade without Connection", "upgrade: websocket", "upgrade", "-"),
            ("Upgrade twice", "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c", "upgrade", "-"),
        ],
    )
    .await;
}

#[tokio::test]
async fn nobody_is_believed_who_is_not_trusted() {
    const FORWARDED: &str = "for=127.0.0.1;host=\"h\";proto=http";
    check_all(
        "",
        &[
            ("none", "x: y", "x-forwarded-for", "127.0.0.1"),
            (
                "X-Forwarded-For",
                "x-forwarded-for: 1.2.3.4",
                "x-forwarded-for",
                "127.0.0.1",
            ),
            (
                "X-Forwarded-For twice",
                "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8",
                "x-forwarded-for",
                "127.0.0.1",
            ),
            (
                "X-Forwarded-Proto",
                "x-forwarded-proto: https",
                "x-forwarded-proto",
                "http",
            ),
            (
                "X-Forwarded-Host",
                "x-forwarded-host: evil",
                "x-forwarded-host",
                "h",
            ),
            (
                "X-Forwarded-Port",
                "x-forwarded-port: 1",
                "x-forwarded-port",
                "-",
            ),
            (
                "X-Forwarded-Prefix",
                "x-forwarded-prefix: /x",
                "x-forwarded-prefix",
                "-",
            ),
            (
                "X-Forwarded-User",
                "x-forwarded-user: root",
                "x-forwarded-user",
                "-",
            ),
            ("X-Real-IP", "x-real-ip: 1.2.3.4", "x-real-ip", "127.0.0.1"),
            (
                "Forwarded",
                "forwarded: for=1.2.3.4",
                "forwarded",
                FORWARDED,
            ),
            (
                "underscores",
                "x_forwarded_for: 1.2.3.4",
                "x_forwarded_for",
                "-",
            ),
            (
                "one underscore",
                "x-forwarded_for: 1.2.3.4",
                "x-forwarded_for",
                "-",
            ),
            ("X_Real_IP", "x_real_ip: 1.2.3.4", "x_real_ip", "-"),
            ("Content_Length", "content_length: 5", "content_length", "-"),
            (
                "Transfer_Encoding",
                "transfer_encoding: chunked",
                "transfer_encoding",
                "-",
            ),
            ("other names with underscores pass", "x_a: b", "x_a", "b"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_trusted_proxy_is_extended() {
    check_all(
        "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n",
        &[
            (
                "X-Forwarded-For",
                "x-forwarded-for: 1.2.3.4",
                "x-forwarded-for",
                "1.2.3.4, 127.0.0.1",
            ),
            (
                "two lines are one list",
                "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 10.0.0.1",
                "x-forwarded-for",
                "1.2.3.4, 10.0.0.1, 127.0.0.1",
            ),
            (
                "the client behind it",
                "x-forwarded-for: 1.2.3.4",
                "x-real-ip",
                "1.2.3.4",
            ),
            (
                "the client behind two",
                "x-forwarded-for: 1.2.3.4, 10.0.0.1",
                "x-real-ip",
                "1.2.3.4",
            ),
            (
                "what a client writes before",
                "x-forwarded-for: 6.6.6.6, 1.2.3.4, 10.0.0.1",
                "x-real-ip",
                "1.2.3.4",
            ),
            (
                "text that is no address",
                "x-forwarded-for: 1.2.3.4, unknown, 10.0.0.1",
                "x-real-ip",
                "10.0.0.1",
            ),
            (
                "a line that is not ASCII is not passed over",
                "x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: \u{ff}, 1.2.3.4",
                "x-real-ip",
                "1.2.3.4",
            ),
            (
                "an address with a port",
                "x-forwarded-for: 1.2.3.4:80",
                "x-real-ip",
                "127.0.0.1",
            ),
            (
                "IPv6",
                "x-forwarded-for: 2001:db8::1",
                "x-real-ip",
                "2001:db8::1",
            ),
            (
                "IPv4 in IPv6",
                "x-forwarded-for: ::ffff:1.2.3.4",
                "x-real-ip",
                "1.2.3.4",
            ),
            (
                "X-Forwarded-Proto",
                "x-forwarded-proto: https",
                "x-forwarded-proto",
                "https",
            ),
            (
                "Forwarded",
                "forwarded: for=1.2.3.4",
                "forwarded",
                "for=1.2.3.4, for=127.0.0.1;host=\"h\";proto=http",
            ),
            (
                "underscores even so",
                "x_forwarded_for: 1.2.3.4",
                "x_forwarded_for",
                "-",
            ),
        ],
    )
    .await;
}

/// RFC 9110, section 6.5.1.
#[tokio::test]
async fn trailers_pass_both_ways_but_for_those_that_must_not_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let names = [
        "x-checksum",
        "x-real-ip",
        "cookie",
        "date",
        "x_forwarded_for",
    ];
    let announced = format!("trailer: {}", names.join(", "));
    let lines: String = names.iter().map(|name| format!("{name}: a\r\n")).collect();
    let mut client = gateway.connect().await;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: h\r\nte: trailers\r\nconnection: close\r\n{announced}\r\n\
         transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{lines}\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let (_, mut seen) = read_head(&mut stream).await;
    while !seen.ends_with(b"\r\n\r\n") {
        assert_ne!(soon(stream.read_buf(&mut seen)).await.unwrap(), 0);
    }
    let wanted = "1\r\nx\r\n0\r\nx-checksum: a\r\n\r\n";
    assert_eq!(String::from_utf8(seen).unwrap(), wanted);
    let answer = format!(
        "HTTP/1.1 200 OK\r\n{announced}\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{lines}\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    let (_, mut seen) = read_head(&mut client).await;
    soon(client.read_to_end(&mut seen)).await.unwrap();
    assert_eq!(String::from_utf8(seen).unwrap(), wanted);
}
