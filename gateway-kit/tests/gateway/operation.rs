//! Health, metrics, stopping.

use std::time::Duration;

use gateway_kit::{Body, Gateway};
use http::Request;
use http_body_util::BodyExt;
use resilience_core::breaker::Mode;
use resilience_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Running, Upstream, nobody, parsed, read_head, routed, soon, until};

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

#[tokio::test]
async fn a_breaker_whose_time_is_over_keeps_nobody_unready() {
    let clock = ManualClock::new();
    let breaker = "[upstream.shop.breaker]\nconsecutive_failures = 1\nreset_timeout = \"30s\"\n";
    let required = routed(&[nobody().await]) + "required = true\n" + breaker;
    let gateway = Running::start_with_clock(&required, clock.clone()).await;
    assert_eq!(gateway.get("/").await.status, 503);
    clock.advance(Duration::from_millis(29_999));
    assert_eq!(gateway.get("/health/ready").await.status, 503);
    assert!(!gateway.handle.endpoints()[0].is_up);
    clock.advance(Duration::from_millis(1));
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    assert!(gateway.handle.endpoints()[0].is_up);
    // Forced open there is no such time.
    gateway
        .handle
        .breaker("shop", 0)
        .unwrap()
        .set_mode(Mode::ForcedOpen);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(gateway.get("/health/ready").await.status, 503);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_ten_thousand_paths_add_no_series() {
    // L.c6
    let upstream = Upstream::start().await;
    let config = format!(
        "{}[[route]]\nprefix = \"/off\"\nenabled = false\nupstream = \"shop\"\n",
        routed(&[upstream.addr])
    );
    // Without sockets in front, and mostly without a call: it is paths that are counted.
    let service = Gateway::builder(parsed(&config))
        .service(|_| Some(([127, 0, 0, 1], 1).into()))
        .unwrap();
    let ask = async |method: &str, path: String| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "h").body(Body::empty()).unwrap();
        let answer = soon(service.handle(request)).await;
        let status = answer.status().as_u16();
        let body = soon(answer.into_body().collect()).await.unwrap();
        (status, body.to_bytes())
    };
    for n in 0..10_000 {
        let (path, status) = match n % 100 {
            0 => (format!("/{n}"), 200),
            _ => (format!("/off/{n}"), 404),
        };
        assert_eq!(ask("GET", path).await.0, status);
    }
    assert_eq!(ask("BREW", "/".to_owned()).await.0, 405);
    let (status, metrics) = ask("GET", "/metrics".to_owned()).await;
    assert_eq!(status, 200);
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for (route, status, count) in [("/", 200, 100), ("/off", 404, 9900)] {
        let labels =
            format!("service=\"shop\",method=\"GET\",route=\"{route}\",status=\"{status}\"");
        let wanted = format!("http_requests_total{{{labels}}} {count}");
        assert!(metrics.contains(&wanted), "{metrics}");
    }
    assert!(metrics.contains("method=\"OTHER\""));
    assert!(metrics.contains("http_request_duration_seconds_bucket"));
    assert!(metrics.contains("lb_backend_up"));
    assert!(metrics.lines().count() < 140, "{metrics}");
}

