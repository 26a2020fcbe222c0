//! Which route a request takes.

use std::collections::HashSet;

use crate::support::{Running, Upstream};

/// Upstreams `a`, `b` and so on.
fn upstreams(list: &[&Upstream]) -> String {
    let one = |(name, upstream): (char, &&Upstream)| {
        let addr = upstream.addr;
        format!("[upstream.{name}]\nendpoints = [\"http://{addr}\"]\n")
    };
    ('a'..).zip(list).map(one).collect()
}

fn request(method: &str, path: &str, host: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_route_is_found_by_host_path_and_method() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let routes = "[[route]]\nprefix = \"/\"\nhosts = [\"shop.test\", \"*.shop.test\"]\nupstream = \"a\"\n\
                  [[route]]\nprefix = \"/read\"\nmethods = [\"GET\"]\nupstream = \"b\"\n";
    let gateway = Running::start(&(routes.to_owned() + &upstreams(&[&a, &b]))).await;
    for (method, path, host, status, calls) in [
        ("POST", "/x", "Shop.test:80", 200, (1, 0)),
        ("GET", "/read", "eu.shop.test", 200, (2, 0)),
        ("GET", "/read/x", "other.test", 200, (2, 1)),
        ("HEAD", "/read", "other.test", 200, (2, 2)),
        ("GET", "/x", "other.test", 404, (2, 2)),
        ("POST", "/read", "other.test", 405, (2, 2)),
    ] {
        let answer = gateway.raw(&request(method, path, host)).await;
        assert_eq!(answer.status, status, "{method} {path} {host}");
        assert_eq!((a.calls(), b.calls()), calls, "{method} {path} {host}");
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
            assert_eq!(answer.json()["code"], "method_not_allowed");
        }
    }
    let metrics = gateway.handle.metrics();
    assert!(metrics.contains("route=\"shop.test/\""), "{metrics}");
}

#[tokio::test]
async fn a_disabled_route_or_service_is_404_and_the_handle_says_so() {
    // I1.c2
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let routes = "[[route]]\nprefix = \"/\"\nupstream = \"a\"\n\
                  [[route]]\nprefix = \"/off\"\nupstream = \"a\"\nenabled = false\n\
                  [[route]]\nprefix = \"/b\"\nupstream = \"b\"\n";
    let config = routes.to_owned() + &upstreams(&[&a, &b]) + "enabled = false\n";
    let gateway = Running::start(&config).await;
    assert_eq!(gateway.get("/").await.status, 200);
    for path in ["/off", "/off/x", "/b"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["code"], "route_disabled");
    }
    assert_eq!((a.calls(), b.calls()), (1, 0));
    let enabled = gateway.handle.routes().into_iter();
    let enabled: Vec<_> = enabled.map(|route| (route.prefix, route.enabled)).collect();
    let wanted = [("/", true), ("/off", false), ("/b", false)];
    assert_eq!(enabled, wanted.map(|(prefix, on)| (prefix.to_owned(), on)));
    let enabled = gateway.handle.upstreams().into_iter();
    let enabled: Vec<_> = enabled
        .map(|upstream| (upstream.name, upstream.enabled))
        .collect();
    assert_eq!(enabled, [("a".to_owned(), true), ("b".to_owned(), false)]);
}

#[tokio::test]
async fn a_fixed_path_is_what_all_requests_get_with_their_query() {
    let a = Upstream::start().await;
    let routes = "[[route]]\nprefix = \"/old\"\nupstream = \"a\"\nfixed_path = \"/new/\"\n";
    let gateway = Running::start(&(routes.to_owned() + &upstreams(&[&a]))).await;
    assert_eq!(gateway.get("/old/x/y?z=1").await.status, 200);
    assert_eq!(a.last().target, "/new/?z=1");
    assert_eq!(gateway.get("/old").await.status, 200);
    assert_eq!(a.last().target, "/new/");
}

const SPLIT: &str = "[[route]]\nname = \"shop\"\nprefix = \"/\"\n\
    split = [{ upstream = \"a\", weight = 90 }, { upstream = \"b\", weight = 10 }]\n";

#[tokio::test]
async fn a_split_keeps_its_proportion_and_moves_at_once() {
    // I2.c6
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let gateway = Running::start(&(SPLIT.to_owned() + &upstreams(&[&a, &b]))).await;
    for _ in 0..100 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((a.calls(), b.calls()), (90, 10));
    let metrics = gateway.handle.metrics();
    assert!(metrics.contains("http_requests_total{service=\"b\",method=\"GET\",route=\"shop\""));

    assert!(gateway.handle.set_split("shop", &[("a", 0), ("b", 100)]));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((a.calls(), b.calls()), (90, 30));
    let shares = &gateway.handle.routes()[0].upstreams;
    assert_eq!(shares[..], [("a".to_owned(), 0), ("b".to_owned(), 100)]);

    assert!(!gateway.handle.set_split("shop", &[("a", 1), ("c", 1)]));
    assert!(!gateway.handle.set_split("ship", &[("a", 1)]));
    assert!(gateway.handle.set_split("shop", &[("b", 0)]));
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["code"], "no_endpoint");
    assert_eq!((a.calls(), b.calls()), (90, 30));
}

#[tokio::test]
async fn a_split_by_key_keeps_a_client_where_it_is() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let config = SPLIT.replace("90", "50").replace("10 ", "50 ")
        + "split_key = { cookie = \"sid\" }\n"
        + &upstreams(&[&a, &b]);
    let gateway = Running::start(&config).await;
    let mut places = HashSet::new();
    for client in 0..40 {
        let before = (a.calls(), b.calls());
        for _ in 0..3 {
            let raw = format!(
                "GET / HTTP/1.1\r\nhost: h\r\ncookie: sid=c{client}\r\nconnection: close\r\n\r\n"
            );
            assert_eq!(gateway.raw(&raw).await.status, 200);
        }
        let more = (a.calls() - before.0, b.calls() - before.1);
        assert!(more == (3, 0) || more == (0, 3), "{client}: {more:?}");
        places.insert(more);
    }
    assert_eq!(places.len(), 2);
}

#[tokio::test]
async fn a_switched_off_upstream_has_no_share_of_a_split() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let config =
        SPLIT.to_owned() + &upstreams(&[&b, &a]).replacen("]\n", "]\nenabled = false\n", 1);
    let gateway = Running::start(&config).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((b.calls(), a.calls()), (0, 20));
}

#[tokio::test]
async fn a_split_has_its_shares_beside_another_route_of_the_same_name() {
    // Shares were taken from whichever route of the name came first.
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let post = "[[route]]\nprefix = \"/\"\nmethods = [\"POST\"]\nupstream = \"b\"\n";
    let split = SPLIT.replace("name = \"shop\"\n", "");
    let config = post.to_owned() + &split + &upstreams(&[&a, &b]);
    let gateway = Running::start(&config).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((a.calls(), b.calls()), (9, 1));
    assert_eq!(gateway.raw(&request("POST", "/", "h")).await.status, 200);
    assert_eq!((a.calls(), b.calls()), (9, 2));
}
