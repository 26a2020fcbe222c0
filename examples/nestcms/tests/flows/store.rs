//! The database in trouble, and the contract of every payment repository.

use std::time::Duration;

use nestcms::{
    adapters::sqlite::{Database, SqliteStore},
    domain::{
        money::{Currency, Money},
        payment::{Payment, Status},
    },
    ports::{Applied, JobKind, JobQueue, PaymentRepository, Settlement},
    settings::Settings,
};
use reqwest::StatusCode;
use resilience_core::breaker::CircuitBreaker;
use sqlx::{Connection as _, SqliteConnection};

use super::{
    callback::raw_status,
    support::{TempDir, World, body},
};

#[tokio::test]
async fn a_locked_database_is_503_and_the_retry_completes_the_payment() {
    let world = World::impatient().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.hold_callbacks = true);
    world.decide(&page, "pay").await;
    let text = world.callback_body(&id).await;

    let file = format!("sqlite://{}", world.dir.0.join("nestcms.db").display());
    let mut other = SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .unwrap();
    let create = world.create_with_key("locked").await;
    assert_eq!(create.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(create.headers().contains_key("retry-after"));
    assert_eq!(create.headers()["content-type"], "application/problem+json");
    let callback = world.deliver(&text).await;
    assert_eq!(callback.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(raw_status(&world, &id).await, "initiated");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    // The very same delivery: its reservation was given back.
    assert_eq!(world.deliver(&text).await.status(), StatusCode::OK);
    assert_eq!(raw_status(&world, &id).await, "succeeded");
    assert_eq!(world.events.count("payment.success"), 1);
}

#[tokio::test]
async fn a_full_disk_is_503_and_state_stays() {
    let world = World::start().await;
    let pool = world.app.database().write();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(pool)
        .await
        .unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    sqlx::query(sqlx::AssertSqlSafe(limit))
        .execute(pool)
        .await
        .unwrap();
    let mut refused = None;
    for n in 0..500 {
        let response = world.create_with_key(&format!("{n:0>120}")).await;
        if response.status() != StatusCode::CREATED {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("the file cannot grow");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(body(refused).await["code"], "store_unavailable");
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM payments")
        .fetch_one(world.app.database().read())
        .await
        .unwrap();
    assert_eq!(
        usize::try_from(rows).unwrap(),
        world.events.count("payment.created")
    );
}

#[tokio::test]
async fn sqlite_keeps_the_contract_of_the_repository() {
    let dir = TempDir::new();
    let mut settings = Settings::demo().database;
    settings.path = dir.0.join("contract.db");
    let database = Database::open(&settings, CircuitBreaker::new("database"))
        .await
        .unwrap();
    contract(&SqliteStore::new(database)).await;
}

/// What every repository must do, whatever engine stands behind it.
pub(crate) async fn contract(store: &(impl PaymentRepository + JobQueue)) {
    a_key_is_used_once(store).await;
    changes_are_checked_against_the_state(store).await;
    a_delivery_has_its_effect_once(store).await;
    jobs_come_back_after_their_lease(store).await;
    only_what_is_due_expires(store).await;
}

async fn a_key_is_used_once(store: &impl PaymentRepository) {
    let first = store.create(&payment("a", "key"), &[]).await.unwrap();
    let second = store.create(&payment("b", "key"), &[]).await.unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!(second.payment, first.payment);
    assert_eq!(store.find("b").await.unwrap(), None);
    assert_eq!(store.find("a").await.unwrap(), Some(first.payment));
}

async fn changes_are_checked_against_the_state(store: &impl PaymentRepository) {
    let early = store
        .begin_processing("a", "c", at(9), at(1))
        .await
        .unwrap();
    assert!(
        matches!(early, Applied::Conflict(Status::Created)),
        "{early:?}"
    );
    let done = store
        .initiate("a", "ref-a", "http://page", at(1))
        .await
        .unwrap();
    let Applied::Done(initiated) = done else {
        panic!("{done:?}")
    };
    assert_eq!(
        (initiated.status, initiated.version),
        (Status::Initiated, 2)
    );
    let again = store
        .initiate("a", "ref-x", "http://page", at(1))
        .await
        .unwrap();
    assert!(matches!(again, Applied::Conflict(Status::Initiated)));
    let missing = store
        .initiate("nobody", "ref", "http://page", at(1))
        .await
        .unwrap();
    assert!(matches!(missing, Applied::Missing));
    let found = store.find_by_provider_ref("ref-a").await.unwrap();
    assert_eq!(found, Some(*initiated));
}

async fn a_delivery_has_its_effect_once(store: &(impl PaymentRepository + JobQueue)) {
    store
        .begin_processing("a", "c", at(9), at(2))
        .await
        .unwrap();
    assert_eq!(store.queued(JobKind::Verify).await.unwrap(), 1);
    let settlement = Settlement {
        to: Status::Succeeded,
        reason: None,
        delivery: Some("delivery-1".to_owned()),
        events: Vec::new(),
    };
    let first = store.settle("a", &settlement, at(3)).await.unwrap();
    assert!(matches!(first, Applied::Done(p) if p.status == Status::Succeeded));
    let second = store.settle("a", &settlement, at(3)).await.unwrap();
    assert!(matches!(second, Applied::Duplicate), "{second:?}");
    assert_eq!(store.queued(JobKind::Verify).await.unwrap(), 0);
    // A delivery whose effect was refused is not booked: it may still have one.
    let other = Settlement {
        delivery: Some("delivery-2".to_owned()),
        ..settlement
    };
    for _ in 0..2 {
        let refused = store.settle("a", &other, at(3)).await.unwrap();
        assert!(
            matches!(refused, Applied::Conflict(Status::Succeeded)),
            "{refused:?}"
        );
    }
}

async fn jobs_come_back_after_their_lease(store: &(impl PaymentRepository + JobQueue)) {
    store.queue_verification("a", "corr", at(10)).await.unwrap();
    assert!(store.claim_due(at(9), at(20), 10).await.unwrap().is_empty());
    let jobs = store.claim_due(at(10), at(20), 10).await.unwrap();
    assert_eq!(
        (
            jobs.len(),
            jobs[0].attempts,
            jobs[0].correlation_id.as_str()
        ),
        (1, 1, "corr")
    );
    assert!(
        store
            .claim_due(at(19), at(30), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store.claim_due(at(20), at(30), 10).await.unwrap()[0].attempts,
        2
    );
    store.finish(&jobs[0]).await.unwrap();
    assert!(
        store
            .claim_due(at(99), at(100), 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn only_what_is_due_expires(store: &impl PaymentRepository) {
    let tell = |payment: &Payment, from: Status| {
        assert_eq!((payment.id.as_str(), from), ("c", Status::Created));
        Vec::new()
    };
    store.create(&payment("c", "key-c"), &[]).await.unwrap();
    assert!(store.expire(at(1799), 10, tell).await.unwrap().is_empty());
    let expired = store.expire(at(1800), 10, tell).await.unwrap();
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].payment.status, Status::TimedOut);
    assert!(store.expire(at(9999), 10, tell).await.unwrap().is_empty());
}

fn payment(id: &str, key: &str) -> Payment {
    let currency = Currency::from_code("KWD").unwrap();
    Payment {
        id: id.to_owned(),
        user_id: "user".to_owned(),
        order_ref: "order".to_owned(),
        amount: Money::parse("1.234", currency).unwrap(),
        method: "card".to_owned(),
        status: Status::Created,
        idempotency_key: key.to_owned(),
        provider_ref: None,
        payment_url: None,
        reason: None,
        created_at: at(0),
        updated_at: at(0),
        expires_at: at(1800),
        version: 1,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
