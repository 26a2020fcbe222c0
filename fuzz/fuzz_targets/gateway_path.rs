//! Any path of a request: if the gateway takes it, a server that decodes and resolves it by itself
//! finds the same place in what the gateway sends as in what the client sent, with parameters in
//! segments and without.
#![no_main]

use gateway_kit::path::{PathError, canonical, canonical_with_slashes, without_parameters};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(path) = std::str::from_utf8(data) else {
        return;
    };
    let found = match canonical_with_slashes(path) {
        Ok(found) => found,
        Err(error) => {
            assert_eq!(canonical(path), Err(error));
            return;
        }
    };
    let text = found.path.as_ref();
    assert!(text.starts_with('/') && !text.contains("//"), "{text}");
    assert!(
        !text.split('/').any(|name| name == "." || name == ".."),
        "{text}"
    );
    assert_eq!(
        text.contains("%2F") || text.contains("%5C"),
        found.encoded_slash
    );
    assert!(!text.contains("%00") && !text.contains('\\'), "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    // It is its own canonical form.
    assert_eq!(canonical_with_slashes(text), Ok(found.clone()), "{path}");
    if found.encoded_slash {
        assert_eq!(canonical(path), Err(PathError::Forbidden));
    } else {
        assert_eq!(canonical(path).as_deref(), Ok(text));
    }
    for parameters in [false, true] {
        // A slash behind the last name is kept.
        let sent = place(text, parameters).expect("it leads nowhere above the root");
        assert_eq!(place(path, parameters), Some(sent), "{path} {text}");
    }
    let bare = without_parameters(text);
    assert_eq!(place(&bare, false), place(text, true), "{text}");
    assert!(bare.starts_with('/') && !bare.contains("//"), "{bare}");
});

/// The place that a plain server finds: names, decoded once; `None` above the root. Escaped
/// slashes separate nothing here, but `..` between them would.
fn place(path: &str, parameters: bool) -> Option<Vec<Vec<u8>>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for segment in path.split('/') {
        let name = match parameters {
            true => segment.split(';').next().unwrap_or_default(),
            false => segment,
        };
        let name = decoded(name.as_bytes());
        let mut parts = name.split(|byte| matches!(byte, b'/' | b'\\'));
        let pieces = parts.clone().count();
        assert!(pieces == 1 || !parts.any(|part| part == b"." || part == b".."));
        match name.as_slice() {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            _ => names.push(name),
        }
    }
    Some(names)
}

fn decoded(name: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut all = Vec::new();
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let value = digit(high)
                    .zip(digit(low))
                    .map(|(high, low)| high * 16 + low);
                all.push(u8::try_from(value.expect("an escape")).expect("two digits"));
                rest = tail;
            }
            _ => all.push(*first),
        }
    }
    all
}
