//! Who is shed, when, and what is told of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    adaptive::{self, AdaptiveLimit},
    clock::ManualClock,
    load_shed::{Cause, Class, Config, ConfigBuilder, LoadShed, Permit, Shed},
};

const MS: Duration = Duration::from_millis(1);
/// One interval of the default settings.
const INTERVAL: Duration = Duration::from_millis(100);
const SHEDDABLE: [Class; 4] = [Class::Background, Class::Low, Class::Normal, Class::High];

fn shedder(config: ConfigBuilder) -> (LoadShed, ManualClock) {
    let clock = ManualClock::new();
    let shed = LoadShed::with_clock(config.build().unwrap(), clock.clone());
    (shed, clock)
}

/// So many intervals in which every call lay in the queue for `delay`.
fn intervals(shed: &LoadShed, clock: &ManualClock, count: u32, delay: Duration) {
    for _ in 0..count {
        shed.report(delay);
        clock.advance(INTERVAL);
    }
    // The first call after an interval ends it.
    drop(shed.try_acquire(Class::Critical));
}

#[test]
fn nobody_is_shed_while_the_shortest_delay_is_short() {
    let (shed, clock) = shedder(Config::builder());
    for _ in 0..100 {
        for delay in [200, 300, 5, 400] {
            shed.report(delay * MS);
        }
        clock.advance(INTERVAL);
        for class in Class::ALL {
            assert!(shed.try_acquire(class).is_ok());
        }
    }
    assert_eq!(shed.snapshot().level, 0);
}

#[test]
fn a_standing_queue_sheds_the_lowest_class_first_and_then_the_next() {
    let (shed, clock) = shedder(Config::builder());
    let mut highest = None;
    for _ in 0..10 {
        intervals(&shed, &clock, 1, 50 * MS);
        let refused = SHEDDABLE.map(|class| (0..16).any(|_| shed.try_acquire(class).is_err()));
        // Those who are shed are the lowest ones.
        assert!(refused.is_sorted_by(|low, high| low >= high), "{refused:?}");
        let now = refused.iter().filter(|refused| **refused).count();
        assert!(Some(now) >= highest, "the level does not fall meanwhile");
        highest = Some(now);
    }
    assert_eq!(highest, Some(4));
    assert_eq!(shed.snapshot().level, 64);
}

#[test]
fn critical_calls_are_admitted_at_every_level() {
    let (shed, clock) = shedder(Config::builder().limit(1));
    let _running = shed.try_acquire(Class::Critical).unwrap();
    for _ in 0..80 {
        for _ in 0..50 {
            assert!(shed.try_acquire(Class::Critical).is_ok());
        }
        intervals(&shed, &clock, 1, Duration::from_secs(60));
    }
    let snapshot = shed.snapshot();
    assert_eq!(snapshot.level, snapshot.max_level);
    assert_eq!(snapshot.shed(Class::Critical), 0);
}

#[test]
fn classes_above_the_highest_are_never_shed() {
    let (shed, clock) = shedder(Config::builder().highest(Class::Low));
    intervals(&shed, &clock, 20, 50 * MS);
    assert_eq!((shed.snapshot().level, shed.snapshot().max_level), (32, 32));
    for class in [Class::Normal, Class::High] {
        assert!((0..50).all(|_| shed.try_acquire(class).is_ok()));
    }
    for class in [Class::Background, Class::Low] {
        assert!((0..50).all(|_| shed.try_acquire(class).is_err()));
    }
}

#[test]
fn a_class_is_shed_by_sixteenths() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 1, 50 * MS);
    assert_eq!(shed.snapshot().level, 4);
    let refused = (0..160).filter(|_| shed.try_acquire(Class::Background).is_err());
    assert_eq!(refused.count(), 40);
    let snapshot = shed.snapshot();
    assert_eq!(snapshot.shed(Class::Background), 40);
    assert_eq!(snapshot.admitted(Class::Background), 120);
}

