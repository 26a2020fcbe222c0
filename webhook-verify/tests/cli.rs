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

/// `command --scheme SCHEME --at AT` and the headers that sign `BODY`.
fn arguments(command: &str, scheme: &str, secret: &str) -> Vec<String> {
    let sign = ["sign", "--scheme", scheme, "--at", AT, "--id", "msg_1"];
    let signed = run(secret, &sign, BODY);
    assert_eq!(
        signed.status.code(),
        Some(0),
        "{scheme}: {}",
        stderr(&signed)
    );
    let mut all = vec![command.to_owned(), "--scheme".into(), scheme.into()];
    all.extend(["--at".into(), AT.into()]);
    for header in stdout(&signed).lines() {
        all.extend(["--header".into(), header.into()]);
    }
    all
}

fn check(command: &str, (scheme, signed_with): (&str, &str), secret: &str, body: &[u8]) -> Output {
    let all = arguments(command, scheme, signed_with);
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    run(secret, &all, body)
}

fn folder(name: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("webhook-verify-cli-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn what_sign_prints_verify_accepts_and_a_changed_body_is_refused() {
    let mut checked = 0;
    for name in presets::names() {
        let scheme = presets::by_name(name).unwrap();
        let secret = match scheme.key_format() {
            KeyFormat::Text => "a secret of text",
            KeyFormat::Base64 => "c2VjcmV0IG9mIDI0IGJ5dGVzLi4u",
            KeyFormat::Hex => "73656372657420",
            KeyFormat::StandardWebhooks => "whsec_c2VjcmV0IG9mIDI0IGJ5dGVzLi4u",
            // A public key does not sign.
            _ => continue,
        };
        let good = check("verify", (name, secret), secret, BODY);
        assert_eq!(good.status.code(), Some(0), "{name}: {}", stderr(&good));
        assert!(stdout(&good).contains(name));
        let bad = check("verify", (name, secret), secret, b"{}");
        assert_eq!(bad.status.code(), Some(1), "{name}");
        assert!(
            stderr(&bad).contains("refused at signature"),
            "{}",
            stderr(&bad)
        );
        checked += 1;
    }
    assert!(checked > 3, "{checked}");
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
fn wrong_usage_is_2_and_unusable_input_is_3() {
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
    assert_eq!(code(binary().args(none).args(absent)), Some(3));
    let absent = ["--secret-file", "/nowhere/at/all"];
    assert_eq!(code(binary().args(none).args(absent)), Some(3));
    let header = [&none[..], &["--header", "no colon"]].concat();
    assert_eq!(run("s", &header, b"").status.code(), Some(3));
    let spaced = run(" hunter2 ", &none, b"");
    assert_eq!(spaced.status.code(), Some(3));
    assert!(!stderr(&spaced).contains("hunter2"));
}

#[test]
fn help_tells_the_exit_codes_and_schemes_lists_them_all() {
    let binary = || Command::new(env!("CARGO_BIN_EXE_webhook-verify"));
    let help = stdout(&binary().arg("--help").output().unwrap());
    for text in ["sign", "verify", "diagnose", "Exit codes:", "  3  "] {
        assert!(help.contains(text), "{text}");
    }
    let schemes = stdout(&binary().arg("schemes").output().unwrap());
    assert!(schemes.lines().eq(presets::names()));
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
    let signed = run(PAYTABS.1, &["sign", "--scheme", PAYTABS.0], sent);
    let header = stdout(&signed);
    let all = ["diagnose", "--scheme", PAYTABS.0, "--header", header.trim()];
    says(
        &run(PAYTABS.1, &all, b"{\n  \"a\": 1\n}"),
        "as compact JSON",
    );

    // Signed with the text of the key in place of the bytes it stands for, and late.
    let whsec = "whsec_c2VjcmV0IG9mIDI0IGJ5dGVzLi4u";
    let mut late = arguments("diagnose", "standard_webhooks", whsec);
    let at = late.iter().position(|argument| argument == AT).unwrap();
    late[at] = "1700009999".to_owned();
    let late: Vec<_> = late.iter().map(String::as_str).collect();
    says(&run(whsec, &late, BODY), "only the timestamp is refused");
}
