//! A gateway's configuration from any text: an error of lines that say where and what, or a
//! configuration that compiles. Never a panic, and never long.
//!
//! Most inputs choose lines of the README's examples, and values for their fields.
#![no_main]

use std::sync::OnceLock;

use gateway_kit::fuzzing::Compiled;
use gateway_kit::{Config, Error};
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    match choices.below(4) {
        Some(0) => read(&String::from_utf8_lossy(choices.rest())),
        Some(_) => read(&written(choices)),
        None => {}
    }
});

/// The lines of the README's configurations, without their comments.
fn lines() -> &'static [String] {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    LINES.get_or_init(|| {
        let readme = include_str!("../../gateway-kit/README.md");
        let blocks = readme.split("```toml\n").skip(1);
        let blocks = blocks.filter_map(|rest| rest.split("```").next());
        let lines = blocks.flat_map(str::lines);
        // An example that is switched off is one to be switched on.
        let lines = lines.map(|line| line.trim_start_matches("# "));
        let lines = lines.map(|line| line.split(" # ").next().unwrap_or(line).trim());
        let lines = lines.filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        assert!(lines.len() > 50, "the README has its examples elsewhere");
        lines
    })
}

const VALUES: [&str; 32] = [
    "0",
    "1",
    "-1",
    "65535",
    "65536",
    "4294967296",
    "9223372036854775807",
    "0.5",
    "1e300",
    "nan",
    "true",
    "false",
    "\"\"",
    "\"off\"",
    "\"0s\"",
    "\"1ms\"",
    "\"30s\"",
    "\"99999999999999y\"",
    "\"/\"",
    "\"/a/../b\"",
    "\"/{x}/{*y}\"",
    "\"*\"",
    "\"*.example.com\"",
    "\"http://[::1]:1\"",
    "\"https://a:0\"",
    "\"10.0.0.1/8\"",
    "\"::/0\"",
    "[]",
    "[\"GET\", \"GET\"]",
    "[\"http://a:1\", \"http://a:1\"]",
    "{}",
    "{ header = \"x-\u{e9}\" }",
];

/// Lines of the README, some with another value.
fn written(mut choices: Choices<'_>) -> String {
    let lines = lines();
    let mut text = String::new();
    while let Some(number) = choices.short() {
        let line = &lines[usize::from(number & 0x1fff) % lines.len()];
        match line.split_once(" = ").filter(|_| number >= 0xe000) {
            Some((field, _)) => {
                let value = choices.one_of(&VALUES).unwrap_or("1");
                text += &format!("{field} = {value}");
            }
            None => text += line,
        }
        text.push('\n');
    }
    text
}

fn read(text: &str) {
    match Config::from_toml(text) {
        Ok(config) => compile(&config),
        Err(error) => {
            let said = error.to_string();
            // A line for each.
            assert_eq!(said.lines().count(), error.problems().len(), "{said:?}");
        }
    }
}

/// What was found good compiles, but for files that are not there.
fn compile(config: &Config) {
    match Compiled::new(config) {
        Ok(compiled) => {
            for path in ["/", "/api/v2/items", "/a;b/c"] {
                compiled.has_route(b"pay.example.com:80", &http::Method::GET, path);
            }
        }
        Err(Error::Settings(why)) => assert!(why.contains("file"), "{why}"),
        Err(_) => {}
    }
}