#[test]
fn as_many_calls_as_are_borne_all_the_time_are_overload() {
    let (shed, clock) = shedder(Config::builder().limit(3));
    let mut running: Vec<Permit> = Vec::new();
    for _ in 0..3 {
        running.push(shed.try_acquire(Class::Normal).unwrap());
    }
    // The third found two.
    clock.advance(INTERVAL);
    drop(shed.try_acquire(Class::High));
    assert_eq!(shed.snapshot().level, 0);
    clock.advance(INTERVAL);
    let shed_now = |class| shed.try_acquire(class).err();
    assert_eq!(shed_now(Class::High), None);
    assert_eq!(shed.snapshot().level, 4);
    let refused = (0..16).find_map(|_| shed_now(Class::Background)).unwrap();
    assert_eq!(
        (refused.cause, refused.reason()),
        (Cause::Concurrency, "concurrency")
    );
    // One short moment with room is enough.
    running.clear();
    drop(shed.try_acquire(Class::High));
    clock.advance(INTERVAL);
    drop(shed.try_acquire(Class::High));
    assert_eq!(shed.snapshot().level, 4);
}

/// Else the level would fall as soon as nobody is admitted any more.
#[test]
fn calls_that_are_shed_see_how_many_run() {
    let (shed, clock) = shedder(Config::builder().limit(1));
    let _running = shed.try_acquire_owned(Class::Critical).unwrap();
    clock.advance(INTERVAL);
    drop(shed.try_acquire(Class::Background));
    for _ in 0..10 {
        clock.advance(INTERVAL);
        drop(shed.try_acquire(Class::Background));
    }
    assert_eq!(shed.snapshot().level, 64);
}

#[test]
fn a_limit_of_0_that_is_followed_counts_as_1() {
    let (shed, clock) = shedder(Config::builder());
    shed.follow(|| 0);
    for _ in 0..3 {
        drop(shed.try_acquire(Class::Low));
        clock.advance(INTERVAL);
    }
    drop(shed.try_acquire(Class::Low));
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.limit, snapshot.level), (Some(1), 0));
}

#[test]
fn a_delay_without_an_end_is_a_delay() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 1, Duration::MAX);
    assert_eq!(shed.snapshot().level, 4);
}

#[test]
fn the_limit_may_be_one_that_moves() {
    let config = adaptive::Config::builder().initial_limit(2).min_limit(1);
    let upstream = AdaptiveLimit::new(config.build().unwrap());
    let (shed, clock) = shedder(Config::builder());
    let limit = upstream.clone();
    shed.follow(move || limit.limit());
    let _running: Vec<_> = (0..2)
        .map(|_| shed.try_acquire(Class::High).unwrap())
        .collect();
    clock.advance(INTERVAL);
    for _ in 0..2 {
        drop(shed.try_acquire(Class::Critical));
        clock.advance(INTERVAL);
    }
    drop(shed.try_acquire(Class::Critical));
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.limit, snapshot.level), (Some(2), 12));
    let more = adaptive::Config::builder().initial_limit(50).min_limit(50);
    upstream.set_config(more.build().unwrap());
    for _ in 0..5 {
        clock.advance(INTERVAL);
        drop(shed.try_acquire(Class::Critical));
    }
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.limit, snapshot.level), (Some(50), 11));
}

/// So many intervals in which so much of the CPU was used.
fn used(shed: &LoadShed, clock: &ManualClock, count: u32, share: f64) {
    for _ in 0..count {
        shed.report_cpu(share);
        clock.advance(INTERVAL);
    }
    drop(shed.try_acquire(Class::Critical));
}

#[test]
fn the_cpu_decides_nothing_unless_it_is_said_what_is_borne() {
    let (shed, clock) = shedder(Config::builder());
    used(&shed, &clock, 20, 1.0);
    assert_eq!((shed.snapshot().level, shed.snapshot().cpu), (0, Some(1.0)));
    assert_eq!(Config::default().cpu(), None);
}

