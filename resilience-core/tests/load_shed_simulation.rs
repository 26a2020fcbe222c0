//! What shedding does to a service with twice as much to do as it can: virtual time, seeded
//! arrivals, some workers and a queue before them, callers who give up. The work on a call whose
//! caller is gone is done all the same.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use resilience_core::{
    clock::ManualClock,
    load_shed::{Class, Config, LoadShed, OwnedPermit},
};

/// Bears 1 000 calls a second: ten at once, ten milliseconds each on average.
const WORKERS: usize = 10;
const SERVICE_US: f64 = 10_000.0;
/// After which an answer is of no use.
const PATIENCE_US: u64 = 500_000;
/// Critical, high, normal, low and background calls in a thousand.
const MIX: [(Class, u64); 5] = [
    (Class::Critical, 10),
    (Class::High, 190),
    (Class::Normal, 400),
    (Class::Low, 200),
    (Class::Background, 200),
];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Arrival,
    Done,
}

struct Call {
    class: Class,
    arrived: u64,
    /// Held until the work is done.
    _permit: Option<OwnedPermit>,
}

/// What became of the calls of each class that came in a span of time.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    came: [u32; 5],
    in_time: [u32; 5],
}

impl Tally {
    fn goodput(&self, class: Class) -> f64 {
        f64::from(self.in_time[class as usize]) / f64::from(self.came[class as usize])
    }

    fn answers(&self) -> u32 {
        self.in_time.iter().sum()
    }
}

struct World {
    shed: Option<LoadShed>,
    clock: ManualClock,
    now: u64,
    random: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    queue: VecDeque<Call>,
    working: BTreeMap<(u64, u64), Call>,
    number: u64,
    tally: Tally,
}

impl World {
    fn new(shed: bool, config: Config, seed: u64) -> Self {
        let clock = ManualClock::new();
        let shed = shed.then(|| LoadShed::with_clock(config, clock.clone()));
        let mut world = Self {
            shed,
            clock,
            now: 0,
            random: seed,
            events: BinaryHeap::new(),
            queue: VecDeque::new(),
            working: BTreeMap::new(),
            number: 0,
            tally: Tally::default(),
        };
        world.events.push(Reverse((0, Event::Arrival)));
        world
    }

    /// SplitMix64, as a share of one.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// So many seconds at so many calls per second.
    fn run(&mut self, seconds: u64, rate: f64) -> Tally {
        let end = self.now + seconds * 1_000_000;
        self.tally = Tally::default();
        while let Some(Reverse((at, event))) = self.events.pop() {
            if at > end {
                self.events.push(Reverse((at, event)));
                break;
            }
            self.now = at;
            self.clock.set(Duration::from_micros(at));
            match event {
                Event::Arrival => {
                    let gap = -(1.0 - self.random()).ln() * 1e6 / rate;
                    self.events
                        .push(Reverse((at + gap as u64 + 1, Event::Arrival)));
                    self.arrive();
                }
                Event::Done => self.done(),
            }
            self.work();
        }
        self.now = end;
        self.tally
    }

    fn arrive(&mut self) {
        let mut lot = (self.random() * 1_000.0) as u64;
        let class = MIX.iter().find_map(|(class, share)| {
            let hit = lot < *share;
            lot = lot.saturating_sub(*share);
            hit.then_some(*class)
        });
        let class = class.unwrap_or_default();
        self.tally.came[class as usize] += 1;
        let permit = match &self.shed {
            None => None,
            Some(shed) => match shed.try_acquire_owned(class) {
                Ok(permit) => Some(permit),
                Err(_) => return,
            },
        };
        self.queue.push_back(Call {
            class,
            arrived: self.now,
            _permit: permit,
        });
    }

    fn work(&mut self) {
        while self.working.len() < WORKERS
            && let Some(call) = self.queue.pop_front()
        {
            if let Some(shed) = &self.shed {
                shed.report(Duration::from_micros(self.now - call.arrived));
            }
            let ends = self.now + (SERVICE_US * (0.5 + self.random())) as u64;
            self.working.insert((ends, self.number), call);
            self.number += 1;
            self.events.push(Reverse((ends, Event::Done)));
        }
    }

