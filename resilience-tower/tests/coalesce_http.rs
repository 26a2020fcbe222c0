//! HTTP requests that share an answer: which do, and which must not.
#![cfg(all(feature = "coalesce", feature = "http"))]

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, COOKIE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use resilience_core::coalesce::Config;
use resilience_tower::admission::Admission;
use resilience_tower::coalesce::http::{
    HttpCoalesceLayer, HttpKey, Limits, SharedBody, Unanswered,
};
use resilience_tower::coalesce::{Coalescing, KeyOf};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service};

use crate::upstream::Upstream;

type Sent = Full<Bytes>;
type Frames = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>>;
/// A body whose length is not known beforehand.
type Streamed = StreamBody<Frames>;

fn request(uri: &str, fields: &[(&str, &str)]) -> Request<Sent> {
    let mut request = Request::get(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Sent::default()).unwrap()
}

fn share(key: &HttpKey, one: &Request<Sent>, other: &Request<Sent>) -> bool {
    let key_of = |request| key.key_of(request);
    key_of(one).is_some_and(|one| Some(one) == key_of(other))
}

#[test]
fn the_key_is_method_host_path_query_and_the_usual_fields() {
    let key = HttpKey::new();
    let one = || request("http://a.test/x?q=1", &[]);
    assert!(share(&key, &one(), &one()));
    assert!(share(
        &key,
        &one(),
        &request("http://A.TEST/x?q=1", &[("x-id", "7")])
    ));
    let mut head = one();
    *head.method_mut() = Method::HEAD;
    for other in [
        head,
        request("http://b.test/x?q=1", &[]),
        request("https://a.test/x?q=1", &[]),
        request("http://a.test/X?q=1", &[]),
        request("http://a.test/x?q=2", &[]),
        request("http://a.test/x", &[]),
        request("http://a.test/x?q=1", &[("accept", "text/html")]),
        request("http://a.test/x?q=1", &[("accept-encoding", "gzip")]),
        request("http://a.test/x?q=1", &[("origin", "https://c.test")]),
    ] {
        assert!(!share(&key, &one(), &other), "{other:?}");
    }
    // Without an authority the host is that of the field.
    let named = |host| request("/x", &[("host", host)]);
    assert!(share(&key, &named("a.test"), &named("A.test")));
    assert!(!share(&key, &named("a.test"), &named("b.test")));
    let two = request("/x", &[("host", "a.test"), ("host", "b.test")]);
    assert!(key.key_of(&two).is_none());
}

#[test]
fn values_of_fields_do_not_run_into_each_other() {
    let field = |name: &'static str| HeaderName::from_static(name);
    let key = HttpKey::only_fields([field("x-a"), field("x-b")]);
    let one = request("/", &[("x-a", "1"), ("x-b", "2")]);
    for fields in [
        vec![("x-a", "12")],
        vec![("x-b", "12")],
        vec![("x-a", "1"), ("x-a", "2")],
        vec![("x-b", "1"), ("x-a", "2")],
    ] {
        assert!(!share(&key, &one, &request("/", &fields)), "{fields:?}");
    }
}

// Shared without a look at credentials, one caller sees the account of another.
#[test]
fn credentials_are_shared_only_when_they_are_part_of_the_key() {
    for name in [
        AUTHORIZATION,
        COOKIE,
        HeaderName::from_static("proxy-authorization"),
    ] {
        let with = |value| request("/", &[(name.as_str(), value)]);
        assert!(HttpKey::new().key_of(&with("alice")).is_none(), "{name}");
        let key = HttpKey::new().field(name.clone());
        assert!(share(&key, &with("alice"), &with("alice")));
        assert!(!share(&key, &with("alice"), &with("bob")));
        assert!(!share(&key, &with("alice"), &request("/", &[])));
    }
}

// The service within may go by `Host`, whatever the URI says: a cache that looked at the URI alone
// gave the answer for one host to callers of another.
#[test]
fn the_host_of_the_uri_and_that_of_the_field_are_both_part_of_the_key() {
    let key = HttpKey::new();
    let at = |host| request("http://10.0.0.1/x", &[("host", host)]);
    assert!(share(&key, &at("a.test"), &at("A.test")));
    assert!(!share(&key, &at("a.test"), &at("b.test")));
    assert!(!share(&key, &at("10.0.0.1"), &at("b.test")));
    let mut two = at("10.0.0.1");
    two.headers_mut()
        .append("host", HeaderValue::from_static("b.test"));
    assert!(key.key_of(&two).is_none());
}

