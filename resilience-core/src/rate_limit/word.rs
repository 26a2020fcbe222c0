//! The bucket of a direct limiter: one word that decides, and the quotas it is read under.
//!
//! ```text
//! word  [ queued 1 | version 3 | full at 60 ]
//! ```
//!
//! `full at` is the time at which the bucket is full again. It means something only under the
//! quota of `version`, of which the last eight are kept; a change of quota writes the next one and
//! then exchanges version and time at once, so nobody ever reads a new quota with an old balance.
//! A call that began under an older quota fails its exchange and decides again.
//!
//! `current` is a copy of the newest, so that a call need not know the version to begin to read
//! its quota. It is out of date for the moments of a change, which its version tells.
//!
//! `queued` is set while somebody waits in line: then only the line takes from the bucket. A word
//! with that bit never equals the version of the copy, so a call pays nothing for asking.

use crossbeam_utils::CachePadded;

use super::{
    Admitted, Limited, Snapshot, cell,
    check::Taken,
    line::Granted,
    quota::{Quota, TIME_BITS},
};
use crate::primitive::{AtomicU64, Ordering};

const QUEUED: u64 = 1 << 63;
const VERSIONS: u64 = 8;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// No version.
const CHANGING: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Bucket {
    word: CachePadded<AtomicU64>,
    /// Costs that wait in line; read by refusals only.
    queued: CachePadded<AtomicU64>,
    /// Hardly ever written, and so apart from the word.
    quotas: CachePadded<Quotas>,
}

#[derive(Debug)]
struct Quotas {
    version: AtomicU64,
    current: Slot,
    versions: [Slot; VERSIONS as usize],
}

