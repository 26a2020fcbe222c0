//! Prints the measured benches as a Markdown table of ratios to their group's baseline.
//!
//! Usage: `ratios [CRITERION_DIR]`; the default is `criterion` in `CARGO_TARGET_DIR` or
//! `target`. Only ratios of one run on one quiet machine mean anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::BASELINES;
use serde::Deserialize;

/// Criterion's `benchmark.json`, as far as it is read here.
#[derive(Deserialize)]
struct Id {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
}

/// Criterion's `estimates.json`, as far as it is read here.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Nanoseconds by what was measured, of one group and one parameter (threads or bytes).
type Row = BTreeMap<String, f64>;

/// Ordered by group, then by the parameter as a number.
type Table = BTreeMap<(String, u64, String), Row>;

fn main() -> ExitCode {
    let arg = std::env::args_os().nth(1);
    if arg
        .as_ref()
        .is_some_and(|arg| arg == "--help" || arg == "-h")
    {
        println!(
            "usage: ratios [CRITERION_DIR]\n\nPrints the ratios of the last `cargo bench -p benches`."
        );
        return ExitCode::SUCCESS;
    }
    let dir = arg.map_or_else(default_dir, PathBuf::from);
    let mut table = Table::new();
    if let Err(error) = collect(&dir, &mut table) {
        eprintln!("ratios: {error}");
        return ExitCode::FAILURE;
    }
    if table.is_empty() {
        eprintln!(
            "ratios: nothing measured in {}; run `cargo bench -p benches` first",
            dir.display()
        );
        return ExitCode::FAILURE;
    }
    print!("{}", markdown(&table));
    ExitCode::SUCCESS
}

fn default_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from("target"), PathBuf::from)
        .join("criterion")
}

/// Reads every `new/` folder below `dir`: the last run of each bench.
fn collect(dir: &Path, table: &mut Table) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !path.is_dir() {
            continue;
        }
        if path.ends_with("new") {
            let id: Id = read(&path.join("benchmark.json"))?;
            let estimates: Estimates = read(&path.join("estimates.json"))?;
            let value = id.value_str.unwrap_or_default();
            let order = value.parse().unwrap_or(0);
            table
                .entry((id.group_id, order, value))
                .or_default()
                .insert(
                    id.function_id.unwrap_or_default(),
                    estimates.median.point_estimate,
                );
        } else {
            collect(&path, table)?;
        }
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn markdown(table: &Table) -> String {
    let mut out = String::from(
        "| group | threads or bytes | bench | median | ratio |\n|---|---:|---|---:|---:|\n",
    );
    for ((group, _, value), row) in table {
        let baseline = BASELINES.into_iter().find(|name| row.contains_key(*name));
        for (what, nanos) in row {
            let ratio = match baseline {
                Some(name) if name == what => "1".to_owned(),
                Some(name) => format!("{:.2} × {name}", nanos / row[name]),
                None => "–".to_owned(),
            };
            out.push_str(&format!(
                "| {group} | {value} | {what} | {} | {ratio} |\n",
                time(*nanos)
            ));
        }
    }
    out
}

fn time(nanos: f64) -> String {
    if nanos < 1e3 {
        format!("{nanos:.1} ns")
    } else if nanos < 1e6 {
        format!("{:.2} µs", nanos / 1e3)
    } else {
        format!("{:.2} ms", nanos / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bench_is_divided_by_the_baseline_of_its_group_and_parameter() {
        let row = |baseline: f64, ours: f64| {
            Row::from([
                ("fetch_add".to_owned(), baseline),
                ("ours".to_owned(), ours),
            ])
        };
        let key = |threads: u64| ("breaker/closed".to_owned(), threads, threads.to_string());
        let table = Table::from([(key(1), row(5.0, 7.5)), (key(2), row(20.0, 30_000.0))]);
        let text = markdown(&table);
        assert!(text.contains("| breaker/closed | 1 | fetch_add | 5.0 ns | 1 |"));
        assert!(text.contains("| breaker/closed | 1 | ours | 7.5 ns | 1.50 × fetch_add |"));
        assert!(text.contains("| breaker/closed | 2 | ours | 30.00 µs | 1500.00 × fetch_add |"));
    }

    #[test]
    fn a_group_without_a_baseline_has_times_only() {
        let row = Row::from([("clock".to_owned(), 20.0)]);
        let table = Table::from([(("breaker/clock_only".to_owned(), 1, "1".to_owned()), row)]);
        assert!(markdown(&table).contains("| clock | 20.0 ns | – |"));
    }
}