#[test]
fn credentials_in_the_uri_are_credentials() {
    let key = HttpKey::new();
    let with = |user: &str| request(&format!("http://{user}@a.test/x"), &[]);
    assert!(key.key_of(&with("alice:Secret")).is_none());
    assert!(key.key_of(&with("alice")).is_none());
}

#[test]
fn a_key_does_not_show_what_is_in_it() {
    let key = HttpKey::new().field(AUTHORIZATION);
    let key = key
        .key_of(&request("/", &[("authorization", "A")]))
        .unwrap();
    let shown = format!("{key:?}");
    assert!(shown.starts_with("Key { bytes: "), "{shown}");
    assert!(!shown.contains("65"), "{shown}");
}

#[test]
fn requests_that_write_or_ask_for_something_else_have_no_key() {
    let key = HttpKey::new();
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        let mut other = request("/", &[]);
        *other.method_mut() = method;
        assert!(key.key_of(&other).is_none(), "{other:?}");
    }
    let body = Request::get("/").body(Sent::from("x")).unwrap();
    assert!(key.key_of(&body).is_none());
    for name in [
        "range",
        "if-none-match",
        "if-modified-since",
        "if-range",
        "upgrade",
    ] {
        assert!(
            key.key_of(&request("/", &[(name, "x")])).is_none(),
            "{name}"
        );
    }
    assert!(
        key.field(RANGE)
            .key_of(&request("/", &[("range", "bytes=0-1")]))
            .is_some()
    );
}

type Net<B> = Upstream<Request<Sent>, Response<B>, &'static str>;
type Seen<B> = Vec<Result<Response<SharedBody<B>>, String>>;

/// Three callers of the same; the upstream gives each call of theirs the next of `answers`.
fn three<B>(limits: Limits, answers: Vec<Result<Response<B>, &'static str>>) -> (Seen<B>, usize)
where
    B: Body<Data = Bytes>,
{
    let net: Net<B> = Upstream::new();
    let layer = HttpCoalesceLayer::new(Coalescing::default(), HttpKey::new()).limits(limits);
    let mut service = layer.layer(net.clone());
    let mut calls: Vec<_> = (0..3)
        .map(|_| Some(task::spawn(service.call(request("/", &[])))))
        .collect();
    let mut seen = Vec::new();
    for answer in [None].into_iter().chain(answers.into_iter().map(Some)) {
        if let Some(answer) = answer {
            net.answer(answer);
        }
        for waiting in &mut calls {
            let Some(call) = waiting else { continue };
            if let std::task::Poll::Ready(result) = call.poll() {
                seen.push(result.map_err(|error| error.to_string()));
                *waiting = None;
            }
        }
    }
    assert_eq!(seen.len(), 3);
    (seen, net.total())
}

fn collected<B>(response: Response<SharedBody<B>>) -> (Result<Bytes, B::Error>, Option<HeaderMap>)
where
    B: Body<Data = Bytes>,
{
    let mut body = task::spawn(response.into_body().collect());
    match assert_ready!(body.poll()) {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            (Ok(collected.to_bytes()), trailers)
        }
        Err(error) => (Err(error), None),
    }
}