#[tokio::test]
async fn stopping_turns_readiness_off_first_then_finishes_what_runs() {
    // M.c6
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = routed(&[listener.local_addr().unwrap()])
        + "[shutdown]\ndelay = \"1s\"\ntimeout = \"10s\"\n";
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
            tokio::time::sleep(Duration::from_millis(10)).await;
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

#[tokio::test]
async fn the_detailed_health_names_each_dependency_with_its_state() {
    // L.c3
    let upstream = Upstream::start().await;
    let config = routed(&[upstream.addr, nobody().await])
        + "[upstream.shop.breaker]\nconsecutive_failures = 1\n\
           [upstream.other]\nrequired = true\nendpoints = [\"http://127.0.0.1:1\"]\n\
           [upstream.off]\nenabled = false\nendpoints = [\"http://127.0.0.1:1\"]\n\
           [[route]]\nprefix = \"/other\"\nupstream = \"other\"\n";
    let gateway = Running::start(&config).await;
    let told = gateway.get("/health/detailed").await;
    assert_eq!((told.status, &told.json()["status"]), (200, &"ok".into()));
    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    gateway
        .handle
        .breaker("other", 0)
        .unwrap()
        .set_mode(resilience_core::breaker::Mode::ForcedOpen);
    let told = gateway.get("/health/detailed").await;
    assert_eq!(told.status, 503);
    assert_eq!(gateway.get("/health/ready").await.status, 503);
    assert_eq!(gateway.get("/health/live").await.status, 200);
    let told = told.json();
    assert_eq!(told["status"], "unavailable");
    let states = told["dependencies"].as_array().unwrap().iter();
    let states: Vec<_> = states
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [("off", "disabled"), ("other", "down"), ("shop", "degraded")]
    );
    let endpoints = &told["dependencies"][2]["endpoints"];
    assert_eq!(endpoints[0]["breaker"], "closed");
    assert!(endpoints[0]["latency_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(endpoints[1]["breaker"], "open");
    assert!(endpoints[1]["retry_after_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(endpoints[1]["up"], false);
}

#[tokio::test]
async fn every_metric_of_the_gateway_is_there_with_its_value_and_the_exposition_parses() {
    // L.c1
    let upstream = Upstream::start().await;
    let config = routed(&[upstream.addr])
        + "breaker = { consecutive_failures = 1 }\n\
           [[route]]\nprefix = \"/dead\"\nupstream = \"dead\"\n\
           [upstream.dead]\nendpoints = [\"http://127.0.0.1:1\"]\n\
           breaker = { consecutive_failures = 1 }\n\
           [rate_limit]\nrequests = 1\nwindow = \"1h\"\nburst = 5\n";
    let gateway = Running::start(&config).await;
    for (path, status) in [
        ("/", 200),
        ("/", 200),
        ("/dead", 503),
        ("/dead", 503),
        ("/x", 200),
        ("/", 429),
    ] {
        assert_eq!(gateway.get(path).await.status, status);
    }
    let counted =
        "http_requests_total{service=\"shop\",method=\"GET\",route=\"/\",status=\"429\"} 1";
    until(|| gateway.handle.metrics().contains(counted)).await;
    let metrics = gateway.get("/metrics").await.body;
    let backend = format!("service=\"shop\",backend=\"{}\"", upstream.addr);
    let breaker = "name=\"dead/127.0.0.1:1\"";
    for (series, value) in [
        (
            "http_requests_total{service=\"shop\",method=\"GET\",route=\"/\",status=\"200\"}"
                .to_owned(),
            3,
        ),
        (
            "http_requests_total{service=\"dead\",method=\"GET\",route=\"/dead\",status=\"503\"}"
                .to_owned(),
            2,
        ),
        (
            "http_request_duration_seconds_count{service=\"shop\",route=\"/\"}".to_owned(),
            4,
        ),
        ("http_requests_in_flight".to_owned(), 1),
        (format!("circuit_breaker_state{{{breaker}}}"), 2),
        (
            format!("circuit_breaker_transitions_total{{{breaker},from=\"closed\",to=\"open\"}}"),
            1,
        ),
        (format!("circuit_breaker_rejected_total{{{breaker}}}"), 1),
        ("rate_limit_rejected_total{limit=\"address\"}".to_owned(), 1),
        (format!("lb_backend_requests_total{{{backend}}}"), 3),
        (format!("lb_backend_up{{{backend}}}"), 1),
        (format!("pool_in_use{{{backend}}}"), 0),
        ("config_reloads_total{result=\"applied\"}".to_owned(), 0),
    ] {
        let line = format!("{series} {value}");
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    for name in [
        "process_resident_memory_bytes ",
        "config_last_reload_success_timestamp_seconds ",
    ] {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        assert!(line.parse::<f64>().unwrap() > 1e6, "{line}");
    }
    assert!(metrics.contains("\nprocess_cpu_seconds_total "));
    // Each line is a comment, empty, or a series and a number.
    for line in metrics
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{line}"
        );
        assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
    }
}
