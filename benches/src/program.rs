//! The programs beside the criterion benches: what `cargo bench` hands to them, and where
//! they leave their figures.

use std::env;

use crate::results::{Name, folder, median, write};

/// The arguments of a program that `cargo bench` runs.
///
/// As with criterion, a word is a filter (a bench runs when its name contains it) and
/// `--test` asks for one quick turn without results. All other flags are ignored.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    filters: Vec<String>,
    quick: bool,
}

impl Arguments {
    /// The arguments of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(env::args().skip(1))
    }

    fn new(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut this = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--test" => this.quick = true,
                flag if flag.starts_with('-') => {}
                _ => this.filters.push(argument),
            }
        }
        this
    }

    /// Whether the bench of this name is asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Whether only to see that it runs.
    #[must_use]
    pub fn quick(&self) -> bool {
        self.quick
    }
}

/// Prints the figures of all rounds of a bench and keeps them beside criterion's, unless the
/// turn was only to see that it runs.
///
/// # Panics
///
/// When they cannot be written: a table without them would be wrong.
pub fn report(arguments: &Arguments, name: &Name, unit: &str, rounds: &[f64]) {
    let title = format!("{}/{}/{}", name.group, name.what, name.parameter);
    let middle = median(rounds).unwrap_or_default();
    println!("{title:<50} {middle:>12.2} {unit}, rounds {rounds:.2?}");
    if !arguments.quick() {
        write(&folder(), name, rounds).expect("the results folder can be written to");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::new(words.iter().map(ToString::to_string))
    }

    #[test]
    fn without_a_filter_all_is_wanted() {
        assert!(arguments(&["--bench"]).wants("keyed/stall"));
    }

    #[test]
    fn a_filter_selects_by_a_part_of_the_name() {
        let arguments = arguments(&["--bench", "stall"]);
        assert!(arguments.wants("keyed/stall"));
        assert!(!arguments.wants("keyed/memory"));
        assert!(!arguments.quick());
    }

    #[test]
    fn a_test_run_is_quick() {
        assert!(arguments(&["--test"]).quick());
    }
}
