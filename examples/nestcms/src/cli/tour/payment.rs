//! A1 to A3: one payment from click to verified webhook.

use std::time::Duration;

use super::client::{Played, callback, order};
use super::story::{Story, fact, same};
use super::world::{CALL_TIMEOUT, OLD_KEY, World};

/// A1: create.
pub(super) async fn create(world: &World, story: &mut Story) -> Played<()> {
    story.tell("A customer, logged in, asks to pay 49.50 SAR with the key \"order-1\".");
    let body = order("49.50", "SAR");
    let first = world
        .client
        .create("/api/v2/payments", &body, "order-1")
        .await?;
    let id = first.text("id").to_owned();
    story.tell(format!(
        "The application answers {} with payment {id}.",
        first.status
    ));
    story.check(
        "A1.c1",
        "201, state created, exactly one payment.created with that id",
        &[
            same("the status", first.status, 201),
            same("the state", first.text("status"), "created"),
            same("its events", world.story_of(&id), ["payment.created"]),
        ],
    );

    story.tell("The network hiccups and the same request arrives again.");
    let again = world
        .client
        .create("/api/v2/payments", &body, "order-1")
        .await?;
    story.check(
        "A1.c2",
        "200 with the first payment, no second event",
        &[
            same("the status", again.status, 200),
            same("the payment", again.text("id"), id.as_str()),
            same("its events", world.story_of(&id), ["payment.created"]),
        ],
    );

    story.tell("Somebody without a token tries, then amounts and currencies that make no sense.");
    let before = world.events.count("payment.created");
    let nobody = world.client.create_without_token().await?;
    let mut facts = vec![same("without a token", nobody.status, 401)];
    for (amount, currency) in [("0.00", "SAR"), ("-1.00", "SAR"), ("49.50", "XXX")] {
        let answer = world
            .client
            .create("/api/v2/payments", &order(amount, currency), "bad")
            .await?;
        facts.push(same(&format!("{amount} {currency}"), answer.status, 422));
    }
    facts.push(same(
        "new events",
        world.events.count("payment.created") - before,
        0,
    ));
    story.check(
        "A1.c3",
        "401 without a token, 422 for bad amounts, no event",
        &facts,
    );

    story.tell("The cache breaks down (the tour opens its breaker by five failures).");
    let cache = world.breaker("cache")?;
    for _ in 0..5 {
        if let Ok(permit) = cache.try_acquire() {
            permit.failure();
        }
    }
    let state = cache.state().as_str();
    let key = format!("tour-{}", world.client.number());
    let created = world.client.create("/api/v2/payments", &body, &key).await?;
    story.check(
        "A1.c4",
        "with the cache breaker open the payment is created all the same",
        &[
            same("the cache breaker", state, "open"),
            same("the status", created.status, 201),
        ],
    );
    Ok(())
}

/// A2: initiate.
pub(super) async fn initiate(world: &World, story: &mut Story) -> Played<()> {
    story.tell("The customer presses \"pay\": the application asks PayTabs for a payment page.");
    let id = world.client.new_payment().await?;
    let calls = world.breaker("paytabs")?.snapshot().calls;
    let answer = world.client.initiate(&id).await?;
    let snapshot = world.breaker("paytabs")?.snapshot();
    let page = answer.header("location").to_owned();
    story.tell(format!("The browser is sent to {page}."));
    story.check(
        "A2.c1",
        "303 to PayTabs' page, state initiated, one event, one success in the breaker",
        &[
            same("the status", answer.status, 303),
            fact(
                page.starts_with(&world.stack.sandbox_url),
                format!("location {page}"),
            ),
            same("the state", world.payment_state(&id).await?, "initiated"),
            same("events", world.count_of(&id, "payment.initiated"), 1),
            same("calls in the breaker", snapshot.calls, calls + 1),
            same("failures in a row", snapshot.consecutive_failures, 0),
        ],
    );

    story.tell("The customer presses again.");
    let asked = world.stats().payment_request;
    let again = world.client.initiate(&id).await?;
    story.check(
        "A2.c2",
        "409, and PayTabs is not asked again",
        &[
            same("the status", again.status, 409),
            same("calls to PayTabs", world.stats().payment_request, asked),
        ],
    );

    story.tell("PayTabs becomes slower than the application is willing to wait.");
    world.paytabs(|switches| {
        switches.delay_ms = u64::try_from(CALL_TIMEOUT.as_millis()).unwrap_or(400) * 3;
    });
    let id = world.client.new_payment().await?;
    let before = world.breaker("paytabs")?.snapshot().failures;
    let slow = world.client.initiate(&id).await?;
    story.check(
        "A2.c3",
        "504, one failure in the breaker, state stays created",
        &[
            same("the status", slow.status, 504),
            same(
                "failures",
                world.breaker("paytabs")?.snapshot().failures,
                before + 1,
            ),
            same("the state", world.payment_state(&id).await?, "created"),
        ],
    );

    story.tell("PayTabs is up but refuses the request (a 4xx).");
    world.paytabs(|switches| switches.error = Some(400));
    let before = world.breaker("paytabs")?.snapshot().failures;
    let refused = world.client.initiate(&id).await?;
    story.check(
        "A2.c4",
        "502 with a reason; a refusal is no outage, so the breaker counts no failure",
        &[
            same("the status", refused.status, 502),
            fact(!refused.body.is_null(), "an answer without a reason"),
            same(
                "failures",
                world.breaker("paytabs")?.snapshot().failures,
                before,
            ),
        ],
    );
    world.paytabs(|_| {});
    Ok(())
}

