//! Retries, timeouts and places for calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, Running, Upstream, nobody, read_head, routed, soon, until};

/// An upstream that takes requests and then hangs up (or hangs) without a byte.
struct Mute {
    addr: std::net::SocketAddr,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Mute {
    async fn start(hangs_up: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                open.spawn(async move {
                    read_head(&mut stream).await;
                    count.fetch_add(1, Ordering::SeqCst);
                    if !hangs_up {
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                });
            }
        });
        Self {
            addr,
            requests,
            task,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn request(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
}

const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

fn metric(gateway: &Running, name: &str) -> u64 {
    let line = format!("{name}{{service=\"shop\"}} ");
    let metrics = gateway.handle.metrics();
    let found = metrics.lines().find_map(|text| text.strip_prefix(&line));
    found.unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_was_sent_and_not_answered_goes_elsewhere_once_if_it_is_idempotent() {
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        let (mute, well) = (Mute::start(true).await, Upstream::start().await);
        let gateway = Running::start(&routed(&[mute.addr, well.addr])).await;
        for _ in 0..4 {
            assert_eq!(gateway.raw(&request(method)).await.status, 200, "{method}");
        }
        // Each that went to the mute one first was tried again.
        let retries = metric(&gateway, "upstream_retries_total");
        assert_eq!(
            (mute.requests() as u64, well.calls()),
            (retries, 4),
            "{method}"
        );
        assert_ne!(retries, 0, "{method}");
    }
}

#[tokio::test]
async fn a_second_try_has_the_head_of_the_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let heads = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let (sent, _) = read_head(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let (again, _) = read_head(&mut second).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        second.write_all(answer).await.unwrap();
        (sent, again)
    });
    let request = "GET /a?b=c HTTP/1.1\r\nhost: h\r\nx-own: 1\r\nx-own: 2\r\n\
                   connection: close\r\n\r\n";
    assert_eq!(gateway.raw(request).await.status, 200);
    let (sent, again) = soon(heads).await.unwrap();
    assert_eq!(sent, again);
    assert!(sent.starts_with("GET /a?b=c ") && sent.contains("x-own: 2"));
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let mutes = [
        Mute::start(true).await,
        Mute::start(true).await,
        Mute::start(true).await,
    ];
    let addrs: Vec<_> = mutes.iter().map(|mute| mute.addr).collect();
    let gateway = Running::start(&routed(&addrs)).await;
    for (sent, request) in [POST, &request("POST"), &request("PATCH")]
        .iter()
        .enumerate()
    {
        let answer = gateway.raw(request).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.json()["code"], "upstream_broken");
        let seen: usize = mutes.iter().map(Mute::requests).sum();
        assert_eq!(seen, sent + 1);
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_not_sent_twice_either() {
    let (mute, well) = (Mute::start(true).await, Upstream::start().await);
    let gateway = Running::start(&routed(&[mute.addr, well.addr])).await;
    let put = POST.replace("POST", "PUT");
    let (first, second) = (gateway.raw(&put).await, gateway.raw(&put).await);
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    assert_eq!((mute.requests(), well.calls()), (1, 1));
}

/// An upstream that takes requests with bodies of two bytes and then hangs up.
async fn mute_after_the_body() -> Mute {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let requests = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&requests);
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (_, mut body) = read_head(&mut stream).await;
            while !body.ends_with(b"hi") && !body.ends_with(b"0\r\n\r\n") {
                assert_ne!(soon(stream.read_buf(&mut body)).await.unwrap(), 0);
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    Mute {
        addr,
        requests,
        task,
    }
}

#[tokio::test]
async fn a_short_body_is_sent_again_if_it_is_kept_and_the_method_is_idempotent() {
    let chunked =
        "transfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n";
    let chunked = format!("POST / HTTP/1.1\r\nhost: h\r\n{chunked}");
    for (most, method, request, again) in [
        (2, "PUT", POST, true),
        (2, "DELETE", POST, true),
        (2, "PUT", &*chunked, true),
        (2, "POST", POST, false),
        (2, "PATCH", POST, false),
        (1, "PUT", POST, false),
        (1, "PUT", &*chunked, false),
    ] {
        let (mute, well) = (mute_after_the_body().await, Upstream::start().await);
        let config = routed(&[mute.addr, well.addr]) + &format!("replay_bytes = {most}\n");
        let gateway = Running::start(&config).await;
        let request = request.replace("POST", method);
        let name = format!("{most} {request}");
        let (first, second) = (gateway.raw(&request).await, gateway.raw(&request).await);
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        let wanted = if again { [200, 200] } else { [200, 502] };
        assert_eq!(statuses, wanted, "{name}");
        assert_eq!(well.calls(), if again { 2 } else { 1 }, "{name}");
        let retries = metric(&gateway, "upstream_retries_total");
        assert_eq!(retries > 0, again, "{name}");
        assert_eq!(mute.requests() as u64, retries.max(1), "{name}");
        for seen in well.seen.lock().iter() {
            assert_eq!(
                (&*seen.method, &seen.body[..]),
                (method, &b"hi"[..]),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn the_adaptive_limit_counts_calls_until_the_head_of_their_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "{}[upstream.shop.adaptive]\ninitial_limit = 2\nmin_limit = 1\nmax_limit = 2\n",
        routed(&[listener.local_addr().unwrap()])
    );
    let gateway = Running::start(&config).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.write_all(request("GET").as_bytes()).await.unwrap();
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut stream).await;
        held.push((client, stream));
    }
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["code"], "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(metric(&gateway, "adaptive_limit_rejected_total"), 1);
    assert_eq!(metric(&gateway, "adaptive_limit"), 2);
    assert_eq!(gateway.handle.upstreams()[0].adaptive_limit, Some(2));
    // One leaves, and one has the head of its answer: there is room for two.
    let (_, stream) = held.pop().unwrap();
    drop(stream);
    let (client, stream) = &mut held[0];
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha";
    stream.write_all(half).await.unwrap();
    read_head(client).await;
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.write_all(request("GET").as_bytes()).await.unwrap();
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        read_head(&mut stream).await;
        held.push((client, stream));
    }
    assert_eq!(gateway.get("/").await.status, 503);
}

