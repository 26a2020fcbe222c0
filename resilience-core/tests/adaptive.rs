//! Who is admitted, what counts, and what a change of settings does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    adaptive::{AdaptiveLimit, Algorithm, Change, Config, ConfigBuilder, Estimate, OwnedPermit},
    clock::ManualClock,
};

const MS: Duration = Duration::from_millis(1);

/// Windows of 100 ms and ten calls.
fn aimd(initial: u32) -> (AdaptiveLimit, ManualClock) {
    let config = Config::builder().algorithm(Algorithm::Aimd);
    with(config.initial_limit(initial).min_limit(1))
}

fn with(config: ConfigBuilder) -> (AdaptiveLimit, ManualClock) {
    let clock = ManualClock::new();
    let limit = AdaptiveLimit::with_clock(config.build().unwrap(), clock.clone());
    (limit, clock)
}

/// A window of ten calls of 10 ms each, all at once; the first `overloaded` are turned away.
fn window(limit: &AdaptiveLimit, clock: &ManualClock, overloaded: usize) -> u32 {
    clock.advance(90 * MS);
    let permits: Vec<_> = (0..10).map(|_| limit.try_acquire().unwrap()).collect();
    clock.advance(10 * MS);
    for (number, permit) in permits.into_iter().enumerate() {
        if number < overloaded {
            permit.overloaded();
        } else {
            permit.success();
        }
    }
    limit.snapshot().limit
}

#[test]
fn as_many_calls_run_as_may_and_a_place_that_comes_back_lets_the_next_in() {
    let (limit, _) = aimd(2);
    let first = limit.try_acquire().unwrap();
    let second = limit.try_acquire_owned().unwrap();
    let refused = limit.try_acquire().unwrap_err();
    assert_eq!((refused.limit, refused.in_flight), (2, 2));
    assert_eq!(
        refused.to_string(),
        "as many calls run as the upstream bears (2 run, 2 may)"
    );
    first.success();
    let third = limit.try_acquire().unwrap();
    third.overloaded();
    second.ignore();
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.refused), (0, 1));
}

#[test]
fn a_window_moves_the_limit_once() {
    let (limit, clock) = aimd(20);
    assert_eq!(window(&limit, &clock, 0), 20, "the first is not judged");
    assert_eq!(window(&limit, &clock, 0), 21);
    assert_eq!(window(&limit, &clock, 10), 18);
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.windows, snapshot.overloaded_windows), (2, 1));
    assert_eq!(snapshot.last_rtt, Some(10 * MS));
    assert_eq!(snapshot.usual_rtt, None, "AIMD does not ask");
}

/// Published is any single overloaded call.
#[test]
fn a_stray_overloaded_call_does_not_hold_the_limit_down() {
    let config = Config::builder().algorithm(Algorithm::Aimd);
    let (limit, clock) = with(config.drop_rate(0.2));
    window(&limit, &clock, 0);
    assert_eq!(window(&limit, &clock, 1), 21);
    assert_eq!(window(&limit, &clock, 2), 18, "a fifth");
}

#[test]
fn calls_that_are_ignored_dropped_or_panic_say_nothing_and_give_their_place_back() {
    let (limit, clock) = aimd(20);
    window(&limit, &clock, 0);
    for _ in 0..20 {
        let ignored = limit.try_acquire().unwrap();
        let dropped = limit.try_acquire_owned().unwrap();
        let panics = AssertUnwindSafe(|| {
            let _permit = limit.try_acquire().unwrap();
            panic!("broken");
        });
        clock.advance(100 * MS);
        assert!(catch_unwind(panics).is_err());
        ignored.ignore();
        drop(dropped);
    }
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.windows), (0, 0));
    assert_eq!(snapshot.limit, 20);
}

#[test]
fn a_limit_of_which_less_than_half_is_used_does_not_rise() {
    for algorithm in [Algorithm::Aimd, Algorithm::Vegas, Algorithm::Gradient2] {
        let config = Config::builder().algorithm(algorithm).initial_limit(21);
        let (limit, clock) = with(config);
        for _ in 0..9 {
            assert_eq!(window(&limit, &clock, 0), 21, "{algorithm:?}");
        }
    }
}