#[test]
fn more_of_the_cpu_than_is_borne_is_overload_and_health_checks_are_admitted_all_the_same() {
    let (shed, clock) = shedder(Config::builder().cpu(0.9));
    let (_subscription, events) = shed.subscribe_channel(8);
    used(&shed, &clock, 20, 0.9);
    assert_eq!(shed.snapshot().level, 0, "that much is borne");
    used(&shed, &clock, 1, 0.95);
    let event = events.try_recv().unwrap();
    assert_eq!((event.from, event.to, event.cause), (0, 4, Cause::Cpu));
    assert!(event.cpu.is_some_and(|cpu| (cpu - 0.95).abs() < 1e-4));
    used(&shed, &clock, 20, 7.0);
    assert_eq!(shed.snapshot().cpu, Some(1.0), "there is no more than all");
    for class in SHEDDABLE {
        let shed = shed.try_acquire(class).unwrap_err();
        assert_eq!((shed.cause, shed.reason()), (Cause::Cpu, "cpu"));
    }
    assert!((0..100).all(|_| shed.try_acquire(Class::Critical).is_ok()));
    // Between calm and too much it stays; then it falls.
    used(&shed, &clock, 70, 0.85);
    assert_eq!(shed.snapshot().level, 64);
    used(&shed, &clock, 300, 0.5);
    assert_eq!(shed.snapshot().level, 0);
}

#[test]
fn what_is_no_share_of_the_cpu_sheds_nobody_and_takes_back_what_was_told() {
    for share in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1] {
        let (shed, clock) = shedder(Config::builder().cpu(0.5));
        used(&shed, &clock, 20, share);
        assert_eq!((shed.snapshot().level, shed.snapshot().cpu), (0, None));
        shed.report_cpu(1.0);
        used(&shed, &clock, 1, share);
        assert_eq!(shed.snapshot().level, 0, "{share}");
    }
}

#[test]
fn what_was_told_of_the_cpu_counts_for_as_long_as_calm_must_last_and_not_longer() {
    let (shed, clock) = shedder(Config::builder().cpu(0.5).hold(3));
    shed.report_cpu(1.0);
    let mut levels = Vec::new();
    for _ in 0..6 {
        clock.advance(INTERVAL);
        drop(shed.try_acquire(Class::Critical));
        levels.push((shed.snapshot().level, shed.snapshot().cpu));
    }
    let told = Some(1.0);
    let expected = [
        (4, told),
        (12, told),
        (28, told),
        (28, None),
        (28, None),
        (27, None),
    ];
    assert_eq!(levels, expected);
}

#[test]
fn a_clock_that_steps_back_makes_what_was_told_of_the_cpu_too_old() {
    let (shed, clock) = shedder(Config::builder().cpu(0.5));
    clock.set(Duration::from_secs(60));
    shed.report_cpu(1.0);
    clock.set(Duration::from_secs(30));
    drop(shed.try_acquire(Class::Critical));
    assert_eq!((shed.snapshot().level, shed.snapshot().cpu), (0, None));
}

#[test]
fn the_cpu_may_be_asked_for_once_per_interval_and_is_then_not_told() {
    let (shed, clock) = shedder(Config::builder().cpu(0.5));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, back) = (Arc::clone(&asked), shed.downgrade());
    shed.follow_cpu(move || {
        // Outside of any lock.
        let level = back().unwrap().snapshot().level;
        let mut asked = answers.lock().unwrap();
        asked.push(level);
        if asked.len() < 3 { 0.8 } else { f64::NAN }
    });
    for _ in 0..4 {
        for _ in 0..10 {
            shed.report_cpu(0.1);
            drop(shed.try_acquire(Class::Critical));
        }
        clock.advance(INTERVAL);
    }
    drop(shed.try_acquire(Class::Critical));
    assert_eq!(*asked.lock().unwrap(), [0, 4, 12, 12]);
    assert_eq!((shed.snapshot().level, shed.snapshot().cpu), (12, None));
}