/// A quota; all is of one quota whenever the word has this version.
#[derive(Debug)]
struct Slot {
    interval: AtomicU64,
    fill: AtomicU64,
    burst: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(quota: Quota) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(0)),
            queued: CachePadded::new(AtomicU64::new(0)),
            quotas: CachePadded::new(Quotas {
                version: AtomicU64::new(0),
                current: Slot::new(quota),
                versions: std::array::from_fn(|_| Slot::new(quota)),
            }),
        }
    }

    /// Takes `n`, unless somebody waits in line.
    #[inline]
    pub(crate) fn take(&self, n: u32, now: u64) -> Result<Admitted, Limited> {
        // ORDERING: Acquire, with the Release of `set_quota`. Who sees the copy's version or its
        // values sees at least the word that they belong to or, if they are newer than the version
        // that was read here, the word that the exchange then fails on. The exchange is Relaxed,
        // for it publishes nothing, and as a read-modify-write it passes on what an earlier one
        // published. The word itself is the whole balance.
        let word = self.word.load(Ordering::Acquire);
        if word >> TIME_BITS == self.quotas.version.load(Ordering::Acquire) {
            let quota = self.quotas.current.get();
            match cell::decide(word & TIME, n, now, &quota) {
                Ok(full_at) => {
                    if self.exchange(word, word & !TIME | full_at).is_ok() {
                        return Ok(cell::admitted(full_at, now, &quota));
                    }
                }
                // A quota that changed meanwhile may have been read half and half.
                Err(limited) if same_version(word, self.word.load(Ordering::Acquire)) => {
                    return Err(limited);
                }
                Err(_) => {}
            }
        }
        self.take_under(n, now).map(|granted| granted.admitted)
    }

    /// As [`take`](Self::take), whatever the moment, with what to put back.
    #[inline(never)]
    pub(super) fn take_under(&self, n: u32, now: u64) -> Result<Granted, Limited> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let quota = self.quota_of(word);
            if word & QUEUED != 0 && n > 0 {
                return Err(self.behind_the_line(n, now));
            }
            match cell::decide(word & TIME, n, now, &quota) {
                Ok(full_at) => match self.exchange(word, word & !TIME | full_at) {
                    Ok(_) => return Ok(granted(full_at, n, now, &quota)),
                    Err(seen) => word = seen,
                },
                Err(limited) => {
                    // As in `take`.
                    let seen = self.word.load(Ordering::Acquire);
                    if same_version(word, seen) {
                        return Err(limited);
                    }
                    word = seen;
                }
            }
        }
    }

    /// Takes `n` for the one whose turn it is. Only with the lock of the line.
    pub(super) fn take_in_turn(&self, n: u32, now: u64) -> Result<Granted, Limited> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let quota = self.quota_of(word);
            let full_at = cell::decide(word & TIME, n, now, &quota)?;
            match self.exchange(word, word & !TIME | full_at) {
                Ok(_) => return Ok(granted(full_at, n, now, &quota)),
                Err(seen) => word = seen,
            }
        }
    }

    /// What [`take`](Self::take) would answer, with nothing taken.
    pub(super) fn peek(&self, n: u32, now: u64) -> Result<Admitted, Limited> {
        let (quota, full_at, queued) = self.read();
        if queued && n > 0 {
            return Err(self.behind_the_line(n, now));
        }
        let full_at = cell::decide(full_at, n, now, &quota)?;
        Ok(cell::admitted(full_at, now, &quota))
    }

    /// Gives `nanos` of filling back, or what that is under the quota of now if they were taken
    /// from a bucket that took `of` to fill. Answers whether somebody waits in line for it.
    #[must_use]
    pub(super) fn give_back(&self, nanos: u64, of: u64, now: u64) -> bool {
        self.change(|quota, full_at| {
            cell::given_back(full_at, cell::share(nanos, of, quota.fill()), now)
        })
    }

    /// Gives `n` permits of the quota of now back. Answers whether somebody waits in line for them.
    #[must_use]
    pub(crate) fn refund(&self, n: u32, now: u64) -> bool {
        self.change(|quota, full_at| {
            let nanos = quota.interval().saturating_mul(n.into());
            cell::given_back(full_at, nanos, now)
        })
    }

    /// Gives `nanos` of filling back; writes nothing to a full bucket.
    #[inline]
    pub(crate) fn earn(&self, nanos: u64, now: u64) {
        // ORDERING: Relaxed. A guess, which `change` looks at again.
        if self.word.load(Ordering::Relaxed) & TIME > now {
            let _ = self.change(|_, full_at| cell::given_back(full_at, nanos, now));
        }
    }

    fn change(&self, to: impl Fn(&Quota, u64) -> u64) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let next = to(&self.quota_of(word), word & TIME);
            match self.exchange(word, word & !TIME | next) {
                Ok(_) => return word & QUEUED != 0,
                Err(seen) => word = seen,
            }
        }
    }

    /// Changes the quota, the balance in proportion. Only with the lock of the line. `now` is read
    /// before each attempt.
    pub(crate) fn set_quota(&self, quota: Quota, now: impl Fn() -> u64) {
        let mut word = self.word.load(Ordering::Acquire);
        // Nobody else changes the version: the lock is ours.
        let old = self.quota_of(word);
        let next = (version(word) + 1) % VERSIONS;
        let quotas = &self.quotas;
        // ORDERING: Release throughout. Who sees a value of the new quota sees that the copy is
        // out of date, and who sees one in the copy sees the new word.
        quotas.version.store(CHANGING, Ordering::Release);
        // PANIC-FREE: a remainder by the number of versions.
        quotas.versions[next as usize].set(quota);
        loop {
            let now = now();
            let full_at = cell::rescaled(word & TIME, now, old.fill(), quota.fill());
            // A nanosecond more, so that changes to and fro never bring a word back as it was: a
            // call that slept through eight of them would take it for the one that it had read.
            let full_at = full_at + u64::from(full_at > now);
            let changed = word & QUEUED | next << TIME_BITS | full_at;
            match self.word.compare_exchange_weak(
                word,
                changed,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        quotas.current.set(quota);
        quotas.version.store(next, Ordering::Release);
    }

    /// The quota in force.
    pub(super) fn quota(&self) -> Quota {
        self.read().0
    }

    pub(crate) fn snapshot(&self, now: u64) -> Snapshot {
        let (quota, full_at, _) = self.read();
        let figures = cell::admitted(full_at, now, &quota);
        Snapshot {
            quota,
            remaining: figures.remaining,
            reset_after: figures.reset_after,
            queued: self.queued.load(Ordering::Relaxed),
        }
    }

    /// From now on only [`take_in_turn`](Self::take_in_turn) takes, or anybody again. Only with the
    /// lock of the line.
    pub(super) fn set_line(&self, waiting: bool) {
        // ORDERING: AcqRel keeps the version's quota visible; the bit itself publishes nothing.
        if waiting {
            self.word.fetch_or(QUEUED, Ordering::AcqRel);
        } else {
            self.word.fetch_and(!QUEUED, Ordering::AcqRel);
        }
    }

    /// The costs that wait in line, for the waits that refusals tell. Only with the lock of the
    /// line.
    pub(super) fn set_queued(&self, cost: u64) {
        self.queued.store(cost, Ordering::Relaxed);
    }

    /// The wait until all of `ahead` and then `n` have had their turn; `None` when it never comes.
    pub(super) fn turn_after(&self, ahead: u64, n: u32, now: u64) -> Option<u64> {
        let (quota, full_at, _) = self.read();
        turn(full_at, ahead, n, now, &quota)
    }

    /// The figures of now with this wait.
    pub(super) fn limited(&self, now: u64, wait: Option<u64>) -> Limited {
        let (quota, full_at, _) = self.read();
        cell::limited(full_at, now, &quota, wait)
    }

    #[cold]
    fn behind_the_line(&self, n: u32, now: u64) -> Limited {
        let (quota, full_at, _) = self.read();
        let ahead = self.queued.load(Ordering::Relaxed);
        // Never 0: the line may move between this and the call's own look.
        let wait = turn(full_at, ahead, n, now, &quota).map(|wait| wait.max(1));
        Limited {
            remaining: 0,
            ..cell::limited(full_at, now, &quota, wait)
        }
    }

    fn read(&self) -> (Quota, u64, bool) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let quota = self.quota_of(word);
            let seen = self.word.load(Ordering::Acquire);
            if same_version(word, seen) {
                return (quota, word & TIME, word & QUEUED != 0);
            }
            word = seen;
        }
    }

    fn quota_of(&self, word: u64) -> Quota {
        self.quotas.versions[version(word) as usize].get()
    }

    #[inline]
    fn exchange(&self, word: u64, next: u64) -> Result<u64, u64> {
        // ORDERING: as in `take`; a failure must see the quota of the version that it found.
        self.word
            .compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Acquire)
    }
}

