//! What happened in a run.

use std::{collections::BTreeMap, fmt, ops::Range, time::Duration};

/// The error of a client that waited no longer.
pub(super) const CLIENT_TIMEOUT: &str = "client_timeout";
/// That of a call without an end.
pub(super) const UNFINISHED: &str = "unfinished";

/// What happened in a run: the same, to the last byte of its `Display`, for the same simulation and
/// seed.
///
/// Calls count for the time at which they began, wherever they ended: of those that began in a
/// second, so many had a good end. What came to the upstreams counts for the time at which it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub(super) seed: u64,
    pub(super) width: Duration,
    pub(super) buckets: Vec<Bucket>,
    pub(super) upstreams: Vec<UpstreamReport>,
}

/// The calls that began in a span of a run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Bucket {
    /// Calls of the clients.
    pub offered: u64,
    /// Those that ended well.
    pub good: u64,
    /// The others, by what was wrong. `client_timeout`: the client waited no longer; `unfinished`:
    /// it waited still, long after the last call.
    pub errors: BTreeMap<&'static str, u64>,
    /// The calls by class, where the clients tell of [classes](super::Clients::classes).
    pub classes: BTreeMap<&'static str, ClassReport>,
    /// Attempts of the clients themselves, the first included.
    pub attempts: u64,
    /// What came to all upstreams in this time.
    pub upstream_calls: u64,
    /// How long the clients waited for what was no good end, in all.
    pub in_vain: Duration,
    /// Of the good ones, in milliseconds, shortest first.
    pub(super) latencies: Vec<u32>,
}

/// The calls of one class that began in a span of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClassReport {
    /// Calls of the clients.
    pub offered: u64,
    /// Those that ended well.
    pub good: u64,
}

/// What came to one upstream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpstreamReport {
    /// Its name.
    pub name: String,
    /// Calls in all.
    pub calls: u64,
    /// Calls by buckets.
    pub by_bucket: Vec<u64>,
    /// Calls whose caller was gone before the answer.
    pub abandoned: u64,
    /// How often it died of a full line.
    pub deaths: u64,
}

impl Bucket {
    /// The share of the calls that ended well; 1 when there were none.
    pub fn share(&self) -> f64 {
        share(self.good, self.offered)
    }

    /// The calls of a class; none when there is no such class.
    pub fn class(&self, name: &str) -> ClassReport {
        self.classes.get(name).copied().unwrap_or_default()
    }

    /// Calls of the upstreams per call of the clients; 0 when there were none.
    pub fn amplification(&self) -> f64 {
        if self.offered == 0 {
            0.0
        } else {
            self.upstream_calls as f64 / self.offered as f64
        }
    }

    /// The time within which a share of the good calls (0 to 1) had their answer; nothing when
    /// there were none. Exact, in whole milliseconds.
    pub fn latency(&self, quantile: f64) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        let rank = (quantile * self.latencies.len() as f64).ceil() as usize;
        let ms = self.latencies[rank.saturating_sub(1).min(last)];
        Some(Duration::from_millis(ms.into()))
    }

    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.good += other.good;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        for (name, class) in &other.classes {
            let sum = self.classes.entry(name).or_default();
            sum.offered += class.offered;
            sum.good += class.good;
        }
        self.attempts += other.attempts;
        self.upstream_calls += other.upstream_calls;
        self.in_vain += other.in_vain;
        self.latencies.extend_from_slice(&other.latencies);
    }
}

impl ClassReport {
    /// The share of the calls that ended well; 1 when there were none.
    pub fn share(&self) -> f64 {
        share(self.good, self.offered)
    }
}

fn share(good: u64, offered: u64) -> f64 {
    if offered == 0 {
        1.0
    } else {
        good as f64 / offered as f64
    }
}

impl Report {
    /// How long a bucket is.
    pub const fn width(&self) -> Duration {
        self.width
    }

    /// The run in buckets, in the order of time. What came to the upstreams after the last call
    /// began is in the last one.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The upstreams, in the order in which they were told.
    pub fn upstreams(&self) -> &[UpstreamReport] {
        &self.upstreams
    }

    /// The whole run.
    pub fn total(&self) -> Bucket {
        self.sum(0..self.buckets.len())
    }

    /// The buckets that lie in a span.
    pub fn between(&self, span: Range<Duration>) -> Bucket {
        let count = |time: Duration| time.as_nanos().div_ceil(self.width.as_nanos()) as usize;
        let end = (span.end.as_nanos() / self.width.as_nanos()) as usize;
        self.sum(count(span.start)..end)
    }

    fn sum(&self, range: Range<usize>) -> Bucket {
        let mut sum = Bucket::default();
        let end = range.end.min(self.buckets.len());
        let buckets = self.buckets.get(range.start..end).unwrap_or_default();
        buckets.iter().for_each(|bucket| sum.add(bucket));
        sum.latencies.sort_unstable();
        sum
    }

    /// How long after `time` it takes until all is well for the rest of the run: of the calls of
    /// each later bucket at least `share` (0 to 1) end well. Nothing when it never is.
    ///
    /// Buckets that begin before `time` do not count. Choose a share that chance alone does not
    /// miss, for as many calls as are in a bucket.
    pub fn time_to_recover(&self, time: Duration, share: f64) -> Option<Duration> {
        let bad = self.buckets.iter().rposition(|b| b.share() < share);
        let well = bad.map_or(0, |bad| bad + 1);
        let well = (well < self.buckets.len()).then_some(well)?;
        let begins = self.width * u32::try_from(well).ok()?;
        Some(begins.saturating_sub(time))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}\n\n| from | offered | good | errors | p50 | p99 | upstream calls |\n\
             |---|---|---|---|---|---|---|",
            self.seed
        )?;
        let mut from = Duration::ZERO;
        for bucket in &self.buckets {
            row(f, &format!("{from:?}"), bucket)?;
            from += self.width;
        }
        let total = self.total();
        row(f, "all", &total)?;
        writeln!(f)?;
        for (name, ClassReport { offered, good }) in &total.classes {
            writeln!(f, "class {name}: {offered} calls, {good} of them good")?;
        }
        for upstream in &self.upstreams {
            let UpstreamReport {
                name,
                calls,
                abandoned,
                deaths,
                ..
            } = upstream;
            writeln!(
                f,
                "{name}: {calls} calls, {abandoned} of them abandoned, {deaths} deaths"
            )?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, bucket: &Bucket) -> fmt::Result {
    let latency = |quantile| {
        let time = bucket.latency(quantile);
        time.map_or_else(|| "-".to_owned(), |time| format!("{time:?}"))
    };
    let errors = bucket.errors.iter();
    let errors: Vec<_> = errors.map(|(kind, n)| format!("{n} {kind}")).collect();
    writeln!(
        f,
        "| {name} | {} | {} | {} | {} | {} | {} |",
        bucket.offered,
        bucket.good,
        errors.join(", "),
        latency(0.5),
        latency(0.99),
        bucket.upstream_calls
    )
}
