//! How far behind a replica is, by our own clock.

use std::time::Duration;

use super::{config::Config, position::Position};

/// Where the primary was, and when it was asked.
#[derive(Clone, Debug)]
struct Sample<P> {
    /// The first time that it was there.
    since: Duration,
    /// The last time.
    at: Duration,
    position: P,
}

/// Positions of one primary, oldest first.
///
/// A replica that covers the position of a sample has all that was acknowledged before that
/// sample was asked for. When the samples are full, every other one of the older half goes: the
/// recent past stays exact, and what lies further back is told from the next older sample, which
/// makes a lag longer and never shorter.
#[derive(Clone, Debug)]
pub(super) struct Samples<P>(Vec<Sample<P>>);

/// At 50 ms between samples, 3 s back all of them are there in the worst case.
const MOST: usize = 128;

impl<P: Position> Samples<P> {
    pub(super) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, at: Duration, position: P) {
        if let Some(last) = self.0.last_mut() {
            if at < last.at {
                return;
            }
            // An idle primary: who was up to date then is up to date now.
            if last.position == position {
                last.at = at;
                return;
            }
        }
        if self.0.len() == MOST {
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index > MOST / 2 || index % 2 == 1
            });
        }
        self.0.push(Sample {
            since: at,
            at,
            position,
        });
    }

    /// When the primary was asked last.
    pub(super) fn newest(&self) -> Option<Duration> {
        self.0.last().map(|sample| sample.at)
    }

    fn oldest(&self) -> Option<Duration> {
        self.0.first().map(|sample| sample.at)
    }

    /// The time up to which one at `position` has everything.
    pub(super) fn as_of(&self, position: &P) -> Option<Duration> {
        let mut newest_first = self.0.iter().rev();
        let covered = newest_first.find(|sample| position.covers(&sample.position).is_yes());
        covered.map(|sample| sample.at)
    }

    /// When the primary was first seen past what one at `position` has.
    fn lacked(&self, position: &P) -> Option<Duration> {
        let newest_first = self.0.iter().rev();
        let past = newest_first.take_while(|sample| !position.covers(&sample.position).is_yes());
        past.last().map(|sample| sample.since)
    }

    /// When the primary was first seen at `position` or past it.
    pub(super) fn reached(&self, position: &P) -> Option<Duration> {
        let newest_first = self.0.iter().rev();
        let past = newest_first.take_while(|sample| sample.position.covers(position).is_yes());
        past.last().map(|sample| sample.since)
    }
}

/// What is known of a replica's lag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    /// It has everything that was acknowledged before.
    pub(super) as_of: Option<Duration>,
    /// How long after the primary it has a position, as far as looks tell: when it is seen at one it
    /// may have had it for long, so it is as long as it was seen without, the longest lately.
    pub(super) catch_up: Option<Duration>,
    /// It is out, by `max_lag`.
    pub(super) out: bool,
    well_since: Option<Duration>,
}

impl Lag {
    /// The replica was seen at `position`, at `at`.
    pub(super) fn seen<P: Position>(
        &mut self,
        samples: &Samples<P>,
        position: &P,
        at: Duration,
        config: &Config,
    ) {
        let as_of = samples.as_of(position);
        let lacked = samples
            .lacked(position)
            .map(|since| at.saturating_sub(since));
        let had = as_of.filter(|time| Some(*time) > self.as_of);
        let had = had.map(|since| at.saturating_sub(since));
        let known = self.catch_up.or_else(|| had.map(|_| Duration::ZERO));
        self.catch_up = known.map(|known| match (lacked, had) {
            (Some(lacked), _) if lacked > known => lacked,
            (_, Some(had)) if had < known => known - (known - had) / 8,
            _ => known,
        });
        self.as_of = as_of;
        // Without a primary that is seen nobody falls behind.
        let Some(newest) = samples.newest() else {
            return;
        };
        let known = as_of.or_else(|| samples.oldest()).unwrap_or(newest);
        let behind = newest.saturating_sub(known);
        self.judge(behind, as_of.is_some(), at, config);
    }

    /// In or out: out above `max_lag`, and in again after some time at `readmit_lag` or below.
    fn judge(&mut self, behind: Duration, exact: bool, at: Duration, config: &Config) {
        let Some(max) = config.max_lag() else {
            *self = Self {
                out: false,
                well_since: None,
                ..*self
            };
            return;
        };
        if behind > max {
            (self.out, self.well_since) = (true, None);
        } else if !exact || behind > config.readmit_lag() {
            self.well_since = None;
        } else {
            let since = *self.well_since.get_or_insert(at);
            if at.saturating_sub(since) >= config.readmit_after() {
                self.out = false;
            }
        }
    }
}
