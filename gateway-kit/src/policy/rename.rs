//! New names for fields of a JSON text. All else stays as it was, byte for byte: the order, white
//! space, and numbers that no other form would keep.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

/// Which names become which, as a tree along the paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renames {
    below: BTreeMap<String, Self>,
    /// The new name of the field that this is about.
    becomes: Option<String>,
}

/// Why a text cannot be passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RenameError {
    /// It is no JSON, or nested deeper than 127 times.
    #[error("the body is not JSON")]
    NotJson,
    /// An object would have one name twice, which two readers take in two ways.
    #[error("the body has a field already that another is renamed to")]
    Taken,
}

impl Renames {
    /// Reads `path = name` rows.
    pub(crate) fn new(rows: &BTreeMap<String, String>) -> Option<Self> {
        let mut root = Self::default();
        for (path, name) in rows {
            let mut at = &mut root;
            for segment in path.split('.') {
                at = at.below.entry(segment.to_owned()).or_default();
            }
            at.becomes = Some(name.clone());
        }
        (!root.below.is_empty()).then_some(root)
    }

    /// The text with the new names.
    pub(crate) fn apply(&self, text: &[u8]) -> Result<Vec<u8>, RenameError> {
        // From here on it is known to be well formed.
        serde_json::from_slice::<IgnoredAny>(text).map_err(|_| RenameError::NotJson)?;
        let mut out = Vec::with_capacity(text.len());
        let mut stack: Vec<Level<'_>> = Vec::new();
        // What the value that comes next is about.
        let mut next = Some(self);
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            if stack.len() > DEEPEST {
                return Err(RenameError::NotJson);
            }
            match byte {
                b'{' => stack.push(Level::object(next.take())),
                // What is in a list is about what the list is about.
                b'[' => stack.push(Level::list(next)),
                b'}' | b']' => {
                    stack.pop();
                }
                b',' => {
                    if let Some(level) = stack.last_mut() {
                        next = level.renames.filter(|_| !level.is_object);
                        level.wants_name = level.is_object;
                    }
                }
                b'"' => {
                    let end = at + string_length(&text[at..]);
                    let string = &text[at..end];
                    match stack.last_mut() {
                        Some(level) if level.wants_name => {
                            level.wants_name = false;
                            next = level.name(string, &mut out)?;
                        }
                        _ => out.extend_from_slice(string),
                    }
                    at = end;
                    continue;
                }
                _ => {}
            }
            out.push(*byte);
            at += 1;
        }
        Ok(out)
    }
}

/// As deep as serde_json reads values; a level costs more than the byte that opens it.
const DEEPEST: usize = 127;

/// An object or list that is open.
struct Level<'r> {
    renames: Option<&'r Renames>,
    is_object: bool,
    wants_name: bool,
    /// Names that others may not be renamed to any more.
    seen: Vec<&'r str>,
}

impl<'r> Level<'r> {
    fn object(renames: Option<&'r Renames>) -> Self {
        Self {
            renames,
            is_object: true,
            wants_name: true,
            seen: Vec::new(),
        }
    }

    fn list(renames: Option<&'r Renames>) -> Self {
        Self {
            renames,
            is_object: false,
            wants_name: false,
            seen: Vec::new(),
        }
    }

    /// Writes the name that `string` is or becomes; what its value is about.
    fn name(
        &mut self,
        string: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<&'r Renames>, RenameError> {
        let Some(renames) = self.renames else {
            out.extend_from_slice(string);
            return Ok(None);
        };
        // A name may be written with escapes.
        let name: String = serde_json::from_slice(string).map_err(|_| RenameError::NotJson)?;
        let found = renames.below.get(&name);
        let becomes = found.and_then(|found| found.becomes.as_deref());
        let after = becomes.unwrap_or(&name);
        let mut targets = renames.below.values();
        let target = targets.find_map(|one| one.becomes.as_deref().filter(|one| *one == after));
        if let Some(target) = target {
            if self.seen.contains(&target) {
                return Err(RenameError::Taken);
            }
            self.seen.push(target);
        }
        match becomes {
            Some(new) => {
                let new = serde_json::to_vec(new).map_err(|_| RenameError::NotJson)?;
                out.extend_from_slice(&new);
            }
            None => out.extend_from_slice(string),
        }
        Ok(found)
    }
}

