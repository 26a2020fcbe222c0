//! Work that is put off: what is asked, how often it ran, how it ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Timestamp;

/// How urgent a task is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody must act now.
    Critical,
    /// Somebody waits for it.
    Normal,
    /// It may take its time.
    Low,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Normal, Self::Low];

    /// The name in the store, in subjects and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// Where a task stands.
///
/// ```text
/// queued ──begin──▶ running ──finish──▶ done
///   ▲                 │  │
///   ├──fail, hand_back┘  └─6th failure──▶ dead ──revive──▶ queued
/// ```
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It has had its effect.
    Done,
    /// It failed too often, and waits for an operator.
    Dead,
}

impl State {
    /// The name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

/// A run that failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailedRun {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// One task.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Task {
    /// Its id, by which its effect is had once, however often it runs.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// With what.
    pub payload: Value,
    /// How urgent it is.
    pub priority: Priority,
    /// The user who asked for it, if one did.
    pub owner: Option<String>,
    /// The correlation id of the request that queued it.
    pub correlation_id: String,
    /// Where it stands.
    pub state: State,
    /// Runs since it was queued, or queued again by an operator.
    pub runs: u32,
    /// The runs that failed, the last at the end; the oldest of many are dropped.
    pub history: Vec<FailedRun>,
    /// What the last run had to say.
    pub result: Option<String>,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
}

impl Task {
    /// A worker has taken it; whether it is to run. One that is found running was left by a worker
    /// that died, which is a failed run.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        if self.state == State::Running {
            self.fail("the worker was lost".to_owned(), now);
        }
        if self.state != State::Queued {
            return false;
        }
        self.state = State::Running;
        self.runs += 1;
        self.changed_at = now;
        true
    }

    /// The run failed: it is queued again, or dead.
    pub fn fail(&mut self, reason: String, now: Timestamp) {
        let state = match self.runs {
            0..MOST_RUNS => State::Queued,
            _ => State::Dead,
        };
        self.failed(reason, state, now);
    }

    /// The run failed as any other would.
    pub fn give_up(&mut self, reason: String, now: Timestamp) {
        self.failed(reason, State::Dead, now);
    }

    /// The run was cut, and does not count.
    pub fn hand_back(&mut self, now: Timestamp) {
        self.state = State::Queued;
        self.runs = self.runs.saturating_sub(1);
        self.changed_at = now;
    }

    /// The run had its effect.
    pub fn finish(&mut self, result: String, now: Timestamp) {
        self.state = State::Done;
        self.result = Some(result);
        self.changed_at = now;
    }

    /// An operator gives a dead task all its runs again; whether it was dead.
    pub fn revive(&mut self, now: Timestamp) -> bool {
        let dead = self.state == State::Dead;
        if dead {
            self.state = State::Queued;
            self.runs = 0;
            self.changed_at = now;
        }
        dead
    }

    fn failed(&mut self, reason: String, state: State, now: Timestamp) {
        self.state = state;
        self.changed_at = now;
        if self.history.len() >= LONGEST_HISTORY {
            self.history.remove(0);
        }
        self.history.push(FailedRun { at: now, reason });
    }
}

/// The first, and five more.
pub const MOST_RUNS: u32 = 6;
/// Of a task that operators queue again and again.
const LONGEST_HISTORY: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1)
    }

    fn task() -> Task {
        Task {
            id: "t".to_owned(),
            kind: "k".to_owned(),
            payload: Value::Null,
            priority: Priority::Normal,
            owner: None,
            correlation_id: "c".to_owned(),
            state: State::Queued,
            runs: 0,
            history: Vec::new(),
            result: None,
            queued_at: now(),
            changed_at: now(),
        }
    }

    /// G.c2
    #[test]
    fn a_task_dies_with_its_sixth_failure() {
        let mut task = task();
        for run in 1..=6 {
            assert!(task.begin(now()), "run {run}");
            task.fail(format!("reason {run}"), now());
        }
        assert_eq!((task.state, task.history.len()), (State::Dead, 6));
        assert!(!task.begin(now()));
        assert!(task.revive(now()) && !task.revive(now()));
        assert!(task.begin(now()));
        task.finish("ok".to_owned(), now());
        assert!(!task.begin(now()));
        assert_eq!((task.state, task.history.len()), (State::Done, 6));
    }

    #[test]
    fn a_task_that_kills_its_workers_dies_too() {
        let mut task = task();
        let taken = (0..10).filter(|_| task.begin(now())).count();
        assert_eq!((taken, task.state), (6, State::Dead));
        assert_eq!(task.history.len(), 6);
    }

    #[test]
    fn what_was_handed_back_has_not_run() {
        let mut task = task();
        for _ in 0..10 {
            assert!(task.begin(now()));
            task.hand_back(now());
        }
        assert_eq!((task.runs, task.history.len()), (0, 0));
    }

    #[test]
    fn the_history_is_bounded() {
        let mut task = task();
        for n in 0..LONGEST_HISTORY + 5 {
            task.give_up(n.to_string(), now());
        }
        assert_eq!(task.history.len(), LONGEST_HISTORY);
        assert_eq!(task.history[0].reason, "5");
    }
}