    fn done(&mut self) {
        if let Some(((ends, _), call)) = self.working.pop_first()
            && ends - call.arrived <= PATIENCE_US
        {
            self.tally.in_time[call.class as usize] += 1;
        }
    }

    fn level(&self) -> u32 {
        self.shed.as_ref().map_or(0, |shed| shed.snapshot().level)
    }
}

const CAPACITY: f64 = 1_000.0;

fn by_delay() -> Config {
    Config::default()
}

/// Twice as many calls as there are workers, which is a queue of 10 ms: far below the target.
fn by_concurrency() -> Config {
    let config = Config::builder().limit(2 * WORKERS as u32);
    config.target(Duration::from_millis(100)).build().unwrap()
}

#[test]
fn without_shedding_twice_the_load_leaves_nothing_of_any_class() {
    let mut world = World::new(false, by_delay(), 1);
    world.run(10, 0.8 * CAPACITY);
    let tally = world.run(60, 2.0 * CAPACITY);
    for class in Class::ALL {
        assert!(
            tally.goodput(class) < 0.05,
            "{class}: {}",
            tally.goodput(class)
        );
    }
    // And the queue is there still when the load is gone.
    let after = world.run(10, 0.5 * CAPACITY);
    assert!(after.goodput(Class::High) < 0.05);
}

#[test]
fn with_shedding_high_calls_are_served_and_the_service_stays_busy() {
    for config in [by_delay(), by_concurrency()] {
        for seed in 1..=3 {
            let mut world = World::new(true, config, seed);
            let before = world.run(10, 0.8 * CAPACITY);
            assert!(before.answers() > 7_500);
            let tally = world.run(60, 2.0 * CAPACITY);
            assert!(tally.goodput(Class::Critical) > 0.95);
            assert!(tally.goodput(Class::High) > 0.95);
            // What is left goes to the next class, and to nobody below it.
            assert!(tally.answers() > 48_000, "{}", tally.answers());
            assert!(tally.goodput(Class::Normal) > 0.5);
            assert!(tally.goodput(Class::Background) < 0.1);
        }
    }
}

#[test]
fn the_level_settles_while_the_load_does_not_change() {
    let mut world = World::new(true, by_delay(), 5);
    world.run(20, 2.0 * CAPACITY);
    let shed = world.shed.clone().unwrap();
    let (_subscription, events) = shed.subscribe_channel(10_000);
    world.run(60, 2.0 * CAPACITY);
    let changes: Vec<_> = events.try_iter().collect();
    let (low, high) = changes.iter().fold((u32::MAX, 0), |(low, high), change| {
        (low.min(change.to), high.max(change.to))
    });
    // Of 600 intervals.
    assert!(changes.len() < 100, "{}", changes.len());
    assert!(high - low <= 16, "{low} to {high}");
}

#[test]
fn it_ends_in_a_bounded_time_after_the_load_is_gone() {
    for seed in 1..=3 {
        let mut world = World::new(true, by_delay(), seed);
        world.run(60, 3.0 * CAPACITY);
        assert!(world.level() > 0);
        let mut seconds = 0;
        while world.level() > 0 {
            world.run(1, 0.7 * CAPACITY);
            seconds += 1;
            assert!(seconds <= 30, "still at level {}", world.level());
        }
        let after = world.run(10, 0.7 * CAPACITY);
        assert!(Class::ALL.iter().all(|class| after.goodput(*class) > 0.99));
    }
}

#[test]
fn a_burst_that_is_worked_off_sheds_next_to_nothing() {
    let mut world = World::new(true, by_delay(), 9);
    let mut shed = 0;
    for _ in 0..30 {
        world.run(1, 0.6 * CAPACITY);
        // A tenth of a second's work at once.
        for _ in 0..60 {
            world.arrive();
        }
    }
    world.run(1, 0.6 * CAPACITY);
    let snapshot = world.shed.as_ref().unwrap().snapshot();
    for class in Class::ALL {
        shed += snapshot.shed(class);
    }
    assert!(shed < 200, "{shed}");
}
