//! D: the webhook pipeline at the application's edge.

use std::time::Duration;

use nestcms::{adapters::http::webhook::Rejects, settings::WebhookCheck};
use reqwest::{Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use webhook_verify::{IpRules, Secret, clock::WallClock as _};

use super::support::{World, body, callback_body};

const BODY: &str = r#"{"tran_ref":"T","cart_id":"c","cart_currency":"SAR","cart_amount":"1.00","payment_result":{"response_status":"A"}}"#;

/// A delivery that breaks every check of `broken`.
async fn broken(world: &World, broken: &[WebhookCheck]) -> Response {
    let breaks = |check| broken.contains(&check);
    let body = if breaks(WebhookCheck::Payload) {
        "[1]"
    } else {
        BODY
    };
    let rules = match breaks(WebhookCheck::Ip) {
        true => IpRules::allow(["192.0.2.1"]).unwrap(),
        false => IpRules::allow(["127.0.0.1"]).unwrap(),
    };
    world.app.webhook().source().replace(rules);
    let late = Duration::from_secs(if breaks(WebhookCheck::Timestamp) {
        301
    } else {
        0
    });
    let secret = match breaks(WebhookCheck::Signature) {
        true => "a-secret-that-nobody-has",
        false => super::support::SECRET,
    };
    let request = world.signed_at(body, world.wall.now() - late, secret);
    let mut request = request.build().unwrap();
    if breaks(WebhookCheck::Header) {
        request
            .headers_mut()
            .insert("content-type", "text/plain".parse().unwrap());
    }
    world.http.execute(request).await.unwrap()
}

/// D.c1, D5
#[tokio::test]
async fn the_first_broken_check_is_reported_and_outsiders_cannot_tell_which() {
    let world = World::start().await;
    let order = world.app.settings().webhook.order;
    let expected = [
        ("signature", StatusCode::UNAUTHORIZED),
        ("timestamp", StatusCode::UNAUTHORIZED),
        ("source", StatusCode::FORBIDDEN),
        ("header", StatusCode::BAD_REQUEST),
        ("payload", StatusCode::UNPROCESSABLE_ENTITY),
    ];
    for (k, (step, status)) in expected.into_iter().enumerate() {
        world.events.clear();
        let response = broken(&world, &order[k..]).await;
        assert_eq!(response.status(), status, "{step}");
        assert_eq!(world.field("webhook.rejected", "step"), [step]);
        let problem = body(response).await;
        assert_eq!(problem["message"], "webhook refused");
        assert_eq!(problem["code"], "webhook_refused");
        assert_eq!(world.events.count("webhook.validated"), 0);
    }
}

/// D.c9
#[tokio::test]
async fn a_configured_order_is_the_order_of_the_reports() {
    use WebhookCheck::{Header, Ip, Payload, Signature, Timestamp};
    let order = [Signature, Ip, Timestamp, Header, Payload];
    let world = World::with(|s| s.webhook.order = order).await;
    for (k, step) in ["signature", "source", "timestamp"].into_iter().enumerate() {
        world.events.clear();
        broken(&world, &order[k..]).await;
        assert_eq!(world.field("webhook.rejected", "step"), [step]);
    }
}

/// D.c2; the property over all bits stands with the verifier
#[tokio::test]
async fn one_flipped_bit_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.hold_callbacks = true);
    world.decide(&page, "pay").await;
    let text = world.callback_body(&id).await;
    let good = world.signed(&text).build().unwrap();
    for (name, position) in [("x-webhook-signature", 5), ("x-webhook-timestamp", 9)] {
        let mut request = good.try_clone().unwrap();
        let mut value = request.headers()[name].as_bytes().to_vec();
        value[position] ^= 1;
        request
            .headers_mut()
            .insert(name, value.try_into().unwrap());
        let response = world.http.execute(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{name}");
    }
    for position in [0, 17, text.len() - 1] {
        let mut bytes = text.clone().into_bytes();
        bytes[position] ^= 1;
        let mut request = good.try_clone().unwrap();
        *request.body_mut() = Some(bytes.into());
        let response = world.http.execute(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.status(&id).await, "initiated");
    assert_eq!(world.events.count("webhook.rejected"), 5);
}

/// D.c3, the part of the effect is in `callback`
#[tokio::test]
async fn a_replay_after_the_tolerance_is_refused_at_the_timestamp() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.hold_callbacks = true);
    world.decide(&page, "pay").await;
    let request = world
        .signed(&world.callback_body(&id).await)
        .build()
        .unwrap();
    let send = async || {
        let request = request.try_clone().unwrap();
        world.http.execute(request).await.unwrap().status()
    };
    assert_eq!(send().await, StatusCode::OK);
    world.wall.advance(Duration::from_secs(10));
    assert_eq!(send().await, StatusCode::OK);
    assert_eq!(world.events.count("payment.success"), 1);
    world.wall.advance(Duration::from_secs(291));
    assert_eq!(send().await, StatusCode::UNAUTHORIZED);
    assert_eq!(world.field("webhook.rejected", "step"), ["timestamp"]);
}