fn full(text: &'static str) -> Response<Full<Bytes>> {
    Response::new(Full::from(text))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn streamed(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> Response<Streamed> {
    Response::new(StreamBody::new(stream::iter(frames)))
}

#[test]
fn a_response_is_the_same_for_all() {
    let mut answer = full("hello");
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer.headers_mut().insert("x-id", "7".parse().unwrap());
    answer
        .headers_mut()
        .insert("vary", "Accept, origin".parse().unwrap());
    let (seen, calls) = three(Limits::default(), vec![Ok(answer)]);
    assert_eq!(calls, 1);
    for response in seen {
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["x-id"], "7");
        assert_eq!(response.body().size_hint().exact(), Some(5));
        assert_eq!(collected(response).0.unwrap(), "hello");
    }
}

#[test]
fn what_is_for_one_caller_goes_to_one() {
    for (name, value) in [
        ("set-cookie", "session=1"),
        ("cache-control", "max-age=5, Private"),
        ("cache-control", "private=\"x-id\""),
        ("cache-control", "no-store"),
        ("vary", "*"),
        ("vary", "accept, x-user"),
    ] {
        let answers = (0..3).map(|_| {
            let mut answer = full("mine");
            answer.headers_mut().insert(name, value.parse().unwrap());
            Ok(answer)
        });
        let (seen, calls) = three(Limits::default(), answers.collect());
        assert_eq!(calls, 3, "{name}: {value}");
        assert!(seen.iter().all(Result::is_ok));
    }
}

#[test]
fn errors_are_shared_or_each_has_its_own() {
    let (seen, calls) = three::<Sent>(Limits::default(), vec![Err("down")]);
    assert_eq!((seen.len(), calls), (3, 1));
    assert!(
        seen.iter()
            .all(|seen| seen.as_ref().is_err_and(|error| error == "down"))
    );
}

#[test]
fn bodies_are_shared_up_to_a_limit_and_passed_on_whole_beyond() {
    for (limit, calls) in [(5, 1), (4, 3)] {
        let limits = Limits::default().bytes(limit);
        let answers = (0..calls).map(|_| Ok(full("hello"))).collect();
        let (seen, made) = three(limits, answers);
        assert_eq!(made, calls, "{limit}");
        for response in seen {
            assert_eq!(collected(response.unwrap()).0.unwrap(), "hello");
        }
    }
}

#[test]
fn bodies_of_unknown_length_are_shared_only_when_that_is_wished() {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "1".parse().unwrap());
    let frames = || {
        vec![
            data("ab"),
            data("cd"),
            data("ef"),
            Ok(Frame::trailers(trailers.clone())),
        ]
    };
    // Not wished; read until too long; read to the end, trailers and all.
    for (limits, calls) in [
        (Limits::default(), 3),
        (Limits::default().unknown_lengths(true).bytes(5), 3),
        (Limits::default().unknown_lengths(true).bytes(6), 1),
    ] {
        let answers = (0..calls).map(|_| Ok(streamed(frames()))).collect();
        let (seen, made) = three(limits, answers);
        assert_eq!(made, calls, "{limits:?}");
        for response in seen {
            let (bytes, got) = collected(response.unwrap());
            assert_eq!(bytes.unwrap(), "abcdef");
            assert_eq!(got.as_ref(), Some(&trailers));
        }
    }
}

#[test]
fn a_body_that_breaks_off_does_so_for_each() {
    let limits = Limits::default().unknown_lengths(true);
    let answers = (0..3).map(|_| Ok(streamed(vec![data("ab"), data("cd"), Err("gone")])));
    let (seen, made) = three(limits, answers.collect());
    assert_eq!(made, 3);
    for response in seen {
        let mut body = response.unwrap().into_body();
        let mut first = task::spawn(body.frame());
        let frame = assert_ready!(first.poll()).unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "abcd", "nothing of it is lost");
        drop(first);
        assert!(!body.is_end_stream());
        let mut rest = task::spawn(body.frame());
        assert_eq!(assert_ready!(rest.poll()).unwrap().unwrap_err(), "gone");
        drop(rest);
        assert!(body.is_end_stream());
    }
}

#[test]
fn a_refusal_is_a_response_at_the_edge() {
    let net: Upstream<Request<Sent>, Response<Sent>, Infallible> = Upstream::new();
    let config = Config::builder().max_followers(0).build().unwrap();
    let layer = HttpCoalesceLayer::new(Coalescing::new(config), HttpKey::new()).into_response();
    let mut service = layer.layer(net.clone());
    let mut first = task::spawn(service.call(request("/", &[])));
    assert_pending!(first.poll());
    let mut second = task::spawn(service.call(request("/", &[])));
    let response = assert_ready!(second.poll()).unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let why = response.extensions().get::<Unanswered>().unwrap();
    assert_eq!(why.as_str(), "followers");
    net.panic();
    let response = assert_ready!(first.poll()).unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        response.extensions().get::<Unanswered>().unwrap().as_str(),
        "panicked"
    );
    assert_eq!(Admission::of(response.extensions()), None, "nobody decided");
}

/// The deadline of one caller is not that of the call that all wait for.
#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn the_shared_call_carries_no_callers_deadline() {
    use resilience_tower::timeout::deadline::Deadline;
    let net: Net<Sent> = Upstream::new();
    let layer = HttpCoalesceLayer::new(Coalescing::default(), HttpKey::new());
    let mut service = layer.layer(net.clone());
    let mut own = request(
        "/",
        &[
            ("x-envoy-expected-rq-timeout-ms", "1"),
            ("grpc-timeout", "1m"),
            ("x-id", "7"),
        ],
    );
    let deadline = Deadline::after(std::time::Duration::from_secs(1)).unwrap();
    own.extensions_mut().insert(deadline);
    let mut call = task::spawn(service.call(own));
    assert_pending!(call.poll());
    let sent = net.answer(Ok(full("x")));
    assert!(sent.extensions().get::<Deadline>().is_none());
    assert_eq!(sent.headers().len(), 1, "{:?}", sent.headers());
    assert_ready!(call.poll()).unwrap();
}