/// The length of the string that `text` begins with, with its quotes.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn renames(rows: &[(&str, &str)]) -> Renames {
        let rows = rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        Renames::new(&rows.collect()).unwrap()
    }

    fn applied(renames: &Renames, text: &str) -> Result<String, RenameError> {
        let out = renames.apply(text.as_bytes());
        out.map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn names_change_and_nothing_else() {
        let renames = renames(&[("a", "x"), ("user.name", "full"), ("items.id", "key")]);
        let rows = [
            (r#"{"a":1,"b":{"a":2}}"#, r#"{"x":1,"b":{"a":2}}"#),
            (r#" { "a" : 1.10e+5 } "#, r#" { "x" : 1.10e+5 } "#),
            (
                r#"{"user":{"name":"a","x":0},"name":1}"#,
                r#"{"user":{"full":"a","x":0},"name":1}"#,
            ),
            (
                r#"{"items":[{"id":1},[{"id":2}],"id",{"x":{"id":3}}]}"#,
                r#"{"items":[{"key":1},[{"key":2}],"id",{"x":{"id":3}}]}"#,
            ),
            (r#"[{"a":1},{"a":2}]"#, r#"[{"x":1},{"x":2}]"#),
            (r#"{"\u0061":"a"}"#, r#"{"x":"a"}"#),
            (r#"{"q":"{\"a\":1}\\"}"#, r#"{"q":"{\"a\":1}\\"}"#),
            (r#""a""#, r#""a""#),
            (r#"{"a":{"a":[{"a":1}]}}"#, r#"{"x":{"a":[{"a":1}]}}"#),
            (r#"{"user":[],"a":1}"#, r#"{"user":[],"x":1}"#),
            (r#"[[],{"a":1}]"#, r#"[[],{"x":1}]"#),
            (
                r#"{"items":[1,{"id":2},3,{"id":4}]}"#,
                r#"{"items":[1,{"key":2},3,{"key":4}]}"#,
            ),
        ];
        for (before, after) in rows {
            assert_eq!(applied(&renames, before).as_deref(), Ok(after), "{before}");
        }
    }

    #[test]
    fn a_name_that_would_be_there_twice_is_refused() {
        let renames = renames(&[("a", "x")]);
        for text in [
            r#"{"a":1,"x":2}"#,
            r#"{"x":2,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"x":1,"\u0078":2}"#,
            r#"[{"b":1},{"a":1,"x":2}]"#,
        ] {
            assert_eq!(applied(&renames, text), Err(RenameError::Taken), "{text}");
        }
        assert!(applied(&renames, r#"{"b":{"x":1,"a":2}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let renames = renames(&[("a", "x")]);
        let deep = "[".repeat(200) + &"]".repeat(200);
        for text in ["", "{", "{\"a\"}", "{'a':1}", "{\"a\":1}{", "[1,]", &deep] {
            assert_eq!(applied(&renames, text), Err(RenameError::NotJson), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec!["a", "b", "x", "y", "\"", "é\n"]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            name.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let name = name.clone().prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same over a tree of values.
    fn plainly(value: Value, renames: Option<&Renames>) -> Result<Value, RenameError> {
        let Some(here) = renames else {
            return Ok(value);
        };
        Ok(match value {
            Value::Array(list) => {
                let list = list.into_iter().map(|one| plainly(one, renames));
                Value::Array(list.collect::<Result<_, _>>()?)
            }
            Value::Object(map) => {
                let mut out = serde_json::Map::new();
                for (name, value) in map {
                    let below = here.below.get(&name);
                    let new = below.and_then(|below| below.becomes.clone());
                    let value = plainly(value, below)?;
                    if out.insert(new.unwrap_or(name), value).is_some() {
                        return Err(RenameError::Taken);
                    }
                }
                Value::Object(out)
            }
            value => value,
        })
    }

    proptest! {
        #[test]
        fn a_text_becomes_what_its_tree_becomes(value in json(), pretty: bool) {
            let renames = renames(&[("a", "x"), ("b.a", "y"), ("b.b", "x")]);
            let text = match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
            prop_assert_eq!(applied(&renames, &text).map(read), plainly(value, Some(&renames)));
        }
    }
}
