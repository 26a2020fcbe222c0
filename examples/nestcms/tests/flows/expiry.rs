//! A6: expiry and late payments.

use std::time::Duration;

use nestcms::ports::JobKind;
use reqwest::StatusCode;

use super::{callback::raw_status, support::World};

/// A6.c1
#[tokio::test]
async fn a_payment_past_its_time_times_out_once() {
    let world = World::start().await;
    let (id, _) = world.initiated().await;
    let payments = world.app.payments();
    assert_eq!(payments.expire_due().await.unwrap(), 0);
    world.wall.advance(Duration::from_secs(31 * 60));
    assert_eq!(payments.expire_due().await.unwrap(), 1);
    assert_eq!(raw_status(&world, &id).await, "timed_out");
    assert_eq!(world.events.count("payment.timeout"), 1);
    assert_eq!(world.events.count("payment.status_changed"), 1);
    assert_eq!(world.field("payment.timeout", "last_status"), ["initiated"]);
    assert_eq!(payments.expire_due().await.unwrap(), 0);
    assert_eq!(world.events.count("payment.timeout"), 1);
}

/// A6.c2
#[tokio::test]
async fn a_late_payment_raises_the_alarm_and_is_given_back() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.hold_callbacks = true);
    world.decide(&page, "pay").await;
    let body = world.callback_body(&id).await;
    world.wall.advance(Duration::from_secs(31 * 60));
    let payments = world.app.payments();
    payments.expire_due().await.unwrap();
    assert_eq!(world.deliver(&body).await.status(), StatusCode::OK);
    assert_eq!(world.alerts("late_payment"), 1);
    assert_eq!(payments.queued(JobKind::Refund).await.unwrap(), 1);
    assert_eq!(raw_status(&world, &id).await, "timed_out");

    // Signed anew, the same callback finds its effect booked.
    world.wall.advance(Duration::from_secs(1));
    assert_eq!(world.deliver(&body).await.status(), StatusCode::OK);
    assert_eq!(world.alerts("late_payment"), 1);

    let before = world.requests();
    assert_eq!(payments.run_due_jobs().await.unwrap(), 1);
    assert_eq!(world.requests(), before + 1);
    world.wall.advance(Duration::from_secs(3600));
    assert_eq!(payments.run_due_jobs().await.unwrap(), 0);
    assert_eq!(payments.queued(JobKind::Refund).await.unwrap(), 0);
    assert_eq!(raw_status(&world, &id).await, "timed_out");
}
