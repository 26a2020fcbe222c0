//! Connections to upstreams.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_kit::Body;
use gateway_kit::pool::{self, Pool};
use http::Request;
use http_body_util::BodyExt;
use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, Upstream, parsed, read_head, routed, soon, until};

const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

fn idle(gateway: &Running) -> usize {
    gateway.handle.endpoints()[0].idle_connections
}

#[tokio::test]
async fn an_idle_connection_is_used_again() {
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
        until(|| idle(&gateway) == 1).await;
    }
    assert_eq!(gateway.raw(POST).await.status, 200);
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    assert_eq!(gateway.handle.endpoints()[0].in_flight, 0);
}

/// Answers one GET and leaves the connection idle in the gateway's pool.
async fn pooled(gateway: &Running, listener: &TcpListener) -> TcpStream {
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let (answer, stream) = soon(async { tokio::join!(gateway.get("/"), serve) }).await;
    assert_eq!(answer.status, 200);
    until(|| idle(gateway) == 1).await;
    stream
}

#[tokio::test]
async fn a_post_on_a_pooled_connection_that_died_is_sent_once_on_a_fresh_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    for _ in 0..20 {
        drop(pooled(&gateway, &listener).await);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (head, mut body) = read_head(&mut stream).await;
            while body.len() < 2 {
                assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0);
            }
            let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            (head, body)
        };
        let (answer, (head, body)) = soon(async { tokio::join!(gateway.raw(POST), serve) }).await;
        assert_eq!(answer.status, 201);
        assert!(head.starts_with("POST / "), "{head}");
        assert_eq!(body, b"hi");
        until(|| idle(&gateway) == 0).await;
    }
}

#[tokio::test]
async fn a_post_that_was_sent_and_not_answered_is_502_and_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let mut stream = pooled(&gateway, &listener).await;
    let serve = async {
        let (head, _) = read_head(&mut stream).await;
        drop(stream);
        head
    };
    let second = async {
        // Whoever connects again doubles the POST.
        let accepted = listener.accept().await;
        panic!("a second connection: {accepted:?}");
    };
    let both = async { tokio::join!(gateway.raw(POST), serve) };
    let (answer, head) = soon(async {
        tokio::select! {
            both = both => both,
            () = second => unreachable!(),
        }
    })
    .await;
    assert!(head.starts_with("POST / "), "{head}");
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (502, Some("upstream_broken"))
    );
}

#[tokio::test]
async fn the_pool_works_without_a_gateway() {
    let upstream = Upstream::start().await;
    let pool = Pool::new(format!("http://{}", upstream.addr).parse().unwrap());
    for _ in 0..10 {
        let request = Request::post("/a?b").body(Body::from("hi".to_owned()));
        let response = soon(pool.send(request.unwrap())).await.unwrap();
        let body = soon(response.into_body().collect()).await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
        until(|| pool.idle() == 1).await;
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    let seen = upstream.last();
    assert_eq!((seen.target.as_str(), &seen.body[..]), ("/a?b", &b"hi"[..]));
    assert_eq!(
        seen.header("host"),
        Some(upstream.addr.to_string().as_str())
    );
    pool.retire();
    assert_eq!(pool.idle(), 0);
}

#[tokio::test]
async fn the_pool_gives_an_unsent_request_back_and_refuses_bad_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let pool = Pool::new(format!("http://{addr}").parse().unwrap());
    let post = || {
        Request::post("/")
            .body(Body::from("hi".to_owned()))
            .unwrap()
    };
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (sent, ()) = soon(async { tokio::join!(pool.send(post()), serve) }).await;
    assert!(matches!(sent, Err(pool::Error::BadAnswer)), "{sent:?}");
    drop(listener);
    let Err(pool::Error::Unsent { request, .. }) = soon(pool.send(post())).await else {
        panic!("nobody listens");
    };
    let body = request.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "hi");
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_may_be() {
    let upstream = Upstream::start().await;
    let server = format!("http://{}", upstream.addr).parse().unwrap();
    let pool = Pool::builder(server).max_idle(2).build();
    let mut answers = Vec::new();
    for _ in 0..4 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        answers.push(soon(pool.send(request)).await.unwrap());
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 4);
    for answer in answers {
        soon(answer.into_body().collect()).await.unwrap();
    }
    until(|| pool.idle() == 2).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(pool.idle(), 2);
    }
}

#[tokio::test]
async fn a_connection_that_is_idle_too_long_or_too_old_is_not_used() {
    for setting in [
        "idle_timeout = \"30s\"",
        "idle_timeout = \"1h\"\nmax_age = \"30s\"",
    ] {
        let upstream = Upstream::start().await;
        let clock = ManualClock::new();
        let config = format!("{}{setting}\n", routed(&[upstream.addr]));
        let gateway = Running::start_with_clock(&config, clock.clone()).await;
        for (wait, connections) in [(0, 1), (29, 1), (30, 2), (29, 2)] {
            clock.advance(Duration::from_secs(wait));
            assert_eq!(gateway.get("/").await.status, 200);
            until(|| idle(&gateway) == 1).await;
            let opened = upstream.connections.load(Ordering::SeqCst);
            assert_eq!(opened, connections, "{setting} {wait}");
        }
    }
}

/// Reads one answer's worth of request and answers it.
async fn answer(stream: &mut TcpStream) {
    read_head(stream).await;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    stream.write_all(answer).await.unwrap();
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(soon(stream.read(&mut [0; 64])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_retired_pool_keeps_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let pool = Pool::new(format!("http://{addr}").parse().unwrap());
    let call = || pool.send(Request::get("/").body(Body::empty()).unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream).await;
        stream
    };
    let (first, mut one) = soon(async { tokio::join!(call(), serve) }).await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream).await;
        stream
    };
    let (second, mut other) = soon(async { tokio::join!(call(), serve) }).await;
    soon(first.unwrap().into_body().collect()).await.unwrap();
    until(|| pool.idle() == 1).await;
    pool.retire();
    assert!(is_closed(&mut one).await);
    // What ran is let end, and its connection goes then.
    let body = soon(second.unwrap().into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes(), "ok");
    assert!(is_closed(&mut other).await);
    assert_eq!(pool.idle(), 0);
}

/// Also while calls run there: an endpoint that is gone gets no further request, and holds nothing
/// that nobody uses.
#[tokio::test]
async fn a_reload_closes_the_idle_connections_of_an_endpoint_that_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = Upstream::start().await;
    let addr = listener.local_addr().unwrap();
    let before = routed(&[addr]);
    for after in [
        routed(&[other.addr]),
        before.clone() + "connect_timeout = \"7s\"\n",
    ] {
        let gateway = Running::start(&before).await;
        let mut client = gateway.connect().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        let (mut busy, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut busy).await;
        let mut unused = pooled(&gateway, &listener).await;
        assert!(!gateway.handle.reload(parsed(&after)).is_refused());
        assert!(is_closed(&mut unused).await, "{after}");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
        busy.write_all(answer).await.unwrap();
        let mut bytes = Vec::new();
        soon(client.read_to_end(&mut bytes)).await.unwrap();
        assert!(bytes.ends_with(b"done"), "{after}");
        assert!(is_closed(&mut busy).await, "{after}");
    }
}