#[test]
fn a_share_of_the_cpu_out_of_its_range_is_named() {
    for share in [0.0, 0.09, 1.0, f64::NAN] {
        let error = Config::builder().cpu(share).build().unwrap_err();
        assert!(error.to_string().contains("cpu"), "{error}");
        assert!(error.to_string().contains("0.1 to 0.99"), "{error}");
    }
    let config: Config = serde_json::from_str(r#"{"cpu": 0.9}"#).unwrap();
    assert_eq!(config.cpu(), Some(0.9));
    let config: Config = serde_json::from_str(r#"{"cpu": "off"}"#).unwrap();
    assert_eq!(config.cpu(), None);
}

#[test]
fn without_calls_it_is_calm() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 10, 50 * MS);
    assert_eq!(shed.snapshot().level, 64);
    clock.advance(Duration::from_secs(19));
    drop(shed.try_acquire(Class::Low));
    assert_eq!(shed.snapshot().level, 0);
    assert!(shed.try_acquire(Class::Background).is_ok());
}

#[test]
fn a_clock_that_steps_back_does_not_stop_it() {
    let (shed, clock) = shedder(Config::builder());
    clock.set(Duration::from_secs(1_000_000));
    intervals(&shed, &clock, 1, 50 * MS);
    assert_eq!(shed.snapshot().level, 4);
    clock.set(Duration::ZERO);
    shed.report(Duration::MAX);
    intervals(&shed, &clock, 1, 60 * MS);
    assert!(shed.snapshot().level > 4);
    clock.set(Duration::MAX);
    shed.report(50 * MS);
    clock.set(Duration::ZERO);
    shed.report(50 * MS);
}

#[test]
fn who_is_shed_is_told_when_to_come_again_the_lowest_last() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 6, 50 * MS);
    let told = SHEDDABLE.map(|class| {
        let refused = shed.try_acquire(class).unwrap_err();
        assert_eq!((refused.class, refused.level), (class, 64));
        assert_eq!(refused.cause, Cause::QueueDelay);
        refused.retry_after()
    });
    // Falls by half a class at most, each after half a second.
    assert_eq!(
        told,
        [4_000, 3_000, 2_000, 1_000].map(Duration::from_millis)
    );
    let text = shed.try_acquire(Class::Low).unwrap_err().to_string();
    assert_eq!(text, "overloaded, calls of class low are shed (level 64)");
}

#[test]
fn who_is_shed_while_the_level_falls_is_told_why_it_rose() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 6, 50 * MS);
    intervals(&shed, &clock, 5, MS);
    let refused = shed.try_acquire(Class::Background).unwrap_err();
    assert_eq!((refused.level, refused.reason()), (63, "queue_delay"));
}

#[test]
fn nobody_is_told_to_come_again_within_a_second() {
    let (shed, clock) = shedder(Config::builder().hold(1));
    intervals(&shed, &clock, 6, 50 * MS);
    let refused = shed.try_acquire(Class::High).unwrap_err();
    // Calm brings the level down in a fifth of one.
    assert_eq!(refused.retry_after(), Duration::from_secs(1));
}

#[test]
fn another_length_of_intervals_holds_for_the_one_that_runs_and_for_who_is_shed() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 6, 50 * MS);
    let longer = Config::builder().interval(3 * INTERVAL).build();
    shed.set_config(longer.unwrap());
    let refused = shed.try_acquire(Class::Background).unwrap_err();
    assert_eq!(refused.retry_after(), Duration::from_secs(12));
    shed.report(60 * MS);
    for (after, delay) in [(2, 50), (1, 60)] {
        clock.advance(after * INTERVAL);
        drop(shed.try_acquire(Class::Critical));
        assert_eq!(shed.snapshot().delay, Some(delay * MS));
    }
}

#[test]
fn subscribers_hear_of_each_move_of_the_level() {
    let (shed, clock) = shedder(Config::builder());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    let again = shed.clone();
    let subscription = shed.subscribe(move |change| {
        // The handle may be used: no lock is held.
        assert_eq!(again.snapshot().level, change.to);
        kept.lock().unwrap().push(change.clone());
    });
    let (_channel, events) = shed.subscribe_channel(1);
    intervals(&shed, &clock, 2, 50 * MS);
    intervals(&shed, &clock, 5, MS);
    shed.reset();
    drop(subscription);
    intervals(&shed, &clock, 1, 50 * MS);
    let moves: Vec<_> = heard
        .lock()
        .unwrap()
        .iter()
        .map(|change| (change.from, change.to, change.cause))
        .collect();
    let (delay, calm) = (Cause::QueueDelay, Cause::Calm);
    assert_eq!(
        moves,
        [
            (0, 4, delay),
            (4, 12, delay),
            (12, 11, calm),
            (11, 0, Cause::ByHand)
        ]
    );
    assert_eq!(heard.lock().unwrap()[0].delay, Some(50 * MS));
    assert_eq!(events.try_recv().unwrap().to, 4);
    let snapshot = shed.snapshot();
    assert_eq!(
        (snapshot.rises, snapshot.falls, snapshot.lost_events),
        (3, 2, 4)
    );
}

