//! What limits do before a queue: virtual time, seeded arrivals, an upstream of a few servers and a
//! line before them. All figures are calls and milliseconds.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use resilience_core::{
    adaptive::{AdaptiveLimit, Algorithm, Config, ConfigBuilder, OwnedPermit},
    clock::ManualClock,
};

const MEASURING: [Algorithm; 2] = [Algorithm::Vegas, Algorithm::Gradient2];
const ALL: [Algorithm; 3] = [Algorithm::Aimd, Algorithm::Vegas, Algorithm::Gradient2];

/// What the world is like; may change between two runs.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Arrivals per second, at random.
    rate: f64,
    /// Calls that the upstream works on at once; the others queue.
    servers: usize,
    /// How long it works on one: this, give or take a quarter.
    service_ms: f64,
    /// After which the caller gives up, and reports an overload. The upstream works on it still.
    timeout_ms: f64,
}

impl Load {
    /// Bears 500 calls a second, 50 at once.
    const USUAL: Self = Self {
        rate: 500.0,
        servers: 50,
        service_ms: 100.0,
        timeout_ms: 5_000.0,
    };

    fn capacity(self) -> f64 {
        self.servers as f64 * 1000.0 / self.service_ms
    }

    /// Arrivals for so many times what the upstream bears.
    fn times(self, share: f64) -> Self {
        Self {
            rate: self.capacity() * share,
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Arrival,
    Done(u64),
    GiveUp(u64),
}

struct World {
    limit: AdaptiveLimit,
    clock: ManualClock,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    random: u64,
    line: VecDeque<u64>,
    busy: usize,
    calls: HashMap<u64, (u64, OwnedPermit)>,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// Answers per second.
    answers: f64,
    /// The fewest answers in one second.
    worst_second: u32,
    /// Of answers, on average.
    ms: f64,
    lowest: u32,
    highest: u32,
    /// At the end.
    limit: u32,
    refused: u64,
}

impl World {
    fn new(config: ConfigBuilder, seed: u64) -> Self {
        let clock = ManualClock::new();
        let limit = AdaptiveLimit::with_clock(config.build().unwrap(), clock.clone());
        Self {
            limit,
            clock,
            now: 0,
            events: BinaryHeap::new(),
            number: 0,
            random: seed,
            line: VecDeque::new(),
            busy: 0,
            calls: HashMap::new(),
        }
    }

    /// From 0 up to 1; SplitMix64.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn at(&mut self, ms: f64, event: Event) {
        self.number += 1;
        let time = self.now + (ms * 1e6) as u64;
        self.events.push(Reverse((time, self.number, event)));
    }

    fn work(&mut self, call: u64, load: Load) {
        self.busy += 1;
        let ms = load.service_ms * (0.75 + self.random() / 2.0);
        self.at(ms, Event::Done(call));
    }

    fn run(&mut self, seconds: u64, load: Load) -> Seen {
        let begin = self.now;
        let end = begin + seconds * 1_000_000_000;
        let refused = self.limit.snapshot().refused;
        let (mut lowest, mut highest) = (u32::MAX, 0);
        let (mut answers, mut time) = (vec![0_u32; seconds as usize], 0_u64);
        // Whatever the load before was, it arrives by this one.
        self.events
            .retain(|Reverse((_, _, event))| *event != Event::Arrival);
        self.at(0.0, Event::Arrival);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at >= end {
                self.events.push(Reverse((at, 0, event)));
                break;
            }
            self.now = at;
            self.clock.set(Duration::from_nanos(at));
            match event {
                Event::Arrival => self.arrive(load),
                Event::Done(call) => {
                    self.busy -= 1;
                    if let Some((began, permit)) = self.calls.remove(&call) {
                        permit.success();
                        answers[((at - begin) / 1_000_000_000) as usize] += 1;
                        time += at - began;
                    }
                }
                Event::GiveUp(call) => {
                    if let Some((_, permit)) = self.calls.remove(&call) {
                        permit.overloaded();
                    }
                }
            }
            while self.busy < load.servers {
                let Some(call) = self.line.pop_front() else {
                    break;
                };
                self.work(call, load);
            }
            let limit = self.limit.snapshot().limit;
            lowest = lowest.min(limit);
            highest = highest.max(limit);
        }
        self.now = end;
        let all: u32 = answers.iter().sum();
        Seen {
            answers: f64::from(all) / seconds as f64,
            worst_second: answers.into_iter().min().unwrap_or(0),
            ms: time as f64 / 1e6 / f64::from(all.max(1)),
            lowest,
            highest,
            limit: self.limit.snapshot().limit,
            refused: self.limit.snapshot().refused - refused,
        }
    }

