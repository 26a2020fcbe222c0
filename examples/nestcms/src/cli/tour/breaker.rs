//! A4 and A5: PayTabs falls over, callers get an honest answer, the service recovers.

use std::time::Duration;

use futures_util::future::{join, join_all};

use super::client::{Played, order};
use super::story::{Story, fact, same};
use super::world::{World, settings};
use crate::domain::event::EventData;
use crate::events::listeners::DEDUP_WINDOW;

/// A4: the breaker is open.
pub(super) async fn open(world: &World, story: &mut Story) -> Played<()> {
    story
        .tell("PayTabs answers 503 to everything. After five failures in a row its breaker opens.");
    let opened = world.events.count("circuit.opened");
    world.open_paytabs_breaker().await?;
    let id = world.client.new_payment().await?;
    let (asked, told) = (
        world.stats().payment_request,
        world.events.count("service.unavailable"),
    );
    let refused = world.client.initiate(&id).await?;
    let event = world.last("service.unavailable");
    let rest_ms = event.and_then(|event| match event.data {
        EventData::ServiceUnavailable { retry_after_ms, .. } => Some(retry_after_ms),
        _ => None,
    });
    let header: Option<u64> = refused.header("retry-after").parse().ok();
    story.tell(format!(
        "The next customer hears at once: {}, come back in {} s.",
        refused.status,
        refused.header("retry-after")
    ));
    story.check(
        "A4.c1",
        "503 with the rest of the wait, PayTabs is not called, one service.unavailable",
        &[
            same(
                "circuit.opened",
                world.events.count("circuit.opened"),
                opened + 1,
            ),
            same("the status", refused.status, 503),
            fact(
                header.is_some() && header == rest_ms.map(|ms| ms.div_ceil(1000)),
                format!("retry-after {header:?} s against {rest_ms:?} ms"),
            ),
            same("calls to PayTabs", world.stats().payment_request, asked),
            same("told", world.events.count("service.unavailable"), told + 1),
        ],
    );

    story.tell("Meanwhile the rest of the house is open.");
    let mut facts = Vec::new();
    for path in ["/api/v1/users/me", "/api/v1/projects", "/api/v1/contracts"] {
        facts.push(same(path, world.client.get(path).await?.status, 200));
    }
    story.check("A4.c2", "users, projects and contracts answer 200", &facts);

    let key = format!("tour-{}", world.client.number());
    let asked = world.stats().payment_request;
    let old = world
        .client
        .create("/api/v1/payments", &order("49.50", "SAR"), &key)
        .await?;
    story.check(
        "A4.c3",
        "the older API shares the breaker: refused too",
        &[
            same("the status", old.status, 503),
            same("calls to PayTabs", world.stats().payment_request, asked),
        ],
    );
    alerts(world, story).await
}

/// A4.c4: many refusals, one alert.
async fn alerts(world: &World, story: &mut Story) -> Played<()> {
    story.tell("A hundred customers try while the breaker is open.");
    let payments: Vec<String> = join_all((0..100).map(|_| world.client.new_payment()))
        .await
        .into_iter()
        .collect::<Played<_>>()?;
    // In a minute of their own, which begins with an opening.
    let alerts = world.breaker_alerts().await?;
    world.stack.wall.jump(DEDUP_WINDOW);
    world.jump_to_probe()?;
    world.client.initiate(&payments[0]).await?;
    let told = world.events.count("service.unavailable");
    let answers = join_all(payments.iter().map(|id| world.client.initiate(id))).await;
    let refused = answers
        .iter()
        .filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 503))
        .count();
    let now = world.events.count("service.unavailable");
    story.check(
        "A4.c4",
        "100 events on the bus; the alert listener has sent one alert for this breaker",
        &[
            same("refused", refused, 100),
            same("events", now - told, 100),
            same(
                "alerts in this minute",
                world.breaker_alerts().await? - alerts,
                1,
            ),
        ],
    );
    Ok(())
}

