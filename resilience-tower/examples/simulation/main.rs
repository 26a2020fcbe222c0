//! Runs the scenarios of `docs/SIMULATION.md` and writes the page and its pictures; with `--check`
//! says whether they are up to date.

mod page;
mod plot;
mod scenarios;

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let check = std::env::args().any(|argument| argument == "--check");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let scenarios = scenarios::all();
    let mut files = vec![("SIMULATION.md".to_owned(), page::page(&scenarios))];
    for scenario in &scenarios {
        files.push((format!("sim/{}.svg", scenario.name), plot::svg(scenario)?));
    }
    for (name, text) in files {
        let path = docs.join(&name);
        if !check {
            fs::write(&path, text)?;
        } else if fs::read_to_string(&path)? != text {
            return Err(format!("{name} is not what this program makes").into());
        }
    }
    Ok(())
}