    fn arrive(&mut self, load: Load) {
        let wait = -(1.0 - self.random()).ln() * 1000.0 / load.rate;
        self.at(wait, Event::Arrival);
        if let Ok(permit) = self.limit.try_acquire_owned() {
            let call = self.number;
            self.calls.insert(call, (self.now, permit));
            self.line.push_back(call);
            self.at(load.timeout_ms, Event::GiveUp(call));
        }
    }
}

fn world(algorithm: Algorithm) -> World {
    World::new(Config::builder().algorithm(algorithm), 7)
}

#[test]
fn a_run_is_the_same_with_the_same_seed() {
    for algorithm in ALL {
        let runs = [(); 2].map(|()| world(algorithm).run(5, Load::USUAL.times(1.1)));
        assert_eq!(runs[0], runs[1]);
    }
}

/// Netflix/concurrency-limits#165: learned under load, the usual time grows with the queue.
#[test]
fn a_limit_does_not_creep_up_under_a_mild_overload_that_lasts() {
    for algorithm in MEASURING {
        let mut world = world(algorithm);
        world.run(60, Load::USUAL.times(1.1));
        let usual = world.limit.snapshot().usual_rtt.unwrap();
        let seen = world.run(300, Load::USUAL.times(1.1));
        assert!(seen.highest <= 100, "{algorithm:?} {seen:?}");
        assert!(seen.ms < 165.0, "{algorithm:?} {seen:?}");
        assert!(seen.answers > 485.0, "{algorithm:?} {seen:?}");
        let later = world.limit.snapshot().usual_rtt.unwrap();
        let drift = later.as_secs_f64() / usual.as_secs_f64();
        assert!((0.95..1.05).contains(&drift), "{algorithm:?} {drift}");
    }
}

/// What lasts is a timeout, of the calls or of the windows.
#[test]
fn aimd_holds_at_the_time_that_calls_may_take() {
    let config = Config::builder().algorithm(Algorithm::Aimd);
    let mut world = World::new(config.timeout(Duration::from_millis(200)), 7);
    world.run(60, Load::USUAL.times(1.3));
    let seen = world.run(240, Load::USUAL.times(1.3));
    assert!(seen.highest <= 110 && seen.lowest >= 70, "{seen:?}");
    assert!(seen.answers > 490.0 && seen.ms < 200.0, "{seen:?}");
}

/// envoyproxy/envoy#46532: a phase that lets few calls in to measure refuses the others.
#[test]
fn no_second_starves() {
    for algorithm in MEASURING {
        let mut world = world(algorithm);
        world.run(60, Load::USUAL.times(1.3));
        let seen = world.run(300, Load::USUAL.times(1.3));
        assert!(seen.worst_second > 440, "{algorithm:?} {seen:?}");
        assert!(seen.lowest >= 45, "{algorithm:?} {seen:?}");
    }
}

#[test]
fn a_load_below_the_capacity_is_not_refused() {
    for algorithm in ALL {
        let mut world = world(algorithm);
        world.run(60, Load::USUAL.times(0.8));
        let seen = world.run(240, Load::USUAL.times(0.8));
        let calls = seen.answers * 240.0;
        assert!(
            seen.refused as f64 <= calls / 1000.0,
            "{algorithm:?} {seen:?}"
        );
    }
}

