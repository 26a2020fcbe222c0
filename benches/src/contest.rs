//! Contenders of one group, measured in turns.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode};

use crate::threads::run;

/// How often each group is gone through. One long measurement per contender would hide a
/// machine that changes its pace on the way; the ratios are taken within a round.
pub const ROUNDS: usize = 3;

/// On how many threads each operation is measured, all on one object.
pub const THREADS: [usize; 2] = [1, 2];

/// The settings of every group: short measurements, because there are [`ROUNDS`] of them.
///
/// Only medians are read, so the bootstrap is cut short.
#[must_use]
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .nresamples(1_000)
        .configure_from_args()
}

/// The contenders of one group, ours and theirs.
///
/// Each is given as what it repeats: `make` runs once on every thread before the measurement
/// and answers the operation, which holds its own clone of a service or a reference to what
/// all share. An operation answers whether it did what it is named for; that is asserted for
/// the first one of each sample, so that no bench measures another path than it says.
pub struct Contest<'a> {
    group: &'static str,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    what: &'static str,
    parameter: String,
    /// The time of so many operations.
    measure: Box<dyn Fn(u64) -> Duration + 'a>,
}

impl<'a> Contest<'a> {
    /// A group without contenders.
    #[must_use]
    pub fn new(group: &'static str) -> Self {
        Self {
            group,
            entries: Vec::new(),
        }
    }

    /// Adds `what`, once for each of [`THREADS`].
    #[must_use]
    pub fn threads<Op>(mut self, what: &'static str, make: impl Fn() -> Op + Sync + 'a) -> Self
    where
        Op: FnMut() -> bool,
    {
        let make = Rc::new(make);
        for threads in THREADS {
            let make = Rc::clone(&make);
            self = self.custom(what, threads, move |iterations| {
                run(threads, iterations, &*make)
            });
        }
        self
    }

    /// Adds `what` on one thread, for a parameter of the group.
    #[must_use]
    pub fn sized<Op>(
        self,
        what: &'static str,
        parameter: impl fmt::Display,
        make: impl Fn() -> Op + Sync + 'a,
    ) -> Self
    where
        Op: FnMut() -> bool,
    {
        self.custom(what, parameter, move |iterations| run(1, iterations, &make))
    }

    /// Adds `what`, timed by itself: `measure` answers how long so many operations take.
    #[must_use]
    pub fn custom(
        mut self,
        what: &'static str,
        parameter: impl fmt::Display,
        measure: impl Fn(u64) -> Duration + 'a,
    ) -> Self {
        self.entries.push(Entry {
            what,
            parameter: parameter.to_string(),
            measure: Box::new(measure),
        });
        self
    }

    /// Measures all, [`ROUNDS`] times; each round begins with another contender.
    ///
    /// Criterion keeps the rounds apart by a suffix of the folder (`1`, `1_2`, `1_3`).
    pub fn run(self, c: &mut Criterion) {
        let entries = &self.entries;
        for round in 0..ROUNDS {
            let mut group = c.benchmark_group(self.group);
            group.sampling_mode(SamplingMode::Flat);
            let first = round * entries.len() / ROUNDS;
            let (late, early) = entries.split_at(first);
            for entry in early.iter().chain(late) {
                let id = BenchmarkId::new(entry.what, &entry.parameter);
                group.bench_function(id, |b| b.iter_custom(|n| (entry.measure)(n)));
            }
            group.finish();
        }
    }
}

impl fmt::Debug for Contest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.entries.iter().map(|entry| entry.what);
        f.debug_struct("Contest")
            .field("group", &self.group)
            .field("contenders", &names.collect::<Vec<_>>())
            .finish()
    }
}
