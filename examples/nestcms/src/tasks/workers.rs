//! The workers: as many as there is work for.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use resilience_core::retry::Backoff;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{TaskService, Work, WorkError, turns::Turns};
use crate::{
    correlation,
    domain::{
        event::Timestamp,
        task::{Priority, State, Task},
    },
    metrics::Metrics,
    ports::{Backlog, Lease},
};

/// How workers work.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Workers when there is nothing to do; at least 1.
    pub least: usize,
    /// Workers at most.
    pub most: usize,
    /// Unfinished tasks per worker: with more, there are more workers.
    pub share: usize,
    /// How often the queue is looked at when nobody says that there is something.
    pub poll: Duration,
    /// The visibility timeout of the queue; a third of it lies between two heartbeats.
    pub visibility: Duration,
    /// How long a run may take.
    pub limit: Duration,
    /// How long runs have to end at a shutdown.
    pub grace: Duration,
    /// How long a task waits after a run that failed.
    pub backoff: Backoff,
}

/// Takes tasks and runs them. Clones share everything.
#[derive(Clone, Debug)]
pub struct Workers {
    tasks: TaskService,
    work: Arc<dyn Work>,
    rules: Arc<Rules>,
    metrics: Metrics,
}

impl Workers {
    /// Workers that take from `tasks` and run `work`.
    #[must_use]
    pub fn new(tasks: TaskService, work: Arc<dyn Work>, rules: Rules, metrics: Metrics) -> Self {
        Self {
            tasks,
            work,
            rules: Arc::new(rules),
            metrics,
        }
    }

    /// Works until `stop`. Then what runs has its grace to end, and is handed back after it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is the death of all workers: what they had is taken by others after the
    /// visibility timeout.
    pub async fn run(self, stop: CancellationToken) {
        let hand_back = CancellationToken::new();
        let mut running = JoinSet::new();
        let mut turns = Turns::default();
        let mut size = self.rules.least;
        let mut looks = interval(self.rules.poll);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let free = size.saturating_sub(running.len());
            for lease in self.take(&mut turns, free).await {
                let cut = hand_back.clone();
                running.spawn(self.clone().hold(lease, cut));
            }
            self.metrics.tasks_running(running.len(), size);
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = running.join_next() => told(ended),
                () = self.tasks.queued() => {}
                _ = looks.tick() => size = self.size(size).await,
            }
        }
        let end = async {
            while let Some(ended) = running.join_next().await {
                told(ended);
            }
        };
        tokio::pin!(end);
        if timeout(self.rules.grace, &mut end).await.is_err() {
            hand_back.cancel();
            end.await;
        }
        self.metrics.tasks_running(0, 0);
    }

    /// How many workers there are to be; as many as before if the queue does not say.
    async fn size(&self, before: usize) -> usize {
        match self.tasks.queue().depth().await {
            Ok(depth) => {
                self.metrics.tasks_waiting(depth);
                size_for(depth, &self.rules)
            }
            Err(error) => {
                tracing::warn!(%error, "nobody knows how many tasks wait");
                before
            }
        }
    }

    /// Up to `free` tasks, by turns.
    async fn take(&self, turns: &mut Turns, free: usize) -> Vec<Lease> {
        let mut waits = [true; 3];
        let mut taken = Vec::new();
        while taken.len() < free {
            let mut plan = [0; 3];
            for _ in taken.len()..free {
                if let Some(next) = turns.next(waits) {
                    plan[next as usize] += 1;
                }
            }
            if plan == [0; 3] {
                break;
            }
            for priority in Priority::ALL {
                let wanted = plan[priority as usize];
                if wanted == 0 {
                    continue;
                }
                let got = self.tasks.queue().take(priority, wanted).await;
                let got = got.unwrap_or_else(|error| {
                    tracing::warn!(%error, priority = priority.as_str(), "no tasks taken");
                    Vec::new()
                });
                waits[priority as usize] = got.len() == wanted;
                taken.extend(got);
            }
        }
        taken
    }

    /// Runs the task of `lease`, and says what became of it.
    async fn hold(self, lease: Lease, cut: CancellationToken) {
        let mut task = lease.task.clone();
        let run = self.work.run(&lease.task);
        let run = correlation::scope(task.correlation_id.clone(), run);
        let ended = tokio::select! {
            ended = timeout(self.rules.limit, run) => ended,
            () = self.beat(&lease) => {
                tracing::warn!(task = task.id, "the lease is lost, another worker has the task");
                return self.metrics.task_ended(task.priority, "lost");
            }
            () = cut.cancelled() => {
                task.hand_back(self.now());
                return self.settle(&lease, &task, Duration::ZERO, "handed_back").await;
            }
        };
        let ended = ended.unwrap_or_else(|_| {
            let limit = self.rules.limit;
            Err(WorkError::Again(format!("it took longer than {limit:?}")))
        });
        match ended {
            Ok(result) => task.finish(result, self.now()),
            Err(WorkError::Again(reason)) => task.fail(reason, self.now()),
            Err(WorkError::Never(reason)) => task.give_up(reason, self.now()),
        }
        let delay = self.delay(&task);
        let outcome = match task.state {
            State::Done => "done",
            State::Dead => "dead",
            _ => "retried",
        };
        if let Some(failed) = task.history.last().filter(|_| task.state != State::Done) {
            let (id, runs, reason) = (&task.id, task.runs, &failed.reason);
            tracing::warn!(task = id, runs, reason, outcome, "a task failed");
        }
        self.settle(&lease, &task, delay, outcome).await;
    }

    /// Keeps the lease; ready when it is lost.
    async fn beat(&self, lease: &Lease) {
        let mut beats = interval(self.rules.visibility / 3);
        beats.tick().await;
        loop {
            beats.tick().await;
            match self.tasks.queue().extend(lease).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, task = lease.task.id, "no heartbeat"),
            }
        }
    }

    async fn settle(&self, lease: &Lease, task: &Task, delay: Duration, outcome: &'static str) {
        match self.tasks.queue().settle(lease, task, delay).await {
            Ok(true) => self.metrics.task_ended(task.priority, outcome),
            Ok(false) => self.metrics.task_ended(task.priority, "lost"),
            // It runs again after the visibility timeout, and finds its effect done.
            Err(error) => tracing::warn!(%error, task = task.id, outcome, "not booked"),
        }
    }

    fn delay(&self, task: &Task) -> Duration {
        let random = RandomState::new().hash_one(&task.id);
        self.rules.backoff.wait(task.runs, Duration::ZERO, random)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.tasks.wall().now())
    }
}

/// One worker for each share of the work, between the bounds.
fn size_for(depth: Backlog, rules: &Rules) -> usize {
    let unfinished = usize::try_from(depth.iter().sum::<u64>()).unwrap_or(usize::MAX);
    let wanted = unfinished.div_ceil(rules.share.max(1));
    wanted.clamp(rules.least, rules.most.max(rules.least))
}

/// A run that panicked is not booked, and so a failed one once its lease has ended.
fn told(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a worker ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_workers_as_there_is_work_for() {
        let rules = Rules {
            least: 2,
            most: 10,
            share: 5,
            poll: Duration::ZERO,
            visibility: Duration::ZERO,
            limit: Duration::ZERO,
            grace: Duration::ZERO,
            backoff: Backoff::default(),
        };
        let sizes = [0, 10, 11, 50, 51, u64::MAX].map(|low| size_for([0, 0, low], &rules));
        assert_eq!(sizes, [2, 2, 3, 10, 10, 10]);
    }
}
