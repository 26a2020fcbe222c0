//! `nestcms tour --latency`: F1.c1 and F2.c1 by the clock.

use std::ops::RangeInclusive;
use std::time::Duration;

use resilience_core::clock::{Clock, SharedClock};
use serde_json::json;

use super::client::{Client, Played};
use super::world::{World, config, settings};
use crate::stack::StackConfig;

/// Reads projects through the gateway, each first from a store that takes its time and then from
/// the cache, and prints how long that took.
pub(super) async fn run() -> Played<()> {
    let world = World::of(StackConfig {
        store_delay: Some(DELAY),
        ..config(settings()?)
    })
    .await?;
    let (mut misses, mut hits) = (Vec::new(), Vec::new());
    for _ in 0..READS {
        let new = json!({ "name": "Timed" });
        let project = world.client.post("/api/v1/projects", &new).await?;
        let path = format!("/api/v1/projects/{}", project.text("id"));
        misses.push(timed(&world.client, &path, "miss").await?);
        hits.push(timed(&world.client, &path, "hit").await?);
    }
    println!("{READS} reads each, in ms        p50     p95     most");
    show("from the cache", &mut hits);
    show("from a store of 5 to 40 ms", &mut misses);
    world.stack.stop().await;
    Ok(())
}

async fn timed(client: &Client, path: &str, wanted: &str) -> Played<Duration> {
    let clock = SharedClock::std();
    let began = clock.now();
    let answer = client.get(path).await?;
    let took = clock.now().saturating_sub(began);
    match answer.header("x-cache") {
        cache if cache == wanted => Ok(took),
        cache => Err(format!("{path}: {cache:?}, expected {wanted}").into()),
    }
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let of = |percent: usize| {
        let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        time.copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    println!(
        "{what:<28} {:>7.2} {:>7.2} {:>7.2}",
        of(50),
        of(95),
        of(100)
    );
}

const READS: usize = 500;
/// What a store takes, as the flow has it.
const DELAY: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(40);
