//! Which step answers, and what is not done before it.

use std::sync::{Arc, Mutex, atomic::Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body::Body;
use webhook_verify::{
    Builder, FieldType, HeaderPolicy, IpRules, PayloadPolicy, Reason, Step,
    layer::{Event, PeerAddr, WebhookLayer},
};

use super::support::{
    BODY, Frames, NOW, Then, frames, good, headers, inner, request, signed_at, status, timestamped,
};

/// Everything there is to check.
fn strict() -> Builder {
    timestamped()
        .source(IpRules::allow(["192.0.2.0/24"]).unwrap())
        .headers(HeaderPolicy::new().content_type("application/json"))
        .payload(PayloadPolicy::json().require("a", FieldType::Number))
        .body_limit(1024)
}

type Refusals = Arc<Mutex<Vec<(Step, Reason)>>>;

/// A layer, and what it told of refusals.
fn watched(builder: Builder) -> (WebhookLayer, Refusals) {
    let events = Refusals::default();
    let seen = Arc::clone(&events);
    let layer = WebhookLayer::new(builder.build().unwrap()).on_event(move |event| {
        if let Event::Rejected { error, .. } = event {
            let mut seen = seen.lock().unwrap();
            seen.push((error.step(), error.reason().clone()));
        }
    });
    (layer, events)
}

fn from<B>(peer: &str, mut request: Request<B>) -> Request<B> {
    let peer = PeerAddr(format!("{peer}:9").parse().unwrap());
    request.extensions_mut().insert(peer);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", json);
    request
}

/// A delivery that breaks step `first` and every later one.
fn broken_from(first: usize) -> Request<Frames> {
    let breaks = |step: usize| step >= first;
    let then = if breaks(5) { Then::Fail } else { Then::End };
    // Without a failing body: signed, but without the field; or with a wrong signature.
    let sent = frames(b"{}", 1, then);
    let at = if breaks(4) { NOW - 301 } else { NOW };
    let signed: &[u8] = if breaks(6) { b"other" } else { b"{}" };
    let peer = if breaks(1) {
        "198.51.100.1"
    } else {
        "192.0.2.1"
    };
    let mut request = from(peer, request(signed_at(at, signed), sent));
    let headers = request.headers_mut();
    if breaks(2) {
        headers.insert("content-length", "70368744177664".parse().unwrap());
    }
    if breaks(3) {
        headers.insert("content-type", "text/plain".parse().unwrap());
    }
    if breaks(0) {
        *request.method_mut() = Method::GET;
    }
    request
}

#[tokio::test]
async fn the_first_step_that_fails_answers_and_the_body_waits_for_the_steps_before_it() {
    for (first, (step, code)) in [
        (Step::Method, 405),
        (Step::Source, 403),
        (Step::BodyLimit, 413),
        (Step::Header, 400),
        (Step::Timestamp, 401),
        (Step::Body, 400),
        (Step::Signature, 401),
        (Step::Payload, 422),
    ]
    .into_iter()
    .enumerate()
    {
        let (layer, events) = watched(strict());
        let (request, inner) = (broken_from(first), inner());
        let polls = Arc::clone(&request.body().polls);
        assert_eq!(status(&layer, &inner, request).await, code, "{step}");
        assert_eq!(events.lock().unwrap()[0].0, step);
        let polls = polls.load(Ordering::Relaxed);
        assert_eq!(polls > 0, first >= 5, "{step}: polled {polls} times");
        assert_eq!(inner.calls(), 0);
    }
}

#[tokio::test]
async fn the_order_of_the_five_steps_is_the_configured_one() {
    let all_wrong = || {
        let mut request = from(
            "198.51.100.1",
            request(headers(b"other"), good().into_body()),
        );
        request.headers_mut().remove("content-type");
        request
    };
    for (order, code) in [(Step::CHEAP_FIRST, 403), (Step::SIGNATURE_FIRST, 401)] {
        let (layer, events) = watched(strict().order(order));
        assert_eq!(status(&layer, &inner(), all_wrong()).await, code);
        assert_eq!(events.lock().unwrap()[0].0, order[0]);
    }
    // Behind the signature, the source is judged all the same.
    let (layer, _) = watched(strict().order(Step::SIGNATURE_FIRST));
    assert_eq!(
        status(&layer, &inner(), from("198.51.100.1", good())).await,
        403
    );
    assert_eq!(
        status(&layer, &inner(), from("192.0.2.1", good())).await,
        200
    );
}

#[tokio::test]
async fn nothing_of_the_body_is_polled_when_its_head_shows_that_it_cannot_pass() {
    let stale = signed_at(NOW - 301, BODY);
    let mut unsigned = headers(BODY);
    unsigned.remove("x-webhook-signature");
    let mut upper = headers(BODY);
    upper.insert("x-webhook-signature", "AB".repeat(32).parse().unwrap());
    let mut twice = headers(BODY);
    let again = twice["x-webhook-signature"].clone();
    twice.append("x-webhook-signature", again);
    let mut signed_time = headers(BODY);
    signed_time.insert("x-webhook-timestamp", "+1700000000".parse().unwrap());
    for (headers, code) in [
        (stale, 401),
        (unsigned, 401),
        (upper, 401),
        (twice, 400),
        (signed_time, 401),
    ] {
        let body = frames(BODY, 1, Then::End);
        let polls = Arc::clone(&body.polls);
        let (layer, events) = watched(timestamped());
        assert_eq!(status(&layer, &inner(), request(headers, body)).await, code);
        assert_eq!(polls.load(Ordering::Relaxed), 0, "{events:?}");
    }
    let ended = timestamped().build().unwrap();
    ended.keys().replace([]).unwrap();
    let body = frames(BODY, 1, Then::End);
    let polls = Arc::clone(&body.polls);
    let layer = WebhookLayer::new(ended);
    assert_eq!(
        status(&layer, &inner(), request(headers(BODY), body)).await,
        401
    );
    assert_eq!(polls.load(Ordering::Relaxed), 0, "no key is active");
}

/// A body that says how long it is, and must not be read.
struct Announced(u64);

impl Body for Announced {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        panic!("polled");
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0)
    }
}

