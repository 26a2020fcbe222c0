//! Running one operation on several threads at once.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long `threads` threads take for `iterations` operations each, from the first start to
/// the last end.
///
/// One thread goes the same way as two, so that both pay the same (a spawned thread, no
/// criterion loop).
///
/// # Panics
///
/// When the first operation of a thread answers `false`: it does not do what it is named for.
pub fn run<Op>(threads: usize, iterations: u64, make: &(impl Fn() -> Op + Sync)) -> Duration
where
    Op: FnMut() -> bool,
{
    let spans = on_each(
        threads,
        || {
            let mut op = make();
            // Not timed: it also pays for what a thread does once.
            assert!(op(), "an operation does not do what it is named for");
            op
        },
        |op| {
            let start = now();
            for _ in 0..iterations {
                black_box(op());
            }
            (start, now())
        },
    );
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    end.zip(start)
        .map_or(Duration::ZERO, |(end, start)| end - start)
}

/// Prepares on each of `threads` threads, waits until all are prepared, then lets all work at
/// once; the answers, in no order.
///
/// # Panics
///
/// With the panic of a thread.
pub fn on_each<T, R: Send>(
    threads: usize,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&mut T) -> R + Sync,
) -> Vec<R> {
    let waiting = AtomicUsize::new(threads);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let present = Present(&waiting);
                    let mut prepared = prepare();
                    // Not `std::sync::Barrier`: it wakes its waiters one after the other,
                    // tens of microseconds apart.
                    drop(present);
                    while waiting.load(Ordering::Acquire) > 0 {
                        spin_loop();
                    }
                    work(&mut prepared)
                })
            })
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, R>| match worker.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().map(join).collect()
    })
}

/// One thread that is not ready yet; dropped also by a panic, so that the others go on.
struct Present<'a>(&'a AtomicUsize);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        // ORDERING: pairs with the Acquire load of the others, though it publishes nothing.
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The wall clock of a measurement.
#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; this is its only clock"
)]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_does_all_operations_and_one_that_is_not_timed() {
        let calls = AtomicUsize::new(0);
        run(2, 10, &|| {
            || {
                calls.fetch_add(1, Ordering::Relaxed);
                true
            }
        });
        assert_eq!(calls.load(Ordering::Relaxed), 22);
    }

    #[test]
    #[should_panic(expected = "does not do what it is named for")]
    fn an_operation_that_takes_another_path_is_not_measured() {
        run(2, 10, &|| || false);
    }
}
