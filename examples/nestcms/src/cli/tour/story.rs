//! Tells the tour: chapters, lines, checks, and the summary.

use std::fmt::{Debug, Write as _};
use std::time::Duration;

/// Collects what held and what did not, and prints as it goes.
#[derive(Debug, Default)]
pub(super) struct Story {
    chapters: usize,
    steps: usize,
    held: usize,
    failed: Vec<String>,
}

/// One part of a check: whether it holds, and what to print when it does not.
pub(super) type Fact = (bool, String);

/// The fact that `got` is `wanted`.
pub(super) fn same<T: PartialEq<U> + Debug, U: Debug>(what: &str, got: T, wanted: U) -> Fact {
    let holds = got == wanted;
    (holds, format!("{what} is {got:?}, expected {wanted:?}"))
}

/// The fact that something holds; `got` is what was seen.
pub(super) fn fact(holds: bool, got: impl Into<String>) -> Fact {
    (holds, got.into())
}

impl Story {
    /// Starts a chapter.
    pub(super) fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        println!("\n{}. {title}", self.chapters);
    }

    /// Tells one step.
    pub(super) fn tell(&mut self, line: impl AsRef<str>) {
        self.steps += 1;
        println!("   {}", line.as_ref());
    }

    /// Marks a check of the specification.
    pub(super) fn check(&mut self, number: &str, claim: &str, facts: &[Fact]) {
        let broken: Vec<&str> = facts
            .iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, got)| got.as_str())
            .collect();
        if broken.is_empty() {
            self.held += 1;
            println!("     ok      {number:<6} {claim}");
        } else {
            let broken = broken.join("; ");
            println!("     FAILED  {number:<6} {claim}\n             {broken}");
            self.failed.push(format!("{number}: {broken}"));
        }
    }

    /// A scene that could not be played to its end counts as failed.
    pub(super) fn broke(&mut self, scene: &str, error: &str) {
        println!("     FAILED  {scene} could not be played: {error}");
        self.failed.push(format!("{scene}: {error}"));
    }

    /// Prints the summary; whether everything held.
    pub(super) fn end(&self, took: Duration) -> bool {
        let checks = self.held + self.failed.len();
        let mut text = format!(
            "\n{} steps, {} of {checks} checks held, {:.1} s",
            self.steps,
            self.held,
            took.as_secs_f64()
        );
        for failed in &self.failed {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n  FAILED  {failed}");
        }
        println!("{text}");
        self.failed.is_empty()
    }
}
