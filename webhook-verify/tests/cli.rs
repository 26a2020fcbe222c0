//! The command line, as a user runs it.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use webhook_verify::{KeyFormat, presets};

const BODY: &[u8] = b"{\"amount\": 10,\n \"b\": \"x\"}\n";
const AT: &str = "1700000000";

/// `--secret-env SECRET` with `secret` in it, and `body` on standard input.
fn run(secret: &str, arguments: &[&str], body: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_webhook-verify"))
        .args(arguments)
        .args(["--secret-env", "SECRET"])
        .env("SECRET", secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Wrong usage ends before the body is read.
    let _ = child.stdin.take().unwrap().write_all(body);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `command --scheme SCHEME --at AT` with what the scheme needs, the headers that sign `body`,
/// and the body to send.
fn signed(command: &str, (scheme, secret): (&str, &str), body: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut all: Vec<String> = ["--scheme", scheme, "--at", AT].map(Into::into).into();
    all.extend(needs(scheme).iter().map(|argument| (*argument).to_owned()));
    let mut sign = vec!["sign", "--id", id(scheme)];
    sign.extend(all.iter().map(String::as_str));
    let output = run(secret, &sign, body);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{scheme}: {}",
        stderr(&output)
    );
    let text = stdout(&output);
    // Without an empty line all of it is headers.
    let signs_body = text.starts_with('\n') || text.contains("\n\n");
    let (headers, sent) = match text.split_once("\n\n") {
        _ if text.starts_with('\n') => ("", &text[1..]),
        Some((headers, sent)) => (headers, sent),
        None => (&*text, ""),
    };
    all.insert(0, command.to_owned());
    for header in headers.lines() {
        all.extend(["--header".into(), header.into()]);
    }
    let sent = if signs_body { sent.as_bytes() } else { body };
    (all, sent.to_vec())
}

/// What a scheme needs beside a name and a secret.
fn needs(scheme: &str) -> &'static [&'static str] {
    match scheme {
        "http_message" | "square" | "twilio" | "twilio_shared_key" => {
            &["--url", "https://example.com/hook?a=1"]
        }
        _ => &[],
    }
}

/// Mailgun's has a form of its own.
fn id(scheme: &str) -> &'static str {
    if scheme.starts_with("mailgun") {
        "0123456789abcdef0123456789abcdef0123456789abcdef01"
    } else {
        "msg_1"
    }
}

/// A body that the scheme can sign.
fn body(scheme: &str) -> &'static [u8] {
    match scheme {
        "adyen" => ADYEN.as_bytes(),
        "paytabs_return" | "twilio" | "twilio_shared_key" => b"tranRef=TST1&respStatus=A",
        _ => BODY,
    }
}

const ADYEN: &str = r#"{"live":"false","notificationItems":[{"NotificationRequestItem":{
"additionalData":{},"pspReference":"P1","merchantAccountCode":"A","merchantReference":"R1",
"amount":{"value":10,"currency":"EUR"},"eventCode":"AUTHORISATION","success":"true"}}]}"#;

fn check(command: &str, (scheme, signed_with): (&str, &str), secret: &str, body: &[u8]) -> Output {
    let (all, _) = signed(command, (scheme, signed_with), BODY);
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    run(secret, &all, body)
}