#[tokio::test]
async fn the_adaptive_limit_falls_while_the_upstream_says_that_it_has_too_much_to_do() {
    for (status, falls) in [(503, true), (429, true), (500, false), (200, false)] {
        let upstream = Upstream::answering(move |_| {
            let mut answer = http::Response::new(http_body_util::Full::from("x"));
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
            answer
        })
        .await;
        let clock = ManualClock::new();
        let config = format!(
            "{}ejection = false\nbreaker = {{ failure_rate = \"off\", consecutive_failures = 1000 }}\n\
             [upstream.shop.adaptive]\nmin_samples = 1\nbackoff_ratio = 0.5\nmax_limit = 20\n",
            routed(&[upstream.addr])
        );
        let gateway = Running::start_with_clock(&config, clock.clone()).await;
        for _ in 0..5 {
            clock.advance(Duration::from_millis(150));
            assert_eq!(gateway.get("/").await.status, status);
        }
        let found = gateway.handle.upstreams()[0].adaptive_limit.unwrap();
        assert_eq!(found < 20, falls, "{status}: {found}");
    }
}

#[tokio::test]
async fn one_retry_and_no_more() {
    let mutes = [
        Mute::start(true).await,
        Mute::start(true).await,
        Mute::start(true).await,
        Mute::start(true).await,
    ];
    let addrs: Vec<_> = mutes.iter().map(|mute| mute.addr).collect();
    let gateway = Running::start(&routed(&addrs)).await;
    assert_eq!(gateway.get("/").await.status, 502);
    let seen: Vec<usize> = mutes.iter().map(Mute::requests).collect();
    assert_eq!(seen.iter().sum::<usize>(), 2, "{seen:?}");
    assert!(seen.iter().all(|count| *count <= 1), "elsewhere: {seen:?}");
}

