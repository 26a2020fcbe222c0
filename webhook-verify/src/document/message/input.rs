//! The fields `Signature-Input` and `Signature`: which signatures there are, over what.

use http::{HeaderMap, HeaderName};

use super::{
    base::{Component, joined},
    sf::{Fault, Item, MAX_ITEMS, Member, Parameters, Value, dictionary, write_text},
};
use crate::{MAX_CANDIDATES, error::Reason};

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("signature");
pub(super) const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// What one signature says about itself; all of it is signed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Input {
    pub(super) components: Vec<Component>,
    /// In the order in which they were written.
    parameters: Vec<Parameter>,
}

/// A parameter of a signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Parameter {
    Created(u64),
    Expires(u64),
    KeyId(String),
    Algorithm(String),
    Nonce(String),
    Tag(String),
}

/// One signature and what it says it signed.
pub(super) type Signature = (Input, Vec<u8>);

/// The signatures of a delivery, each of them readable or not for itself.
///
/// # Errors
/// A field is missing or malformed, the labels of both are not the same ones, or there are
/// more than [`MAX_CANDIDATES`].
pub(super) fn signatures(headers: &HeaderMap) -> Result<Vec<Option<Signature>>, Reason> {
    let inputs = joined(headers, &SIGNATURE_INPUT)?;
    let inputs = members(&inputs, &SIGNATURE_INPUT)?;
    let values = joined(headers, &SIGNATURE)?;
    let mut values = members(&values, &SIGNATURE)?;
    if inputs.is_empty() || inputs.len() != values.len() {
        return Err(Reason::Malformed(SIGNATURE));
    }
    let pair = |(label, input): &(&str, Member<'_>)| {
        let at = values.iter().position(|(known, _)| known == label)?;
        let (_, value) = values.swap_remove(at);
        Some(Input::read(input).zip(bytes(value)))
    };
    let pairs: Option<Vec<_>> = inputs.iter().map(pair).collect();
    pairs.ok_or(Reason::Malformed(SIGNATURE))
}

fn members<'a>(text: &'a str, name: &HeaderName) -> Result<Vec<(&'a str, Member<'a>)>, Reason> {
    dictionary(text, MAX_CANDIDATES).map_err(|fault| match fault {
        Fault::TooMany => Reason::TooManySignatures,
        Fault::Syntax => Reason::Malformed(name.clone()),
    })
}

fn bytes(member: Member<'_>) -> Option<Vec<u8>> {
    match member {
        Member::Item(Item {
            value: Value::Bytes(bytes),
            parameters,
        }) if parameters.is_empty() => Some(bytes),
        _ => None,
    }
}

impl Input {
    /// At most [`MAX_ITEMS`] components.
    pub(super) const fn new(components: Vec<Component>, parameters: Vec<Parameter>) -> Self {
        Self {
            components,
            parameters,
        }
    }

    /// `None` when it is no list, names a component that is unknown or repeated, or has an
    /// unknown parameter: nobody can say what such a signature means.
    fn read(member: &Member<'_>) -> Option<Self> {
        let Member::List(items, parameters) = member else {
            return None;
        };
        let mut components = Vec::with_capacity(items.len().min(MAX_ITEMS));
        for item in items {
            let component = Component::read(item)?;
            if components.contains(&component) {
                return None;
            }
            components.push(component);
        }
        let parameters = read_parameters(parameters)?;
        Some(Self::new(components, parameters))
    }

    /// What stands after the label, and in the last line of the signature base.
    pub(super) fn write(&self) -> String {
        let mut out = "(".to_owned();
        for (i, component) in self.components.iter().enumerate() {
            if i > 0 {
                out.push(' ');
            }
            component.write(&mut out);
        }
        out.push(')');
        for parameter in &self.parameters {
            parameter.write(&mut out);
        }
        out
    }

    fn find<'a, T>(&'a self, read: impl Fn(&'a Parameter) -> Option<T>) -> Option<T> {
        self.parameters.iter().find_map(read)
    }

    pub(super) fn created(&self) -> Option<u64> {
        self.find(|parameter| match parameter {
            Parameter::Created(at) => Some(*at),
            _ => None,
        })
    }

    pub(super) fn expires(&self) -> Option<u64> {
        self.find(|parameter| match parameter {
            Parameter::Expires(at) => Some(*at),
            _ => None,
        })
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.find(|parameter| match parameter {
            Parameter::KeyId(text) => Some(&**text),
            _ => None,
        })
    }

    pub(super) fn algorithm(&self) -> Option<&str> {
        self.find(|parameter| match parameter {
            Parameter::Algorithm(text) => Some(&**text),
            _ => None,
        })
    }

    pub(super) fn nonce(&self) -> Option<&str> {
        self.find(|parameter| match parameter {
            Parameter::Nonce(text) => Some(&**text),
            _ => None,
        })
    }

    pub(super) fn tag(&self) -> Option<&str> {
        self.find(|parameter| match parameter {
            Parameter::Tag(text) => Some(&**text),
            _ => None,
        })
    }
}

fn read_parameters(all: &Parameters<'_>) -> Option<Vec<Parameter>> {
    all.iter()
        .map(|(name, value)| {
            Some(match (*name, value) {
                ("created", Value::Integer(at)) => Parameter::Created(seconds(*at)?),
                ("expires", Value::Integer(at)) => Parameter::Expires(seconds(*at)?),
                ("keyid", Value::Text(text)) => Parameter::KeyId(text.to_string()),
                ("alg", Value::Text(text)) => Parameter::Algorithm(text.to_string()),
                ("nonce", Value::Text(text)) => Parameter::Nonce(text.to_string()),
                ("tag", Value::Text(text)) => Parameter::Tag(text.to_string()),
                _ => return None,
            })
        })
        .collect()
}