/// A3: callback and completion.
pub(super) async fn complete(world: &World, story: &mut Story) -> Played<()> {
    story.tell("The customer pays on the PayTabs page. PayTabs calls back, signed.");
    let (id, page) = world.client.initiated_payment().await?;
    world.client.press(&page, "pay").await?;
    let state = world.client.until(&id, "succeeded").await?;
    let correlation = world.callback_correlation(&id);
    let events: Vec<_> = world
        .events
        .events()
        .iter()
        .filter(|event| Some(&event.correlation_id) == correlation.as_ref())
        .map(|event| event.event_type())
        .collect();
    story.tell(format!(
        "The events of the callback: {}.",
        events.join(", ")
    ));
    story.check(
        "A3.c1",
        "succeeded, and the events came in the order of the flow",
        &[
            same("the state", state, "succeeded"),
            same(
                "the events",
                events,
                [
                    "webhook.validated",
                    "webhook.received",
                    "payment.processing",
                    "payment.success",
                    "payment.status_changed",
                ],
            ),
        ],
    );

    story.tell("PayTabs sends another payment's callback twice, as networks do.");
    world.paytabs(|switches| switches.duplicates = true);
    let acknowledged = world.stats().callbacks_acknowledged;
    let (id, page) = world.client.initiated_payment().await?;
    world.client.press(&page, "pay").await?;
    let state = world.client.until(&id, "succeeded").await?;
    let both = world
        .eventually(|| world.stats().callbacks_acknowledged >= acknowledged + 2)
        .await;
    story.check(
        "A3.c2",
        "both acknowledged, one payment.success, one payment.status_changed",
        &[
            same("the state", state, "succeeded"),
            fact(both, "the second was not acknowledged"),
            same("successes", world.count_of(&id, "payment.success"), 1),
            same("changes", world.count_of(&id, "payment.status_changed"), 1),
        ],
    );

    story.tell("A callback says \"paid\", but asked directly PayTabs says \"declined\".");
    world.paytabs(|switches| switches.decline_verification = true);
    let (id, page) = world.client.initiated_payment().await?;
    world.client.press(&page, "pay").await?;
    let state = world.client.until(&id, "failed").await?;
    story.check(
        "A3.c3",
        "the verification decides: failed, payment.failed, no payment.success",
        &[
            same("the state", state, "failed"),
            same("failures", world.count_of(&id, "payment.failed"), 1),
            same("successes", world.count_of(&id, "payment.success"), 0),
        ],
    );
    put_off(world, story).await?;
    strange(world, story).await
}

