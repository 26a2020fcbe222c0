//! A cluster in virtual time: failovers that lose writes, replicas that lag, hang and are built anew,
//! primaries that come back. What the router is told and what it answers is checked against what
//! each node holds.
//!
//! A million decisions; `ROUTE_DECISIONS=100000000` for more. Each world has its own seed, and each
//! core its own worlds.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use resilience_core::{
    balance::{self, Endpoint},
    clock::{Clock, ManualClock},
    route::*,
};

const NODES: usize = 4;
const NAMES: [&str; NODES] = ["a", "b", "c", "d"];
const TICK: Duration = Duration::from_millis(10);
const TTL: Duration = Duration::from_millis(200);
const CLUSTER: u64 = 7;
const SESSIONS: usize = 8;

/// Vigna's SplitMix64.
struct Dice(u64);

impl Dice {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, many: u64) -> u64 {
        self.bits() % many
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    up: bool,
    primary: bool,
    epoch: u64,
    position: u64,
    incarnation: u64,
    /// Ticks without replay.
    stopped: u64,
    /// Ticks until it is back, as what it was.
    back: u64,
    /// It could be reached when another took over from it.
    replaced_alive: bool,
    /// When it was last back, and who was of a newer epoch then.
    returned: Duration,
    newer_then: [bool; NODES],
    /// When a look at it was last not answered.
    missed: Option<Duration>,
}

/// What became of the primary, and of those who come after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Calm,
    /// The primary went; ticks until another is promoted.
    Headless(u64),
}