#[tokio::test]
async fn retries_end_with_their_budget_and_can_be_switched_off() {
    let mute = Mute::start(true).await;
    let clock = ManualClock::new();
    let quiet = "ejection = false\n[upstream.shop.breaker]\nconsecutive_failures = 1000\nminimum_calls = 100\n";
    let budget = "retry = { share = 0.0, floor_per_second = 1, burst = 3 }\n";
    let config = format!("{}{budget}{quiet}", routed(&[mute.addr]));
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 502);
    }
    assert_eq!(mute.requests(), 13);
    assert_eq!(metric(&gateway, "upstream_retries_total"), 3);
    assert_eq!(metric(&gateway, "upstream_retry_budget_spent_total"), 7);
    clock.advance(Duration::from_secs(1));
    assert_eq!(gateway.get("/").await.status, 502);
    assert_eq!(mute.requests(), 15);

    let config = format!("{}retry = false\n{quiet}", routed(&[mute.addr]));
    let gateway = Running::start(&config).await;
    assert_eq!(gateway.get("/").await.status, 502);
    assert_eq!(mute.requests(), 16);
}

#[tokio::test]
async fn what_was_not_sent_goes_elsewhere_whatever_the_method_and_without_the_budget() {
    let well = Upstream::start().await;
    let config = routed(&[nobody().await, nobody().await, well.addr]) + "retry = false\n";
    let gateway = Running::start(&config).await;
    for sent in 1..=6 {
        assert_eq!(gateway.raw(POST).await.status, 200);
        assert_eq!(well.calls(), sent);
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up_and_made_elsewhere() {
    let (mute, well) = (Mute::start(false).await, Upstream::start().await);
    let config = routed(&[mute.addr, well.addr]) + "try_timeout = \"500ms\"\n";
    let gateway = Running::start(&config).await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!(well.calls(), 2);
    assert_ne!(mute.requests(), 0);
    // What must not be doubled is not tried again.
    let (first, second) = (gateway.raw(POST).await, gateway.raw(POST).await);
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
}

/// What came first was given up; the second is the last, and has the time of the call.
#[tokio::test]
async fn the_second_try_takes_as_long_as_an_answer_may() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "try_timeout = \"50ms\"\nresponse_timeout = \"30s\"\n";
    let gateway = Running::start(&config).await;
    let serve = async {
        let (_first, _) = listener.accept().await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        read_head(&mut second).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        second.write_all(answer).await.unwrap();
    };
    let (answer, ()) = soon(async { tokio::join!(gateway.get("/"), serve) }).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_too_much_to_do_as_well() {
    let mute = Mute::start(false).await;
    let clock = ManualClock::new();
    let config = format!(
        "{}retry = false\nejection = false\nresponse_timeout = \"20ms\"\n\
         breaker = {{ failure_rate = \"off\", consecutive_failures = 1000 }}\n\
         [upstream.shop.adaptive]\nmin_samples = 1\nbackoff_ratio = 0.5\nmax_limit = 20\n",
        routed(&[mute.addr])
    );
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    for _ in 0..3 {
        clock.advance(Duration::from_millis(150));
        assert_eq!(gateway.get("/").await.status, 504);
    }
    let found = gateway.handle.upstreams()[0].adaptive_limit.unwrap();
    assert!(found < 20, "{found}");
}

#[tokio::test]
async fn no_answer_in_time_is_504_and_counts_against_the_endpoint() {
    for timeout in ["response_timeout", "total_timeout", "try_timeout"] {
        let mute = Mute::start(false).await;
        let config = format!(
            "{}retry = false\n{timeout} = \"300ms\"\n",
            routed(&[mute.addr])
        );
        let gateway = Running::start(&config).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 504, "{timeout}");
        assert_eq!(answer.json()["code"], "upstream_timeout");
        assert_eq!(gateway.handle.endpoints()[0].breaker.failures, 1);
        assert_eq!(mute.requests(), 1);
    }
}

/// Half an answer, and then silence.
#[tokio::test]
async fn a_silent_upstream_inside_a_body_is_given_up_visibly() {
    for timeout in ["body_timeout", "total_timeout"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = format!(
            "{}{timeout} = \"1s\"\n",
            routed(&[listener.local_addr().unwrap()])
        );
        let gateway = Running::start(&config).await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
            stream.write_all(half).await.unwrap();
            // The gateway closes the connection.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let (answer, ()) = soon(async { tokio::join!(gateway.get("/"), serve) }).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "half"),
            "{timeout}"
        );
        until(|| gateway.handle.endpoints()[0].in_flight == 0).await;
    }
}

