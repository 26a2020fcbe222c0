//! What was counted, and what the service was told of each write.

use std::{
    collections::BTreeSet,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use resilience_core::route::{Lsn, Reason, Token};
use resilience_tower::read_write::{Error, Why};

use crate::{Failed, load, world::World};

#[derive(Debug)]
pub(crate) struct Tally {
    wanted: u64,
    /// How long a service thinks between a write and the first read of it.
    thinks: Vec<Duration>,
    checks: AtomicU64,
    again: AtomicU64,
    late: AtomicU64,
    stale: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    /// First reads after each think time while all was well, and how many of them on replicas.
    shares: Vec<[AtomicU64; 2]>,
    book: Mutex<Book>,
    injected: Mutex<Vec<&'static str>>,
    promotions: Mutex<Vec<Duration>>,
}

#[derive(Debug, Default)]
struct Book {
    acknowledged: Vec<(i64, Token<Lsn>)>,
    diverged: BTreeSet<i64>,
    unknown: Vec<i64>,
    not_run: Vec<i64>,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Tally {
    pub(crate) fn new(wanted: u64, thinks: &[u64]) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            wanted,
            thinks: thinks.iter().copied().map(Duration::from_millis).collect(),
            checks: zero(),
            again: zero(),
            late: zero(),
            stale: zero(),
            lost: zero(),
            failed: zero(),
            shares: thinks.iter().map(|_| [zero(), zero()]).collect(),
            book: Mutex::default(),
            injected: Mutex::default(),
            promotions: Mutex::default(),
        }
    }

    /// As many reads as were asked for are checked.
    pub(crate) fn is_over(&self) -> bool {
        read(&self.checks) >= self.wanted
    }

    pub(crate) fn thinks(&self) -> &[Duration] {
        &self.thinks
    }

    pub(crate) fn writes(&self) -> f64 {
        self.book.lock().acknowledged.len() as f64
    }

    pub(crate) fn checks(&self) -> f64 {
        read(&self.checks) as f64
    }

    pub(crate) fn checked(&self) {
        add(&self.checks);
    }

    pub(crate) fn again(&self) {
        add(&self.again);
    }

    pub(crate) fn late(&self) {
        add(&self.late);
    }

    pub(crate) fn stale(&self, what: &str) {
        add(&self.stale);
        eprintln!("STALE: {what}");
    }

    pub(crate) fn lost(&self, what: &str) {
        add(&self.lost);
        eprintln!("LOST: {what}");
    }

    pub(crate) fn failed(&self, what: &str) {
        add(&self.failed);
        eprintln!("FAILED: {what}");
    }

    pub(crate) fn share(&self, think: usize, why: Why) {
        add(&self.shares[think][0]);
        if matches!(why, Why::Fresh | Why::LastResort) {
            add(&self.shares[think][1]);
        }
    }

    pub(crate) fn injected(&self, fault: &'static str) {
        self.injected.lock().push(fault);
    }

    pub(crate) fn promoted(&self, first_write: Duration) {
        self.promotions.lock().push(first_write);
    }

    pub(crate) fn acknowledged(&self, id: i64, token: Token<Lsn>) {
        self.book.lock().acknowledged.push((id, token));
    }

    pub(crate) fn diverged(&self, id: i64) {
        self.book.lock().diverged.insert(id);
    }

    pub(crate) fn unknown(&self, id: i64) {
        self.book.lock().unknown.push(id);
    }

    pub(crate) fn not_run(&self, id: i64) {
        self.book.lock().not_run.push(id);
    }

    /// Compares what the service was told of each write with what the primary holds.
    pub(crate) async fn compare(&self, world: &World) -> Result<(), Failed> {
        let rows = world.primary()?.sql("SELECT id FROM writes").await?;
        let held: BTreeSet<i64> = rows
            .lines()
            .filter_map(|id| id.trim().parse().ok())
            .collect();
        let (acknowledged, gone) = {
            let book = self.book.lock();
            for id in book.diverged.iter().filter(|id| held.contains(id)) {
                self.lost(&format!("write {id} was told to be lost, and is there"));
            }
            for id in book.not_run.iter().filter(|id| held.contains(id)) {
                self.lost(&format!(
                    "write {id} was told not to have run, and is there"
                ));
            }
            let gone = book
                .acknowledged
                .iter()
                .filter(|(id, _)| !held.contains(id));
            (book.acknowledged.len(), gone.cloned().collect::<Vec<_>>())
        };
        for (id, token) in &gone {
            match load::read(world, *id, Some(token)).await {
                Err(Error::NoRoute(none)) if none.reason == Reason::Diverged => {}
                told => self.lost(&format!("write {id} is gone: {token:?}: {told:?}")),
            }
        }
        let (unknown, not_run) = {
            let book = self.book.lock();
            let there = book.unknown.iter().filter(|id| held.contains(id)).count();
            (
                format!(
                    "{} of unknown outcome, {there} of them there",
                    book.unknown.len()
                ),
                book.not_run.len(),
            )
        };
        println!(
            "{acknowledged} writes acknowledged, {} of them lost in failovers and told so; {unknown}; {not_run} not run",
            gone.len()
        );
        Ok(())
    }

    pub(crate) fn print_shares(&self) {
        for (think, share) in self.thinks.iter().zip(&self.shares) {
            let (reads, replicas) = (read(&share[0]), read(&share[1]));
            if reads > 0 {
                let share = 100.0 * replicas as f64 / reads as f64;
                println!(
                    "first read {} ms after its write: {share:.2} % of {reads} on replicas (no fault)",
                    think.as_millis(),
                );
            }
        }
        let mut injected = self.injected.lock().clone();
        injected.sort_unstable();
        for same in injected.chunk_by(|one, other| one == other) {
            println!("{} x {}", same.len(), same[0]);
        }
        let mut promotions = self.promotions.lock().clone();
        promotions.sort_unstable();
        if let (Some(most), Some(half)) = (promotions.last(), promotions.get(promotions.len() / 2))
        {
            println!(
                "first write after promotion: median {} ms, at most {} ms, of {}",
                half.as_millis(),
                most.as_millis(),
                promotions.len()
            );
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        read(&self.stale) + read(&self.lost) + read(&self.failed) == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} checks ({} told to come again, {} as looks were late), stale {}, lost {}, failed {}; {} writes, {} faults",
            read(&self.checks),
            read(&self.again) + read(&self.late),
            read(&self.late),
            read(&self.stale),
            read(&self.lost),
            read(&self.failed),
            self.book.lock().acknowledged.len(),
            self.injected.lock().len(),
        )
    }
}
