//! Settings: layers, exact errors, secrets that stay secret.

use std::time::Duration;

use nestcms::settings::{BREAKERS, Settings, VARIABLES};

/// The least that a production file must say.
const SECRETS: &str = r#"
[paytabs]
server_key = "live-server-key"
[auth]
jwt_secret = "0123456789abcdef0123456789abcdef"
"#;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    match Settings::from_toml(text, &env(variables)) {
        Ok(_) => panic!("accepted:\n{text}\n{variables:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_demo_settings_load_and_hold_every_breaker() {
    let settings = Settings::demo();
    for name in BREAKERS {
        assert!(settings.breakers.contains_key(name), "{name}");
    }
    assert_eq!(
        settings.payments.expires_after,
        Duration::from_secs(30 * 60)
    );
    assert_eq!(settings.auth.access_ttl, Duration::from_secs(15 * 60));
    assert_eq!(settings.webhook.body_limit, 256 * 1024);
    assert_eq!(settings.webhook.tolerance_past, Duration::from_secs(300));
    assert_eq!(settings.webhook.tolerance_future, Duration::from_secs(60));
}

#[test]
fn a_file_overrides_only_what_it_names() {
    let text =
        format!("{SECRETS}\n[breakers.cache]\nreset_timeout = \"7s\"\n[jobs]\nrefund = \"9s\"");
    let settings = Settings::from_toml(&text, &[]).expect("valid");
    assert_eq!(settings.jobs.refund, Duration::from_secs(9));
    assert_eq!(settings.jobs.expiry_scan, Duration::from_secs(30));
    assert_eq!(settings.paytabs.server_key.expose(), "live-server-key");
    assert!(settings.auth.demo_user.is_none());
}

#[test]
fn a_variable_wins_over_the_file() {
    let settings = Settings::from_toml(
        &format!("listen = \"127.0.0.1:1\"\n{SECRETS}"),
        &env(&[
            ("NESTCMS_LISTEN", "127.0.0.1:2"),
            ("NESTCMS_PAYTABS_PROFILE_ID", "77"),
            ("NESTCMS_WEBHOOK_SECRETS", "new-secret, old-secret"),
            ("NESTCMS_WEBHOOK_ALLOWED_IPS", "10.0.0.0/8,192.0.2.1"),
            ("PATH", "/bin"),
        ]),
    )
    .expect("valid");
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(settings.paytabs.profile_id, 77);
    let secrets: Vec<_> = settings
        .webhook
        .secrets
        .iter()
        .map(|s| s.expose())
        .collect();
    assert_eq!(secrets, ["new-secret", "old-secret"]);
    assert_eq!(settings.webhook.allowed_ips[1].to_string(), "192.0.2.1/32");
}

#[test]
fn a_missing_secret_is_named() {
    let message = refused("", &[]);
    assert!(message.contains("auth.jwt_secret = (not set)"), "{message}");
    let jwt = [(
        "NESTCMS_AUTH_JWT_SECRET",
        "0123456789abcdef0123456789abcdef",
    )];
    let message = refused("", &jwt);
    assert!(
        message.contains("paytabs.server_key = (not set)"),
        "{message}"
    );
}

