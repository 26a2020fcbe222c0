//! The metrics as JSON: the text exposition, read back.

use std::collections::BTreeMap;

use super::types::Sample;

/// Each line of a series.
pub(super) fn read(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    // Values hold no space; labels may.
    let (series, value) = line.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
        None => (series, BTreeMap::new()),
    };
    // JSON has no other numbers.
    value.is_finite().then(|| Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// `a="b",c="d"`, with `\\`, `\"` and `\n` in the values.
fn labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = rest[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "# TYPE a counter\na 3\n\nb{x=\"1,2\",y=\"a \\\"q\\\" \\\\ }\"} 0.5\nc NaN\n";
        let samples = read(text);
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[0].name.as_str(), samples[0].value), ("a", 3.0));
        assert_eq!(samples[1].labels["x"], "1,2");
        assert_eq!(samples[1].labels["y"], "a \"q\" \\ }");
        assert_eq!(read("broken{x=\"1 1\nx{y} 1"), []);
    }
}
