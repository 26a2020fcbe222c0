//! A1 and A2: create and initiate.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::support::{World, body, text};

/// A1.c1
#[tokio::test]
async fn a_valid_create_stores_the_payment_and_tells_it_once() {
    let world = World::start().await;
    let response = world.create_with_key("k1").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert!(response.headers().contains_key("x-correlation-id"));
    let payment = body(response).await;
    assert_eq!(payment["status"], "created");
    assert_eq!(payment["amount"], "12.50");
    assert_eq!(
        world.field("payment.created", "payment_id"),
        [payment["id"].clone()]
    );
}

/// A1.c2
#[tokio::test]
async fn the_same_idempotency_key_answers_the_first_payment() {
    let world = World::start().await;
    let first = text(&body(world.create_with_key("k1").await).await, "id");
    let again = world.create_with_key("k1").await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(text(&body(again).await, "id"), first);
    assert_eq!(world.events.count("payment.created"), 1);

    let other = json!({ "amount": "9", "currency": "SAR", "order_ref": "order-1",
                        "idempotency_key": "k1" });
    let other = world
        .post("/api/v2/payments")
        .json(&other)
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn creates_that_race_under_one_key_make_one_payment() {
    let world = World::start().await;
    let calls = (0..20).map(|_| world.create_with_key("race"));
    let mut ids = Vec::new();
    for response in futures_util::future::join_all(calls).await {
        assert!(response.status().is_success());
        ids.push(text(&body(response).await, "id"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.events.count("payment.created"), 1);
}

/// A1.c3
#[tokio::test]
async fn a_create_without_token_or_with_bad_fields_is_refused() {
    let world = World::start().await;
    let url = format!("{}/api/v2/payments", world.url);
    let anonymous = world.http.post(url).json(&json!({})).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    for (amount, currency, field) in [
        (json!("0"), "SAR", "amount"),
        (json!("-1"), "SAR", "amount"),
        (json!(12.5), "SAR", "amount"),
        (json!("1.234"), "SAR", "amount"),
        (json!("1e9"), "SAR", "amount"),
        (json!("12.50"), "XXX", "currency"),
        (json!("12.50"), "sar", "currency"),
    ] {
        let body = json!({ "amount": amount, "currency": currency, "order_ref": "o",
                           "idempotency_key": "k" });
        let problem = refused(&world, body.to_string(), StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["allowed"].is_string() && problem["value"].is_string());
        assert!(problem["correlation_id"].is_string());
    }
    for broken in ["", "{", "nonsense", "{\"amount\":}"] {
        refused(&world, broken.to_owned(), StatusCode::BAD_REQUEST).await;
    }
    for odd in [
        "[]",
        "null",
        "{}",
        "{\"amount\":\"1\",\"card_number\":\"4\"}",
    ] {
        refused(&world, odd.to_owned(), StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    assert_eq!(world.events.count("payment.created"), 0);
}

async fn refused(world: &World, json: String, status: StatusCode) -> Value {
    let response = world
        .post("/api/v2/payments")
        .body(json.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), status, "{json}");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    body(response).await
}

/// A1.c4
#[tokio::test]
async fn an_open_cache_breaker_does_not_stop_payments() {
    let world = World::start().await;
    let cache = world.app.breakers().cache();
    for _ in 0..5 {
        cache.try_acquire().unwrap().failure();
    }
    assert!(cache.try_acquire().is_err());
    let id = world.created().await;
    assert_eq!(world.status(&id).await, "created");
    assert_eq!(world.events.count("payment.created"), 1);
}

/// A2.c1
#[tokio::test]
async fn initiate_redirects_to_the_page_that_paytabs_gave() {
    let world = World::start().await;
    let id = world.created().await;
    let before = world.app.breakers().paytabs().snapshot();
    let response = world.initiate(&id).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let payment = world.payment(&id).await;
    assert_eq!(payment["status"], "initiated");
    assert_eq!(payment["payment_url"], location.as_str());
    assert_eq!(
        world.field("payment.initiated", "payment_url"),
        [location.as_str()]
    );
    let after = world.app.breakers().paytabs().snapshot();
    assert_eq!(
        (after.calls - before.calls, after.failures),
        (1, before.failures)
    );
}

/// A2.c2
#[tokio::test]
async fn only_a_created_payment_can_be_initiated() {
    let world = World::start().await;
    let (id, _) = world.initiated().await;
    let before = world.requests();
    assert_eq!(world.initiate(&id).await.status(), StatusCode::CONFLICT);
    assert_eq!(world.requests(), before);
    let unknown = world.initiate("no-such-payment").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

/// A2.c3
#[tokio::test]
async fn a_slow_paytabs_is_a_timeout_and_one_failure() {
    let world = World::with(|s| s.paytabs.call_timeout = Duration::from_millis(200)).await;
    let id = world.created().await;
    world.switches.update(|s| s.delay_ms = 60_000);
    let response = world.initiate(&id).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        world
            .app
            .breakers()
            .paytabs()
            .snapshot()
            .consecutive_failures,
        1
    );
    assert_eq!(world.status(&id).await, "created");
}

/// A2.c4
#[tokio::test]
async fn a_refusal_of_paytabs_is_no_failure_of_its_breaker() {
    let world = World::start().await;
    let id = world.created().await;
    world.fail(Some(400));
    let response = world.initiate(&id).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let problem = body(response).await;
    assert_eq!(problem["code"], "provider_refused");
    assert!(text(&problem, "message").len() > "the payment provider refused: ".len());
    let snapshot = world.app.breakers().paytabs().snapshot();
    assert_eq!((snapshot.failures, snapshot.consecutive_failures), (0, 0));
    assert_eq!(world.status(&id).await, "created");
}

#[tokio::test]
async fn a_payment_of_somebody_else_looks_like_none() {
    let world = World::start().await;
    let strangers = sqlx::query("UPDATE payments SET user_id = 'stranger'");
    let (id, _) = world.initiated().await;
    strangers
        .execute(world.app.database().write())
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(3600));
    // The cache still shows the owner for its lifetime of a minute; after it, the store.
    let response = world
        .get(&format!("/api/v2/payments/{id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}
