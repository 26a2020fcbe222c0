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
            &["line 8: upstream.shop.ejection.max_time = \"1s\": must be 30s to 1 day"],
        ),
        (
            "[upstream.shop]",
            "[upstream.shop]\nejection = { consecutive_failures = true }",
            &["line 8: upstream.shop.ejection.consecutive_failures = true: "],
        ),
    ] {
        let told = refused(from, to);
        for part in wanted {
            assert!(told.contains(part), "{to}: {told:?} lacks {part:?}");
        }
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert!(Config::from_toml(GOOD).is_ok());
}

#[test]
fn an_error_is_one_line_whatever_was_written() {
    for text in [
        "[log]\nlevel = \"\"\"a\nb\u{85}\"\"\"\n",
        "\"a\\r\\nb\" = 1\n",
        "[upstream.\"a\\nb\"]\nendpoints = [\"http://a:1\"]\n",
    ] {
        let told = Config::from_toml(text).unwrap_err().to_string();
        assert!(!told.contains(char::is_control), "{told:?}");
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
