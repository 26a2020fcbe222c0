//! Results as Markdown.

use super::{BASELINES, Measure, Path, Peer, drift, ratio};
use crate::contest::ROUNDS;
use crate::results::{Name, Results, median};

/// The table of paths: ours beside the goal and the best peer, for 1 / 2 threads where there
/// are two figures.
#[must_use]
pub fn table(results: &Results, paths: &[Path], machine: &str) -> String {
    let mut out =
        String::from("| path | ours | goal | best peer | unit |\n|---|---:|---:|---|---|\n");
    for path in paths {
        out.push_str(&row(results, path));
    }
    out.push_str(&format!(
        "\nMeasured on {machine}; two figures are 1 / 2 threads on one object. Medians of \
         {ROUNDS} rounds, ratios taken within a round"
    ));
    if let Some(drift) = drift(results, paths) {
        let percent = (drift * 100.0).round();
        out.push_str(&format!(
            ", between which the floor moved by up to {percent} %"
        ));
    }
    out.push_str(". Figures above their goal are in bold.\n");
    out
}

/// Those of `paths` that have no figure of ours, or of a peer.
#[must_use]
pub fn missing(results: &Results, paths: &[Path]) -> Vec<String> {
    let lacks = |measures: &[Measure]| measures.iter().any(|m| figure(results, m).is_none());
    let mut missing = Vec::new();
    for path in paths {
        if lacks(path.ours) {
            missing.push(format!("{}: ours", path.path));
        }
        for peer in path.peers.iter().filter(|peer| lacks(peer.figures)) {
            missing.push(format!("{}: {}", path.path, peer.name));
        }
    }
    missing
}

/// Every bench with its median and its ratio to the baseline of its group.
#[must_use]
pub fn listing(results: &Results) -> String {
    let mut out =
        String::from("| group | parameter | bench | median | ratio |\n|---|---:|---|---:|---:|\n");
    let mut benches: Vec<_> = results.iter().collect();
    // Parameters are numbers nearly everywhere.
    benches.sort_by_key(|(name, _)| {
        let number = name.parameter.parse::<u64>().ok();
        (&name.group, number, &name.parameter, &name.what)
    });
    for (name, rounds) in benches {
        let baseline = BASELINES
            .into_iter()
            .map(|what| Name::new(&name.group, what, &name.parameter))
            .find(|baseline| !results.rounds(baseline).is_empty());
        let ratio = match baseline {
            Some(baseline) if baseline == *name => "1".to_owned(),
            Some(baseline) => ratio(results, name, &baseline).map_or_else(dash, |ratio| {
                format!("{} × {}", digits(ratio), baseline.what)
            }),
            None => dash(),
        };
        out.push_str(&format!(
            "| {} | {} | {} | {} | {ratio} |\n",
            name.group,
            name.parameter,
            name.what,
            median(rounds).map_or_else(dash, digits),
        ));
    }
    out
}

fn row(results: &Results, path: &Path) -> String {
    let ours = path.ours.iter().enumerate().map(|(i, measure)| {
        let figure = figure(results, measure);
        let text = figure.map_or_else(dash, digits);
        let above = figure
            .zip(path.goal.get(i))
            .is_some_and(|(f, goal)| f > *goal);
        if above { format!("**{text}**") } else { text }
    });
    let ours: Vec<_> = ours.collect();
    let goal: Vec<_> = path.goal.iter().map(|goal| short(*goal)).collect();
    let goal = match goal.join(" / ") {
        none if none.is_empty() => dash(),
        zero if zero == "0" => zero,
        most => format!("≤ {most}"),
    };
    format!(
        "| {} | {} | {goal} | {} | {} |\n",
        path.path,
        ours.join(" / "),
        best(results, path),
        path.unit
    )
}

/// The best peer's figures: the lowest of each, with a name at each when they differ.
fn best(results: &Results, path: &Path) -> String {
    let lowest = |index: usize| {
        let figures = path.peers.iter().filter_map(|peer: &Peer| {
            let figure = figure(results, peer.figures.get(index)?)?;
            Some((figure, peer.name))
        });
        figures.min_by(|a, b| a.0.total_cmp(&b.0))
    };
    let bests: Option<Vec<_>> = (0..path.ours.len()).map(lowest).collect();
    let Some(bests) = bests.filter(|bests| !bests.is_empty()) else {
        return dash();
    };
    let name = bests[0].1;
    if bests.iter().all(|best| best.1 == name) {
        let figures: Vec<_> = bests.iter().map(|best| digits(best.0)).collect();
        format!("{} ({name})", figures.join(" / "))
    } else {
        let figures = bests
            .iter()
            .map(|(best, name)| format!("{} ({name})", digits(*best)));
        figures.collect::<Vec<_>>().join(" / ")
    }
}