struct World {
    dice: Dice,
    clock: ManualClock,
    router: Router<Lsn, usize>,
    nodes: [Node; NODES],
    /// By epoch less one: where those before it ended.
    histories: Vec<Arc<[Fork<Lsn>]>>,
    phase: Phase,
    /// Answers under way: when they come, of whom, of which epoch.
    answers: Vec<(Duration, usize, u64, Observation<Lsn>)>,
    tokens: [Option<Token<Lsn>>; SESSIONS],
    /// The last writes, and when they were acknowledged.
    acknowledged: VecDeque<(Duration, Token<Lsn>)>,
    /// When the router was first told of an epoch, by epoch less one.
    told: Vec<Option<Duration>>,
    tick: u64,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    worlds: u64,
    decisions: u64,
    reads: u64,
    bounded: u64,
    on_replicas: u64,
    writes: u64,
    refused: u64,
    failovers: u64,
    lost: u64,
    diverged: u64,
    zombies: u64,
    rebuilt: u64,
    /// Writes on a primary that was replaced, and of which nobody could know.
    unseen_switches: u64,
    unheard: u64,
    untold: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = ManualClock::new();
        clock.set(Duration::from_secs(1));
        let config = Config::builder()
            .observation_ttl(TTL)
            .max_lag(Duration::from_secs(1))
            .readmit_lag(Duration::from_millis(300))
            .readmit_after(Duration::from_millis(200));
        let router = Router::with_clock(
            config.build().unwrap(),
            balance::Config::default(),
            Some(CLUSTER),
            clock.clone(),
        );
        let nodes = NAMES.iter().enumerate();
        router
            .set_nodes(nodes.map(|(index, name)| Endpoint::new(*name, index)))
            .unwrap();
        let node = |primary| Node {
            up: true,
            primary,
            epoch: 1,
            position: 1,
            incarnation: 1,
            stopped: 0,
            back: 0,
            replaced_alive: false,
            returned: Duration::ZERO,
            newer_then: [false; NODES],
            missed: None,
        };
        Self {
            dice: Dice(seed),
            clock,
            router,
            nodes: [node(true), node(false), node(false), node(false)],
            histories: vec![Arc::default()],
            phase: Phase::Calm,
            answers: vec![],
            tokens: [const { None }; SESSIONS],
            acknowledged: VecDeque::new(),
            told: vec![None],
            tick: 0,
            seen: Seen::default(),
        }
    }

    fn newest(&self) -> u64 {
        self.histories.len() as u64
    }

    /// What a node holds, by what was written and nothing else.
    fn holds(&self, node: usize, token: &Token<Lsn>) -> bool {
        let Node {
            epoch, position, ..
        } = self.nodes[node];
        self.is_in(epoch, token) && token.position.0 <= position
    }

    /// The history of an epoch has a write: no failover since cut it off. One that took over before
    /// it had replayed all of the epoch before that cuts off more than the one before it did.
    fn is_in(&self, epoch: u64, token: &Token<Lsn>) -> bool {
        let forks = self.histories[epoch as usize - 1].iter();
        let mut since = forks.filter(|fork| fork.epoch >= token.epoch);
        token.epoch <= epoch && since.all(|fork| token.position <= fork.position)
    }

    fn step(&mut self) {
        self.tick += 1;
        self.clock.advance(TICK);
        self.faults();
        self.replicate();
        self.ask();
        self.deliver();
        for _ in 0..10 {
            self.call();
        }
    }

    fn faults(&mut self) {
        let newest = self.newest();
        for index in 0..NODES {
            let node = &mut self.nodes[index];
            if !node.up {
                node.back = node.back.saturating_sub(1);
                if node.back == 0 {
                    let zombie = node.primary && node.epoch < newest;
                    self.seen.zombies += u64::from(zombie);
                    self.bring_back(index);
                }
            } else if node.primary && node.epoch < newest && self.dice.one_in(60) {
                self.rebuild(index);
            } else if !node.primary && self.dice.one_in(400) {
                match self.dice.below(4) {
                    0 => {
                        node.up = false;
                        node.back = 1 + self.dice.below(60);
                        // A restart, or a pause.
                        node.incarnation += self.dice.below(2);
                    }
                    1 if node.epoch == newest => self.rebuild(index),
                    _ => node.stopped = self.dice.below(200),
                }
            }
        }
        match self.phase {
            Phase::Calm if self.dice.one_in(300) => self.fail_primary(),
            Phase::Headless(0) => self.promote(),
            Phase::Headless(left) => self.phase = Phase::Headless(left - 1),
            Phase::Calm => {}
        }
    }

    fn bring_back(&mut self, index: usize) {
        let epoch = self.nodes[index].epoch;
        let newer = self.nodes.map(|other| other.epoch > epoch);
        let node = &mut self.nodes[index];
        (node.up, node.returned, node.newer_then) = (true, self.clock.now(), newer);
    }

    fn rebuild(&mut self, index: usize) {
        let newest = self.newest();
        let furthest = self.nodes.iter().filter(|node| node.epoch == newest);
        let furthest = furthest.map(|node| node.position).max().unwrap_or(1);
        // From an old backup, but of this history.
        let position = furthest.saturating_sub(self.dice.below(30)).max(1);
        let node = &mut self.nodes[index];
        *node = Node {
            primary: false,
            epoch: newest,
            position,
            incarnation: node.incarnation + 1,
            ..*node
        };
        self.seen.rebuilt += 1;
    }

    fn primary(&self) -> Option<usize> {
        let newest = self.newest();
        let mut nodes = 0..NODES;
        nodes.find(|index| self.nodes[*index].primary && self.nodes[*index].epoch == newest)
    }

    fn fail_primary(&mut self) {
        let Some(primary) = self.primary() else {
            return;
        };
        if self.dice.one_in(4) {
            // Replaced while it runs.
            self.promote();
            return;
        }
        let node = &mut self.nodes[primary];
        node.up = false;
        // Killed, or stopped: it may be back as the same run. Not before another is promoted.
        node.incarnation += self.dice.below(2);
        let until = 25 + self.dice.below(30);
        // Often so soon that nobody has looked at the new one.
        let later = if self.dice.one_in(2) { 4 } else { 100 };
        node.back = until + 2 + self.dice.below(later);
        self.phase = Phase::Headless(until);
    }

    fn promote(&mut self) {
        let newest = self.newest();
        let able = |node: &Node| node.up && !node.primary && node.epoch == newest;
        let able: Vec<usize> = (0..NODES)
            .filter(|index| able(&self.nodes[*index]))
            .collect();
        if able.is_empty() {
            return;
        }
        let chosen = able[self.dice.below(able.len() as u64) as usize];
        let fork = Lsn(self.nodes[chosen].position);
        let mut history = self.histories.last().unwrap().to_vec();
        history.push(Fork {
            epoch: newest,
            position: fork,
        });
        if let Some(old) = self.primary() {
            self.nodes[old].replaced_alive = self.nodes[old].up;
        }
        self.histories.push(history.into());
        self.told.push(None);
        self.nodes[chosen].primary = true;
        self.nodes[chosen].epoch = newest + 1;
        self.phase = Phase::Calm;
        self.seen.failovers += 1;
    }

    fn replicate(&mut self) {
        let newest = self.newest();
        let Some(primary) = self.primary().filter(|index| self.nodes[*index].up) else {
            return;
        };
        let to = self.nodes[primary].position;
        for index in 0..NODES {
            let node = self.nodes[index];
            if !node.up || node.primary {
                continue;
            }
            if node.epoch < newest {
                if !self.dice.one_in(10) {
                    continue;
                }
                // It follows the new primary, or has to be built anew.
                let forks = self.histories[newest as usize - 1].iter();
                let mut since = forks.filter(|fork| fork.epoch >= node.epoch);
                match since.all(|fork| node.position <= fork.position.0) {
                    true => self.nodes[index].epoch = newest,
                    false => self.rebuild(index),
                }
            } else if node.stopped > 0 {
                self.nodes[index].stopped -= 1;
            } else {
                let missing = to - node.position;
                let step = self.dice.below(missing.min(12) + 1);
                self.nodes[index].position += step;
            }
        }
    }

    /// Every node is asked every five ticks; answers take up to four.
    fn ask(&mut self) {
        for index in 0..NODES {
            if (self.tick + index as u64).is_multiple_of(5) {
                let ticks = self.dice.below(5);
                self.ask_one(index, ticks);
            }
        }
    }

    fn ask_one(&mut self, index: usize, ticks: u64) {
        let now = self.clock.now();
        let node = self.nodes[index];
        let role = if node.primary {
            Role::Primary
        } else {
            Role::Replica
        };
        let answer = node.up.then(|| {
            let position = Lsn(node.position);
            let answer = Observation::new(role, CLUSTER, node.epoch, position, now);
            let answer = answer.incarnation(node.incarnation);
            if node.primary {
                answer.history(Arc::clone(&self.histories[node.epoch as usize - 1]))
            } else {
                answer
            }
        });
        match answer {
            Some(answer) => {
                self.answers
                    .push((now + TICK * ticks as u32, index, node.epoch, answer))
            }
            None => {
                self.nodes[index].missed = Some(now);
                self.router.unreachable(NAMES[index], now);
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.clock.now();
        let due = self.answers.extract_if(.., |(at, ..)| *at <= now);
        for (_, index, epoch, answer) in due {
            self.told[epoch as usize - 1].get_or_insert(now);
            self.router.observe(NAMES[index], answer);
        }
    }

    fn look_at_all(&mut self) {
        for index in 0..NODES {
            self.ask_one(index, 0);
        }
        self.deliver();
    }

    fn call(&mut self) {
        let session = self.dice.below(SESSIONS as u64) as usize;
        match self.dice.below(10) {
            0..2 => self.write(session),
            2..9 => {
                if let Some(token) = self.tokens[session].clone() {
                    self.read_own(session, &token);
                }
            }
            _ => self.read_lagging(),
        }
    }

    fn write(&mut self, session: usize) {
        self.seen.decisions += 1;
        match self.router.route(&Request::write(self.clock.now())) {
            Ok(Step::Go(route)) => {
                let index = *route.value();
                let node = self.nodes[index];
                if !node.up || node.incarnation != route.incarnation() {
                    route.end(resilience_core::breaker::Outcome::Ignored);
                    return;
                }
                assert!(node.primary, "a write on a replica");
                self.check_that_nobody_could_know(&node);
                self.seen.writes += 1;
                self.nodes[index].position += 1 + self.dice.below(3);
                self.tokens[session] = Some(Token {
                    cluster: CLUSTER,
                    epoch: node.epoch,
                    position: Lsn(self.nodes[index].position),
                });
                if self.acknowledged.len() == 64 {
                    self.acknowledged.pop_front();
                }
                let token = self.tokens[session].clone().unwrap();
                self.acknowledged.push_back((self.clock.now(), token));
                route.success();
            }
            Ok(step) => panic!("{step:?}"),
            Err(error) => {
                assert!(
                    matches!(error.disposition(), Disposition::RetryLater(_)),
                    "{error}"
                );
                self.seen.refused += 1;
            }
        }
    }

    /// A write went to `node`: it is the primary, or nothing that the router was told, or had to ask
    /// before, says otherwise.
    fn check_that_nobody_could_know(&mut self, node: &Node) {
        let newer = &self.told[node.epoch as usize..];
        assert!(
            newer.iter().all(Option::is_none),
            "a write on a zombie that was known: {node:?}"
        );
        if node.epoch == self.newest() {
            return;
        }
        // Never away, and its successor not looked at yet.
        if node.replaced_alive {
            self.seen.unseen_switches += 1;
            return;
        }
        // Heard of only when it was back: of an epoch that is newer than all before.
        let heard = self.told[node.epoch as usize - 1].unwrap();
        if heard >= node.returned {
            self.seen.unheard += 1;
            return;
        }
        // All who could tell did not answer since.
        let tellers = self.nodes.iter().zip(node.newer_then);
        let mut tellers = tellers.filter(|(_, newer)| *newer).peekable();
        assert!(tellers.peek().is_some(), "{node:?}");
        assert!(
            tellers.all(|(other, _)| other.missed >= Some(node.returned)),
            "a write on a zombie that is back: {node:?}"
        );
        self.seen.untold += 1;
    }

    fn read_own(&mut self, session: usize, token: &Token<Lsn>) {
        let mut request = Request::read(Freshness::AtLeast(token), self.clock.now());
        let lost = !self.is_in(self.newest(), token);
        loop {
            self.seen.decisions += 1;
            match self.router.route(&request) {
                Ok(Step::Go(route)) => {
                    let index = *route.value();
                    let node = self.nodes[index];
                    if !node.up || node.incarnation != route.incarnation() {
                        route.end(resilience_core::breaker::Outcome::Ignored);
                        self.ask_one(index, 0);
                        self.deliver();
                        return;
                    }
                    self.seen.reads += 1;
                    self.seen.on_replicas += u64::from(!node.primary);
                    assert!(self.holds(index, token), "stale: {token:?} on {node:?}");
                    route.success();
                    return;
                }
                Ok(Step::Probe(id)) => {
                    request = request.probed();
                    let node = NAMES
                        .iter()
                        .position(|name| self.router.id(name) == Some(id));
                    self.ask_one(node.unwrap(), 0);
                    self.deliver();
                }
                Ok(Step::Wait(_)) => request = request.waited(),
                Ok(Step::Observe) => {
                    request = request.observed();
                    self.look_at_all();
                }
                Ok(step) => panic!("{step:?}"),
                Err(error) => {
                    assert_ne!(error.reason, Reason::Future, "{token:?}");
                    assert_ne!(error.reason, Reason::Foreign);
                    if error.reason == Reason::Diverged {
                        assert!(lost, "{token:?} is not lost");
                        self.seen.diverged += 1;
                        self.tokens[session] = None;
                    }
                    self.seen.refused += 1;
                    return;
                }
            }
        }
    }

    /// Time passes, and all is well again: whoever holds the token of a lost write is told so.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.tick += 1;
            self.clock.advance(TICK);
            for index in 0..NODES {
                self.nodes[index].stopped = 0;
                if !self.nodes[index].up {
                    self.bring_back(index);
                }
            }
            if let Phase::Headless(_) = self.phase {
                self.promote();
            }
            self.replicate();
            self.ask();
            self.deliver();
        }
        for session in 0..SESSIONS {
            let Some(token) = self.tokens[session].clone() else {
                continue;
            };
            let lost = !self.is_in(self.newest(), &token);
            let before = self.seen.diverged;
            self.read_own(session, &token);
            assert_eq!(self.seen.diverged > before, lost, "{token:?}");
            self.seen.lost += u64::from(lost);
        }
    }

    /// A read with a bound on its age finds what was acknowledged before that.
    fn read_lagging(&mut self) {
        self.seen.decisions += 1;
        let max = Duration::from_millis(100);
        let bounded = self.dice.one_in(2);
        let freshness = if bounded {
            Freshness::MaxLag(max)
        } else {
            Freshness::Any
        };
        match self
            .router
            .route(&Request::read(freshness, self.clock.now()))
        {
            Ok(Step::Go(route)) => {
                let index = *route.value();
                let node = self.nodes[index];
                let runs = node.up && node.incarnation == route.incarnation();
                if runs && bounded {
                    // Of an epoch that nobody has seen yet nobody knows, and what is lost is not old.
                    let old = self.acknowledged.iter().filter(|(at, token)| {
                        *at + max < self.clock.now()
                            && token.epoch <= route.epoch()
                            && self.is_in(self.newest(), token)
                    });
                    for (_, token) in old {
                        assert!(
                            self.holds(index, token),
                            "older than asked: {token:?} on {node:?}"
                        );
                    }
                    self.seen.bounded += 1;
                }
                route.success();
            }
            Ok(step) => panic!("{step:?}"),
            Err(_) => self.seen.refused += 1,
        }
    }
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.reads += other.reads;
        self.bounded += other.bounded;
        self.on_replicas += other.on_replicas;
        self.writes += other.writes;
        self.refused += other.refused;
        self.failovers += other.failovers;
        self.lost += other.lost;
        self.diverged += other.diverged;
        self.zombies += other.zombies;
        self.rebuilt += other.rebuilt;
        self.unseen_switches += other.unseen_switches;
        self.unheard += other.unheard;
        self.untold += other.untold;
    }
}

