//! HTTP responses that are kept.
#![cfg(all(feature = "cache", feature = "http"))]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use resilience_core::cache::Config;
use resilience_core::clock::ManualClock;
use resilience_tower::cache::http::{Head, HttpCacheLayer};
use resilience_tower::cache::{CacheStatus, ENTRY, Keep, Source, Store};
use resilience_tower::coalesce::http::{HttpKey, Kept, Key, Limits, SharedBody};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service};

use crate::upstream::Upstream;

const SECOND: Duration = Duration::from_secs(1);

type Frames = std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>;
type Streamed = StreamBody<futures_util::stream::Iter<Frames>>;
type Net = Upstream<Request<Empty<Bytes>>, Response<Streamed>, &'static str>;
type Entries = Store<Key, Result<Kept, &'static str>>;

fn rule(head: &Head<'_>) -> Keep {
    match head.status.as_u16() {
        200 => Keep::fresh_for(10 * SECOND).tag("all"),
        404 => Keep::negative_for(SECOND),
        // A rule that would keep a failure.
        _ => Keep::fresh_for(10 * SECOND),
    }
}

struct World {
    net: Net,
    store: Entries,
    clock: ManualClock,
}

impl World {
    fn new(max_weight: u64) -> Self {
        let clock = ManualClock::new();
        let config = Config::builder().max_weight(max_weight);
        let config = config.stale_while_revalidate(5 * SECOND);
        let config = config.stale_if_error(20 * SECOND).build().unwrap();
        Self {
            net: Net::new(),
            store: Store::with_clock(config, clock.clone()),
            clock,
        }
    }

    /// One call, and what is answered if the upstream is asked.
    fn call(&self, path: &str, answer: Response<Streamed>) -> Response<SharedBody<Streamed>> {
        let limits = Limits::default().unknown_lengths(true).bytes(100);
        let layer = HttpCacheLayer::new(self.store.clone(), HttpKey::new(), rule).limits(limits);
        let mut service = layer.layer(self.net.clone());
        let request = Request::get(path).body(Empty::new()).unwrap();
        let mut call = task::spawn(service.call(request));
        if let std::task::Poll::Ready(response) = call.poll() {
            return response.unwrap();
        }
        self.net.answer(Ok(answer));
        assert_ready!(call.poll()).unwrap()
    }
}

