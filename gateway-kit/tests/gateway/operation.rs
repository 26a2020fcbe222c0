//! Health, metrics, stopping.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Running, Upstream, nobody, read_head, routed, soon, until};

#[tokio::test]
async fn liveness_knows_no_dependency_and_readiness_knows_the_required_ones() {
    // L.c3
    let breaker = "[upstream.shop.breaker]\nconsecutive_failures = 1\n";
    let optional = routed(&[nobody().await]) + breaker;
    let gateway = Running::start(&optional).await;
    assert_eq!(gateway.get("/").await.status, 503);
    assert_eq!(gateway.get("/health/ready").await.status, 200);

    let required = routed(&[nobody().await]) + "required = true\n" + breaker;
    let gateway = Running::start(&required).await;
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    assert_eq!(gateway.get("/").await.status, 503);
    assert_eq!(gateway.get("/health/ready").await.status, 503);
    assert_eq!(gateway.get("/health/live").await.status, 200);
}

const ANSWER: &[u8] = b"HTTP/1.1 200 ";

#[tokio::test]
async fn requests_are_counted_by_route_and_ten_thousand_paths_add_no_series() {
    // L.c6
    let upstream = Upstream::start().await;
    let gateway = Running::start(&routed(&[upstream.addr])).await;
    // Pipelined on a few connections, or it takes as long as all other tests together.
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..4 {
        let mut stream = gateway.connect().await;
        clients.spawn(async move {
            for batch in 0..50 {
                let paths = (0..50)
                    .map(|n| format!("GET /{client}/{batch}/{n} HTTP/1.1\r\nhost: h\r\n\r\n"));
                let requests: String = paths.collect();
                stream.write_all(requests.as_bytes()).await.unwrap();
                let (mut answers, mut looked, mut seen) = (Vec::new(), 0, 0);
                while seen < 50 {
                    assert_ne!(soon(stream.read_buf(&mut answers)).await.unwrap(), 0);
                    let new = answers[looked..].windows(ANSWER.len());
                    seen += new.filter(|window| *window == ANSWER).count();
                    looked = (answers.len() + 1).saturating_sub(ANSWER.len());
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let raw = "BREW / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    assert_eq!(gateway.raw(raw).await.status, 405);
    let labels = "service=\"shop\",method=\"GET\",route=\"/\",status=\"200\"";
    let wanted = format!("http_requests_total{{{labels}}} 10000");
    until(|| gateway.handle.metrics().contains(&wanted)).await;
    let metrics = gateway.get("/metrics").await.body;
    assert!(metrics.contains("method=\"OTHER\""));
    assert!(metrics.contains("http_request_duration_seconds_bucket"));
    assert!(metrics.contains("lb_backend_up"));
    assert!(metrics.lines().count() < 100, "{metrics}");
}

#[tokio::test]
async fn stopping_turns_readiness_off_first_then_finishes_what_runs() {
    // M.c6
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "[shutdown]\ndelay = \"300ms\"\ntimeout = \"10s\"\n";
    let mut gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;

    gateway.stop();
    until(|| gateway.handle.is_stopping()).await;
    let ready = gateway.get("/health/ready").await;
    assert_eq!(
        (ready.status, ready.json()["status"].as_str()),
        (503, Some("stopping"))
    );
    assert_eq!(gateway.get("/health/live").await.status, 200);
    soon(async {
        while tokio::net::TcpStream::connect(gateway.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    soon(client.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.ends_with(b"done"));
    soon(&mut gateway.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_closes_what_does_not_finish_in_time() {
    // M.c6
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "[shutdown]\ndelay = \"0s\"\ntimeout = \"50ms\"\n";
    let mut gateway = Running::start(&config).await;
    let mut client = gateway.connect().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    gateway.stop();
    soon(&mut gateway.task).await.unwrap().unwrap();
    assert!(matches!(
        soon(client.read(&mut [0; 8])).await,
        Ok(0) | Err(_)
    ));
}
