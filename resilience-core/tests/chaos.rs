//! Faults on purpose: when, how many, and the same ones again.

use std::{thread, time::Duration};

use allocation_counter::measure;
use proptest::prelude::*;
use resilience_core::chaos::{Abort, Chaos, Config, ConfigBuilder, End, Fault};

const MS: Duration = Duration::from_millis(1);

fn on(config: ConfigBuilder, seed: u64) -> Chaos {
    let chaos = Chaos::with_seed(config.build().unwrap(), seed);
    chaos.switch_on();
    chaos
}

fn fates(chaos: &Chaos, calls: usize) -> Vec<Option<Fault>> {
    (0..calls).map(|_| chaos.draw()).collect()
}

#[test]
fn nothing_happens_until_it_is_switched_on_and_after_it_is_switched_off() {
    let config = Config::builder().error_rate(1.0).build().unwrap();
    let chaos = Chaos::new(config);
    assert_eq!(chaos.draw(), None);
    let other_handle = chaos.clone();
    other_handle.switch_on();
    assert_eq!(chaos.draw().and_then(|fault| fault.end), Some(End::Error));
    other_handle.switch_off();
    assert_eq!(chaos.draw(), None);
    let snapshot = chaos.snapshot();
    assert_eq!(
        (snapshot.on, snapshot.calls, snapshot.errors),
        (false, 1, 1)
    );
}

#[test]
fn settings_alone_switch_nothing_on_and_the_default_hits_nobody() {
    let chaos = Chaos::default();
    chaos.set_config(Config::builder().abort_rate(1.0).build().unwrap());
    assert_eq!(chaos.draw(), None);
    chaos.set_config(Config::default());
    chaos.switch_on();
    assert_eq!(fates(&chaos, 1_000), vec![None; 1_000]);
}

#[test]
fn each_kind_comes_in_its_own_share() {
    let config = Config::builder().latency_rate(0.3).error_rate(0.2);
    let chaos = on(config.abort_rate(0.1).abort(Abort::Silence), 1);
    let mut aborts = 0;
    for fault in fates(&chaos, 100_000).into_iter().flatten() {
        assert!(fault.latency.is_some() || fault.end.is_some());
        assert!(fault.latency.is_none_or(|latency| latency == 100 * MS));
        assert_ne!(fault.end, Some(End::Abort(Abort::Disconnect)));
        aborts += u64::from(fault.end == Some(End::Abort(Abort::Silence)));
    }
    let snapshot = chaos.snapshot();
    // Five standard deviations of the widest.
    let near = |count: u64, share: f64| (count as f64 - share * 100_000.0).abs() < 750.0;
    assert!(near(snapshot.latencies, 0.3), "{snapshot:?}");
    assert!(near(snapshot.errors, 0.2), "{snapshot:?}");
    assert!(near(snapshot.aborts, 0.1), "{snapshot:?}");
    assert_eq!((snapshot.calls, snapshot.aborts), (100_000, aborts));
}

#[test]
fn a_range_of_latency_is_drawn_evenly() {
    let config = Config::builder().latency_rate(1.0).latency(10 * MS);
    let chaos = on(config.latency_max(20 * MS), 1);
    let faults = fates(&chaos, 10_000).into_iter().flatten();
    let latencies: Vec<_> = faults.filter_map(|fault| fault.latency).collect();
    assert_eq!(latencies.len(), 10_000);
    assert!(latencies.iter().all(|l| (10 * MS..20 * MS).contains(l)));
    let mean = latencies.iter().sum::<Duration>() / 10_000;
    assert!((14_900..15_100).contains(&mean.as_micros()), "{mean:?}");
}

#[test]
fn threads_share_one_sequence_of_fates() {
    let config = Config::builder().error_rate(0.25).latency_rate(0.5);
    let sorted = |mut fates: Vec<Option<Fault>>| {
        fates.sort_by_key(|fate| format!("{fate:?}"));
        fates
    };
    let alone = fates(&on(config, 3), 4_000);
    let shared = on(config, 3);
    let mut together = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| fates(&shared, 1_000)))
            .collect();
        for thread in threads {
            together.extend(thread.join().unwrap());
        }
    });
    assert_eq!(sorted(together), sorted(alone));
}

#[test]
fn a_draw_allocates_nothing() {
    let config = Config::builder().error_rate(0.5).latency_rate(0.5);
    let chaos = on(config, 3);
    fates(&chaos, 4);
    let drawn = measure(|| assert!((0..1_000).filter_map(|_| chaos.draw()).count() > 500));
    assert_eq!(drawn.count_total, 0);
}

#[test]
fn a_setting_out_of_its_range_is_named_with_what_is_allowed() {
    let config = Config::builder;
    for (builder, text) in [
        (
            config().latency_rate(1.5),
            "latency_rate is 1.5, allowed: 0 to 1",
        ),
        (
            config().latency_rate(f64::NAN),
            "latency_rate is NaN, allowed: 0 to 1",
        ),
        (
            config().latency(Duration::from_secs(90_000)),
            "latency is 90000s, allowed: 0ns to 1 day",
        ),
        (
            config().latency_max(99 * MS),
            "latency_max is 99ms, allowed: 100ms to 1 day",
        ),
        (
            config().error_rate(-0.1),
            "error_rate is -0.1, allowed: 0 to 1",
        ),
        (
            config().error_rate(0.75).abort_rate(0.5),
            "abort_rate is 0.5, allowed: 0 to 0.25",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), text);
    }
}

#[test]
fn errors_and_aborts_may_be_all_calls() {
    for tenths in 0..=10_u32 {
        let (errors, aborts) = (f64::from(tenths) / 10.0, f64::from(10 - tenths) / 10.0);
        let config = Config::builder().error_rate(errors).abort_rate(aborts);
        let chaos = on(config, 3);
        let hit = fates(&chaos, 1_000).into_iter().flatten();
        assert!(hit.filter(|fault| fault.end.is_some()).count() > 998);
    }
}

#[test]
fn settings_come_from_a_file_and_unknown_ones_are_refused() {
    let file =
        r#"{"latency_rate": 0.1, "latency": "5ms", "latency_max": "1s", "abort": "silence"}"#;
    let config: Config = serde_json::from_str(file).unwrap();
    assert_eq!(config.latency_max(), Some(Duration::from_secs(1)));
    assert_eq!(config.abort(), Abort::Silence);
    for (file, text) in [
        (r#"{"rate": 0.1}"#, "unknown field `rate`"),
        (r#"{"error_rate": 2}"#, "error_rate is 2, allowed: 0 to 1"),
    ] {
        let error = serde_json::from_str::<Config>(file).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_fates_and_a_lower_rate_hits_some_of_the_same_calls(
        seed in any::<u64>(), rate in 0.0..0.5_f64, less in 0.0..1.0_f64,
    ) {
        let of = |rate: f64| {
            let config = Config::builder().latency_rate(rate).error_rate(rate).abort_rate(rate);
            fates(&on(config.latency_max(Duration::from_secs(1)), seed), 200)
        };
        let fates = of(rate);
        prop_assert_eq!(&fates, &of(rate));
        for (more, fewer) in fates.into_iter().zip(of(rate * less)) {
            let Some(fewer) = fewer else { continue };
            let more = more.unwrap();
            prop_assert!(fewer.latency.is_none() || fewer.latency == more.latency);
            prop_assert!(fewer.end.is_none() || fewer.end == more.end);
        }
    }
}
