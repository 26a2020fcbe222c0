//! What an upstream is like.

use std::{ops::Range, time::Duration};

use super::random::{Times, assert_share, nanos};

/// A model of an upstream: so many servers, a line before them, and what goes wrong when.
///
/// Default: 16 servers, 10 ms give or take a quarter for a call, a line without end, no faults.
///
/// The calls are served in the order in which they come. An upstream does not learn that a caller
/// has gone: it works on that call all the same, as servers do that are not told. So a timeout
/// relieves the caller, and not the upstream.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Upstream {
    pub(super) servers: usize,
    pub(super) service: Times,
    pub(super) line: usize,
    /// How long it is down when it has died of a full line.
    pub(super) restart: Option<u64>,
    pub(super) warm_up: Option<(u64, f64)>,
    pub(super) faults: Vec<(Range<u64>, Fault)>,
}

/// What goes wrong in an upstream for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// It is down: calls are refused at once, and those under way are cut off. It comes back with
    /// an empty line.
    Down,
    /// Calls and answers are lost: a call in it, and one that would be answered in it, waits for
    /// ever.
    Silent,
    /// A share of the calls (0 to 1) fails, after as much work as the others.
    Failing(f64),
    /// The work on a call takes so many times as long.
    Slow(f64),
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            servers: 16,
            service: Times::around(Duration::from_millis(10)),
            line: usize::MAX,
            restart: None,
            warm_up: None,
            faults: Vec::new(),
        }
    }
}

impl Upstream {
    /// One of the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many calls it works on at once; the others stand in line.
    ///
    /// # Panics
    ///
    /// With 0.
    pub fn servers(mut self, servers: usize) -> Self {
        assert!(servers > 0, "an upstream has a server");
        self.servers = servers;
        self
    }

    /// How long the work on a call takes.
    pub const fn service_time(mut self, times: Times) -> Self {
        self.service = times;
        self
    }

    /// How many calls may stand in line; one more is [refused](super::Failure::Full).
    pub const fn line(mut self, places: usize) -> Self {
        self.line = places;
        self
    }

    /// One call more than stand in line kills it: what it has is cut off, and it is down for
    /// `restart`.
    pub fn dies_of_a_full_line(mut self, restart: Duration) -> Self {
        self.restart = Some(nanos(restart));
        self
    }

    /// For so long after it was down, the work takes longer: `factor` times at first, and falling
    /// evenly.
    ///
    /// # Panics
    ///
    /// When the factor is below 1.
    pub fn warm_up(mut self, lasts: Duration, factor: f64) -> Self {
        assert_factor(factor);
        self.warm_up = Some((nanos(lasts), factor));
        self
    }

    /// Something goes wrong in a span of the run. Spans may overlap.
    ///
    /// # Panics
    ///
    /// When a share is not from 0 to 1, or a factor below 1.
    pub fn fault(mut self, span: Range<Duration>, fault: Fault) -> Self {
        match fault {
            Fault::Failing(share) => assert_share(share),
            Fault::Slow(factor) => assert_factor(factor),
            Fault::Down | Fault::Silent => {}
        }
        self.faults
            .push((nanos(span.start)..nanos(span.end), fault));
        self
    }

    /// Something goes wrong again and again in a span of the run: well for `good`, then not for
    /// `bad`, and so on.
    ///
    /// # Panics
    ///
    /// As [`fault`](Self::fault); and when both times are zero.
    pub fn flapping(
        mut self,
        span: Range<Duration>,
        good: Duration,
        bad: Duration,
        fault: Fault,
    ) -> Self {
        assert!(!(good + bad).is_zero(), "a cycle takes time");
        let mut from = span.start + good;
        while from < span.end {
            self = self.fault(from..span.end.min(from + bad), fault);
            from += bad + good;
        }
        self
    }
}

fn assert_factor(factor: f64) {
    assert!(factor >= 1.0 && factor.is_finite(), "a factor is 1 or more");
}