#[tokio::test]
async fn a_length_above_the_limit_is_refused_wherever_it_is_announced() {
    let (layer, _) = watched(timestamped().body_limit(1024));
    let unheadered = request(headers(BODY), Announced(1025));
    assert_eq!(status(&layer, &inner(), unheadered).await, 413);
    for length in [
        "1025",
        "70368744177664",
        "99999999999999999999999",
        "-1",
        "+7",
        "7, 7",
        "",
    ] {
        let mut large = request(headers(BODY), Announced(0));
        large
            .headers_mut()
            .insert("content-length", length.parse().unwrap());
        assert_eq!(status(&layer, &inner(), large).await, 413, "`{length}`");
    }
}

#[tokio::test]
async fn without_the_address_of_the_peer_an_ip_policy_denies() {
    let (layer, events) = watched(strict());
    let mut nowhere = from("192.0.2.1", good());
    nowhere.extensions_mut().clear();
    nowhere
        .headers_mut()
        .insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
    assert_eq!(status(&layer, &inner(), nowhere).await, 403);
    assert_eq!(
        *events.lock().unwrap(),
        [(Step::Source, Reason::SourceUnknown)]
    );
}

#[tokio::test]
async fn a_forwarding_header_of_a_peer_that_is_no_proxy_is_not_believed() {
    // D.c4
    let (layer, _) = watched(strict());
    let mut forged = from("198.51.100.1", good());
    forged
        .headers_mut()
        .insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
    assert_eq!(status(&layer, &inner(), forged).await, 403);
    assert_eq!(
        status(&layer, &inner(), from("[::ffff:192.0.2.1]", good())).await,
        200
    );
}

#[tokio::test]
async fn the_peer_is_read_from_where_the_server_puts_it() {
    #[derive(Clone)]
    struct Accepted(std::net::SocketAddr);
    let (layer, _) = watched(strict());
    let layer = layer.peer(|parts| parts.extensions.get::<Accepted>().map(|peer| peer.0));
    let mut accepted = from("198.51.100.1", good());
    accepted
        .extensions_mut()
        .insert(Accepted("192.0.2.1:9".parse().unwrap()));
    assert_eq!(status(&layer, &inner(), accepted).await, 200);
    assert_eq!(
        status(&layer, &inner(), from("192.0.2.1", good())).await,
        403
    );
}

#[tokio::test]
async fn a_refusal_after_the_source_step_reports_the_forwarded_sender() {
    let rules = IpRules::allow(["192.0.2.0/24"]).unwrap();
    let behind_proxy = timestamped()
        .source(rules.trust_proxies(["10.0.0.0/8"]).unwrap())
        .build()
        .unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let layer = WebhookLayer::new(behind_proxy).on_event(move |event| {
        if let Event::Rejected { error, remote_ip } = event {
            seen.lock().unwrap().push((error.step(), *remote_ip));
        }
    });
    for forwarded in ["192.0.2.7", "203.0.113.9"] {
        let late = request(signed_at(NOW - 301, BODY), good().into_body());
        let mut late = from("[::ffff:10.0.0.1]", late);
        late.headers_mut()
            .insert("x-forwarded-for", forwarded.parse().unwrap());
        status(&layer, &inner(), late).await;
    }
    assert_eq!(
        *events.lock().unwrap(),
        [
            (Step::Timestamp, "192.0.2.7".parse().ok()),
            (Step::Source, "203.0.113.9".parse().ok())
        ]
    );
}
