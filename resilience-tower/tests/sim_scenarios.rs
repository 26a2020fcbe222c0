//! What the scenarios of `docs/SIMULATION.md` show, as bounds; and that the page shows it.
#![cfg(all(
    feature = "adaptive",
    feature = "balance",
    feature = "breaker",
    feature = "bulkhead",
    feature = "coalesce",
    feature = "hedge",
    feature = "load-shed",
    feature = "retry",
    feature = "test-util",
    feature = "timeout"
))]

use std::{sync::LazyLock, time::Duration};

use resilience_tower::sim::{Bucket, Report};

#[path = "../examples/simulation/page.rs"]
mod page;
#[path = "../examples/simulation/plot.rs"]
mod plot;
#[path = "../examples/simulation/scenarios/mod.rs"]
mod scenarios;

use self::scenarios::{Scenario, secs};

static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(scenarios::all);

/// The report of a stack in a scenario.
fn report(scenario: &str, label: &str) -> &'static Report {
    let scenario = ALL.iter().find(|s| s.name == scenario).unwrap();
    let variant = scenario.variants.iter().find(|v| v.label == label);
    &variant.unwrap().report
}

fn span(report: &Report, from: u64, to: u64) -> Bucket {
    report.between(secs(from)..secs(to))
}

#[test]
fn the_page_and_its_pictures_are_what_the_program_makes() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/");
    let read = |name: &str| std::fs::read_to_string(format!("{docs}{name}")).unwrap();
    let again = "run `cargo run -p resilience-tower --all-features --example simulation`";
    assert_eq!(read("SIMULATION.md"), page::page(&ALL), "{again}");
    for scenario in &*ALL {
        let name = format!("sim/{}.svg", scenario.name);
        let svg = plot::svg(scenario).unwrap();
        assert!(read(&name) == svg, "{name}: {again}");
        assert!(svg.len() < 40_000, "{name}: {}", svg.len());
    }
}

#[test]
fn every_stack_of_a_scenario_gets_the_same_calls() {
    for scenario in ALL.iter().filter(|s| s.name != "flapping") {
        let offered = |report: &Report| {
            let buckets = report.buckets().iter();
            buckets.map(|bucket| bucket.offered).collect::<Vec<_>>()
        };
        let first = offered(&scenario.variants[0].report);
        for variant in &scenario.variants {
            assert_eq!(offered(&variant.report), first, "{}", variant.label);
        }
    }
}

#[test]
fn retries_without_a_budget_keep_an_upstream_down_and_with_one_they_do_not() {
    let naive = report("retry_storm", "3 attempts");
    let budget = report("retry_storm", "retry with budget");
    let breaker = report("retry_storm", "budget and breaker");
    let none = report("retry_storm", "no retries");
    // Retries are worth it while all is well.
    assert!(span(none, 0, 10).share() < 0.995 && span(budget, 0, 10).share() > 0.999);
    // Of the last minute's half nothing gets through, 15 s after the cause has gone.
    assert_eq!(span(naive, 30, 60).good, 0);
    assert_eq!(naive.time_to_recover(secs(15), 0.95), None);
    assert!(span(budget, 30, 60).share() > 0.999);
    assert!(budget.time_to_recover(secs(15), 0.95).unwrap() <= secs(6));
    assert!(breaker.time_to_recover(secs(15), 0.95).unwrap() <= secs(1));
    // The budget is a fifth and 10 per second; chance makes some seconds fuller than others.
    assert!(span(naive, 15, 60).amplification() > 2.5);
    assert!(span(budget, 10, 60).amplification() <= 1.25);
    assert!(breaker.total().good >= 5 * naive.total().good);
}

#[test]
fn one_probe_with_jitter_lets_a_cold_upstream_warm_up() {
    let none = report("probes", "no breaker");
    let at_once = report("probes", "all at once");
    let ours = report("probes", "one probe, jitter, slow calls");
    let deaths = [none, at_once, ours].map(|report| report.upstreams()[0].deaths);
    assert!(
        deaths[0] >= 5 && deaths[1] >= 5 && deaths[2] == 0,
        "{deaths:?}"
    );
    assert_eq!(at_once.time_to_recover(secs(15), 0.95), None);
    // It is warm 10 s after it is up.
    assert!(ours.time_to_recover(secs(15), 0.95).unwrap() <= secs(12));
    assert!(ours.total().good >= 4 * at_once.total().good);
    // From the second second of the outage on, at most a probe of each process every second.
    let probes = &ours.upstreams()[0].by_bucket[11..15];
    assert!(probes.iter().all(|calls| *calls <= 30), "{probes:?}");
}