#[test]
fn an_error_names_field_value_and_what_is_allowed() {
    let cases = [
        (
            "[auth]\naccess_ttl = \"2 days\"",
            "auth.access_ttl = 2days: allowed: 1s to 1day",
        ),
        (
            "[auth]\nbcrypt_cost = 31",
            "auth.bcrypt_cost = 31: allowed: 4 to 16",
        ),
        (
            "[webhook]\nbody_limit = 0",
            "webhook.body_limit = 0: allowed: 1 to 16777216",
        ),
        (
            "[events]\nqueue = 0",
            "events.queue = 0: allowed: 1 to 1000000",
        ),
        (
            "public_url = \"nestcms\"",
            "public_url = \"nestcms\": allowed: an http://",
        ),
        ("[jobs]\nrefund = \"soon\"", "jobs.refund = \"soon\": "),
        (
            "[log]\nlevel = \"loud\"",
            "log.level = \"loud\": unknown variant `loud`, expected one of `error`",
        ),
        ("[log]\ncolour = 1", "unknown field `colour`"),
        (
            "[webhook]\nallowed_ips = [\"10.0.0.0/40\"]",
            "`10.0.0.0/40` is neither an address",
        ),
        (
            "[webhook]\norder = [\"ip\", \"ip\", \"timestamp\", \"header\", \"payload\"]",
            "each exactly once",
        ),
    ];
    for (text, expected) in cases {
        let mut table: toml::Table = toml::from_str(SECRETS).expect("TOML");
        for (key, value) in toml::from_str::<toml::Table>(text).expect("TOML") {
            match (table.get_mut(&key), value) {
                (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
                (_, value) => {
                    table.insert(key, value);
                }
            }
        }
        // Written by hand: the parser is all of the TOML crate that the program needs.
        let joined = serde_json::to_value(&table).expect("TOML fits JSON");
        let message = refused(&to_toml(&joined), &[]);
        assert!(message.contains(expected), "{text}\n{message}");
    }
}

/// Two levels of tables are enough here.
fn to_toml(root: &serde_json::Value) -> String {
    let mut flat = String::new();
    let mut tables = String::new();
    for (key, value) in root.as_object().expect("a table") {
        match value.as_object() {
            Some(table) => {
                tables.push_str(&format!("[{key}]\n"));
                for (key, value) in table {
                    tables.push_str(&format!("{key} = {value}\n"));
                }
            }
            None => flat.push_str(&format!("{key} = {value}\n")),
        }
    }
    flat + &tables
}

#[test]
fn a_bad_variable_is_named_as_a_variable() {
    let message = refused(SECRETS, &[("NESTCMS_AUTH_BCRYPT_COST", "many")]);
    assert!(
        message.starts_with("NESTCMS_AUTH_BCRYPT_COST = \"many\": "),
        "{message}"
    );
    let message = refused(SECRETS, &[("NESTCMS_EVENTS_QUEUE", "0")]);
    assert!(
        message.starts_with("NESTCMS_EVENTS_QUEUE = 0: allowed: "),
        "{message}"
    );
    let message = refused(SECRETS, &[("NESTCMS_LISTNE", "127.0.0.1:1")]);
    assert!(
        message.starts_with("NESTCMS_LISTNE: no such setting"),
        "{message}"
    );
    assert!(message.contains("NESTCMS_LISTEN"), "{message}");
}

#[test]
fn an_unknown_breaker_is_refused_with_the_known_names() {
    let message = refused(
        &format!("{SECRETS}\n[breakers.paytab]\nreset_timeout = \"1s\""),
        &[],
    );
    assert!(message.contains("paytab"), "{message}");
    assert!(
        message.contains("paytabs, database, cache, external"),
        "{message}"
    );
}

#[test]
fn a_broken_file_is_refused_with_its_line_and_without_its_text() {
    let message = refused(
        "listen = \"127.0.0.1:1\"\n[paytabs]\nserver_key = \"hunter2",
        &[],
    );
    assert!(message.contains("line 3"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn secrets_appear_neither_in_debug_nor_in_errors() {
    let shown = format!("{:?}", Settings::demo());
    for secret in [
        "demo-server-key",
        "demo-webhook-secret",
        "demo-jwt-secret",
        "demo-password",
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for text in [
        "[paytabs]\nserver_key = 424242",
        "[paytabs]\nserver_key = \"k\"\n[auth]\njwt_secret = \"s424242\"",
        "[paytabs]\nserver_key = \"k\"\n[webhook]\nsecrets = [424242]",
        "[paytabs]\nserver_key = \"k\"\n[webhook]\nsecrets = 424242",
    ] {
        let message = refused(text, &[]);
        assert!(!message.contains("424242"), "{message}");
    }
    let message = refused(SECRETS, &[("NESTCMS_AUTH_JWT_SECRET", "short-and-secret")]);
    assert!(
        message.starts_with("NESTCMS_AUTH_JWT_SECRET = [redacted]"),
        "{message}"
    );
}

#[test]
fn a_switch_is_true_or_false() {
    let set = |text: &str| Settings::from_toml(SECRETS, &env(&[("NESTCMS_STATUS_ENABLED", text)]));
    assert!(!Settings::from_toml(SECRETS, &[]).unwrap().status.enabled);
    assert!(set("true").unwrap().status.enabled);
    let message = set("yes").unwrap_err().to_string();
    assert!(
        message.starts_with("NESTCMS_STATUS_ENABLED = "),
        "{message}"
    );
}

#[test]
fn every_variable_sets_a_field_that_exists() {
    for (variable, _) in VARIABLES {
        // A value that no field but a text takes; what matters is that no unknown
        // field comes of it.
        if let Err(error) = Settings::from_toml(SECRETS, &env(&[(variable, "x")])) {
            let message = error.to_string();
            assert!(!message.contains("unknown field"), "{message}");
        }
    }
}
