//! Any bytes of a connection, in pieces of any size: the heads that are found, and the first
//! with a fault, are those that a plain reading of the whole finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resilience_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let _ = run(&mut choices);
});

fn run(choices: &mut Choices<'_>) -> Option<()> {
    let size = choices.below(40)? + 1;
    let bytes = bytes(choices);
    let found = gateway_kit::fuzzing::follow(bytes.chunks(size));
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(found, plain(&bytes), "{text:?}");
    Some(())
}

/// Text in which requests are likely.
fn bytes(choices: &mut Choices<'_>) -> Vec<u8> {
    const WORDS: [&str; 26] = [
        "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
        "Host: h\r\n",
        "Content-Length: 3\r\n",
        "content-length:",
        "Content-Length : 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "0\r\n\r\n",
        "3\r\nabc\r\n",
        "0\r\n",
        "a;x=y\r\n",
        "abc",
        "1",
        " ",
        "\t",
        ";",
        "+",
        "ffffffffffffffff",
        "x: y\r\n",
        "x: y\n",
        "5",
    ];
    let mut all = Vec::new();
    while let Some(byte) = choices.byte() {
        match byte {
            0..=239 => all.extend_from_slice(WORDS[usize::from(byte) % WORDS.len()].as_bytes()),
            _ => match choices.byte() {
                Some(byte) => all.push(byte),
                None => break,
            },
        }
    }
    all
}

/// The same by looking at the whole.
fn plain(mut bytes: &[u8]) -> (u64, Option<(u64, bool)>) {
    let (mut heads, mut fault) = (0, None);
    while let Some((head, rest)) = head(bytes) {
        heads += 1;
        let both = head.length.is_some() && head.chunked;
        if fault.is_none() && (both || head.bare) {
            fault = Some((heads, both));
        }
        let body = match head {
            Head { chunked: true, .. } => chunks(rest),
            Head { length: None, .. } => Some(rest),
            Head {
                length: Some(length),
                ..
            } => length.and_then(|length| rest.get(length..)),
        };
        match body {
            Some(rest) => bytes = rest,
            None => break,
        }
    }
    (heads, fault)
}

#[derive(Default)]
struct Head {
    bare: bool,
    chunked: bool,
    length: Option<Option<usize>>,
}

fn head(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let mut head = Head::default();
    let mut first = true;
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let line = match line.strip_suffix(b"\r") {
            Some(line) => line,
            None => {
                head.bare = true;
                line
            }
        };
        match (line.is_empty(), first) {
            (true, true) => continue,
            (true, false) => return Some((head, rest)),
            (false, true) => {
                first = false;
                continue;
            }
            (false, false) => {}
        }
        let text = String::from_utf8_lossy(line).into_owned();
        let Some((name, value)) = text.split_once(':') else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => head.chunked = true,
            "content-length" => {
                let value = value.trim_matches([' ', '\t', '\r', '\x0c', '\n']);
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                // A length above the memory skips to the end all the same.
                let number = value.parse::<u64>().ok().filter(|_| digits);
                head.length = Some(number.map(|n| usize::try_from(n).unwrap_or(usize::MAX)));
            }
            _ => {}
        }
    }
}

/// What follows a chunked body, by the rules of hyper's decoder.
fn chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let digits = bytes
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let number = std::str::from_utf8(&bytes[..digits]).ok()?;
        let size = u64::from_str_radix(number, 16).ok()?;
        bytes = &bytes[digits..];
        let spaces = bytes
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        bytes = &bytes[spaces..];
        if bytes.first() == Some(&b';') {
            let end = bytes
                .iter()
                .position(|byte| matches!(byte, b'\r' | b'\n'))?;
            bytes = &bytes[end..];
        }
        bytes = bytes.strip_prefix(b"\r\n")?;
        if size == 0 {
            break;
        }
        bytes = bytes.get(usize::try_from(size).ok()?..)?;
        bytes = bytes.strip_prefix(b"\r\n")?;
    }
    // Trailers: lines that end with CR LF, up to an empty one.
    loop {
        if let Some(rest) = bytes.strip_prefix(b"\r") {
            return rest.strip_prefix(b"\n");
        }
        // The first byte of a line is no end of it, whatever it is.
        let end = bytes.iter().skip(1).position(|byte| *byte == b'\r')? + 1;
        bytes = bytes[end..].strip_prefix(b"\r\n")?;
    }
}
