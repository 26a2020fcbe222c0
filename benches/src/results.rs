//! The results of a run: criterion's folder, read, and written to by the other programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Criterion's `benchmark.json`, as far as it is used here.
#[derive(Deserialize, Serialize)]
struct Id {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
}

/// Criterion's `estimates.json`, as far as it is used here.
#[derive(Deserialize, Serialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize, Serialize)]
struct Estimate {
    point_estimate: f64,
}

/// What was measured: `group/what/parameter`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name {
    /// `policy/scenario`.
    pub group: String,
    /// Ours, a peer, or the floor.
    pub what: String,
    /// The number of threads, unless the group says otherwise.
    pub parameter: String,
}

impl Name {
    /// The three parts, as they are.
    pub fn new(group: &str, what: &str, parameter: impl ToString) -> Self {
        Self {
            group: group.to_owned(),
            what: what.to_owned(),
            parameter: parameter.to_string(),
        }
    }
}

/// The figures of a run by name: one for each round, in order. Nanoseconds, unless the group
/// counts something else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results(BTreeMap<Name, Vec<f64>>);

impl Results {
    /// Reads every `new/` folder below `folder`: the last run of each bench.
    ///
    /// # Errors
    ///
    /// A folder or file that cannot be read, by its path.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut found = BTreeMap::<Name, Vec<(PathBuf, f64)>>::new();
        collect(folder, &mut found)?;
        let in_order = |mut rounds: Vec<(PathBuf, f64)>| {
            // `1`, `1_2`, … `1_10`.
            rounds.sort_by_key(|(path, _)| (path.as_os_str().len(), path.clone()));
            rounds.into_iter().map(|(_, figure)| figure).collect()
        };
        let rounds = found.into_iter();
        Ok(Self(
            rounds.map(|(name, all)| (name, in_order(all))).collect(),
        ))
    }

    /// Adds the figures of all rounds of one bench.
    pub fn insert(&mut self, name: Name, rounds: Vec<f64>) {
        self.0.insert(name, rounds);
    }

    /// The figures of each round; none when it was not measured.
    #[must_use]
    pub fn rounds(&self, name: &Name) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// All benches, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &[f64])> {
        self.0
            .iter()
            .map(|(name, rounds)| (name, rounds.as_slice()))
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where criterion keeps its results: `CRITERION_HOME`, else `criterion` in
/// `CARGO_TARGET_DIR`, else in the workspace's `target`.
#[must_use]
pub fn folder() -> PathBuf {
    let home = env::var_os("CRITERION_HOME").map(PathBuf::from);
    let target =
        || env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("criterion"));
    let workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/criterion");
    home.or_else(target).unwrap_or_else(workspace)
}

/// Keeps the figures of all rounds of a bench that criterion does not measure, as criterion
/// would: in `folder/group/what/parameter/new/`, further rounds with a suffix.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write(folder: &Path, name: &Name, rounds: &[f64]) -> io::Result<()> {
    let base = folder.join(name.group.replace('/', "_")).join(&name.what);
    let id = Id {
        group_id: name.group.clone(),
        function_id: Some(name.what.clone()),
        value_str: Some(name.parameter.clone()),
    };
    for (round, figure) in rounds.iter().enumerate() {
        let round = match round {
            0 => name.parameter.clone(),
            _ => format!("{}_{}", name.parameter, round + 1),
        };
        let new = base.join(round).join("new");
        fs::create_dir_all(&new)?;
        let median = Estimate {
            point_estimate: *figure,
        };
        fs::write(new.join("benchmark.json"), serde_json::to_vec(&id)?)?;
        fs::write(
            new.join("estimates.json"),
            serde_json::to_vec(&Estimates { median })?,
        )?;
    }
    Ok(())
}

/// The middle one of some figures, or the mean of the two in the middle; `None` of none.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

fn collect(folder: &Path, found: &mut BTreeMap<Name, Vec<(PathBuf, f64)>>) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !path.is_dir() {
            continue;
        }
        if path.ends_with("new") {
            let id: Id = json(&path.join("benchmark.json"))?;
            let estimates: Estimates = json(&path.join("estimates.json"))?;
            let name = Name {
                group: id.group_id,
                what: id.function_id.unwrap_or_default(),
                parameter: id.value_str.unwrap_or_default(),
            };
            let figure = estimates.median.point_estimate;
            found.entry(name).or_default().push((path, figure));
        } else {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test alone, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("benches-{test}-{}", std::process::id());
            Self(env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_a_program_wrote_is_read_back_with_its_rounds_in_order() {
        let folder = Folder::new("rounds");
        let name = Name::new("keyed/memory", "ours", 1);
        let rounds: Vec<f64> = (0..12).map(f64::from).collect();
        write(&folder.0, &name, &rounds).unwrap();
        let results = Results::read(&folder.0).unwrap();
        assert_eq!(results.rounds(&name), rounds);
        assert_eq!(
            results.rounds(&Name::new("keyed/memory", "ours", 2)),
            [0.0; 0]
        );
    }

    #[test]
    fn a_file_that_is_not_criterions_is_named_in_the_error() {
        let folder = Folder::new("broken");
        let new = folder.0.join("group/what/1/new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), "no").unwrap();
        let error = Results::read(&folder.0).unwrap_err();
        assert!(error.contains("benchmark.json"), "{error}");
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
