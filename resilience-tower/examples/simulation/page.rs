//! The scenarios as a page.

use std::fmt::Write;

use super::scenarios::Scenario;

const HEAD: &str = include_str!("head.md");

/// `docs/SIMULATION.md`.
pub(crate) fn page(scenarios: &[Scenario]) -> String {
    let mut page = HEAD.to_owned();
    for scenario in scenarios {
        // Writing to a string cannot fail.
        let _ = section(&mut page, scenario);
    }
    page
}

fn section(page: &mut String, scenario: &Scenario) -> std::fmt::Result {
    let Scenario {
        name, title, story, ..
    } = scenario;
    writeln!(
        page,
        "\n## {title}\n\n{story}\n\n![{title}: {}](sim/{name}.svg)\n",
        scenario.plot.y
    )?;
    let names: Vec<_> = scenario.columns.iter().map(|(name, _)| *name).collect();
    writeln!(page, "| stack | {} |", names.join(" | "))?;
    writeln!(page, "|---|{}", "---|".repeat(names.len()))?;
    for variant in &scenario.variants {
        let cells = scenario
            .columns
            .iter()
            .map(|(_, cell)| cell(&variant.report));
        let cells: Vec<_> = cells.collect();
        writeln!(page, "| {} | {} |", variant.label, cells.join(" | "))?;
    }
    writeln!(page)?;
    for variant in &scenario.variants {
        writeln!(page, "- *{}*: {}", variant.label, variant.stack)?;
    }
    Ok(())
}
