//! The outbox of the application, and what operators see of it.

use reqwest::StatusCode;
use serde_json::json;

use crate::flows::support::{World, body, eventually, text};

/// H8: a paid payment is booked once, and its receipt is one.
#[tokio::test]
async fn a_paid_payment_is_booked_and_has_one_receipt() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.decide(&page, "pay").await;
    world.until_status(&id, "succeeded").await;
    eventually("the outbox is empty", async || depth(&world).await == 0).await;
    assert_eq!(count(&world, "journal").await, 1);
    assert_eq!(count(&world, "notifications").await, 1);
    let kinds: Vec<String> = sqlx::query_scalar("SELECT kind FROM outbox ORDER BY seq")
        .fetch_all(world.app.database().read())
        .await
        .unwrap();
    assert_eq!(
        kinds,
        [
            "payment.created",
            "payment.success",
            "payment.status_changed"
        ]
    );
    // The bus told of the same events.
    let told: Vec<String> = sqlx::query_scalar("SELECT event_id FROM outbox ORDER BY seq")
        .fetch_all(world.app.database().read())
        .await
        .unwrap();
    let events = world.events.events();
    for id in told {
        assert!(events.iter().any(|event| event.id == id), "{id}");
    }
}

#[tokio::test]
async fn dead_letters_are_for_admins() {
    for (role, expected) in [("user", 403), ("editor", 403), ("admin", 200)] {
        let world = World::with(|settings| {
            role.clone_into(&mut settings.auth.demo_user.as_mut().unwrap().role);
        })
        .await;
        let list = world.get("/api/v1/dead-letters").send().await.unwrap();
        assert_eq!(list.status().as_u16(), expected, "{role}");
        let one = world.get("/api/v1/dead-letters/none").send().await.unwrap();
        let not_there = if expected == 200 { 404 } else { 403 };
        assert_eq!(one.status().as_u16(), not_there, "{role}");
        let replay = world.post("/api/v1/dead-letters/none/replay").send();
        assert_eq!(replay.await.unwrap().status().as_u16(), not_there, "{role}");
        for path in ["", "/none"] {
            let url = format!("{}/api/v1/dead-letters{path}", world.url);
            let anybody = world.http.get(url).send().await.unwrap();
            assert_eq!(anybody.status(), StatusCode::UNAUTHORIZED);
        }
        let url = format!("{}/api/v1/dead-letters/none/replay", world.url);
        let anybody = world.http.post(url).send().await.unwrap();
        assert_eq!(anybody.status(), StatusCode::UNAUTHORIZED);
    }
}

/// G.6: listed with its reasons, shown, and published when it is replayed.
#[tokio::test]
async fn a_dead_letter_is_listed_shown_and_replayed() {
    let world = World::with(|settings| {
        "admin".clone_into(&mut settings.auth.demo_user.as_mut().unwrap().role);
    })
    .await;
    let history = json!([{ "at": "2026-01-02T03:04:05.000Z", "reason": "no such currency" }]);
    let event = super::contract::event("p", "e");
    sqlx::query(
        "INSERT INTO dead_letters VALUES ('e', 'outbox', 'e', 'payment.success', 'p', $1, 'c', $2, 5)",
    )
    .bind(serde_json::to_string(&event).unwrap())
    .bind(history.to_string())
    .execute(world.app.database().write())
    .await
    .unwrap();
    let list = body(world.get("/api/v1/dead-letters").send().await.unwrap()).await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    let one = body(world.get("/api/v1/dead-letters/e").send().await.unwrap()).await;
    assert_eq!(one, list[0]);
    assert_eq!(one["history"], history);
    assert_eq!(text(&one, "source"), "outbox");

    let replay = world.post("/api/v1/dead-letters/e/replay").send().await;
    assert_eq!(replay.unwrap().status(), StatusCode::ACCEPTED);
    eventually("it is booked", async || count(&world, "journal").await == 1).await;
    let again = world.post("/api/v1/dead-letters/e/replay").send().await;
    assert_eq!(again.unwrap().status(), StatusCode::NOT_FOUND);
    let list = body(world.get("/api/v1/dead-letters").send().await.unwrap()).await;
    assert_eq!(list, json!([]));
}

async fn depth(world: &World) -> u64 {
    world.app.outbox().depth().await.unwrap().waiting
}

async fn count(world: &World, table: &'static str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    let query = sqlx::query_scalar(query);
    query.fetch_one(world.app.database().read()).await.unwrap()
}
