//! `nestcms tour`: the payment flows as a story, played over real HTTP, with its checks.

mod breaker;
mod client;
mod data;
mod latency;
mod outbox;
mod payment;
mod services;
mod story;
mod tasks;
mod webhook;
mod world;

use std::time::Duration;

use resilience_core::clock::{Clock, SharedClock};

use self::client::Played;
use self::story::Story;
use self::world::World;

/// Measures reads; prints what came of it.
///
/// # Errors
///
/// The stack does not start, or a read is not what it should be.
pub(super) async fn latency() -> super::Outcome {
    latency::run().await?;
    Ok(true)
}

/// Plays the tour; whether every check held.
///
/// # Errors
///
/// The stack does not start.
pub(super) async fn run(services: bool) -> super::Outcome {
    let clock = SharedClock::std();
    let began = clock.now();
    let mut story = Story::default();
    println!("NestCMS tour: a payment from click to verified webhook, and what happens when");
    println!("PayTabs falls over. Everything below is real HTTP through the gateway.");
    let mut world = World::open().await?;
    println!("  gateway      {}", world.stack.gateway_url);
    println!("  application  {}", world.stack.application_url);
    println!("  PayTabs      {} (sandbox)", world.stack.sandbox_url);

    // A bound on the whole, so that a broken build ends with a report and not with a hang.
    if tokio::time::timeout(LIMIT, play(&mut world, &mut story))
        .await
        .is_err()
    {
        story.broke("the tour", "it took too long");
    }
    world.stack.stop().await;
    if services {
        story.chapter("The same content on real engines (F)");
        match tokio::time::timeout(SERVICES_LIMIT, services::play(&mut story)).await {
            Ok(played) => note(&mut story, "F on engines", played),
            Err(_) => story.broke("F on engines", "it took too long"),
        }
    }
    Ok(story.end(clock.now().saturating_sub(began)))
}

async fn play(world: &mut World, story: &mut Story) {
    story.chapter("A customer creates a payment (A1)");
    let played = payment::create(world, story).await;
    note(story, "A1", played);
    story.chapter("PayTabs gives a payment page (A2)");
    let played = payment::initiate(world, story).await;
    note(story, "A2", played);
    story.chapter("PayTabs calls back, the payment completes (A3)");
    let played = payment::complete(world, story).await;
    note(story, "A3", played);
    story.chapter("PayTabs falls over, the breaker opens (A4)");
    let played = breaker::open(world, story).await;
    note(story, "A4", played);
    story.chapter("Half-open: probes decide (A5)");
    let played = breaker::recover(world, story).await;
    note(story, "A5", played);
    story.chapter("Content, its cache and its reports (F)");
    let played = data::cache(world, story).await;
    note(story, "F", played);
    let played = data::without_cache(world, story).await;
    note(story, "F2.c4", played);
    story.chapter("What goes on after the answer (G)");
    let played = tasks::publish(world, story).await;
    note(story, "G", played);
    story.chapter("Webhooks that should not get in (D)");
    let played = webhook::checks(world, story).await;
    note(story, "D", played);
    let played = webhook::rotation(world, story).await;
    note(story, "D.c5", played);
    let played = webhook::replays(world, story).await;
    note(story, "D.c3", played);
    let played = webhook::order(world, story).await;
    note(story, "D.c9", played);
    story.chapter("Time runs out (A6)");
    let played = payment::time_out(world, story).await;
    note(story, "A6", played);
    story.chapter("What happened is told, once and for sure (H8)");
    let played = outbox::published(world, story).await;
    note(story, "H8", played);
    let played = outbox::dead_letter(world, story).await;
    note(story, "G.c2", played);
}

fn note(story: &mut Story, scene: &str, played: Played<()>) {
    if let Err(error) = played {
        story.broke(scene, &error.to_string());
    }
}

const LIMIT: Duration = Duration::from_secs(120);
/// Of the scenes on engines, which have to start.
const SERVICES_LIMIT: Duration = Duration::from_secs(240);