/// A5: half-open.
pub(super) async fn recover(world: &World, story: &mut Story) -> Played<()> {
    story.tell("The reset timeout passes while PayTabs still fails: one probe goes through.");
    let wait = world.jump_to_probe()?;
    story.tell(format!("(The clock jumps {} s ahead.)", wait.as_secs()));
    let before = Counts::of(world);
    let id = world.client.new_payment().await?;
    let asked = world.stats().payment_request;
    let probe = world.client.initiate(&id).await?;
    let after = Counts::of(world);
    let again = world.breaker("paytabs")?.snapshot().retry_after;
    story.check(
        "A5.c2",
        "half-open, one call, open again with a new deadline, 503",
        &[
            same("half-open events", after.half_open - before.half_open, 1),
            same("calls to PayTabs", world.stats().payment_request - asked, 1),
            same("opened events", after.opened - before.opened, 1),
            fact(
                again.is_some_and(|rest| !rest.is_zero()),
                format!("the wait is {again:?}"),
            ),
            same("the status", probe.status, 503),
        ],
    );

    story.tell("PayTabs is repaired. After the next wait one customer's call is the probe.");
    world.paytabs(|_| {});
    world.jump_to_probe()?;
    let before = Counts::of(world);
    let asked = world.stats().payment_request;
    let probe = world.client.initiate(&id).await?;
    let after = Counts::of(world);
    story.check(
        "A5.c1",
        "half-open, one call, closed, service.recovered, and the customer gets 303",
        &[
            same("half-open events", after.half_open - before.half_open, 1),
            same("calls to PayTabs", world.stats().payment_request - asked, 1),
            same("closed events", after.closed - before.closed, 1),
            same("recovered events", after.recovered - before.recovered, 1),
            same("the status", probe.status, 303),
        ],
    );
    crowd(story).await
}

/// A5.c3: fifty callers at once find the breaker half-open. In an application of its own, whose calls
/// do not run out of time: PayTabs answers when all others have heard.
async fn crowd(story: &mut Story) -> Played<()> {
    story.tell("PayTabs fails once more; then fifty customers come at the moment of half-open,");
    story.tell("and PayTabs takes its time with each answer.");
    let mut settings = settings()?;
    settings.paytabs.call_timeout = Duration::from_secs(60);
    let world = World::on(settings).await?;
    world.open_paytabs_breaker().await?;
    let payments: Vec<String> = join_all((0..50).map(|_| world.client.new_payment()))
        .await
        .into_iter()
        .collect::<Played<_>>()?;
    world.paytabs(|switches| switches.delay_ms = 60_000);
    world.jump_to_probe()?;
    let asked = world.stats().payment_request;
    let told = world.events.count("service.unavailable");
    let others = async {
        let unavailable = || world.events.count("service.unavailable") - told;
        world.eventually(|| unavailable() >= 40).await;
        world.paytabs(|_| {});
    };
    let calls = join_all(payments.iter().map(|id| world.client.initiate(id)));
    let (answers, ()) = join(calls, others).await;
    let count = |wanted: u16| {
        answers
            .iter()
            .filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == wanted))
            .count()
    };
    let (through, refused) = (count(303), count(503));
    story.tell(format!("{through} got a page, {refused} the fallback."));
    story.check(
        "A5.c3",
        "at most 10 calls reach PayTabs, the other 40 get the fallback",
        &[
            same(
                "calls to PayTabs",
                world.stats().payment_request - asked,
                10,
            ),
            same("with a page", through, 10),
            same("with the fallback", refused, 40),
        ],
    );
    world.stack.stop().await;
    Ok(())
}

/// Circuit events so far.
struct Counts {
    half_open: usize,
    opened: usize,
    closed: usize,
    recovered: usize,
}

impl Counts {
    fn of(world: &World) -> Self {
        Self {
            half_open: world.events.count("circuit.half_open"),
            opened: world.events.count("circuit.opened"),
            closed: world.events.count("circuit.closed"),
            recovered: world.events.count("service.recovered"),
        }
    }
}
