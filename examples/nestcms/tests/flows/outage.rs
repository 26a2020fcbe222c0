//! A4 and A5: the breaker open, half-open, closed.

use std::time::Duration;

use reqwest::StatusCode;
use resilience_core::breaker::State;
use serde_json::json;

use super::support::{RESET, World, eventually};

/// A4.c1
#[tokio::test]
async fn an_open_breaker_answers_503_with_the_rest_of_the_wait() {
    let world = World::start().await;
    let id = world.created().await;
    world.open_paytabs().await;
    let before = world.requests();
    world.clock.advance(Duration::from_millis(500));
    let response = world.initiate(&id).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "30");
    world.clock.advance(Duration::from_millis(10_500));
    let response = world.initiate(&id).await;
    assert_eq!(response.headers()["retry-after"], "19");
    assert_eq!(world.requests(), before);
    assert_eq!(world.events.count("service.unavailable"), 2);
    assert_eq!(
        world.field("service.unavailable", "operation"),
        ["initiate"; 2]
    );
}

/// C.c1, C.8
#[tokio::test]
async fn the_fifth_failure_in_a_row_opens_the_breaker_and_says_so_once() {
    let world = World::start().await;
    world.fail(Some(500));
    for failures in 1..=5 {
        let id = world.created().await;
        world.initiate(&id).await;
        let opened = world.field("circuit.opened", "cause");
        let expected: &[&str] = if failures < 5 { &[] } else { &["consecutive"] };
        assert_eq!(opened, expected);
    }
}

/// A4.c2
#[tokio::test]
async fn other_routes_go_on_while_paytabs_is_down() {
    let world = World::start().await;
    world.open_paytabs().await;
    for path in [
        "/api/v1/users/me",
        "/api/v1/projects",
        "/api/v1/contracts",
        "/api/v2/payments",
    ] {
        let response = world.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

/// A4.c3
#[tokio::test]
async fn both_versions_of_the_api_share_the_breaker() {
    let world = World::start().await;
    let body = json!({ "amount": "5", "currency": "KWD", "order_ref": "o",
                       "idempotency_key": "v1" });
    world.open_paytabs().await;
    let before = world.requests();
    let v1 = world
        .post("/api/v1/payments")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(v1.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.requests(), before);

    // After recovery the same call goes through, for the same payment.
    world.clock.advance(RESET);
    let v1 = world
        .post("/api/v1/payments")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(v1.status(), StatusCode::SEE_OTHER);
    let again = world
        .post("/api/v1/payments")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(again.headers()["location"], v1.headers()["location"]);
}

/// A4.c4
#[tokio::test]
async fn a_hundred_refusals_are_a_hundred_events_and_one_alert() {
    let world = World::start().await;
    let id = world.created().await;
    world.open_paytabs().await;
    for _ in 0..100 {
        world.initiate(&id).await;
    }
    assert_eq!(world.events.count("service.unavailable"), 100);
    let alerts = async || -> i64 {
        let count = "SELECT COUNT(*) FROM notifications WHERE channel = 'slack'";
        sqlx::query_scalar(count)
            .fetch_one(world.app.database().read())
            .await
            .unwrap()
    };
    eventually("an alert", async || alerts().await == 1).await;
    eventually("all handled", async || {
        let stats = world.app.bus().stats();
        stats.iter().all(|listener| listener.queued == 0)
            && world.app.tasks().queue().depth().await.unwrap() == [0; 3]
    })
    .await;
    assert_eq!(alerts().await, 1);
}

/// A5.c1
#[tokio::test]
async fn a_successful_probe_closes_the_breaker() {
    let world = World::start().await;
    let id = world.created().await;
    world.open_paytabs().await;
    let before = world.requests();
    world.clock.advance(RESET);
    assert_eq!(world.initiate(&id).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(world.requests(), before + 1);
    assert_eq!(
        world.events.types(),
        [
            "circuit.half_open",
            "circuit.closed",
            "service.recovered",
            "payment.initiated"
        ]
    );
    assert_eq!(world.field("service.recovered", "down_for_ms"), [30_000]);
}

/// A5.c2
#[tokio::test]
async fn a_failed_probe_opens_the_breaker_again_with_a_new_deadline() {
    let world = World::start().await;
    let id = world.created().await;
    world.open_paytabs().await;
    let before = world.requests();
    world.fail(Some(500));
    world.clock.advance(RESET);
    world.wall.advance(RESET);
    let response = world.initiate(&id).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    // The wait doubles with each opening in a row.
    assert_eq!(response.headers()["retry-after"], "60");
    assert_eq!(world.requests(), before + 1);
    assert_eq!(
        world.events.types(),
        ["circuit.half_open", "circuit.opened"]
    );
    assert_eq!(world.app.breakers().paytabs().state(), State::Open);
}

/// A5.c3
#[tokio::test]
async fn a_half_open_breaker_lets_ten_of_fifty_callers_through() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(world.created().await);
    }
    world.open_paytabs().await;
    let before = world.requests();
    world.switches.update(|s| s.delay_ms = 3_000);
    world.clock.advance(RESET);
    let calls = ids.iter().map(|id| world.initiate(id));
    let mut refused = 0;
    let mut redirected = 0;
    for response in futures_util::future::join_all(calls).await {
        match response.status() {
            StatusCode::SERVICE_UNAVAILABLE => refused += 1,
            StatusCode::SEE_OTHER => redirected += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((redirected, refused), (10, 40));
    assert_eq!(world.requests(), before + 10);
}