/// Pieces that come slowly, each in time.
#[tokio::test]
async fn pauses_that_are_short_enough_do_not_add_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()]) + "body_timeout = \"5s\"\n";
    let gateway = Running::start(&config).await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        stream.write_all(head).await.unwrap();
        for _ in 0..5 {
            stream.write_all(b"data: x\n\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (answer, ()) = soon(async { tokio::join!(gateway.get("/"), serve) }).await;
    assert_eq!(answer.body.matches("data: x").count(), 5);
    assert!(answer.body.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn events_are_passed_on_one_by_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Running::start(&routed(&[listener.local_addr().unwrap()])).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let (_, mut seen) = read_head(&mut client).await;
    for event in 0..10 {
        let event = format!("data: {event}\n\n");
        stream.write_all(event.as_bytes()).await.unwrap();
        // Each arrives before the next is written.
        while !seen
            .windows(event.len())
            .any(|window| window == event.as_bytes())
        {
            assert_ne!(soon(client.read_buf(&mut seen)).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn more_calls_at_once_than_allowed_are_503_with_retry_after() {
    let mute = Mute::start(false).await;
    let config = format!(
        "{}response_timeout = \"{}s\"\n[upstream.shop.bulkhead]\nlimit = 2\n",
        routed(&[mute.addr]),
        PATIENCE.as_secs() * 3
    );
    let gateway = Running::start(&config).await;
    let mut held = Vec::new();
    for sent in 1..=2 {
        let mut client = gateway.connect().await;
        client.write_all(request("GET").as_bytes()).await.unwrap();
        held.push(client);
        until(|| mute.requests() == sent).await;
    }
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["code"], "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(metric(&gateway, "bulkhead_rejected_total"), 1);
    // A client that leaves makes room.
    drop(held.pop());
    until(|| gateway.handle.endpoints()[0].in_flight == 1).await;
    let mut client = gateway.connect().await;
    client.write_all(request("GET").as_bytes()).await.unwrap();
    until(|| mute.requests() == 3).await;
}

#[tokio::test]
async fn calls_wait_in_line_for_a_place_until_an_answer_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "{}[upstream.shop.bulkhead]\nlimit = 1\nmax_queue = 1\nmax_wait = \"off\"\n",
        routed(&[listener.local_addr().unwrap()])
    );
    let clock = ManualClock::new();
    let gateway = Running::start_with_clock(&config, clock.clone()).await;
    let mut first = gateway.connect().await;
    first.write_all(request("GET").as_bytes()).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha";
    stream.write_all(half).await.unwrap();
    read_head(&mut first).await;
    // Of two more one finds a place in the line, and the other none.
    let mut more = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        more.spawn(async move {
            client.write_all(request("GET").as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            let _ = client.read_to_end(&mut bytes).await;
            bytes
        });
    }
    let refused = soon(more.join_next()).await.unwrap().unwrap();
    assert!(refused.starts_with(b"HTTP/1.1 503"));
    clock.advance(Duration::from_millis(300));
    stream.write_all(b"lf").await.unwrap();
    read_head(&mut stream).await;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await
        .unwrap();
    let waited = soon(more.join_next()).await.unwrap().unwrap();
    assert!(waited.ends_with(b"ok"));
    // Who found a place or an open connection has not waited.
    let metrics = gateway.handle.metrics();
    for (reason, line) in [
        ("bulkhead", "_count{} 1"),
        ("bulkhead", "_sum{} 0.3"),
        ("bulkhead", "_bucket{,le=\"0.25\"} 0"),
        ("bulkhead", "_bucket{,le=\"0.5\"} 1"),
        ("connection", "_count{} 1"),
        ("connection", "_sum{} 0"),
    ] {
        let labels = format!("{{service=\"shop\",reason=\"{reason}\"");
        let line = format!("pool_wait_seconds{}", line.replacen('{', &labels, 1));
        assert!(metrics.contains(&format!("{line}\n")), "{line}\n{metrics}");
    }
}