impl Slot {
    fn new(quota: Quota) -> Self {
        Self {
            interval: AtomicU64::new(quota.interval),
            fill: AtomicU64::new(quota.fill),
            burst: AtomicU64::new(quota.burst.into()),
        }
    }

    #[inline]
    fn get(&self) -> Quota {
        // ORDERING: see `take` and `set_quota`.
        Quota {
            interval: self.interval.load(Ordering::Acquire),
            fill: self.fill.load(Ordering::Acquire),
            // It was 32 bits before.
            burst: self.burst.load(Ordering::Acquire) as u32,
        }
    }

    fn set(&self, quota: Quota) {
        self.interval.store(quota.interval, Ordering::Release);
        self.fill.store(quota.fill, Ordering::Release);
        self.burst.store(quota.burst.into(), Ordering::Release);
    }
}

#[inline]
fn version(word: u64) -> u64 {
    (word & !QUEUED) >> TIME_BITS
}

#[inline]
fn same_version(a: u64, b: u64) -> bool {
    version(a) == version(b)
}

fn turn(full_at: u64, ahead: u64, n: u32, now: u64, quota: &Quota) -> Option<u64> {
    if n > quota.burst_size() {
        return None;
    }
    let costs = ahead
        .saturating_add(n.into())
        .saturating_mul(quota.interval());
    let next = full_at.max(now).saturating_add(costs);
    Some(next.saturating_sub(now).saturating_sub(quota.fill()))
}

fn granted(full_at: u64, n: u32, now: u64, quota: &Quota) -> Granted {
    Granted {
        admitted: cell::admitted(full_at, now, quota),
        taken: Taken {
            nanos: quota.interval() * u64::from(n),
            fill: quota.fill(),
        },
    }
}
