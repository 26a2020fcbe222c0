use std::sync::atomic::{AtomicU64, Ordering};

use super::Source;

/// The figures of a cache at one moment; counts are since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Answers from fresh entries.
    pub hits: u64,
    /// Answers from entries that were being renewed.
    pub stale_hits: u64,
    /// Answers from stale entries, in place of a failure.
    pub error_hits: u64,
    /// Answers from negative entries.
    pub negative_hits: u64,
    /// Answers of the upstream, or errors, for which there was no entry.
    pub misses: u64,
    /// Answers of the upstream, or errors, for which there was an entry that was too old.
    pub revalidated: u64,
    /// Requests without a key.
    pub bypassed: u64,
    /// Renewals that began beside.
    pub revalidations: u64,
    /// Calls that failed while there was an entry.
    pub revalidations_failed: u64,
    /// Entries that had to leave because of their weight, the new one itself among them.
    pub evictions: u64,
    /// Results that were not kept: the rule said so, they were too heavy or had too many tags, or
    /// were invalidated before they came.
    pub not_kept: u64,
    /// Entries.
    pub entries: u64,
    /// Their weight.
    pub weight: u64,
    /// Tags that entries have.
    pub tags: usize,
    /// How often they have them.
    pub tag_places: usize,
    /// Invalidations that are remembered for calls under way.
    pub remembered: usize,
    /// Renewals that run.
    pub renewing: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    stale_hits: AtomicU64,
    error_hits: AtomicU64,
    negative_hits: AtomicU64,
    misses: AtomicU64,
    revalidated: AtomicU64,
    bypassed: AtomicU64,
    revalidations: AtomicU64,
    revalidations_failed: AtomicU64,
    evictions: AtomicU64,
    not_kept: AtomicU64,
}

// ORDERING: Relaxed everywhere. Counts for people to read.
impl Counters {
    pub(super) fn count(&self, source: Source) {
        let counter = match source {
            Source::Hit => &self.hits,
            Source::Stale => &self.stale_hits,
            Source::StaleIfError => &self.error_hits,
            Source::Negative => &self.negative_hits,
            Source::Miss => &self.misses,
            Source::Revalidated => &self.revalidated,
            Source::Bypass => &self.bypassed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn renewal(&self) {
        self.revalidations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn renewal_failed(&self) {
        self.revalidations_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn not_kept(&self) {
        self.not_kept.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts; the rest is zero.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            hits: self.hits.load(Ordering::Relaxed),
            stale_hits: self.stale_hits.load(Ordering::Relaxed),
            error_hits: self.error_hits.load(Ordering::Relaxed),
            negative_hits: self.negative_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            revalidated: self.revalidated.load(Ordering::Relaxed),
            bypassed: self.bypassed.load(Ordering::Relaxed),
            revalidations: self.revalidations.load(Ordering::Relaxed),
            revalidations_failed: self.revalidations_failed.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            not_kept: self.not_kept.load(Ordering::Relaxed),
            ..Snapshot::default()
        }
    }
}
