//! What is written down while a run runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    random::nanos,
    report::{Bucket, UNFINISHED},
};

/// The calls of a run so far; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Log {
    width: u64,
    buckets: Arc<Mutex<Vec<Bucket>>>,
    /// Calls that have begun and not ended.
    open: Arc<AtomicU64>,
}

impl Log {
    pub(super) fn new(width: Duration, duration: Duration) -> Self {
        let many = duration.as_nanos().div_ceil(width.as_nanos()).max(1) as usize;
        Self {
            width: nanos(width),
            buckets: Arc::new(Mutex::new(vec![Bucket::default(); many])),
            open: Arc::default(),
        }
    }

    fn change(&self, time: u64, change: impl FnOnce(&mut Bucket)) {
        let mut buckets = self.buckets.lock();
        // The last call may come a moment after its time, at the end of the run.
        let last = buckets.len() - 1;
        change(&mut buckets[last.min((time / self.width) as usize)]);
    }

    pub(super) fn begin(&self, time: u64, class: &'static str) {
        // ORDERING: Relaxed, here and below. The run is one thread.
        self.open.fetch_add(1, Ordering::Relaxed);
        self.change(time, |bucket| {
            bucket.offered += 1;
            if !class.is_empty() {
                bucket.classes.entry(class).or_default().offered += 1;
            }
        });
    }

    pub(super) fn attempt(&self, began: u64) {
        self.change(began, |bucket| bucket.attempts += 1);
    }

    pub(super) fn end(
        &self,
        began: u64,
        now: u64,
        class: &'static str,
        how: Result<(), &'static str>,
    ) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let took = now - began;
        self.change(began, |bucket| match how {
            Ok(()) => {
                bucket.good += 1;
                if let Some(class) = bucket.classes.get_mut(class) {
                    class.good += 1;
                }
                let ms = u32::try_from(took / 1_000_000).unwrap_or(u32::MAX);
                bucket.latencies.push(ms);
            }
            Err(kind) => {
                *bucket.errors.entry(kind).or_default() += 1;
                bucket.in_vain += Duration::from_nanos(took);
            }
        });
    }

    pub(super) fn all_ended(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// The buckets, with what has no end yet as such.
    pub(super) fn finish(&self) -> Vec<Bucket> {
        let mut buckets = std::mem::take(&mut *self.buckets.lock());
        for bucket in &mut buckets {
            bucket.latencies.sort_unstable();
            let ended = bucket.good + bucket.errors.values().sum::<u64>();
            if ended < bucket.offered {
                bucket.errors.insert(UNFINISHED, bucket.offered - ended);
            }
        }
        buckets
    }
}