/// The interval that was overloaded ends with the first call after a pause.
#[test]
fn a_rise_of_which_a_pause_took_a_part_back_is_no_calm() {
    let (shed, clock) = shedder(Config::builder());
    let (_channel, events) = shed.subscribe_channel(10);
    intervals(&shed, &clock, 5, 50 * MS);
    shed.report(50 * MS);
    clock.advance(600 * MS);
    let shed = shed.try_acquire(Class::Low).unwrap_err();
    let last = events.try_iter().last().unwrap();
    assert_eq!((last.from, last.to, shed.level), (60, 63, 63));
    assert_eq!(last.cause, Cause::QueueDelay);
    assert_eq!(shed.reason(), "queue_delay");
}

#[test]
fn settings_change_while_calls_run() {
    let (shed, clock) = shedder(Config::builder());
    intervals(&shed, &clock, 6, 50 * MS);
    let running = shed.try_acquire_owned(Class::Critical).unwrap();
    let other = Config::builder().highest(Class::Background).target(60 * MS);
    shed.set_config(other.build().unwrap());
    assert_eq!((shed.snapshot().level, shed.snapshot().in_flight), (16, 1));
    assert!(shed.try_acquire(Class::Low).is_ok());
    assert!(shed.try_acquire(Class::Background).is_err());
    // Neither overloaded nor calm by the new target.
    intervals(&shed, &clock, 10, 50 * MS);
    assert_eq!(shed.snapshot().level, 16);
    drop(running);
    assert_eq!(shed.snapshot().in_flight, 0);
}

#[test]
fn a_way_back_keeps_nothing_alive() {
    let (shed, _) = shedder(Config::builder());
    let back = shed.downgrade();
    assert!(back().is_some());
    drop(shed);
    assert!(back().is_none());
}

#[test]
fn a_setting_out_of_its_range_is_named() {
    let cases = [
        (
            Config::builder().interval(Duration::ZERO),
            "interval is 0ns, allowed: 1ms to 1 day",
        ),
        (
            Config::builder().target(101 * MS),
            "target is 101ms, allowed: 1ms to the interval, 100ms",
        ),
        (
            Config::builder().target(Duration::ZERO),
            "target is 0ns, allowed: 1ms to the interval, 100ms",
        ),
        (
            Config::builder().limit(0),
            "limit is 0, allowed: 1 to 1073741824",
        ),
        (Config::builder().hold(0), "hold is 0, allowed: 1 to 1000"),
        (
            Config::builder().highest(Class::Critical),
            "highest is critical, allowed: background, low, normal or high",
        ),
    ];
    for (builder, error) in cases {
        assert_eq!(builder.build().unwrap_err().to_string(), error);
    }
}

