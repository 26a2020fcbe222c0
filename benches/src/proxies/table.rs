//! What was measured, as Markdown.

use std::collections::BTreeMap;

use super::Proxy;
use crate::results::median;

/// One row: what is measured, and what is aimed at.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// In the table.
    pub what: &'static str,
    /// Behind each figure.
    pub unit: &'static str,
    /// The most that is aimed at, as a multiple of HAProxy's figure.
    pub over_haproxy: Option<f64>,
    /// As a multiple of Pingora's.
    pub over_pingora: Option<f64>,
    /// As it is.
    pub at_most: Option<f64>,
}

/// The figures of one row, by proxy; one for each round in which it was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    /// Adds the figure of one more round.
    pub fn add(&mut self, proxy: Proxy, figure: f64) {
        self.0.entry(proxy.name()).or_default().push(figure);
    }

    fn of(&self, proxy: Proxy) -> &[f64] {
        self.0.get(proxy.name()).map_or(&[], Vec::as_slice)
    }

    /// The median of the ratios of each round.
    fn ratio(&self, of: Proxy, to: Proxy) -> Option<f64> {
        let (of, to) = (self.of(of), self.of(to));
        let rounds: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        median(&rounds)
    }
}

/// All rows, ours beside the goal and the others. The first figure is the median, that in
/// brackets the ratio to HAProxy's.
#[must_use]
pub fn table(rows: &[(Row, Figures)], machine: &str, how: &str) -> String {
    let names = Proxy::ALL.map(Proxy::name).join(" | ");
    let lines = "---:|".repeat(Proxy::ALL.len());
    let mut out = format!("| | goal | {names} |\n|---|---|{lines}\n");
    for (row, figures) in rows {
        let cells = Proxy::ALL.map(|proxy| cell(row, figures, proxy));
        out.push_str(&format!(
            "| {} | {} | {} |\n",
            row.what,
            goal(row),
            cells.join(" | ")
        ));
    }
    out.push_str(&format!("\nMeasured on {machine}; {how}\n"));
    out
}

fn cell(row: &Row, figures: &Figures, proxy: Proxy) -> String {
    let Some(figure) = median(figures.of(proxy)) else {
        return "–".to_owned();
    };
    let mut text = format!("{figure:.1} {}", row.unit);
    if let Some(ratio) = figures.ratio(proxy, Proxy::HaProxy) {
        text = format!("{text} ({ratio:.2})");
    }
    let above = proxy == Proxy::Gateway && is_missed(row, figures, figure);
    if above { format!("**{text}**") } else { text }
}

fn is_missed(row: &Row, figures: &Figures, figure: f64) -> bool {
    let above = |most: Option<f64>, figure: Option<f64>| {
        most.zip(figure).is_some_and(|(most, figure)| figure > most)
    };
    above(row.at_most, Some(figure))
        || above(
            row.over_haproxy,
            figures.ratio(Proxy::Gateway, Proxy::HaProxy),
        )
        || above(
            row.over_pingora,
            figures.ratio(Proxy::Gateway, Proxy::Pingora),
        )
}

fn goal(row: &Row) -> String {
    let over = |most: Option<f64>, name: &str| most.map(|most| format!("≤ {most} × {name}"));
    let goals = [
        over(row.over_haproxy, "HAProxy"),
        over(row.over_pingora, "Pingora"),
        row.at_most.map(|most| format!("≤ {most} {}", row.unit)),
    ];
    let goals: Vec<String> = goals.into_iter().flatten().collect();
    goals.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(gateway: f64) -> String {
        let mut figures = Figures::default();
        for pace in [1.0, 2.0, 10.0] {
            figures.add(Proxy::Gateway, gateway * pace);
            figures.add(Proxy::HaProxy, 10.0 * pace);
        }
        let row = Row {
            what: "128 B",
            unit: "µs",
            over_haproxy: Some(1.25),
            over_pingora: Some(0.75),
            at_most: None,
        };
        let table = table(&[(row, figures)], "a machine", "so.");
        table.lines().nth(2).unwrap_or_default().to_owned()
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_what_misses_its_goal_is_bold() {
        assert_eq!(
            row(12.0),
            "| 128 B | ≤ 1.25 × HAProxy, ≤ 0.75 × Pingora | 24.0 µs (1.20) | 20.0 µs (1.00) | – \
             | – | – |"
        );
        assert!(
            row(13.0).contains("| **26.0 µs (1.30)** |"),
            "{}",
            row(13.0)
        );
    }
}