fn folder(name: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("webhook-verify-cli-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A key that signs under the scheme, and the one that verifies.
fn keys(scheme: &str) -> (String, String) {
    let pair = |name: &str| {
        let read = |file: String| {
            std::fs::read_to_string(format!(
                "{}/tests/vectors/keys/{file}",
                env!("CARGO_MANIFEST_DIR")
            ))
            .unwrap()
        };
        (read(format!("{name}.pem")), read(format!("{name}.pub.pem")))
    };
    let format = presets::by_name(scheme).map(|scheme| scheme.key_format());
    let key = match (scheme, format) {
        ("discord", _) => return pair("ed25519"),
        ("sendgrid", _) => return pair("p256"),
        ("http_message", _) | (_, Some(KeyFormat::Base64)) => "c2VjcmV0IG9mIDI0IGJ5dGVzLi4u",
        (_, Some(KeyFormat::Hex)) => "73656372657420736563726574207365",
        (_, Some(KeyFormat::StandardWebhooks)) => "whsec_c2VjcmV0IG9mIDI0IGJ5dGVzLi4u",
        _ => "a secret of text",
    };
    (key.to_owned(), key.to_owned())
}

/// All but PayPal, which nobody else can sign.
fn schemes() -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_webhook-verify"));
    let output = { output }.arg("schemes").output().unwrap();
    let text = stdout(&output);
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let names = names.filter(|name| *name != "paypal");
    names.map(str::to_owned).collect()
}

#[test]
fn what_sign_prints_verify_accepts_and_a_changed_body_is_refused() {
    let schemes = schemes();
    assert!(schemes.len() > 24, "{schemes:?}");
    for name in &schemes {
        let (secret, public) = keys(name);
        let (all, sent) = signed("verify", (name, &secret), body(name));
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let good = run(&public, &all, &sent);
        assert_eq!(good.status.code(), Some(0), "{name}: {}", stderr(&good));
        assert!(stdout(&good).contains(&**name));
        let bad = run(&public, &all, b"{}");
        assert_eq!(bad.status.code(), Some(1), "{name}");
        assert!(
            stderr(&bad).contains("refused at signature")
                || (name.starts_with("mailgun") && stderr(&bad).contains("refused at")),
            "{name}: {}",
            stderr(&bad)
        );
    }
}

#[test]
fn a_signed_body_goes_to_the_file_that_was_named() {
    let folder = folder("out");
    let file = folder.join("body");
    let path = file.to_str().unwrap();
    let all = ["sign", "--scheme", "paytabs_return", "--out", path];
    let output = run("s3cret", &all, b"tranRef=TST1");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let sent = std::fs::read(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(sent.starts_with(b"tranRef=TST1&signature="));
    assert!(!stdout(&output).contains("signature"));
    let header = stdout(&output);
    let all = [
        "verify",
        "--scheme",
        "paytabs_return",
        "--header",
        header.trim(),
    ];
    assert_eq!(run("s3cret", &all, &sent).status.code(), Some(0));
}

#[test]
fn a_scheme_that_needs_more_than_a_name_says_so() {
    for (scheme, needed) in [
        ("square", "--url"),
        ("twilio", "--url"),
        ("http_message", "--url"),
        ("paypal", "--webhook-id"),
    ] {
        let output = run("secret", &["verify", "--scheme", scheme], BODY);
        assert_eq!(output.status.code(), Some(2), "{scheme}");
        assert!(stderr(&output).contains(needed), "{scheme}");
    }
    // An account that is not the one of the delivery.
    let (all, sent) = signed("verify", ("adyen", "73656372"), body("adyen"));
    assert!(all.contains(&"content-type: application/json".to_owned()));
    let mut all: Vec<_> = all.iter().map(String::as_str).collect();
    all.extend(["--account", "A"]);
    assert_eq!(run("73656372", &all, &sent).status.code(), Some(0));
    *all.last_mut().unwrap() = "B";
    assert_eq!(run("73656372", &all, &sent).status.code(), Some(1));
}

#[test]
fn secret_body_and_headers_come_from_files_and_one_line_feed_is_not_the_secret() {
    let folder = folder("files");
    let (secret, body, headers) = (
        folder.join("secret"),
        folder.join("body"),
        folder.join("headers"),
    );
    std::fs::write(&secret, "s3cret\r\n").unwrap();
    std::fs::write(&body, BODY).unwrap();
    let signed = run("s3cret", &["sign", "--scheme", "paytabs_callback"], BODY);
    std::fs::write(&headers, stdout(&signed)).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_webhook-verify"))
        .args(["verify", "--scheme", "paytabs_callback", "--secret-file"])
        .arg(&secret)
        .arg("--headers-file")
        .arg(&headers)
        .arg(&body)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
}

#[test]
fn wrong_usage_and_unusable_input_are_2() {
    let none = ["verify", "--scheme", "paytabs_callback"];
    let binary = || Command::new(env!("CARGO_BIN_EXE_webhook-verify"));
    let code = |command: &mut Command| command.stdin(Stdio::null()).output().unwrap().status.code();
    // No secret, two secrets, a scheme that nobody knows.
    assert_eq!(code(binary().args(none)), Some(2));
    let two = ["--secret-env", "A", "--secret-file", "b"];
    assert_eq!(code(binary().args(none).args(two)), Some(2));
    assert_eq!(
        run("s", &["verify", "--scheme", "stripes"], b"")
            .status
            .code(),
        Some(2)
    );
    // A variable, file, header and secret that are of no use.
    let absent = ["--secret-env", "WEBHOOK_VERIFY_IS_NOT_SET"];
    assert_eq!(code(binary().args(none).args(absent)), Some(2));
    let absent = ["--secret-file", "/nowhere/at/all"];
    assert_eq!(code(binary().args(none).args(absent)), Some(2));
    let header = [&none[..], &["--header", "no colon"]].concat();
    assert_eq!(run("s", &header, b"").status.code(), Some(2));
    let spaced = run(" hunter2 ", &none, b"");
    assert_eq!(spaced.status.code(), Some(2));
    assert!(!stderr(&spaced).contains("hunter2"));
}

#[test]
fn help_tells_the_exit_codes_and_schemes_lists_them_all() {
    let binary = || Command::new(env!("CARGO_BIN_EXE_webhook-verify"));
    let help = stdout(&binary().arg("--help").output().unwrap());
    for text in ["sign", "verify", "diagnose", "Exit codes:", "  2  "] {
        assert!(help.contains(text), "{text}");
    }
    let schemes = schemes();
    assert!(schemes.is_sorted());
    for name in presets::names() {
        assert!(schemes.iter().any(|other| other == name), "{name}");
    }
}

#[test]
fn diagnose_finds_the_usual_mistakes() {
    const PAYTABS: (&str, &str) = ("paytabs_callback", "c2VjcmV0");
    let says = |output: &Output, hint: &str| {
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(output);
        assert!(text.contains(hint), "{hint}: {text}");
    };
    let diagnose = |secret, body: &[u8]| check("diagnose", PAYTABS, secret, body);
    assert_eq!(diagnose(PAYTABS.1, BODY).status.code(), Some(0));
    says(
        &diagnose(PAYTABS.1, BODY.trim_ascii_end()),
        "with a line feed at the end",
    );
    let twice = [BODY, b"\n"].concat();
    says(
        &diagnose(PAYTABS.1, &twice),
        "without the line feed at the end",
    );
    let crlf = String::from_utf8_lossy(BODY).replace('\n', "\r\n");
    says(&diagnose(PAYTABS.1, crlf.as_bytes()), "LF in place of CRLF");
    says(&diagnose("'c2VjcmV0'", BODY), "white space or quotes");
    says(&diagnose(" c2VjcmV0", BODY), "white space or quotes");
    says(&diagnose("another", BODY), "none of the usual mistakes");

    // Sent as compact JSON, seen as indented.
    let sent = b"{\"a\":1}";
    let output = run(PAYTABS.1, &["sign", "--scheme", PAYTABS.0], sent);
    let header = stdout(&output);
    let all = ["diagnose", "--scheme", PAYTABS.0, "--header", header.trim()];
    says(
        &run(PAYTABS.1, &all, b"{\n  \"a\": 1\n}"),
        "as JSON written in another way",
    );

    // Signed with the text of the key in place of the bytes it stands for, and late.
    let whsec = "whsec_c2VjcmV0IG9mIDI0IGJ5dGVzLi4u";
    let (mut late, _) = signed("diagnose", ("standard_webhooks", whsec), BODY);
    let at = late.iter().position(|argument| argument == AT).unwrap();
    late[at] = "1700009999".to_owned();
    let late: Vec<_> = late.iter().map(String::as_str).collect();
    says(&run(whsec, &late, BODY), "only the timestamp is refused");
}
