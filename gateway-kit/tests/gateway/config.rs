//! What a bad configuration is told.

use gateway_kit::Config;

const GOOD: &str = r#"listen = "127.0.0.1:0"

[[route]]
prefix = "/api"
upstream = "shop"

[upstream.shop]
endpoints = ["http://127.0.0.1:9080"]
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    Config::from_toml(&text).expect_err(to).to_string()
}

#[test]
fn a_refusal_names_line_field_value_and_what_is_allowed() {
    for (from, to, wanted) in [
        (
            "\"/api\"",
            "\"api\"",
            &["line 4: route[0].prefix = \"api\": ", "starts with \"/\""][..],
        ),
        ("\"/api\"", "\"/a//b\"", &["line 4: route[0].prefix"]),
        ("\"/api\"", "\"/a/{x}\"", &["line 4: route[0].prefix"]),
        ("\"/api\"", "7", &["line 4: route[0].prefix = 7: "]),
        (
            "\"shop\"",
            "\"ship\"",
            &["line 5: route[0].upstream = \"ship\": ", "shop"],
        ),
        (
            "prefix",
            "prefx",
            &["line 4: ", "prefx", "expected one of", "`prefix`"],
        ),
        (
            "http://",
            "ftp://",
            &["line 8: upstream.shop.endpoints[0] = ", "http://host:port"],
        ),
        (
            ":9080",
            ":9080/x",
            &["line 8: upstream.shop.endpoints[0] = ", "no path"],
        ),
        (":9080", "", &["line 8: upstream.shop.endpoints[0] = "]),
        (":9080", ":0", &["line 8: upstream.shop.endpoints[0] = "]),
        (
            "[\"http://127.0.0.1:9080\"]",
            "[]",
            &["line 8: upstream.shop.endpoints = []: "],
        ),
        (
            "upstream.shop",
            "upstream.\"a b\"",
            &["line 5: route[0].upstream"],
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"nine\"",
            &["line 1: listen = \"nine\": "],
        ),
        ("listen", "lisen", &["line 1: ", "lisen", "`listen`"]),
        ("[[route]]", "[[route]", &["line 3: "]),
        (
            "[[route]]",
            "trusted_proxies = [\"10.0.0.1/8\"]\n[[route]]",
            &[
                "line 3: trusted_proxies[0] = \"10.0.0.1/8\": ",
                "10.0.0.0/8",
            ],
        ),
        (
            "[[route]]",
            "[rate_limit]\nrequests = 0\n[[route]]",
            &["line 4: rate_limit.requests = 0: "],
        ),
        (
            "[[route]]",
            "[rate_limit]\nrequests = 1\nwindow = \"1 fortnight\"\n[[route]]",
            &["line 5: rate_limit.window = \"1 fortnight\": "],
        ),
        (
            "[[route]]",
            "[server]\nmax_headers = 0\n[[route]]",
            &["line 4: server.max_headers = 0: must be from 1 to 1000"],
        ),
        (
            "[[route]]",
            "[[route]]\nprefix = \"/api/\"\nupstream = \"shop\"\n[[route]]",
            &["line 7: route[1].prefix = \"/api\": ", "route[0]"],
        ),
        (
            "upstream = \"shop\"",
            "upstream = \"shop\"\nstrip_prefix = true\nrewrite = \"/x\"",
            &["line 7: route[0].rewrite = \"/x\": ", "strip_prefix"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nconnect_timeout = \"0s\"",
            &["line 8: upstream.shop.connect_timeout = \"0s\": ", "1ms"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nignored_statuses = [503, 404]",
            &["line 8: upstream.shop.ignored_statuses[1] = 404: must be from 500 to 599"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nhealth = { path = \"up\" }",
            &[
                "line 8: upstream.shop.health.path = \"up\": ",
                "starts with",
            ],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nhealth = { statuses = [\"200-99\"] }",
            &[
                "line 8: upstream.shop.health.statuses[0] = \"200-99\": ",
                "200-399",
            ],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nhealth = { jitter = 0.6 }",
            &["line 8: upstream.shop.health.jitter = 0.6: must be from 0 to 0.5"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nhealth = { unhealthy = 0 }",
            &["line 8: upstream.shop.health.unhealthy = 0: must be from 1 to 1000"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\ndiscovery = { interval = \"1s\" }",
            &["line 8: upstream.shop.discovery", "dns, file and api"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\ndiscovery = { dns = [\"http://a:1\", \"http://a:1\"] }",
            &["line 8: upstream.shop.discovery.dns[1] = \"http://a:1\": is listed"],
        ),
        (
            "upstream = \"shop\"",
            "",
            &["line 3: route[0].upstream", "is missing", "a split"],
        ),
        (
            "prefix",
            "hosts = [\"a.test:80\"]\nprefix",
            &[
                "line 4: route[0].hosts[0] = \"a.test:80\": ",
                "without a port",
            ],
        ),
        (
            "prefix",
            "hosts = [\"a.*.test\"]\nprefix",
            &["line 4: route[0].hosts[0] = \"a.*.test\": "],
        ),
        (
            "prefix",
            "methods = [\"get\"]\nprefix",
            &["line 4: route[0].methods[0] = \"get\": ", "in capitals"],
        ),
        (
            "prefix",
            "fixed_path = \"/a/../b\"\nprefix",
            &["line 4: route[0].fixed_path = \"/a/../b\": "],
        ),
        (
            "prefix",
            "fixed_path = \"/x\"\nstrip_prefix = true\nprefix",
            &["line 4: route[0].fixed_path = \"/x\": keep one of"],
        ),
        (
            "upstream = \"shop\"",
            "split = [{ upstream = \"shop\", weight = 0 }]",
            &["line 5: route[0].split", "a weight above 0"],
        ),
        (
            "upstream = \"shop\"",
            "split = [{ upstream = \"ship\", weight = 1 }]",
            &["line 5: route[0].split[0].upstream = \"ship\": ", "shop"],
        ),
        (
            "[[route]]",
            "[[route]]\nprefix = \"/api\"\nmethods = [\"GET\"]\nupstream = \"shop\"\n[[route]]\nprefix = \"/api\"\nmethods = [\"PUT\", \"GET\"]\nupstream = \"shop\"\n[[route]]",
            &[
                "line 8: route[1].prefix = \"/api\": ",
                "route[0]",
                "same host and method",
            ],
        ),
        (
            "[\"http://127.0.0.1:9080\"]",
            "[{ url = \"http://a:1\", weight = 1001 }]",
            &["line 8: upstream.shop.endpoints[0].weight = 1001: must be from 0 to 1000"],
        ),
        (
            "[\"http://127.0.0.1:9080\"]",
            "[{ url = \"http://a:1\", wait = 1 }]",
            &["line 8: upstream.shop.endpoints[0]", "wait", "`weight`"],
        ),
        (
            "[\"http://127.0.0.1:9080\"]",
            "[\"http://a:1\", { url = \"http://A:1\" }]",
            &["line 8: upstream.shop.endpoints[1]", "listed already"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nbalance = { strategy = \"random\" }",
            &[
                "line 8: upstream.shop.balance",
                "random",
                "`weighted_round_robin`",
            ],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nbalance = true",
            &[
                "line 8: upstream.shop.balance = true: ",
                "false, or settings",
            ],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nbalance = { key = { header = \"a b\" } }",
            &["line 8: upstream.shop.balance.key", "a header field"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nbalance = { key = { cookie = \"a;b\" } }",
            &["line 8: upstream.shop.balance.key.cookie = \"a;b\": "],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nbalance = { max_load = 1 }",
            &["line 8: upstream.shop.balance.max_load = 1: must be over 1, up to 100"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nejection = { max_time = \"1s\" }",
            &["line 8: upstream.shop.ejection.max_time = \"1s\": must not be less than time"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nejection = { consecutive_failures = true }",
            &["line 8: upstream.shop.ejection.consecutive_failures = true: "],
        ),
    ] {
        let told = refused(from, to);
        let is_told = |line: &str| wanted.iter().all(|part| line.contains(part));
        assert!(told.lines().any(is_told), "{to}: {told:?} lacks {wanted:?}");
    }
    assert!(Config::from_toml(GOOD).is_ok());
}

#[test]
fn all_that_is_wrong_is_told_in_the_order_of_the_file() {
    let bad = r#"listen = 5

[server]
max_headers = 0
header_timeout = "2day"
nonsense = true

[[route]]
upstream = "shop"

[[route]]
prefix = "api"
upstream = "shop"

[[route]]
prefix = "/b"
upstream = "shop"
split = [{ upstream = "shop", weight = 1001 }]

[upstream.shop]
endpoints = ["http://a:1", "ftp://b:1", "http://c"]
breaker = { minimum_calls = 0 }
connect_timeout = "0s"

[upstream."a b"]
endpoints = []

[rate_limit]
requests = 1
window = "soon"
"#;
    let told = Config::from_toml(bad).unwrap_err();
    let lines: Vec<_> = told
        .problems()
        .iter()
        .map(|one| (one.line.unwrap(), one.field.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (1, "listen"),
            (4, "server.max_headers"),
            (5, "server.header_timeout"),
            (6, "server.nonsense"),
            (8, "route[0]"),
            (12, "route[1].prefix"),
            (18, "route[2].split[0].weight"),
            (21, "upstream.shop.endpoints[1]"),
            (21, "upstream.shop.endpoints[2]"),
            (22, "upstream.shop.breaker.minimum_calls"),
            (23, "upstream.shop.connect_timeout"),
            (30, "rate_limit.window"),
        ],
        "{told}"
    );
    assert_eq!(told.to_string().lines().count(), lines.len());
    assert!(told.to_string().starts_with("line 1: listen = 5: "));
    assert_eq!(Config::from_toml(bad).unwrap_err(), told);
    // No more than a hundred.
    let many: String = (0..200).map(|n| format!("no_{n} = 1\n")).collect();
    let told = Config::from_toml(&many).unwrap_err();
    assert_eq!(told.problems().len(), 100);
}

#[test]
fn what_goes_together_is_told_beside_what_cannot_be_read() {
    let bad = GOOD.replace("\"shop\"", "\"ship\"") + "[server]\nhttp2 = 1\n";
    let told = Config::from_toml(&bad).unwrap_err().to_string();
    assert!(
        told.contains("route[0].upstream = \"ship\": names no"),
        "{told}"
    );
    assert!(told.contains("server.http2 = 1: "), "{told}");
    // But not what follows only from what was left out: this is not for want of an endpoint, and
    // the upstream is there.
    let bad = GOOD.replace("http://", "ftp://") + "tls = { server_name = \"a\" }\n";
    let told = Config::from_toml(&bad).unwrap_err();
    assert_eq!(told.problems().len(), 1, "{told}");
    let bad = GOOD.replace("[upstream.shop]\nendpoints =", "[upstream]\nshop =");
    let told = Config::from_toml(&bad).unwrap_err();
    assert_eq!(told.problems().len(), 1, "{told}");
}

#[test]
fn secrets_are_not_told() {
    let mut bad = vec![
        GOOD.replace("127.0.0.1:9080", "user:pass-word@a:1"),
        GOOD.to_owned() + "[log]\nsecret = \"pass-word\"\n",
    ];
    #[cfg(feature = "admin")]
    bad.push(GOOD.to_owned() + "[admin]\ntoken = \"pass-word\"\n");
    #[cfg(feature = "otel")]
    bad.extend([
        GOOD.to_owned() + "[otel]\nheaders = \"pass-word\"\n",
        GOOD.to_owned() + "[otel]\nheaders = { key = [\"pass-word\"] }\n",
        GOOD.to_owned() + "[otel]\nheaders = { key = \"pass-word\\n\" }\n",
    ]);
    #[cfg(feature = "jwt")]
    bad.extend([
        GOOD.to_owned() + "[jwt]\nalgorithms = [\"HS256\"]\nkeys = [\"pass-word\"]\n",
        GOOD.to_owned()
            + "[jwt]\nalgorithms = [\"HS256\"]\nkeys = [{ kty = \"oct\", k = \"pass-word\" }]\n",
    ]);
    #[cfg(feature = "webhook")]
    bad.push(GOOD.replace(
        "prefix",
        "webhook = { provider = \"github\", secrets = \"pass-word\" }\nprefix",
    ));
    for text in bad {
        let told = Config::from_toml(&text).expect_err(&text).to_string();
        assert!(!told.contains("pass-word"), "{told}");
        assert!(told.starts_with("line "), "{told}");
    }
}

#[test]
fn a_problem_is_one_line_whatever_was_written() {
    for text in [
        "[upstream.\"a\\n\\u001b[2J\"]\n\"b\\u0007\" = 1\n",
        "[log]\nlevel = \"\"\"a\nb\u{85}\"\"\"\n",
        "\"a\\r\\nb\" = 1\n",
        "[upstream.\"a\\nb\"]\nendpoints = [\"http://a:1\"]\n",
    ] {
        let told = Config::from_toml(text).unwrap_err();
        let lines = told.to_string();
        assert_eq!(lines.lines().count(), told.problems().len());
        assert!(
            !lines.replace('\n', "").contains(char::is_control),
            "{lines:?}"
        );
    }
}

#[test]
fn a_bad_breaker_setting_is_told_with_its_field() {
    let text = format!("{GOOD}[upstream.shop.breaker]\nhalf_open_permits = 0\n");
    let told = Config::from_toml(&text).unwrap_err().to_string();
    assert!(
        told.contains("upstream.shop.breaker") && told.contains("half_open_permits"),
        "{told}"
    );
}

#[test]
fn variables_replace_what_the_file_says_and_a_bad_one_changes_nothing() {
    let mut config = Config::from_toml(GOOD).unwrap();
    let set = |name: &'static str, value: &'static str| {
        move |asked: &str| (asked == name).then(|| value.to_owned())
    };
    config.apply_env(set("PORT", "8123")).unwrap();
    assert_eq!(config.listen.port(), 8123);
    for (name, value, allowed) in [
        ("PORT", "http", "0 to 65535"),
        ("PORT", "65536", "0 to 65535"),
        ("LOG_LEVEL", "loud", "`info`"),
        ("LOG_FORMAT", "xml", "`json`"),
    ] {
        let told = config.apply_env(set(name, value)).unwrap_err().to_string();
        assert!(
            told.starts_with(&format!("{name} = \"{value}\": ")),
            "{told}"
        );
        assert!(told.contains(allowed), "{told}");
    }
    assert_eq!(config.listen.port(), 8123);
    // All bad ones are told.
    let told = config.apply_env(|name| {
        ["PORT", "LOG_LEVEL"]
            .contains(&name)
            .then(|| "x".to_owned())
    });
    let told = told.unwrap_err();
    let fields: Vec<_> = told.problems().iter().map(|one| &*one.field).collect();
    assert_eq!(fields, ["PORT", "LOG_LEVEL"]);
}

#[test]
fn the_configurations_of_the_readme_are_good() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        Config::from_toml(block).unwrap_or_else(|error| panic!("{error}\n{block}"));
    }
}