#[test]
fn calls_that_take_longer_for_good_do_not_hold_the_limit_down() {
    for algorithm in MEASURING {
        for slower in [1.5, 3.0] {
            // With more servers as well, so that it can work on more calls at once.
            for servers in [50.0, 50.0 * slower] {
                let mut world = world(algorithm);
                world.run(60, Load::USUAL.times(1.3));
                let load = Load {
                    service_ms: Load::USUAL.service_ms * slower,
                    servers: servers as usize,
                    ..Load::USUAL
                };
                world.run(90, load.times(1.3));
                let seen = world.run(60, load.times(1.3));
                let what = format!("{algorithm:?} {slower} {servers} {seen:?}");
                assert!(seen.answers > 0.95 * load.capacity(), "{what}");
                assert!(seen.ms < 1.8 * load.service_ms, "{what}");
            }
        }
    }
}

#[test]
fn calls_that_take_a_third_let_the_limit_rise_to_the_capacity_again() {
    for algorithm in MEASURING {
        let mut world = world(algorithm);
        let slow = Load {
            service_ms: 300.0,
            ..Load::USUAL
        };
        world.run(60, slow.times(1.3));
        world.run(15, Load::USUAL.times(1.3));
        let seen = world.run(60, Load::USUAL.times(1.3));
        let what = format!("{algorithm:?} {seen:?}");
        assert!(seen.answers > 485.0 && seen.worst_second > 440, "{what}");
        // No call takes longer than it did before.
        assert!(seen.ms < 450.0, "{what}");
    }
}

#[test]
fn the_limit_follows_the_capacity_down_and_up() {
    for algorithm in MEASURING {
        let mut world = world(algorithm);
        world.run(60, Load::USUAL.times(1.3));
        let third = Load {
            servers: 17,
            ..Load::USUAL
        };
        world.run(60, third.times(3.0));
        let seen = world.run(120, third.times(3.0));
        let what = format!("{algorithm:?} {seen:?}");
        assert!(seen.highest <= 34 && seen.ms < 180.0, "{what}");
        assert!(seen.answers > 0.97 * third.capacity(), "{what}");
        world.run(60, Load::USUAL.times(1.3));
        let seen = world.run(60, Load::USUAL.times(1.3));
        assert!(seen.answers > 485.0, "{algorithm:?} {seen:?}");
    }
}

/// Netflix/concurrency-limits#137: calls that all take as long as their timeout do not vary, and
/// the limit rises to its maximum.
#[test]
fn calls_that_all_time_out_alike_bring_the_limit_down_and_teach_nothing() {
    for algorithm in ALL {
        let mut world = world(algorithm);
        world.run(60, Load::USUAL.times(1.1));
        let usual = world.limit.snapshot().usual_rtt;
        let dead = Load {
            service_ms: 1e9,
            timeout_ms: 500.0,
            ..Load::USUAL
        };
        world.run(2, dead);
        let seen = world.run(60, dead);
        assert_eq!(seen.limit, 5, "{algorithm:?} {seen:?}");
        let after = world.limit.snapshot().usual_rtt;
        if let (Some(usual), Some(after)) = (usual, after) {
            let drift = after.as_secs_f64() / usual.as_secs_f64();
            assert!((0.9..1.1).contains(&drift), "{algorithm:?} {drift}");
        }
    }
}

#[test]
fn it_does_not_matter_where_a_limit_begins() {
    for algorithm in MEASURING {
        let ends = [5, 20, 300].map(|initial| {
            let config = Config::builder().algorithm(algorithm);
            let mut world = World::new(config.initial_limit(initial), 9);
            world.run(120, Load::USUAL.times(1.3));
            let seen = world.run(60, Load::USUAL.times(1.3));
            assert!(seen.answers > 485.0, "{algorithm:?} {initial} {seen:?}");
            assert!(seen.ms < 190.0, "{algorithm:?} {initial} {seen:?}");
            f64::midpoint(seen.lowest.into(), seen.highest.into())
        });
        let least = ends.iter().copied().fold(f64::MAX, f64::min);
        let most = ends.iter().copied().fold(0.0, f64::max);
        assert!(most / least < 1.25, "{algorithm:?} {ends:?}");
    }
}
