//! What telemetry tells, against what happened and against what TELEMETRY.md says.
#![cfg(any(feature = "metrics", feature = "tracing"))]

/// A collector of one policy that published once.
#[cfg(feature = "metrics")]
macro_rules! published {
    ($policy:expr) => {{
        let (kept, collector) = (
            super::recorder::Kept::default(),
            resilience_tower::telemetry::Collector::new(),
        );
        collector.add("payments", $policy);
        kept.local(|| collector.publish());
        kept
    }};
}

#[cfg(feature = "metrics")]
mod answers;
#[cfg(feature = "metrics")]
mod calls;
#[cfg(feature = "metrics")]
mod collector;
#[cfg(feature = "metrics")]
mod figures;
#[cfg(feature = "metrics")]
mod figures_attempts;
mod nodes;
#[cfg(feature = "metrics")]
mod recorder;
#[cfg(feature = "metrics")]
mod refusals;
#[cfg(feature = "tracing")]
mod subscriber;
#[cfg(feature = "metrics")]
mod table;
#[cfg(feature = "tracing")]
mod traces;

use std::time::Duration;

#[cfg(feature = "metrics")]
use resilience_core::adaptive::{AdaptiveLimit, Config};
use resilience_core::clock::ManualClock;
use resilience_core::load_shed::{self, Class, LoadShed};

/// An adaptive limit whose calls took so long.
#[cfg(feature = "metrics")]
fn learned(rtt: Duration) -> AdaptiveLimit {
    let clock = ManualClock::new();
    let limit = AdaptiveLimit::with_clock(Config::default(), clock.clone());
    for _ in 0..5 {
        let permits: Vec<_> = (0..10).map(|_| limit.try_acquire().unwrap()).collect();
        clock.advance(rtt);
        permits.into_iter().for_each(|permit| permit.success());
    }
    limit
}

/// A load shedder that admits all.
fn shedder() -> (LoadShed, ManualClock) {
    let clock = ManualClock::new();
    let config = load_shed::Config::builder().limit(30).build().unwrap();
    (LoadShed::with_clock(config, clock.clone()), clock)
}

/// An interval in which all calls lay in a queue for too long.
fn shed_more(shedder: &LoadShed, clock: &ManualClock) {
    shedder.report(Duration::from_millis(50));
    clock.advance(Duration::from_millis(100));
    drop(shedder.try_acquire(Class::Critical));
}

/// The rows of the table in TELEMETRY.md whose header begins with `columns`, cell by cell.
fn documented(columns: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../TELEMETRY.md");
    let mut rows = Vec::new();
    let mut within = false;
    for line in text.lines() {
        if line.starts_with(columns) {
            within = true;
        } else if !line.starts_with('|') {
            within = false;
        } else if within && !line.starts_with("|---") {
            let cells = line.trim_matches('|').split('|');
            rows.push(cells.map(|cell| cell.trim().replace('`', "")).collect());
        }
    }
    assert!(!rows.is_empty(), "there is a table with {columns}");
    rows
}
