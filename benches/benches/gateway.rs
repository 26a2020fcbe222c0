//! What the gateway asks of each request before it is sent: the guard, the route, an endpoint. All
//! on one thread; the parameter is the number of routes, or 1.

use std::fmt::Write;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use benches::Contest;
use criterion::{Criterion, criterion_group, criterion_main};
use gateway_kit::Config;
use gateway_kit::fuzzing::Compiled;
use gateway_kit::guard::Guard;
use http::{Method, Request, Response, StatusCode};
use tower_service::Service;

/// The prefixes of so many routes.
fn prefixes(routes: usize) -> Vec<String> {
    let prefix = |n| format!("/api/v{}/service-{n}", n % 10);
    (0..routes).map(prefix).collect()
}

/// A path below the one in the middle.
fn path(routes: usize) -> String {
    prefixes(routes)[routes / 2].clone() + "/items/42"
}

fn compiled(routes: usize) -> Compiled {
    let mut text = "[upstream.shop]\n\
                    endpoints = [\"http://a:1\", \"http://b:1\", \"http://c:1\"]\n"
        .to_owned();
    for prefix in prefixes(routes) {
        let _ = write!(
            text,
            "[[route]]\nprefix = \"{prefix}\"\nupstream = \"shop\"\n"
        );
    }
    let config = Config::from_toml(&text).expect("a good configuration");
    Compiled::new(&config).expect("a good configuration")
}

/// The same routes, with what is below them.
fn matchit(routes: usize) -> matchit::Router<usize> {
    let mut router = matchit::Router::new();
    for (n, prefix) in prefixes(routes).iter().enumerate() {
        let added = router.insert(format!("{prefix}/{{*rest}}"), n);
        added.expect("prefixes that differ");
    }
    router
}

fn axum(routes: usize) -> Router {
    let mut router = Router::new();
    for prefix in prefixes(routes) {
        router = router.route(&format!("{prefix}/{{*rest}}"), any(|| async {}));
    }
    router
}

/// Host, method and path; axum's router takes whole requests, so its time has the making of one
/// and of an empty answer in it.
fn matching(c: &mut Criterion) {
    let mut contest = Contest::new("gateway/match");
    for routes in [10, 1000] {
        contest = contest
            .sized("ours", routes, move || {
                let (ours, path) = (compiled(routes), path(routes));
                move || ours.has_route(b"shop.example", &Method::GET, black_box(&path))
            })
            .sized("matchit", routes, move || {
                let (router, path) = (matchit(routes), path(routes));
                move || router.at(black_box(&path)).is_ok()
            })
            .sized("axum", routes, move || {
                let (mut router, path) = (axum(routes), path(routes));
                move || {
                    let request = Request::get(black_box(&path)).body(Body::empty());
                    let request = request.expect("a good request");
                    let answer: Poll<Result<Response<Body>, _>> =
                        pin!(router.call(request)).poll(&mut Context::from_waker(Waker::noop()));
                    matches!(answer, Poll::Ready(Ok(answer)) if answer.status() == StatusCode::OK)
                }
            });
    }
    contest.run(c);
}

/// An endpoint among three in turns, the permit of its breaker, and the outcome told to both.
fn pick(c: &mut Criterion) {
    Contest::new("gateway/pick")
        .sized("ours", 1, || {
            let compiled = compiled(1);
            let picker = compiled.picker("shop").expect("an upstream");
            move || picker.pick()
        })
        .run(c);
}

/// A head as a browser sends it.
fn guard(c: &mut Criterion) {
    Contest::new("gateway/guard")
        .sized("ours", 1, || {
            let request = Request::get("/api/v1/service-1/items/42?page=2")
                .header("host", "shop.example:8080")
                .header(
                    "user-agent",
                    "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
                )
                .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
                .header("accept-language", "en-US,en;q=0.5")
                .header("accept-encoding", "gzip, deflate, br")
                .header("connection", "keep-alive")
                .header("cookie", "sid=0123456789abcdef");
            let (mut parts, ()) = request.body(()).expect("a good request").into_parts();
            let guard = Guard::new();
            move || guard.check(black_box(&mut parts)).is_ok()
        })
        .run(c);
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = matching, pick, guard
}
criterion_main!(benches);
