use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;

/// A renewal that runs beside.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs renewals: nobody waits for them, so somebody else has to poll them.
pub trait Spawn: fmt::Debug + Send + Sync + 'static {
    /// Runs `task` to its end. A task that is dropped is no harm: the entry stays as it is.
    fn spawn(&self, task: Task);
}

/// Runs renewals on the tokio runtime of the caller. Outside of one they are dropped, and entries
/// are renewed only when they are not served any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTokio;

impl Spawn for OnTokio {
    fn spawn(&self, task: Task) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(task);
        }
    }
}

/// The renewals that run: bounded, and given up when they take too long.
#[derive(Debug, Default)]
pub(super) struct Jobs(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    next: u64,
    /// In the order in which they began.
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    began: Duration,
    waker: Option<Waker>,
}

/// The place of a renewal among those that run; comes back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    jobs: Arc<Mutex<Running>>,
    id: u64,
}

impl Jobs {
    /// A place, if there are fewer than `most`. Renewals that began when `too_old` says lose
    /// theirs.
    pub(super) fn begin(
        &self,
        now: Duration,
        most: u32,
        too_old: impl Fn(Duration) -> bool,
    ) -> Option<Place> {
        let mut given_up = Vec::new();
        let mut running = self.0.lock();
        while let Some(oldest) = running.jobs.first_entry()
            && too_old(oldest.get().began)
        {
            given_up.extend(oldest.remove().waker);
        }
        let place = (running.jobs.len() < most as usize).then(|| {
            let id = running.next;
            running.next += 1;
            let job = Job {
                began: now,
                waker: None,
            };
            running.jobs.insert(id, job);
            Place {
                jobs: Arc::clone(&self.0),
                id,
            }
        });
        drop(running);
        given_up.into_iter().for_each(Waker::wake);
        place
    }

    pub(super) fn running(&self) -> usize {
        self.0.lock().jobs.len()
    }
}

impl Place {
    /// Whether the renewal may go on; if not later, it is woken.
    pub(super) fn is_kept(&self, cx: &mut Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut running = self.jobs.lock();
        let Some(job) = running.jobs.get_mut(&self.id) else {
            return false;
        };
        let before = job.waker.replace(waker);
        drop(running);
        drop(before);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let job = self.jobs.lock().jobs.remove(&self.id);
        drop(job);
    }
}