/// A3.c4: the breaker is open when the callback comes.
async fn put_off(world: &World, story: &mut Story) -> Played<()> {
    story.tell("A customer pays just as the PayTabs API goes down and its breaker opens.");
    world.paytabs(|switches| switches.hold_callbacks = true);
    let (id, page) = world.client.initiated_payment().await?;
    world.client.press(&page, "pay").await?;
    let acknowledged = world.stats().callbacks_acknowledged;
    world
        .stack
        .switches
        .update(|switches| switches.error = Some(503));
    for _ in 0..5 {
        let other = world.client.new_payment().await?;
        world.client.initiate(&other).await?;
    }
    let breaker = world.breaker("paytabs")?.state().as_str();
    world
        .stack
        .switches
        .update(|switches| switches.hold_callbacks = false);
    let acked = world
        .eventually(|| world.stats().callbacks_acknowledged > acknowledged)
        .await;
    let during = world.payment_state(&id).await?;
    story.tell("The callback was acknowledged; PayTabs comes back and the queued job asks it.");
    world.paytabs(|_| {});
    // The job waits as long as the breaker does.
    let wait = world.jump_to_probe()?;
    world.stack.wall.jump(wait);
    let after = world.client.until(&id, "succeeded").await?;
    story.check(
        "A3.c4",
        "acknowledged, processing, finished by the job after recovery",
        &[
            same("the breaker", breaker, "open"),
            fact(acked, "the callback was not acknowledged"),
            same("the state meanwhile", during, "processing"),
            same("the state afterwards", after, "succeeded"),
            same("successes", world.count_of(&id, "payment.success"), 1),
        ],
    );
    world.heal().await
}

/// A3.c5 and A3.c6: references and amounts that do not fit.
async fn strange(world: &World, story: &mut Story) -> Played<()> {
    story.tell("A correctly signed callback names a transaction nobody knows.");
    let received = world.events.count("webhook.received");
    let changes = world.events.count("payment.status_changed");
    let delivery = super::client::Delivery::signed(
        OLD_KEY,
        world.now(),
        &world.client.partner(),
        callback("TST-UNKNOWN", "A"),
    );
    let unknown = world.client.deliver(&delivery).await?;
    story.check(
        "A3.c5",
        "404, counted as received, no state change",
        &[
            same("the status", unknown.status, 404),
            same(
                "received",
                world.events.count("webhook.received"),
                received + 1,
            ),
            same(
                "changes",
                world.events.count("payment.status_changed"),
                changes,
            ),
        ],
    );

    story.tell("A callback names one riyal more than was agreed.");
    world.paytabs(|switches| switches.wrong_amount = true);
    let alerts = world.alerts("amount_mismatch");
    let (id, page) = world.client.initiated_payment().await?;
    world.client.press(&page, "pay").await?;
    let state = world.client.until(&id, "failed").await?;
    story.check(
        "A3.c6",
        "failed, and a security alert",
        &[
            same("the state", state, "failed"),
            same("alerts", world.alerts("amount_mismatch"), alerts + 1),
        ],
    );
    world.paytabs(|_| {});
    Ok(())
}

/// A6: time runs out. Needs the wall clock to jump.
pub(super) async fn time_out(world: &mut World, story: &mut Story) -> Played<()> {
    story.tell("A customer gets a payment page and closes the laptop. (The tour moves the");
    story.tell("application's wall clock 31 minutes ahead; nobody waits for real.)");
    let (id, page) = world.client.initiated_payment().await?;
    world.jump(Duration::from_secs(31 * 60)).await?;
    let state = world.client.until(&id, "timed_out").await?;
    // A scan takes a batch; the payments of earlier scenes are due as well.
    while world.stack.state.payments().expire_due().await? > 0 {}
    let again = world.stack.state.payments().expire_due().await?;
    story.check(
        "A6.c1",
        "timed out with one payment.timeout; a second scan emits nothing",
        &[
            same("the state", state, "timed_out"),
            same("found by a second scan", again, 0),
            same("timeouts", world.count_of(&id, "payment.timeout"), 1),
        ],
    );

    story.tell("The laptop opens again, and the customer pays the page that is still there.");
    let (alerts, refunds) = (world.alerts("late_payment"), world.stats().refunds);
    world.client.press(&page, "pay").await?;
    let alerted = world
        .eventually(|| world.alerts("late_payment") > alerts)
        .await;
    let refunded = world.eventually(|| world.stats().refunds > refunds).await;
    story.check(
        "A6.c2",
        "stays timed out, a late_payment alert, and the queued refund reaches PayTabs",
        &[
            fact(alerted, "no alert"),
            same("the state", world.payment_state(&id).await?, "timed_out"),
            fact(refunded, "PayTabs booked no refund"),
        ],
    );
    Ok(())
}
