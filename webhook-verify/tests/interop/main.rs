//! Against software nobody here wrote: the providers' own libraries sign what is verified here,
//! and verify what is signed here. Each delivery is also changed, signed by a stranger, and too
//! old, which both sides must refuse.
//!
//! `make interop` installs the libraries and runs this. Without them it fails.

use std::{collections::BTreeMap, env, fs, path::Path, thread};

use crate::{
    driver::{Driver, Language},
    keys::KeyPairs,
    providers::{Peer, Provider},
    rounds::Row,
};

mod bodies;
mod driver;
mod keys;
mod providers;
mod rounds;

#[test]
#[ignore = "needs the providers' libraries: make interop"]
fn the_libraries_of_providers_and_this_one_agree_in_both_directions() {
    let keys = KeyPairs::ask(&mut Driver::start(Language::Python));
    let providers = &providers::all(&keys);
    let rows: Vec<Row> = thread::scope(|scope| {
        let languages = [Language::Python, Language::Node, Language::Php];
        let runs = languages.map(|language| scope.spawn(move || run(language, providers)));
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    });

    let checks: usize = rows.iter().map(|row| row.checks).sum();
    let failures: Vec<_> = rows.iter().flat_map(|row| &row.failures).collect();
    for failure in &failures {
        println!("FAILED {failure}");
    }
    let table = table(&rows);
    println!("{table}{checks} checks, {} failed", failures.len());
    assert!(
        failures.is_empty(),
        "{} of {checks} checks failed",
        failures.len()
    );
    keep(&table);
}

fn run(language: Language, providers: &[Provider]) -> Vec<Row> {
    let mut driver = Driver::start(language);
    let of = |provider: &'_ &Provider| provider.peers.iter().any(|peer| peer.language == language);
    let mut rows = Vec::new();
    for provider in providers.iter().filter(of) {
        let peers = provider.peers.iter();
        for peer in peers.filter(|peer: &&Peer| peer.language == language) {
            rows.push(rounds::all(provider, peer, &mut driver));
        }
    }
    rows
}

/// One line for each library and scheme, with how many checks there were: one that is lost is
/// seen.
fn table(rows: &[Row]) -> String {
    let mut lines = BTreeMap::new();
    for row in rows {
        let key = (&row.scheme, row.language, row.library);
        let line = lines
            .entry(key)
            .or_insert_with(|| (row.version.clone(), false, false, 0));
        line.1 |= row.signs;
        line.2 |= row.verifies;
        line.3 += row.checks;
    }
    let mut text = "| Scheme | Library | Version | It signs, accepted here \
         | Signed here, accepted by it | Checks |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for ((scheme, language, library), (version, signs, verifies, checks)) in lines {
        let [signs, verifies] = [signs, verifies].map(|does| if does { " yes |" } else { " |" });
        let library = format!("{library} ({language})");
        let line = format!("| `{scheme}` | {library} | {version} |{signs}{verifies} {checks} |\n");
        text.push_str(&line);
    }
    text
}

/// The table is kept in `interop/README.md`; `INTEROP_WRITE=1` writes it anew.
fn keep(table: &str) {
    const BEGIN: &str = "<!-- table -->\n";
    const END: &str = "<!-- /table -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (kept, after) = rest.split_once(END).unwrap();
    if env::var_os("INTEROP_WRITE").is_some() {
        fs::write(path, [before, BEGIN, table, END, after].concat()).unwrap();
    } else {
        assert_eq!(kept, table, "INTEROP_WRITE=1 make interop writes it anew");
    }
}