/// The first time that is too late: timestamps have at most 12 digits.
pub(super) const TIME_END: u64 = 1_000_000_000_000;

fn seconds(number: i64) -> Option<u64> {
    let seconds = u64::try_from(number).ok()?;
    (seconds < TIME_END).then_some(seconds)
}

impl Parameter {
    fn write(&self, out: &mut String) {
        let (name, text) = match self {
            Self::Created(at) => return out.push_str(&format!(";created={at}")),
            Self::Expires(at) => return out.push_str(&format!(";expires={at}")),
            Self::KeyId(text) => ("keyid", text),
            Self::Algorithm(text) => ("alg", text),
            Self::Nonce(text) => ("nonce", text),
            Self::Tag(text) => ("tag", text),
        };
        out.push(';');
        out.push_str(name);
        out.push('=');
        write_text(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &str, signature: &str) -> Result<Vec<Option<Signature>>, Reason> {
        let mut headers = HeaderMap::new();
        for (name, lines) in [(SIGNATURE_INPUT, input), (SIGNATURE, signature)] {
            for line in lines.split('\n') {
                headers.append(name.clone(), line.parse().unwrap());
            }
        }
        signatures(&headers)
    }

    fn one(input: &str) -> Option<Input> {
        let mut all = read(&format!("sig1={input}"), "sig1=:AA==:").unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0).map(|(input, _)| input)
    }

    #[test]
    fn what_was_read_is_written_in_its_one_form() {
        let canonical = r#"("@method" "@query-param";name="a\"b" "x-a");created=1;keyid="a\\b";alg="ed25519";expires=2;nonce="n";tag="t""#;
        let loose = r#"(  "@method"  "@query-param"; name="a\"b" "x-a" );  created=1; keyid="a\\b";alg="ed25519";expires=2;nonce="n";tag="t" "#;
        for text in [canonical, loose] {
            let input = one(text).unwrap();
            assert_eq!(input.write(), canonical);
            assert_eq!((input.created(), input.expires()), (Some(1), Some(2)));
            assert_eq!(input.key_id(), Some(r"a\b"));
            assert_eq!(input.algorithm(), Some("ed25519"));
            assert_eq!((input.nonce(), input.tag()), (Some("n"), Some("t")));
        }
        let empty = one("()").unwrap();
        assert_eq!((empty.write(), empty.created()), ("()".into(), None));
    }

    #[test]
    fn a_signature_that_nobody_can_explain_is_left_out() {
        for bad in [
            r#"("@method" "@method")"#,
            r#"("@query-param";name="a" "@query-param";name="a")"#,
            r#"("x-a";sf)"#,
            r#"("@status")"#,
            "(x-a)",
            r#""x-a""#,
            "();created=-1",
            "();created=1.0",
            "();created=1000000000000",
            "();created=\"1\"",
            "();created",
            "();keyid=1",
            "();keyid=a",
            "();nonce=:AA==:",
            "();unknown=1",
        ] {
            assert_eq!(one(bad), None, "{bad}");
        }
        assert!(one("();created=999999999999").is_some());
        assert!(one(r#"("@query-param";name="a" "@query-param";name="b")"#).is_some());
        for bad in ["sig1=\"AA==\"", "sig1", "sig1=:AA==:;a", "sig1=(:AA==:)"] {
            assert_eq!(read("sig1=()", bad), Ok(vec![None]), "{bad}");
        }
    }

    #[test]
    fn labels_only_pair_the_two_fields() {
        let two = read("a=(), b=();created=1", "b=:Ag==:, a=:AQ==:").unwrap();
        let two: Vec<_> = two.into_iter().flatten().collect();
        assert_eq!(
            two,
            [
                (Input::default(), vec![1]),
                (Input::new(Vec::new(), vec![Parameter::Created(1)]), vec![2])
            ]
        );
        assert_eq!(
            read("a=()\nb=();created=1", "b=:Ag==:\na=:AQ==:")
                .unwrap()
                .len(),
            2
        );
        for (input, signature) in [
            ("a=()", "b=:AQ==:"),
            ("a=()", "a=:AQ==:, b=:AQ==:"),
            ("a=(), b=()", "a=:AQ==:"),
            ("a=(), b=()", "a=:AQ==:, c=:AQ==:"),
            ("", ""),
        ] {
            let refused = Err(Reason::Malformed(SIGNATURE));
            assert_eq!(read(input, signature), refused, "{input} {signature}");
        }
        assert_eq!(
            read("a=(), a=()", "a=:AQ==:"),
            Err(Reason::Malformed(SIGNATURE_INPUT))
        );
        assert_eq!(
            read("a=()", "a=:AQ==:, a=:AQ==:"),
            Err(Reason::Malformed(SIGNATURE))
        );
        assert_eq!(
            read("a=()\na=()", "a=:AQ==:"),
            Err(Reason::Malformed(SIGNATURE_INPUT))
        );
    }

    #[test]
    fn sixteen_signatures_are_read_and_no_more() {
        let list = |count: usize, value: &str| -> String {
            let all: Vec<_> = (0..count).map(|i| format!("s{i}={value}")).collect();
            all.join(", ")
        };
        let many = |count| read(&list(count, "()"), &list(count, ":AA==:"));
        assert_eq!(many(16).unwrap().len(), 16);
        assert_eq!(many(17), Err(Reason::TooManySignatures));
        assert_eq!(
            read(&list(16, "()"), &list(17, ":AA==:")),
            Err(Reason::TooManySignatures)
        );
    }
}