/// D.c4
#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_listed_proxy() {
    let world = World::start().await;
    let source = world.app.webhook().source();
    let unlisted = IpRules::allow(["203.0.113.7"]).unwrap();
    source.replace(unlisted.clone());
    let send = async || {
        let request = world.signed(BODY).header("x-forwarded-for", "203.0.113.7");
        request.send().await.unwrap().status()
    };
    assert_eq!(send().await, StatusCode::FORBIDDEN);
    source.replace(unlisted.trust_proxies(["127.0.0.1"]).unwrap());
    assert_eq!(
        send().await,
        StatusCode::NOT_FOUND,
        "verified, the transaction is unknown"
    );
}

/// D.c5
#[tokio::test]
async fn secrets_rotate_without_a_restart() {
    let world = World::start().await;
    let keys = world.app.webhook().timestamped_keys();
    let (old, new) = ("the-old-webhook-secret", "the-new-webhook-secret");
    let secret = |id, key| (Secret::new(id, key).unwrap(), None);
    let send = async |key: &str| {
        let text = callback_body(&uuid::Uuid::new_v4().to_string(), "c", "1.00");
        let request = world.signed_at(&text, world.wall.now(), key);
        request.send().await.unwrap().status()
    };
    keys.replace([secret("old", old), secret("new", new)])
        .unwrap();
    assert_eq!(send(old).await, StatusCode::NOT_FOUND);
    assert_eq!(send(new).await, StatusCode::NOT_FOUND);
    assert!(keys.remove("old"));
    assert_eq!(send(old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(send(new).await, StatusCode::NOT_FOUND);
}

/// D.c6
#[tokio::test]
async fn a_body_above_the_limit_is_413_at_the_limit_step() {
    let world = World::with(|s| s.webhook.body_limit = 1000).await;
    let fits = world.signed(&"x".repeat(1000)).send().await.unwrap();
    assert_eq!(fits.status(), StatusCode::UNPROCESSABLE_ENTITY);
    world.events.clear();
    let response = world.signed(&"x".repeat(1001)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.field("webhook.rejected", "step"), ["body_limit"]);
}

/// The connection was closed with bytes unread, and the gateway, still sending, made a 502
/// of the 413.
#[tokio::test]
async fn a_refused_sender_can_finish_sending() {
    let world = World::start().await;
    let address = world.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (chunks, chunk) = (50, [b'x'; 16_000]);
    let head = format!(
        "POST /api/v2/payments/webhook HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        chunks * chunk.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer));
    read.await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    for sent in 0..chunks {
        let written = stream.write_all(&chunk).await;
        assert!(written.is_ok(), "chunk {sent}: {written:?}");
    }
}

/// D.c7; the fuzz target stands with the verifier
#[tokio::test]
async fn odd_deliveries_are_never_acknowledged() {
    let world = World::start().await;
    let odd: [(&str, &[u8]); 7] = [
        ("", b""),
        ("0", b"\xff\xfe"),
        ("=,=", b"{}"),
        ("v1,AAAA", b"null"),
        ("ffff", b"{\"tran_ref\":\"T\"}"),
        ("\u{7f}", b"[[[[[[[["),
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            BODY.as_bytes(),
        ),
    ];
    for name in ["signature", "x-webhook-signature"] {
        for (value, bytes) in odd {
            let Ok(value) = reqwest::header::HeaderValue::from_bytes(value.as_bytes()) else {
                continue;
            };
            world.wall.advance(Rejects::WINDOW);
            let request = world.webhook("").body(bytes.to_vec()).header(name, value);
            let status = request.send().await.unwrap().status();
            assert!(status.is_client_error(), "{status}");
        }
    }
    assert_eq!(world.events.count("webhook.validated"), 0);
}

/// D.c8
#[tokio::test]
async fn a_mapped_address_matches_the_rule_of_the_address_it_carries() {
    let world = World::start().await;
    let rules = IpRules::allow(["203.0.113.0/24"]).unwrap();
    let rules = rules.trust_proxies(["127.0.0.1"]).unwrap();
    world.app.webhook().source().replace(rules);
    let request = world
        .signed(BODY)
        .header("x-forwarded-for", "::ffff:203.0.113.9");
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

/// D.7
#[tokio::test]
async fn ten_refusals_within_a_minute_block_the_address_for_a_while() {
    let world = World::start().await;
    for _ in 0..10 {
        assert_eq!(world.alerts("webhook_rejects"), 0);
        let forged = world.signed_at(BODY, world.wall.now(), "a-forger's-secret");
        assert_eq!(
            forged.send().await.unwrap().status(),
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(world.alerts("webhook_rejects"), 1);
    // Even a correct delivery is turned away now, without a look at it.
    assert_eq!(world.deliver(BODY).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.events.count("webhook.rejected"), 10);
    world.wall.advance(Rejects::BLOCK);
    assert_eq!(world.deliver(BODY).await.status(), StatusCode::NOT_FOUND);
}

/// The sandbox signs with another key: nothing changes, however often it tries.
#[tokio::test]
async fn a_wrong_signature_never_changes_state() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.wrong_signatures = true);
    world.decide(&page, "pay").await;
    super::support::eventually("a refusal", async || {
        world.stats.snapshot().callbacks_refused >= 1
    })
    .await;
    assert_eq!(world.status(&id).await, "initiated");
    assert_eq!(world.events.count("webhook.received"), 0);
}
