//! Prints the results of the last `cargo bench -p benches` as Markdown.
//!
//! Only ratios of one run on one quiet machine mean anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use benches::machine;
use benches::ratios::{PATHS, Path as Row, listing, missing, splice, table};
use benches::results::{Results, folder};

const USAGE: &str = "\
usage: ratios [--all] [--only WORD] [--write FILE] [FOLDER]

Prints a table of ratios from the results in FOLDER (criterion's, by default that of the last
`cargo bench -p benches`).

  --all         every bench with its median, before the table
  --only WORD   only the rows that begin with it
  --write FILE  also puts the table between the two markers in FILE; refused when a figure
                is missing";

#[derive(Default)]
struct Options {
    all: bool,
    only: String,
    write: Option<PathBuf>,
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut options = Options::default();
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some("--all") => options.all = true,
            Some("--only") => {
                let word = arguments.next().unwrap_or_default();
                options.only = word.to_string_lossy().into_owned();
            }
            Some("--write") => options.write = arguments.next().map(PathBuf::from),
            Some(flag) if flag.starts_with('-') => {
                eprintln!("ratios: unknown option {flag}\n\n{USAGE}");
                return ExitCode::FAILURE;
            }
            _ => options.folder = Some(PathBuf::from(argument)),
        }
    }
    match print(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ratios: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(options: Options) -> Result<(), String> {
    let folder = options.folder.unwrap_or_else(folder);
    let results = Results::read(&folder)?;
    if results.is_empty() {
        let folder = folder.display();
        return Err(format!(
            "nothing measured in {folder}; run `cargo bench -p benches` first"
        ));
    }
    if options.all {
        println!("{}", listing(&results));
    }
    let mut rows: Vec<Row> = PATHS.to_vec();
    rows.retain(|row| row.path.starts_with(&options.only));
    if rows.is_empty() {
        return Err(format!("no row begins with `{}`", options.only));
    }
    let table = table(&results, &rows, &machine::describe());
    print!("{table}");
    match options.write {
        Some(file) => write(&file, &table, &missing(&results, &rows)),
        None => Ok(()),
    }
}

fn write(file: &Path, table: &str, missing: &[String]) -> Result<(), String> {
    if !missing.is_empty() {
        let missing = missing.join("\n  ");
        return Err(format!(
            "not written, because of missing figures:\n  {missing}"
        ));
    }
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let document = fs::read_to_string(file).map_err(failed)?;
    let document =
        splice(&document, table).map_err(|error| format!("{}: {error}", file.display()))?;
    fs::write(file, document).map_err(failed)
}