fn response(status: u16, frames: &[&'static str]) -> Response<Streamed> {
    let frames: Vec<_> = frames
        .iter()
        .map(|text| match *text {
            "!" => Err("gone"),
            text => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
        })
        .collect();
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn seen(response: Response<SharedBody<Streamed>>) -> (String, Result<Bytes, &'static str>) {
    let status = response.extensions().get::<CacheStatus>().unwrap();
    let status = status.to_string();
    let mut body = task::spawn(response.into_body().collect());
    let body = assert_ready!(body.poll());
    (status, body.map(|body| body.to_bytes()))
}

#[test]
fn responses_say_where_they_came_from() {
    let world = World::new(1 << 20);
    let expect = |advance, status, frames: &[&'static str], expected, body: &'static str| {
        world.clock.advance(advance * SECOND);
        let seen = seen(world.call("/", response(status, frames)));
        assert_eq!(seen, (String::from(expected), Ok(Bytes::from(body))));
    };
    expect(0, 200, &["one"], "fwd=miss", "one");
    expect(3, 500, &[], "hit; ttl=7", "one");
    // No runtime, so the renewal is dropped.
    expect(8, 500, &[], "hit; detail=stale-while-revalidate", "one");
    expect(5, 500, &["oh"], "hit; detail=stale-if-error", "one");
    expect(0, 429, &["later"], "hit; detail=stale-if-error", "one");
    expect(0, 200, &["two"], "fwd=stale", "two");
    expect(10 + 20, 404, &["no"], "fwd=stale", "no");
    expect(0, 200, &[], "hit; detail=negative; ttl=1", "no");
    expect(1, 500, &["oh"], "fwd=stale", "oh");
    expect(0, 503, &["oh"], "fwd=stale", "oh");
}

#[test]
fn bodies_that_are_too_long_or_break_off_pass_by_whole() {
    let world = World::new(1 << 20);
    let long = "x".repeat(60).leak() as &'static str;
    for _ in 0..2 {
        let (status, body) = seen(world.call("/long", response(200, &[long, long])));
        assert_eq!((status.as_str(), body.unwrap().len()), ("fwd=miss", 120));
        let answer = world.call("/gone", response(200, &["a", "b", "!"]));
        let mut body = answer.into_body();
        let mut frame = task::spawn(body.frame());
        let first = assert_ready!(frame.poll()).unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "ab");
        drop(frame);
        let mut frame = task::spawn(body.frame());
        assert_eq!(assert_ready!(frame.poll()).unwrap().unwrap_err(), "gone");
    }
    assert_eq!(world.store.snapshot().entries, 0);
}

#[test]
fn a_response_for_one_caller_is_not_kept() {
    let world = World::new(1 << 20);
    for (name, value) in [
        ("set-cookie", "a=1"),
        ("cache-control", "private"),
        ("vary", "*"),
    ] {
        for _ in 0..2 {
            let mut answer = response(200, &["mine"]);
            answer.headers_mut().insert(name, value.parse().unwrap());
            let (status, _) = seen(world.call("/", answer));
            assert_eq!(status, "fwd=miss", "{name}");
        }
    }
}

#[test]
fn keys_and_fields_weigh_as_well() {
    let world = World::new(100 * ENTRY);
    let field = "v".repeat(200);
    for number in 0..200 {
        let mut answer = response(200, &["x"]);
        answer.headers_mut().insert("x-big", field.parse().unwrap());
        world.call(&format!("/{number}?{}", "k".repeat(300)), answer);
        let snapshot = world.store.snapshot();
        assert!(snapshot.weight <= 100 * ENTRY);
        let least = snapshot.entries * (ENTRY + 200 + 300);
        assert!(snapshot.weight >= least, "{snapshot:?}");
    }
    let entries = world.store.snapshot().entries;
    assert!((10..60).contains(&entries), "{entries}");
    assert_eq!(world.store.invalidate_tag("all") as u64, entries);
}

#[test]
fn a_request_with_credentials_passes_by() {
    let world = World::new(1 << 20);
    let layer = HttpCacheLayer::new(world.store.clone(), HttpKey::new(), rule);
    let mut service = layer.layer(world.net.clone());
    for _ in 0..2 {
        let request = Request::get("/").header("authorization", "alice");
        let mut call = task::spawn(service.call(request.body(Empty::new()).unwrap()));
        assert_pending!(call.poll());
        world.net.answer(Ok(response(200, &["alice"])));
        let answer = assert_ready!(call.poll()).unwrap();
        let status = answer.extensions().get::<CacheStatus>().unwrap();
        assert_eq!(
            (status.source, status.to_string().as_str()),
            (Source::Bypass, "fwd=bypass")
        );
    }
    assert_eq!(world.store.snapshot().entries, 0);
}

// A slice of a connection's buffer keeps all of it: with small answers a cache took many times what
// its entries weighed.
#[test]
fn an_entry_keeps_nothing_of_the_buffer_that_its_response_came_in() {
    let world = World::new(100_000);
    let buffer = Bytes::from(b"seven bytes of a field and a body".repeat(100));
    let mut answer = response(200, &[]);
    let frames = vec![Ok(Frame::data(buffer.slice(..5)))];
    *answer.body_mut() = StreamBody::new(futures_util::stream::iter(frames));
    let mut value = HeaderValue::from_maybe_shared(buffer.slice(12..20)).unwrap();
    value.set_sensitive(true);
    answer.headers_mut().insert("x-part", value);
    drop(world.call("/a", answer));
    assert_eq!(world.store.snapshot().entries, 1);
    assert!(buffer.is_unique());
    let again = world.call("/a", response(500, &[]));
    assert_eq!(again.headers()["x-part"], "of a fie");
    assert!(again.headers()["x-part"].is_sensitive());
}
