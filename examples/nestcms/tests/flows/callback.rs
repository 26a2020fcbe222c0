//! A3: callback and completion.

use std::{cell::RefCell, fmt, sync::Once, time::Duration};

use nestcms::{flow, ports::JobKind};
use paytabs_sandbox::CallbackScheme;
use reqwest::StatusCode;
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

use super::support::{RESET, World, callback_body, eventually};

thread_local! {
    /// The steps that were taken on this thread, in order: a test and its world run on one.
    static STEPS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Writes the steps of the flow down. Installed once for all tests: tracing remembers
/// per call site who listens, and subscribers that come and go confuse it.
struct Steps;

impl<S: tracing::Subscriber> Layer<S> for Steps {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == flow::TARGET {
            STEPS.with_borrow_mut(|steps| event.record(&mut Writer(steps)));
        }
    }
}

struct Writer<'a>(&'a mut Vec<String>);

impl Visit for Writer<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "step" {
            self.0.push(value.to_string());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.0.push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Installs the writer, once for the process.
pub(crate) fn write_steps_down() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Steps);
        let _ = tracing::subscriber::set_global_default(subscriber);
    });
}

/// A3.c1
#[tokio::test]
async fn a_correct_callback_takes_the_steps_of_the_flow_in_order() {
    let world = World::start().await;
    world
        .switches
        .update(|s| s.callback_scheme = CallbackScheme::Timestamped);
    let (id, page) = world.initiated().await;
    STEPS.take();
    world.events.clear();
    world.decide(&page, "pay").await;
    eventually("acknowledgement", async || {
        world.stats.snapshot().callbacks_acknowledged == 1
    })
    .await;
    assert_eq!(
        STEPS.take().join(" "),
        "20 21 22 23 24 webhook.validated 25 26 webhook.received payment.processing \
         28 29 30 31 32 payment.success 34 payment.status_changed 36"
    );
    assert_eq!(
        world.events.types(),
        [
            "webhook.validated",
            "webhook.received",
            "payment.processing",
            "payment.success",
            "payment.status_changed"
        ]
    );
    // B.c5: all of them carry the correlation id of the callback.
    let events = world.events.events();
    assert!(
        events
            .iter()
            .all(|e| e.correlation_id == events[0].correlation_id)
    );
    assert_eq!(world.status(&id).await, "succeeded");
    assert_eq!(world.stats.snapshot().callbacks_refused, 0);
}

/// A3.c1 in PayTabs' own scheme
#[tokio::test]
async fn a_callback_signed_as_paytabs_signs_completes_the_payment() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.decide(&page, "pay").await;
    world.until_status(&id, "succeeded").await;
}

/// L.1
#[tokio::test]
async fn a_paid_payment_shows_in_the_metrics_of_the_instance() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.decide(&page, "pay").await;
    world.until_status(&id, "succeeded").await;
    for wanted in [
        "business_payments_total{currency=\"SAR\"} 1",
        "business_payment_minor_units_total{currency=\"SAR\"} 1250",
        "webhook_verifications_total{step=\"all\",result=\"accepted\"} 1",
        "cache_requests_total{tier=\"memory\",result=\"miss\"}",
        "queue_depth{queue=\"verify\"} 0",
        "circuit_breaker_state{name=\"paytabs\"} 0",
    ] {
        eventually(wanted, async || {
            let page = world.get("/metrics").send().await.unwrap();
            page.text().await.unwrap().contains(wanted)
        })
        .await;
    }
}

/// A3.c2, D.c3
#[tokio::test]
async fn a_callback_sent_twice_has_its_effect_once() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.hold_callbacks = true);
    world.decide(&page, "pay").await;
    let body = world.callback_body(&id).await;
    let first = world.deliver(&body).await;
    assert_eq!(first.status(), StatusCode::OK);
    // The same bytes again, and the same content signed anew ten seconds later.
    assert_eq!(world.deliver(&body).await.status(), StatusCode::OK);
    world.wall.advance(Duration::from_secs(10));
    assert_eq!(world.deliver(&body).await.status(), StatusCode::OK);
    assert_eq!(world.events.count("payment.success"), 1);
    assert_eq!(world.events.count("payment.status_changed"), 1);
}

#[tokio::test]
async fn callbacks_that_race_settle_the_payment_once() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.duplicates = true);
    world.decide(&page, "pay").await;
    world.until_status(&id, "succeeded").await;
    eventually("both acknowledged", async || {
        world.stats.snapshot().callbacks_acknowledged == 2
    })
    .await;
    assert_eq!(world.events.count("payment.success"), 1);
    assert_eq!(world.events.count("payment.status_changed"), 1);
}

/// A3.c3, A6.1
#[tokio::test]
async fn the_verification_decides_and_not_the_callback() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.decline_verification = true);
    world.decide(&page, "pay").await;
    world.until_status(&id, "failed").await;
    eventually("status change", async || {
        world.events.count("payment.status_changed") == 1
    })
    .await;
    assert_eq!(world.events.count("payment.failed"), 1);
    assert_eq!(world.events.count("payment.success"), 0);
}

/// A3.c4
#[tokio::test]
async fn an_open_breaker_puts_the_verification_off_until_recovery() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.hold_callbacks = true);
    world.decide(&page, "pay").await;
    world.open_paytabs().await;
    let body = world.callback_body(&id).await;
    assert_eq!(world.deliver(&body).await.status(), StatusCode::ACCEPTED);
    assert_eq!(world.stats.snapshot().payment_query, 0);
    let payments = world.app.payments();
    assert_eq!(payments.queued(JobKind::Verify).await.unwrap(), 1);
    assert_eq!(payments.run_due_jobs().await.unwrap(), 0, "not due yet");
    assert_eq!(raw_status(&world, &id).await, "processing");
    // Readers see it too: the cached `initiated` is gone.
    assert_eq!(world.status(&id).await, "processing");

    world.clock.advance(RESET);
    world.wall.advance(RESET);
    assert_eq!(payments.run_due_jobs().await.unwrap(), 1);
    assert_eq!(raw_status(&world, &id).await, "succeeded");
    assert_eq!(payments.queued(JobKind::Verify).await.unwrap(), 0);
    assert_eq!(world.events.count("payment.success"), 1);
}

/// A3.c5
#[tokio::test]
async fn a_callback_for_an_unknown_transaction_is_404() {
    let world = World::start().await;
    let response = world
        .deliver(&callback_body("TST-UNKNOWN", "x", "1.00"))
        .await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(world.events.count("webhook.received"), 1);
    assert_eq!(world.events.count("payment.processing"), 0);
}

/// A3.c6
#[tokio::test]
async fn a_callback_with_another_amount_fails_the_payment_and_raises_the_alarm() {
    let world = World::start().await;
    let (id, page) = world.initiated().await;
    world.switches.update(|s| s.wrong_amount = true);
    world.decide(&page, "pay").await;
    world.until_status(&id, "failed").await;
    assert_eq!(world.alerts("amount_mismatch"), 1);
    assert_eq!(world.events.count("payment.success"), 0);
}

/// The state in the store, past the cache.
pub(crate) async fn raw_status(world: &World, id: &str) -> String {
    sqlx::query_scalar("SELECT status FROM payments WHERE id = $1")
        .bind(id)
        .fetch_one(world.app.database().read())
        .await
        .unwrap()
}
