//! The worst call of a keyed limiter of a million keys, in microseconds: while it meets them
//! (`keyed/stall_fill`), and then while it meets a million others and makes room
//! (`keyed/stall`).
//!
//! One thread calls and is timed. Beside it, in the second part, another one adds keys of its
//! own to the limiters that make room by themselves. `governor` has to be told: there, the
//! second thread calls `retain_recent` and `shrink_to_fit` over and over, as its documentation
//! asks for. Each round has a new limiter; the figure of a round is the worst call of all, and
//! the least of the rounds counts: a clean-up comes in every round, the system's own pauses
//! need not. `nothing` is a loop that takes about as long without a limiter: what the machine
//! itself does to it.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use benches::peers::rate_limit;
use benches::program::{Arguments, report};
use benches::results::Name;
use benches::stopwatch::Stopwatch;

const KEYS: u64 = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    let arguments = Arguments::of_process();
    if !(arguments.wants("keyed/stall") || arguments.wants("keyed/stall_fill")) {
        return;
    }
    let (keys, rounds) = if arguments.quick() {
        (1_000, 1)
    } else {
        (KEYS, ROUNDS)
    };
    let cap = usize::try_from(keys).unwrap_or(usize::MAX);
    let stopwatch = Stopwatch::new();
    let mut worst = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let hasher = RandomState::new();
        let call = |key: u64| _ = black_box((0..8).map(|n| hasher.hash_one(key + n)).sum::<u64>());
        worst[0].push(round(&stopwatch, keys, call, call));

        let ours = rate_limit::keyed_slow(cap);
        let call = |key| assert!(ours.try_acquire(&key).is_ok());
        worst[1].push(round(&stopwatch, keys, call, |key| {
            _ = ours.try_acquire(&key)
        }));

        let rate_net = rate_limit::rate_net_capped(cap);
        let call = |key| _ = black_box(rate_net.check(key));
        worst[2].push(round(&stopwatch, keys, call, |key| _ = rate_net.check(key)));

        let governor = rate_limit::governor_keyed_slow();
        let call = |key| assert!(governor.check_key(&key).is_ok());
        worst[3].push(round(&stopwatch, keys, call, |_| {
            governor.retain_recent();
            governor.shrink_to_fit();
        }));
    }
    let names = ["nothing", "ours", "rate_net", "governor"];
    for (what, worst) in names.into_iter().zip(worst) {
        let (fill, stall): (Vec<_>, Vec<_>) = worst.into_iter().unzip();
        let (fill, stall) = (least(&fill), least(&stall));
        report(
            &arguments,
            &Name::new("keyed/stall_fill", what, 1),
            "µs",
            &fill,
        );
        report(&arguments, &Name::new("keyed/stall", what, 1), "µs", &stall);
    }
}

/// The worst of a million timed calls, and of a million more while `beside` runs over and
/// over in another thread, with keys that no timed call has; in microseconds.
fn round(
    stopwatch: &Stopwatch,
    keys: u64,
    call: impl Fn(u64),
    beside: impl Fn(u64) + Sync,
) -> (f64, f64) {
    let worst = |keys: Range<u64>| {
        let nanos = keys.map(|key| stopwatch.time(|| call(key))).max();
        nanos.unwrap_or_default() as f64 / 1e3
    };
    let fill = worst(0..keys);
    let over = AtomicBool::new(false);
    let stall = thread::scope(|scope| {
        scope.spawn(|| {
            let mut key = 1 << 40;
            // ORDERING: Relaxed, it stops a loop and publishes nothing.
            while !over.load(Ordering::Relaxed) {
                beside(key);
                key += 1;
            }
        });
        let stall = worst(keys..2 * keys);
        over.store(true, Ordering::Relaxed);
        stall
    });
    (fill, stall)
}

fn least(rounds: &[f64]) -> [f64; 1] {
    [rounds.iter().copied().fold(f64::INFINITY, f64::min)]
}