#[test]
fn settings_are_read_from_a_file() {
    let config: Config = serde_json::from_str(
        r#"{ "target": "10ms", "interval": "200ms", "limit": 50, "hold": 3, "highest": "normal" }"#,
    )
    .unwrap();
    let same = Config::builder()
        .target(10 * MS)
        .interval(200 * MS)
        .limit(50)
        .hold(3);
    assert_eq!(config, same.highest(Class::Normal).build().unwrap());
    let off: Config = serde_json::from_str(r#"{ "limit": "off" }"#).unwrap();
    assert_eq!(off, Config::default());
    let wrong = serde_json::from_str::<Config>(r#"{ "targt": "10ms" }"#);
    assert!(wrong.unwrap_err().to_string().contains("targt"));
}

#[test]
fn calls_that_are_admitted_or_shed_allocate_nothing() {
    let (shed, clock) = shedder(Config::builder().limit(5));
    intervals(&shed, &clock, 2, 50 * MS);
    let mut refused = 0;
    let count = allocation_counter::measure(|| {
        for _ in 0..100 {
            for class in Class::ALL {
                refused += u32::from(shed.try_acquire(class).is_err());
                drop(shed.try_acquire_owned(class));
            }
            shed.report(50 * MS);
            clock.advance(INTERVAL);
        }
    });
    assert_eq!(count.count_total, 0);
    assert!(refused > 100);
}

#[test]
fn calls_from_many_threads_are_all_counted() {
    let (shed, _) = shedder(Config::builder());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 0..10_000 {
                    let class = Class::ALL[turn % 5];
                    let permit = shed.try_acquire(class);
                    shed.report(Duration::from_micros(turn as u64));
                    drop(permit);
                }
            });
        }
    });
    let snapshot = shed.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert!(
        Class::ALL
            .iter()
            .all(|class| snapshot.admitted(*class) == 8_000)
    );
}

/// The plainest code that could be right, for the signals; how the level moves is the level's own
/// test, and here only whether it may.
#[derive(Default)]
struct Seen {
    delays: Vec<u64>,
    found: Vec<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_no_lower_class_is_admitted_while_a_higher_one_is_shed(
        limit in 1..6_u32,
        steps in prop::collection::vec((0..5_u8, 0..5_usize, 0..60_u64), 1..300),
    ) {
        let (shed, clock) = shedder(Config::builder().limit(limit));
        let mut running = Vec::new();
        let mut seen = Seen::default();
        let mut began = 0;
        let mut now = 0;
        let mut highest = 0;
        for (kind, which, amount) in steps {
            let class = Class::ALL[which];
            let before = shed.snapshot();
            // What the interval showed decides what the first call after it may find.
            let ends = now - began >= 100 && matches!(kind, 0..=2);
            match kind {
                0 | 1 => {
                    let answer: Result<_, Shed> = shed.try_acquire_owned(class);
                    let level = shed.snapshot().level;
                    prop_assert!(answer.is_ok() || (class != Class::Critical && level > 0));
                    // The same decision for all others, in any order.
                    let others = Class::ALL.map(|other| {
                        (0..16).filter(|_| shed.try_acquire(other).is_ok()).count()
                    });
                    prop_assert_eq!(shed.snapshot().level, level);
                    for (low, high) in others.iter().zip(&others[1..]) {
                        prop_assert!(*low == 0 || *high == 16, "{:?}", others);
                    }
                    prop_assert_eq!(others[4], 16);
                    if ends {
                        check(&seen, limit, before.level, level)?;
                        (seen, began) = (Seen::default(), now);
                    }
                    seen.found.push(running.len());
                    running.extend(answer.ok());
                }
                2 => {
                    shed.report(Duration::from_millis(amount));
                    if ends {
                        check(&seen, limit, before.level, shed.snapshot().level)?;
                        (seen, began) = (Seen::default(), now);
                    }
                    seen.delays.push(amount);
                }
                3 if !running.is_empty() => {
                    drop(running.swap_remove(amount as usize % running.len()));
                }
                _ => {
                    // Not so long that whole intervals pass unseen.
                    let most = 199 - (now - began).min(199);
                    now += amount.min(most);
                    clock.set(Duration::from_millis(now));
                }
            }
            highest = highest.max(shed.snapshot().level);
            prop_assert_eq!(shed.snapshot().in_flight as usize, running.len());
        }
        prop_assert!(highest <= 64);
    }
}

/// A rise needs a signal, and a signal that is calm allows none.
fn check(seen: &Seen, limit: u32, before: u32, after: u32) -> Result<(), TestCaseError> {
    let delay = seen.delays.iter().min().is_some_and(|delay| *delay > 5);
    let calls = seen
        .found
        .iter()
        .min()
        .is_some_and(|found| *found >= limit as usize);
    prop_assert!(after <= before || delay || calls, "{before} to {after}");
    prop_assert!(after >= before || !(delay && calls), "{before} to {after}");
    Ok(())
}