#[test]
fn a_limit_that_falls_ends_no_call_and_holds_for_the_next() {
    let (limit, _) = aimd(3);
    let mut running: Vec<_> = (0..3).map(|_| limit.try_acquire().unwrap()).collect();
    let less = Config::builder().initial_limit(1).min_limit(1).max_limit(1);
    limit.set_config(less.build().unwrap());
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight), (1, 3));
    for _ in 0..3 {
        assert!(limit.try_acquire().is_err());
        running.pop();
    }
    assert!(limit.try_acquire().is_ok());
}

#[test]
fn a_change_keeps_what_it_can() {
    let vegas = Config::builder().algorithm(Algorithm::Vegas);
    let (limit, clock) = with(vegas);
    window(&limit, &clock, 0);
    assert_eq!(window(&limit, &clock, 0), 26);
    assert_eq!(limit.snapshot().usual_rtt, Some(10 * MS));
    let wider = vegas.max_limit(50).initial_limit(30).build().unwrap();
    limit.set_config(wider);
    assert_eq!(limit.config(), wider);
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.limit, snapshot.usual_rtt), (26, Some(10 * MS)));
    limit.set_config(vegas.algorithm(Algorithm::Gradient2).build().unwrap());
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.limit, snapshot.usual_rtt), (26, None));
    limit.set_config(wider);
    limit.reset();
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.limit, snapshot.windows), (30, 1));
}

#[test]
fn settings_out_of_range_are_named() {
    for (builder, said) in [
        (
            Config::builder().max_limit(0),
            "max_limit is 0, allowed: 1 to 1073741824",
        ),
        (
            Config::builder().min_limit(1001),
            "min_limit is 1001, allowed: 1 to 1000",
        ),
        (
            Config::builder().initial_limit(4),
            "initial_limit is 4, allowed: 5 to 1000",
        ),
        (
            Config::builder().window(Duration::ZERO),
            "window is 0ns, allowed: 1ms to 1 day",
        ),
        (
            Config::builder().min_samples(0),
            "min_samples is 0, allowed: 1 to 1000000",
        ),
        (
            Config::builder().drop_rate(f64::NAN),
            "drop_rate is NaN, allowed: over 0, up to 1",
        ),
        (
            Config::builder().backoff_ratio(1.0),
            "backoff_ratio is 1, allowed: 0.5 up to, not including, 1",
        ),
        (
            Config::builder().timeout(Duration::ZERO),
            "timeout is 0ns, allowed: 1ms to 1 day",
        ),
        (
            Config::builder().tolerance(0.9),
            "tolerance is 0.9, allowed: 1 to 10",
        ),
        (
            Config::builder().queue_size(0),
            "queue_size is 0, allowed: 1 to 10000",
        ),
        (
            Config::builder().smoothing(1.1),
            "smoothing is 1.1, allowed: over 0, up to 1",
        ),
        (
            Config::builder().long_window(0),
            "long_window is 0, allowed: 1 to 1000000",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), said);
    }
}

