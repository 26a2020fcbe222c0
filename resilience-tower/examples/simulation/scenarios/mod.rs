//! The scenarios, each as one story with several stacks.

mod classes;
mod cold_cache;
mod flapping;
mod overload;
mod probes;
mod retry_storm;
mod slow_replica;

use std::time::Duration;

use plotters::chart::SeriesLabelPosition;
use resilience_core::breaker::{self, CircuitBreaker};
use resilience_tower::{
    breaker::BreakerLayer,
    sim::{Report, World},
};

/// One story, and what becomes of it under several stacks.
pub(crate) struct Scenario {
    /// Of the picture's file.
    pub name: &'static str,
    pub title: &'static str,
    /// Markdown.
    pub story: &'static str,
    pub variants: Vec<Variant>,
    /// What the picture shows, over time.
    pub plot: Plot,
    /// What the table tells of each variant.
    pub columns: Vec<Column>,
    /// When something is wrong, in seconds; shaded in the picture.
    pub trouble: Vec<(u64, u64)>,
    pub legend: SeriesLabelPosition,
    /// How far the picture goes up, in highest values.
    pub headroom: f64,
}

/// Head and cell.
pub(crate) type Column = (&'static str, fn(&Report) -> String);

pub(crate) struct Variant {
    pub label: &'static str,
    /// How it is made.
    pub stack: &'static str,
    pub report: Report,
}

impl Variant {
    /// Seconds and values of the picture's line.
    pub(crate) fn series(&self, value: fn(&Report, usize) -> f64) -> Vec<(f64, f64)> {
        let width = self.report.width().as_secs_f64();
        let bucket = |index| ((index as f64 + 0.5) * width, value(&self.report, index));
        (0..self.report.buckets().len()).map(bucket).collect()
    }
}

pub(crate) struct Plot {
    pub y: &'static str,
    pub value: fn(&Report, usize) -> f64,
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn all() -> Vec<Scenario> {
    vec![
        retry_storm::scenario(),
        probes::scenario(),
        slow_replica::scenario(),
        cold_cache::scenario(),
        flapping::scenario(),
        overload::scenario(),
        classes::scenario(),
    ]
}

/// Good calls per second.
fn goodput(report: &Report, bucket: usize) -> f64 {
    report.buckets()[bucket].good as f64 / report.width().as_secs_f64()
}

fn share(report: &Report) -> String {
    percent(report.total().share())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "not in the run".to_owned(),
        |time| format!("{} s", time.as_secs()),
    )
}

/// How long all clients waited for what was no good answer.
fn in_vain(report: &Report) -> String {
    format!("{:.0} s", report.total().in_vain.as_secs_f64())
}

fn peak(report: &Report) -> f64 {
    let calls = report.buckets().iter().map(|bucket| bucket.upstream_calls);
    calls.max().unwrap_or(0) as f64 / report.width().as_secs_f64()
}

fn a_breaker(world: &mut World, config: breaker::ConfigBuilder) -> BreakerLayer {
    let config = config.build().unwrap();
    let breaker = CircuitBreaker::with_seed("upstream", config, world.clock(), world.seed());
    BreakerLayer::from_handle(breaker)
}