/// What all threads have seen.
struct Run {
    wanted: u64,
    /// The last seed that is taken.
    seed: AtomicU64,
    seen: Mutex<Seen>,
}

impl Run {
    /// World after world, until all have decided as often as is wanted.
    fn worlds(&self) {
        while self
            .seen
            .lock()
            .is_ok_and(|seen| seen.decisions < self.wanted)
        {
            let seed = self.seed.fetch_add(1, Ordering::Relaxed) + 1;
            let failing = Failing { run: self, seed };
            let mut world = World::new(seed);
            for _ in 0..20 {
                (0..250).for_each(|_| world.step());
                world.settle();
            }
            drop(failing);
            self.ended(&world.seen);
        }
    }

    fn ended(&self, seen: &Seen) {
        let mut all = self.seen.lock().unwrap();
        let before = all.decisions;
        all.add(seen);
        all.worlds += 1;
        let part = (self.wanted / 20).max(1);
        if all.decisions / part > before / part {
            println!("{} decisions in {} worlds", all.decisions, all.worlds);
        }
    }
}

/// Tells which world a check failed in, and ends all others.
struct Failing<'a> {
    run: &'a Run,
    seed: u64,
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("in the world of seed {}", self.seed);
            self.run.seen.lock().unwrap().decisions += self.run.wanted;
        }
    }
}

#[test]
fn no_read_is_stale_no_zombie_is_written_to_and_every_lost_write_is_told() {
    let wanted = std::env::var("ROUTE_DECISIONS").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    let run = Run {
        wanted: wanted.unwrap_or(1_000_000),
        seed: AtomicU64::new(0),
        seen: Mutex::default(),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| run.worlds());
        }
    });
    let all = run.seen.into_inner().unwrap();
    println!("{all:#?}");
    // The world is not too kind to tell.
    for faults in [
        all.failovers,
        all.diverged,
        all.zombies,
        all.rebuilt,
        all.unseen_switches,
    ] {
        assert!(faults > 50, "{all:#?}");
    }
    assert!(all.writes > all.decisions / 20, "{all:#?}");
    assert!(all.on_replicas > all.reads / 4, "{all:#?}");
    println!(
        "{} decisions: stale 0, writes on a primary known to be replaced 0, lost and not told 0",
        all.decisions
    );
}