#[test]
fn settings_are_read_from_a_file_by_the_same_rules() {
    let json = r#"{ "algorithm": "vegas", "window": "250ms", "timeout": "off", "max_limit": 40 }"#;
    let config: Config = serde_json::from_str(json).unwrap();
    let expected = Config::builder().algorithm(Algorithm::Vegas).timeout(None);
    let expected = expected.window(250 * MS).max_limit(40).build().unwrap();
    assert_eq!(config, expected);
    let error = serde_json::from_str::<Config>(r#"{ "min_limit": 0 }"#).unwrap_err();
    assert!(error.to_string().contains("min_limit is 0"), "{error}");
    assert!(serde_json::from_str::<Config>(r#"{ "max": 1 }"#).is_err());
    assert!(serde_json::from_str::<Config>(r#"{ "algorithm": "bbr" }"#).is_err());
}

#[test]
fn threads_never_run_more_calls_than_may_and_lose_no_place() {
    let config = Config::builder().algorithm(Algorithm::Aimd).max_limit(3);
    let config = config.initial_limit(2).min_limit(1).min_samples(1);
    let limit = AdaptiveLimit::new(config.window(MS).build().unwrap());
    let running = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let (limit, running) = (&limit, &running);
            scope.spawn(move || {
                for step in 0..20_000 {
                    if let Ok(permit) = limit.try_acquire() {
                        assert!(running.fetch_add(1, Ordering::Relaxed) < 3);
                        running.fetch_sub(1, Ordering::Relaxed);
                        match (step + number) % 3 {
                            0 => permit.success(),
                            1 => permit.overloaded(),
                            _ => permit.ignore(),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(limit.snapshot().in_flight, 0);
    assert!((1..=3).contains(&limit.snapshot().limit));
}

#[test]
fn a_call_allocates_nothing() {
    for algorithm in [Algorithm::Aimd, Algorithm::Vegas, Algorithm::Gradient2] {
        let config = Config::builder().algorithm(algorithm).max_limit(20);
        let (limit, clock) = with(config);
        let count = allocation_counter::measure(|| {
            for step in 0..1000 {
                let permit = limit.try_acquire_owned().unwrap();
                clock.advance(10 * MS);
                if step % 3 == 0 {
                    permit.overloaded();
                } else {
                    permit.success();
                }
            }
        });
        assert_eq!(count.count_total, 0);
        assert!(limit.snapshot().windows > 10);
    }
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![
        Algorithm::Aimd,
        Algorithm::Vegas,
        Algorithm::Gradient2,
    ])
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    End(usize, u8),
    Clock(u64),
    Bounds(u32, u32),
    Reset,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Acquire),
        8 => (0_usize..9, 0_u8..4).prop_map(|(which, how)| Step::End(which, how)),
        4 => (0_u64..500).prop_map(Step::Clock),
        1 => any::<u64>().prop_map(Step::Clock),
        1 => (1_u32..9, 0_u32..9).prop_map(|(low, more)| Step::Bounds(low, low + more)),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    /// The model: a call is admitted if fewer run than may, whatever else happened; a clock that
    /// jumps to and fro included.
    #[test]
    fn a_call_is_admitted_exactly_if_fewer_run_than_may(
        algorithm in any_algorithm(),
        steps in prop::collection::vec(any_step(), 0..300),
    ) {
        let mut builder = Config::builder().algorithm(algorithm).window(MS).min_samples(2);
        builder = builder.initial_limit(5).min_limit(1).max_limit(9);
        let (mut low, mut high) = (1, 9);
        let (limit, clock) = with(builder);
        let mut running = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => {
                    let may = limit.snapshot().limit as usize;
                    let permit = limit.try_acquire();
                    prop_assert_eq!(permit.is_ok(), running.len() < may);
                    running.extend(permit);
                }
                Step::End(which, how) if which < running.len() => {
                    let permit = running.swap_remove(which);
                    match how {
                        0 => permit.overloaded(),
                        1 => permit.ignore(),
                        _ => permit.success(),
                    }
                }
                Step::End(..) => {}
                Step::Clock(ms) => clock.set(Duration::from_millis(ms)),
                Step::Bounds(least, most) => {
                    (low, high) = (least, most);
                    builder = builder.initial_limit(low).min_limit(low).max_limit(high);
                    limit.set_config(builder.build().unwrap());
                }
                Step::Reset => {
                    limit.reset();
                    prop_assert_eq!(limit.snapshot().limit, limit.config().initial_limit());
                }
            }
            let snapshot = limit.snapshot();
            prop_assert_eq!(snapshot.in_flight as usize, running.len());
            prop_assert!((low..=high).contains(&snapshot.limit));
        }
    }

    #[test]
    fn an_estimate_stays_in_its_bounds_whatever_it_is_told(
        algorithm in any_algorithm(),
        smoothing in 0.001_f64..=1.0,
        tolerance in 1.0_f64..=10.0,
        long_window in 1_u32..=1_000_000,
        samples in prop::collection::vec(
            (any::<u64>(), any::<u32>(), 0_u8..5, any::<bool>()),
            0..200,
        ),
    ) {
        let config = Config::builder().algorithm(algorithm).max_limit(1 << 30);
        let config = config.smoothing(smoothing).tolerance(tolerance).long_window(long_window);
        let mut estimate = Estimate::new(config.build().unwrap());
        for (time, in_flight, scale, dropped) in samples {
            let rtt = match scale {
                0 => Duration::ZERO,
                1 => Duration::MAX,
                2 => Duration::from_nanos(time % 1_000_000_000),
                3 => Duration::from_nanos(time),
                _ => Duration::from_secs(time),
            };
            let before = estimate.limit();
            let after = estimate.on_sample(rtt, in_flight, dropped);
            prop_assert_eq!(after, estimate.limit());
            prop_assert!((5..=1 << 30).contains(&after));
            if dropped {
                prop_assert!(after < before || after == 5);
            }
        }
    }
}

/// The limits that subscribers were told, in order.
fn told(receiver: &Receiver<Change>) -> Vec<(u32, u32)> {
    let limits = receiver.try_iter().map(|change| match change {
        Change::Limit { from, to } => (from, to),
        other => panic!("{other:?}"),
    });
    limits.collect()
}

/// AIMD with all of `limit` in use, window after window, until the limit is `wanted` or beyond. The
/// last call of each ends it.
fn move_to(limit: &AdaptiveLimit, clock: &ManualClock, wanted: u32) {
    let way = limit.limit().cmp(&wanted);
    let end = |permit: OwnedPermit| match way {
        std::cmp::Ordering::Greater => permit.overloaded(),
        _ => permit.success(),
    };
    while way.is_ne() && limit.limit().cmp(&wanted) == way {
        clock.advance(80 * MS);
        let last = limit.try_acquire_owned().unwrap();
        let others: Vec<_> = (1..limit.limit())
            .map(|_| limit.try_acquire_owned().unwrap())
            .collect();
        clock.advance(10 * MS);
        others.into_iter().for_each(end);
        clock.advance(10 * MS);
        end(last);
    }
}

fn few(initial: u32) -> ConfigBuilder {
    let config = Config::builder().algorithm(Algorithm::Aimd).min_samples(1);
    config.initial_limit(initial).min_limit(4).max_limit(44)
}

#[test]
fn a_limit_is_told_when_it_has_moved_by_a_quarter_since_it_was_told() {
    let (limit, clock) = with(few(20));
    let (_subscription, receiver) = limit.subscribe_channel(16);
    move_to(&limit, &clock, 24);
    assert_eq!(told(&receiver), []);
    move_to(&limit, &clock, 25);
    assert_eq!(told(&receiver), [(20, 25)]);
    // Nor is it told on the way back until it is a quarter again.
    move_to(&limit, &clock, 23);
    assert_eq!((limit.limit() > 20, told(&receiver)), (true, vec![]));
    move_to(&limit, &clock, 20);
    let [(25, to)] = told(&receiver)[..] else {
        panic!("one change, from what was told");
    };
    assert_eq!(to, limit.limit());
}

#[test]
fn a_limit_that_comes_to_its_end_is_told_and_one_that_stays_there_is_not() {
    let (limit, clock) = with(few(40));
    let (_subscription, receiver) = limit.subscribe_channel(16);
    move_to(&limit, &clock, 43);
    assert_eq!(told(&receiver), []);
    move_to(&limit, &clock, 44);
    assert_eq!(told(&receiver), [(40, 44)]);
    // Away by less than a quarter, and back.
    move_to(&limit, &clock, 40);
    assert!(limit.limit() < 44);
    move_to(&limit, &clock, 44);
    assert_eq!((limit.limit(), told(&receiver)), (44, vec![]));
    move_to(&limit, &clock, 4);
    let told = told(&receiver);
    assert!(told.is_sorted_by(|one, next| one.1 == next.0), "{told:?}");
    assert_eq!((told[0].0, told[told.len() - 1].1), (44, 4));
}

#[test]
fn settings_are_told_and_the_limit_after_them() {
    let (limit, _) = with(few(20));
    let (subscription, receiver) = limit.subscribe_channel(2);
    let higher = few(30).min_limit(30).build().unwrap();
    limit.set_config(higher);
    limit.set_config(higher);
    let expected = [Change::Settings(higher), Change::Limit { from: 20, to: 30 }];
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), expected);
    let lower = few(20).build().unwrap();
    limit.set_config(lower);
    limit.reset();
    let expected = [Change::Settings(lower), Change::Limit { from: 30, to: 20 }];
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), expected);
    // The channel holds two.
    limit.set_config(higher);
    limit.set_config(lower);
    assert_eq!(limit.snapshot().lost_events, 1);
    drop(subscription);
    limit.reset();
    assert_eq!(receiver.try_iter().count(), 2);
    assert_eq!(limit.snapshot().lost_events, 1);
}

/// A subscriber may ask the limit itself, and what it panics harms nobody.
#[test]
fn subscribers_are_told_outside_of_any_lock() {
    let (limit, clock) = with(few(43));
    let (heard, asked) = (Arc::new(AtomicU32::new(0)), limit.downgrade());
    let counted = Arc::clone(&heard);
    let subscription = limit.subscribe(move |change| {
        let limit = asked().expect("the limit is there");
        let to = limit.snapshot().limit;
        assert_eq!(*change, Change::Limit { from: 43, to });
        limit.set_config(limit.config());
        limit.reset();
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("of the subscriber");
    });
    move_to(&limit, &clock, 44);
    subscription.forget();
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}