#[test]
fn a_slow_replica_is_found_by_its_latency_and_makes_nobody_wait() {
    let at = |label: &str| {
        let report = report("slow_replica", label);
        let slow = span(report, 10, 40);
        let share = |n: &u64| *n as f64 / slow.upstream_calls as f64;
        let calls: u64 = report.upstreams()[0].by_bucket[10..40].iter().sum();
        (
            slow.latency(0.99).unwrap(),
            share(&calls),
            slow.amplification(),
        )
    };
    let (naive, all) = (at("round robin"), at("peak EWMA"));
    assert!(naive.0 > Duration::from_millis(400), "{naive:?}");
    assert!(5 * all.0 < naive.0, "{all:?} {naive:?}");
    assert!(
        (0.09..0.11).contains(&naive.1) && all.1 < 0.01,
        "{all:?} {naive:?}"
    );
    // The second attempt goes to the next one; one call of five has it at most.
    let hedged = at("hedge");
    assert!(2 * hedged.0 < naive.0 && hedged.2 <= 1.22, "{hedged:?}");
}

#[test]
fn one_call_per_key_fills_a_cold_cache_and_a_call_per_caller_never_does() {
    let each = report("cold_cache", "each call fills");
    let one = report("cold_cache", "one call fills");
    // Both serve everybody before.
    assert!(span(each, 20, 30).share() > 0.999 && span(one, 20, 30).share() > 0.999);
    assert_eq!(each.time_to_recover(secs(30), 0.95), None);
    assert!(span(each, 50, 60).share() < 0.6);
    assert!(one.time_to_recover(secs(30), 0.95).unwrap() <= secs(8));
    assert!(span(one, 40, 60).share() > 0.995);
    // It bears 100 a second.
    let asked = |report| span(report, 31, 60).upstream_calls;
    assert!(
        asked(each) > 5 * asked(one),
        "{} {}",
        asked(each),
        asked(one)
    );
}

#[test]
fn a_short_reset_uses_the_good_times_of_a_flapping_upstream() {
    let none = report("flapping", "no breaker");
    let long = report("flapping", "open for 10 s");
    let ours = report("flapping", "open for 250 to 500 ms");
    let good = [none, long, ours].map(|report| span(report, 10, 50).good);
    assert!(good[2] >= 3 * good[1] && good[2] > good[0], "{good:?}");
    let lost = [none, ours].map(|report| report.upstreams()[0].abandoned);
    assert!(2 * lost[1] < lost[0], "{lost:?}");
    let in_vain: [Duration; 2] = [none, ours].map(|report| report.total().in_vain);
    assert!(2 * in_vain[1] < in_vain[0], "{in_vain:?}");
}

#[test]
fn a_limit_keeps_the_goodput_of_an_overloaded_upstream_at_its_capacity() {
    let none = span(report("overload", "no limit"), 15, 40);
    let ours = span(report("overload", "adaptive limit"), 15, 40);
    assert_eq!(none.good, 0);
    // It bears 200 a second.
    assert!((4_900..=5_100).contains(&ours.good), "{}", ours.good);
    // Twice the work and no more.
    assert!(ours.latency(0.99).unwrap() <= Duration::from_millis(250));
    let after = report("overload", "adaptive limit").time_to_recover(secs(40), 0.95);
    assert_eq!(after, Some(Duration::ZERO));
}

#[test]
fn load_shedding_serves_those_who_matter_where_a_limit_serves_a_share_of_each() {
    let none = span(report("classes", "no limit"), 15, 40);
    let alike = span(report("classes", "all alike"), 15, 40);
    let ours = span(report("classes", "by class"), 15, 40);
    assert_eq!(none.good, 0);
    let of = |bucket: &Bucket| {
        ["critical", "high", "normal", "low"].map(|class| bucket.class(class).share())
    };
    // Two of three calls can be served.
    for share in of(&alike) {
        assert!((0.5..0.8).contains(&share), "{:?}", of(&alike));
    }
    let [critical, high, normal, low] = of(&ours);
    assert_eq!(critical, 1.0);
    assert!(high > 0.99 && normal > 0.8 && low < 0.2, "{:?}", of(&ours));
    // And not by serving much less.
    assert!(
        100 * ours.good > 85 * alike.good,
        "{} {}",
        ours.good,
        alike.good
    );
    assert!(ours.latency(0.99).unwrap() < Duration::from_millis(350));
    let after = report("classes", "by class").time_to_recover(secs(40), 0.95);
    assert!(after.unwrap() <= secs(10), "{after:?}");
}