fn figure(results: &Results, measure: &Measure) -> Option<f64> {
    let name = |[group, what, parameter]: [&str; 3]| Name::new(group, what, parameter);
    match measure.over {
        Some(over) => ratio(results, &name(measure.of), &name(over)),
        None => median(results.rounds(&name(measure.of))),
    }
}

/// Three digits, or all of a larger number; without a fraction where there is none.
fn digits(figure: f64) -> String {
    let text = match figure.abs() {
        below if below < 10.0 => format!("{figure:.2}"),
        below if below < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    };
    let whole = text.strip_suffix(".00").or_else(|| text.strip_suffix(".0"));
    whole.map_or_else(|| text.clone(), str::to_owned)
}

/// A goal as it was written.
fn short(goal: f64) -> String {
    format!("{goal}")
}

fn dash() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::PATHS;
    use super::*;

    /// Ours, and the two peers of the first path, over a floor of 10 ns.
    fn results(ours: [f64; 2], recloser: [f64; 2], throttle_net: [f64; 2]) -> Results {
        let mut results = Results::default();
        for thread in 0..2 {
            for (what, figures) in [
                ("fetch_add", [1.0; 2]),
                ("ours", ours),
                ("recloser", recloser),
                ("throttle_net", throttle_net),
            ] {
                let name = Name::new("breaker/closed_count", what, thread + 1);
                results.insert(name, vec![figures[thread] * 10.0; 3]);
            }
        }
        results
    }

    fn first_row(results: &Results) -> String {
        let table = table(results, PATHS, "a machine");
        table.lines().nth(2).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_row_has_ours_the_goal_and_the_best_peer() {
        let results = results([1.26, 1.5], [3.0, 9.4], [7.0, 30.0]);
        assert_eq!(
            first_row(&results),
            "| breaker, closed, count window: acquire + success | 1.26 / 1.50 | ≤ 1.5 / 1.7 \
             | 3 / 9.40 (recloser) | × `fetch_add` |"
        );
    }

    #[test]
    fn the_best_peer_may_be_another_at_two_threads() {
        let results = results([1.0, 1.0], [3.0, 9.5], [7.0, 8.5]);
        let row = first_row(&results);
        assert!(row.contains("3 (recloser) / 8.50 (throttle-net)"), "{row}");
    }

    #[test]
    fn a_figure_above_its_goal_is_bold() {
        let row = first_row(&results([1.26, 1.71], [3.0, 3.0], [7.0, 7.0]));
        assert!(row.contains("| 1.26 / **1.71** |"), "{row}");
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_is_missing() {
        let results = Results::default();
        assert!(first_row(&results).contains("| – / – | ≤ 1.5 / 1.7 | – |"));
        let missing = missing(&results, PATHS);
        assert_eq!(
            missing[0],
            "breaker, closed, count window: acquire + success: ours"
        );
        assert!(missing.len() > PATHS.len());
    }

    #[test]
    fn the_caption_names_the_machine_and_the_drift_of_the_floor() {
        let mut results = results([1.0, 1.0], [1.0, 1.0], [1.0, 1.0]);
        let floor = Name::new("layer/breaker", "fetch_add", 1);
        results.insert(floor, vec![10.0, 10.4, 10.0]);
        let table = table(&results, PATHS, "a machine");
        assert!(table.contains("Measured on a machine;"), "{table}");
        assert!(table.contains("moved by up to 4 %"), "{table}");
    }

    #[test]
    fn the_listing_divides_by_the_baseline_of_group_and_parameter() {
        let listing = listing(&results([1.5, 2.5], [3.0, 3.0], [7.0, 7.0]));
        assert!(listing.contains("| breaker/closed_count | 1 | fetch_add | 10 | 1 |"));
        assert!(listing.contains("| breaker/closed_count | 2 | ours | 25 | 2.50 × fetch_add |"));
    }

    #[test]
    fn every_peer_has_as_many_figures_as_ours() {
        for path in PATHS {
            for peer in path.peers {
                assert_eq!(peer.figures.len(), path.ours.len(), "{}", path.path);
            }
            assert!(path.goal.len() <= path.ours.len(), "{}", path.path);
        }
    }

    #[test]
    fn figures_keep_three_digits() {
        let texts = [0.0, 1.257, 12.34, 123.4, 8_000.0].map(digits);
        assert_eq!(texts, ["0", "1.26", "12.3", "123", "8000"]);
    }
}
