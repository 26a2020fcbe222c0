//! Shared parts of the benchmarks: running an operation on several threads at once, and
//! the names that the table of ratios relies on.
//!
//! A bench is named `policy/scenario/what/threads`. Each group holds its own baseline, in
//! the same run, because only ratios travel from one machine to another.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};

/// The baselines: the bench of a group that the others are divided by.
///
/// A group has one of them at most.
pub const BASELINES: [&str; 3] = ["fetch_add", "governor", "bare_hmac"];

/// On how many threads each operation is measured, all on one object.
pub const THREADS: [usize; 2] = [1, 2];

/// The settings of every group: enough samples for a stable median on a quiet machine.
#[must_use]
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(60)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// Adds `what` to the group for each of [`THREADS`].
///
/// `make` runs once on every thread, before the measurement, and gives what that thread
/// repeats: its own clone of a service, or a reference to what all share.
pub fn on_threads<Op, R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &str,
    make: impl Fn() -> Op + Sync,
) where
    Op: FnMut() -> R,
{
    for threads in THREADS {
        group.bench_function(BenchmarkId::new(what, threads), |b| {
            b.iter_custom(|iterations| run(threads, iterations, &make));
        });
    }
}

/// How long `threads` threads take for `iterations` operations each, from the first start to
/// the last end.
///
/// One thread goes the same way as two, so that both pay the same (a spawned thread, no
/// criterion loop).
fn run<Op, R>(threads: usize, iterations: u64, make: &(impl Fn() -> Op + Sync)) -> Duration
where
    Op: FnMut() -> R,
{
    let waiting = AtomicUsize::new(threads);
    let spans = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut op = make();
                    // Not `std::sync::Barrier`: it wakes its waiters one after the other,
                    // tens of microseconds apart.
                    waiting.fetch_sub(1, Ordering::AcqRel);
                    while waiting.load(Ordering::Acquire) > 0 {
                        spin_loop();
                    }
                    let start = now();
                    for _ in 0..iterations {
                        black_box(op());
                    }
                    (start, now())
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("an operation does not panic"))
            .collect::<Vec<_>>()
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    end.zip(start)
        .map_or(Duration::ZERO, |(end, start)| end - start)
}

/// The wall clock of a measurement.
#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; this is its only clock"
)]
fn now() -> Instant {
    Instant::now()
}
