//! How long single calls through the breaker's layer take: the median and the 99.9th
//! percentile, in nanoseconds, on 1 and 2 threads.
//!
//! Each call stands between two reads of the CPU's time stamp counter. What the two reads
//! cost is measured as `empty` and not taken off. Interrupts and other programs are in the
//! figures; nothing is left out. Some counters move in steps of ten nanoseconds.

use benches::peers::layer;
use benches::program::{Arguments, report};
use benches::results::Name;
use benches::service::{Noop, answered};
use benches::stopwatch::{Histogram, Stopwatch};
use benches::threads::on_each;
use benches::{ROUNDS, THREADS};
use tower_service::Service;

/// Calls of a thread in a round: five hundred lie above the 99.9th percentile.
const CALLS: u32 = 500_000;

fn main() {
    let arguments = Arguments::of_process();
    if !(arguments.wants("layer/breaker_p50") || arguments.wants("layer/breaker_p999")) {
        return;
    }
    let calls = if arguments.quick() { 1_000 } else { CALLS };
    let stopwatch = Stopwatch::new();
    for threads in THREADS {
        let ours = layer::breaker();
        let tower_resilience = layer::tower_resilience_breaker();
        let mut rounds = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            rounds[0].push(round(&stopwatch, threads, calls, &|| || true));
            rounds[1].push(round(&stopwatch, threads, calls, &|| call(Noop)));
            rounds[2].push(round(&stopwatch, threads, calls, &|| call(ours.clone())));
            rounds[3].push(round(&stopwatch, threads, calls, &|| {
                call(tower_resilience.clone())
            }));
        }
        let names = ["empty", "noop", "ours", "tower_resilience"];
        for (what, rounds) in names.into_iter().zip(&rounds) {
            for (group, share) in [("layer/breaker_p50", 0.5), ("layer/breaker_p999", 0.999)] {
                let figures = rounds.iter().map(|round| round.quantile(share) as f64);
                let name = Name::new(group, what, threads);
                report(&arguments, &name, "ns", &figures.collect::<Vec<_>>());
            }
        }
    }
}

/// The times of `calls` calls on each thread, all threads together.
fn round<Op: FnMut() -> bool>(
    stopwatch: &Stopwatch,
    threads: usize,
    calls: u32,
    make: &(impl Fn() -> Op + Sync),
) -> Histogram {
    let prepare = || (make(), Histogram::new());
    let each = on_each(threads, prepare, |(op, histogram)| {
        for _ in 0..calls {
            histogram.add(stopwatch.time(|| assert!(op(), "a call was not answered")));
        }
        histogram.clone()
    });
    let mut all = Histogram::new();
    each.iter().for_each(|histogram| all.merge(histogram));
    all
}

fn call<S: Service<u64>>(mut service: S) -> impl FnMut() -> bool {
    move || answered(&mut service)
}
