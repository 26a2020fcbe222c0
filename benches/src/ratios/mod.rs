//! The table of ratios: which bench stands for which path, and what the goal is.

mod markdown;
mod paths;
mod splice;

pub use self::{
    markdown::{listing, missing, table},
    paths::{Measure, PATHS, Path, Peer},
    splice::{BEGIN, END, splice, splice_between},
};

use crate::results::{Name, Results, median};

/// The baselines of the listing: the bench of a group that the others are divided by. A group
/// has one of them at most.
pub const BASELINES: [&str; 4] = ["fetch_add", "governor", "bare_hmac", "bare"];

/// The ratio of two benches: the median of the ratios of each round.
///
/// When they were not measured in the same number of rounds, the ratio of their medians;
/// `None` when one was not measured at all.
#[must_use]
pub fn ratio(results: &Results, of: &Name, to: &Name) -> Option<f64> {
    let (of, to) = (results.rounds(of), results.rounds(to));
    if of.len() == to.len() {
        let rounds: Vec<_> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        median(&rounds)
    } else {
        Some(median(of)? / median(to)?)
    }
}

/// By how much the floor itself moved between the rounds of its group: the largest of
/// `max / min - 1` over all that our figures of `paths` are divided by. It bounds what a ratio
/// can mean.
#[must_use]
pub fn drift(results: &Results, paths: &[Path]) -> Option<f64> {
    let ours = paths.iter().flat_map(|path| path.ours);
    let floors = ours.filter_map(|measure| measure.over.filter(|over| FLOORS.contains(&over[1])));
    floors
        .map(|[group, what, parameter]| results.rounds(&Name::new(group, what, parameter)))
        .filter(|rounds| rounds.len() > 1)
        .filter_map(|rounds| {
            let low = rounds.iter().copied().reduce(f64::min)?;
            let high = rounds.iter().copied().reduce(f64::max)?;
            Some(high / low - 1.0)
        })
        .reduce(f64::max)
}

/// What no policy can be faster than.
const FLOORS: [&str; 2] = ["fetch_add", "bare_hmac"];

#[cfg(test)]
mod tests {
    use super::*;

    fn results(figures: &[(&str, &[f64])]) -> Results {
        let mut results = Results::default();
        for (what, rounds) in figures {
            results.insert(Name::new("group", what, 1), rounds.to_vec());
        }
        results
    }

    #[test]
    fn a_ratio_is_taken_within_each_round_so_that_a_slower_round_does_not_show() {
        let results = results(&[
            ("ours", &[20.0, 40.0, 90.0]),
            ("fetch_add", &[10.0, 40.0, 30.0]),
        ]);
        let name = |what| Name::new("group", what, 1);
        // The medians themselves are 40 and 30.
        assert_eq!(
            ratio(&results, &name("ours"), &name("fetch_add")),
            Some(2.0)
        );
    }

    #[test]
    fn rounds_that_do_not_pair_are_compared_by_their_medians() {
        let results = results(&[("ours", &[20.0]), ("fetch_add", &[10.0, 5.0, 90.0])]);
        let name = |what| Name::new("group", what, 1);
        assert_eq!(
            ratio(&results, &name("ours"), &name("fetch_add")),
            Some(2.0)
        );
        assert_eq!(ratio(&results, &name("ours"), &name("absent")), None);
    }

    #[test]
    fn drift_is_the_largest_move_of_a_floor() {
        let mut results = Results::default();
        for (what, rounds) in [
            ("paytabs_callback", vec![1.0, 9.0]),
            ("bare_hmac", vec![10.0, 12.5, 11.0]),
        ] {
            results.insert(Name::new("webhook/verify", what, 256), rounds);
        }
        assert_eq!(drift(&results, PATHS), Some(0.25));
        assert_eq!(drift(&results, &PATHS[..1]), None);
    }
}
