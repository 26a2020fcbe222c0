//! The usual mistakes, tried one by one.

use std::time::Duration;

use webhook_verify::{KeyFormat, Secret, Step, presets};

use crate::{Delivery, Failure, accepted, args::Verify, refused};

/// Whether the delivery is accepted as it is.
pub(crate) fn run(args: &Verify) -> Result<bool, Failure> {
    let mut delivery = Delivery::read(args)?;
    let text = args.common.secret.read()?;
    let secret = delivery.scheme.secret("cli", &text);
    if let Ok(secret) = secret.clone() {
        match delivery.verify(secret, &delivery.body.0)? {
            Ok(age) => {
                println!("{}", accepted(&delivery.scheme, age));
                return Ok(true);
            }
            Err(error) => {
                eprintln!("{}", refused(&error));
                if !matches!(error.step(), Step::Signature | Step::Timestamp) {
                    return Ok(false);
                }
            }
        }
    } else if let Err(error) = &secret {
        eprintln!(
            "the secret cannot be used with {}: {error}",
            delivery.scheme.name()
        );
    }
    // From here on the time does not matter: it is judged last.
    delivery.tolerance = Some(Duration::from_secs(1 << 40));
    let mut found = Vec::new();
    if let Ok(secret) = &secret {
        if accepts(&delivery, secret, &delivery.body.0) {
            found.push("the signature is right; only the timestamp is refused (is a clock off, or is this an old delivery?)".to_owned());
        }
        for (what, body) in bodies(&delivery.body.0) {
            if accepts(&delivery, secret, &body) {
                found.push(format!("it is accepted {what}"));
            }
        }
    }
    found.extend(keys(&delivery, &text));
    found.extend(schemes(&mut delivery, &text));
    if found.is_empty() {
        eprintln!(
            "none of the usual mistakes explains it: another secret, or a changed body or header"
        );
    }
    found.dedup();
    for found in found {
        eprintln!("hint: {found}");
    }
    Ok(false)
}

fn accepts(delivery: &Delivery, secret: &Secret, body: &[u8]) -> bool {
    matches!(delivery.verify(secret.clone(), body), Ok(Ok(_)))
}

/// The body as it may have been before something changed it.
fn bodies(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8_lossy(body);
    let mut all = vec![
        (
            "with a line feed at the end: the sender's body has one",
            [body, b"\n"].concat(),
        ),
        (
            "with line ends of LF in place of CRLF",
            text.replace("\r\n", "\n").into_bytes(),
        ),
        (
            "with line ends of CRLF in place of LF",
            text.replace("\r\n", "\n")
                .replace('\n', "\r\n")
                .into_bytes(),
        ),
        (
            "without the white space around it",
            body.trim_ascii().to_vec(),
        ),
        (
            "without the byte order mark",
            text.trim_start_matches('\u{feff}').into(),
        ),
    ];
    if let Some(without) = body.strip_suffix(b"\n") {
        let without = without.strip_suffix(b"\r").unwrap_or(without);
        all.insert(
            0,
            (
                "without the line feed at the end, which an editor or `echo` added",
                without.to_vec(),
            ),
        );
    }
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let compact = "as compact JSON: something read the body and wrote it again";
        let pretty = "as indented JSON: something read the body and wrote it again";
        all.extend(serde_json::to_vec(&json).map(|json| (compact, json)));
        all.extend(serde_json::to_vec_pretty(&json).map(|json| (pretty, json)));
    }
    all.retain(|(_, changed)| changed != body);
    all
}

/// The same text as another form of key.
fn keys(delivery: &Delivery, text: &str) -> Vec<String> {
    let forms = [
        ("text", KeyFormat::Text),
        ("base64", KeyFormat::Base64),
        ("hex", KeyFormat::Hex),
        ("whsec_ and base64", KeyFormat::StandardWebhooks),
    ];
    let others = forms
        .into_iter()
        .filter(|(_, form)| *form != delivery.scheme.key_format());
    let texts = [text, text.trim(), text.trim().trim_matches(['"', '\''])];
    let mut found = Vec::new();
    for (name, form) in others {
        if let Ok(secret) = Secret::parse("cli", form, text)
            && accepts(delivery, &secret, &delivery.body.0)
        {
            found.push(format!("the sender takes the secret as {name}"));
        }
    }
    for shorter in texts.into_iter().filter(|other| *other != text) {
        if let Ok(secret) = delivery.scheme.secret("cli", shorter)
            && accepts(delivery, &secret, &delivery.body.0)
        {
            found.push("the secret has white space or quotes around it".to_owned());
        }
    }
    found
}

/// The same delivery under other schemes.
fn schemes(delivery: &mut Delivery, text: &str) -> Vec<String> {
    let given = delivery.scheme.name().to_owned();
    let mut found = Vec::new();
    for name in presets::names().filter(|name| *name != given) {
        let Some(scheme) = presets::by_name(name) else {
            continue;
        };
        delivery.scheme = scheme;
        if let Ok(secret) = delivery.scheme.secret("cli", text)
            && accepts(delivery, &secret, &delivery.body.0)
        {
            found.push(format!("it is a delivery of {name}"));
        }
    }
    found
}
