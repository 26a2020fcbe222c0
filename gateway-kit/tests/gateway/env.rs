//! What variables of the environment make of a configuration.

use std::collections::HashMap;
use std::time::Duration;

use gateway_kit::Config;
use gateway_kit::config::{
    BalanceStrategy, LogFormat, LogLevel, RateLimitConfig, Several, Switch, VARIABLES,
};
use resilience_core::breaker;

use crate::support::{Running, Upstream, parsed, routed};

fn from_env(variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let get = |name: &str| variables.get(name).map(|text| (*text).to_owned());
    Config::from_env(get).map_err(|error| error.to_string())
}

fn over(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let mut config = parsed(file);
    let get = |name: &str| variables.get(name).map(|text| (*text).to_owned());
    let applied = config.apply_env(get);
    applied.map(|()| config).map_err(|error| error.to_string())
}

fn limit(config: &Config) -> Option<&RateLimitConfig> {
    config.rate_limit.as_ref().map(Several::as_slice)?.first()
}

#[test]
fn without_variables_it_is_the_table() {
    // I4.c1
    let config = from_env(&[]).unwrap();
    assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(
        (config.log.level, config.log.format),
        (LogLevel::Info, LogFormat::Json)
    );
    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| {
            let rewrite = route.rewrite.as_ref().unwrap().as_str();
            let upstream = route.upstream.as_deref().unwrap();
            assert!(route.enabled && route.methods.is_empty() && route.hosts.is_empty());
            (route.prefix.as_str(), rewrite, upstream)
        })
        .collect();
    assert_eq!(
        routes,
        [
            ("/api/products", "/products", "product"),
            ("/api/baskets", "/baskets", "basket"),
            ("/api/payments", "/payments", "payment"),
        ]
    );
    for (name, url) in [
        ("product", "http://product-service:8080"),
        ("basket", "http://basket-service:8081"),
        ("payment", "http://payment-service:8082"),
    ] {
        let upstream = &config.upstreams[name];
        assert!(upstream.enabled);
        let urls: Vec<_> = upstream
            .endpoints
            .iter()
            .map(|one| one.url.to_string())
            .collect();
        assert_eq!(urls, [url]);
        let breaker = &upstream.breaker;
        assert_eq!(breaker.half_open_permits(), 10);
        assert_eq!(breaker.time_window(), Some(Duration::from_secs(60)));
        assert_eq!(breaker.count_window(), None);
        assert_eq!(breaker.reset_timeout(), Duration::from_secs(30));
        assert_eq!(breaker.consecutive_failures(), Some(5));
        assert_eq!(breaker.failure_rate(), Some(0.5));
        assert_eq!(
            upstream.balance.on().unwrap().strategy,
            BalanceStrategy::RoundRobin
        );
    }
    let limit = limit(&config).unwrap();
    assert_eq!(limit.requests.get(), 100);
    assert_eq!(limit.window, Duration::from_secs(60));
    assert_eq!(limit.burst.unwrap().get(), 10);
    assert!(config.trusted_proxies.is_empty());
    let readme = include_str!("../../README.md");
    // Each variable with its default is the same as no variable.
    for variable in VARIABLES {
        let row = format!("| {} | {} |", variable.name, variable.default);
        assert!(readme.contains(&row), "{row}");
        if variable.default.starts_with('(') {
            continue;
        }
        let set = from_env(&[(variable.name, variable.default)]);
        assert_eq!(set.unwrap(), config, "{}", variable.name);
    }
}

#[test]
fn each_variable_changes_what_it_names() {
    let config = from_env(&[
        ("PORT", "9"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "text"),
        ("PRODUCT_SERVICE_ENABLED", "false"),
        ("BASKET_SERVICE_URLS", "http://a:1, https://b:2"),
        ("CIRCUIT_BREAKER_MAX_REQUESTS", "3"),
        ("CIRCUIT_BREAKER_INTERVAL", "90"),
        ("CIRCUIT_BREAKER_TIMEOUT", "500ms"),
        ("CIRCUIT_BREAKER_FAILURES", "7"),
        ("CIRCUIT_BREAKER_FAILURE_RATE", "0.25"),
        ("LOAD_BALANCER_STRATEGY", "least_connections"),
        ("RATE_LIMIT_REQUESTS", "5"),
        ("RATE_LIMIT_WINDOW", "2h"),
        ("RATE_LIMIT_BURST", "6"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::1"),
        ("KAFKA_BROKERS", "not read"),
    ])
    .unwrap();
    assert_eq!(config.listen.port(), 9);
    assert_eq!(
        (config.log.level, config.log.format),
        (LogLevel::Debug, LogFormat::Text)
    );
    assert!(!config.upstreams["product"].enabled && config.upstreams["basket"].enabled);
    let basket = &config.upstreams["basket"];
    let urls: Vec<_> = basket
        .endpoints
        .iter()
        .map(|one| one.url.to_string())
        .collect();
    assert_eq!(urls, ["http://a:1", "https://b:2"]);
    assert_eq!(config.upstreams["payment"].endpoints.len(), 1);
    let wanted = breaker::Config::builder()
        .half_open_permits(3)
        .time_window(Duration::from_secs(90))
        .count_window(None)
        .reset_timeout(Duration::from_millis(500))
        .consecutive_failures(7)
        .failure_rate(0.25)
        .build()
        .unwrap();
    for upstream in config.upstreams.values() {
        assert_eq!(upstream.breaker, wanted);
        let strategy = upstream.balance.on().unwrap().strategy;
        assert_eq!(strategy, BalanceStrategy::LeastConnections);
    }
    let limit = limit(&config).unwrap();
    assert_eq!(
        (limit.requests.get(), limit.window),
        (5, Duration::from_secs(7200))
    );
    assert_eq!(limit.burst.unwrap().get(), 6);
    assert_eq!(config.trusted_proxies.len(), 2);
    let off = from_env(&[
        ("CIRCUIT_BREAKER_ENABLED", "false"),
        ("LOAD_BALANCER_ENABLED", "false"),
        ("RATE_LIMIT_ENABLED", "false"),
    ])
    .unwrap();
    for upstream in off.upstreams.values() {
        assert_eq!(upstream.balance, Switch::Off);
        let breaker = &upstream.breaker;
        assert_eq!(
            (breaker.failure_rate(), breaker.consecutive_failures()),
            (None, None)
        );
    }
    assert!(off.rate_limit.is_none());
}

#[test]
fn a_bad_value_is_told_in_one_line_with_name_value_and_what_is_allowed() {
    // I4.c2
    let duration = "must be a number and ms, s, m or h";
    let seconds = "must be a number of seconds, or a number and ms, s, m or h";
    let urls = "must be \"http://host:port\" or";
    for (name, values, allowed) in [
        (
            "PORT",
            &["", "x", "65536", "-1", "80 "][..],
            "must be a number from 0 to 65535",
        ),
        (
            "LOG_LEVEL",
            &["loud", ""],
            "expected one of `error`, `warn`",
        ),
        ("LOG_FORMAT", &["xml"], "expected `json` or `text`"),
        (
            "PRODUCT_SERVICE_ENABLED",
            &["yes", "1", "TRUE", ""],
            "must be true or false",
        ),
        ("BASKET_SERVICE_ENABLED", &["on"], "must be true or false"),
        ("PAYMENT_SERVICE_ENABLED", &["on"], "must be true or false"),
        (
            "PRODUCT_SERVICE_URLS",
            &[
                "",
                "a:1",
                "http://a",
                "http://a:1,",
                "http://a:1/x",
                "http://a:1,http://a:1",
            ],
            urls,
        ),
        ("BASKET_SERVICE_URLS", &["ftp://a:1"], urls),
        ("PAYMENT_SERVICE_URLS", &["http://a:0"], urls),
        ("CIRCUIT_BREAKER_ENABLED", &["x"], "must be true or false"),
        (
            "CIRCUIT_BREAKER_MAX_REQUESTS",
            &["", "x"],
            "must be a number, 1 or more",
        ),
        (
            "CIRCUIT_BREAKER_MAX_REQUESTS",
            &["0"],
            "half_open_permits must be 1",
        ),
        (
            "CIRCUIT_BREAKER_INTERVAL",
            &["", "x", "1 m", "1d", "0s", "-1"],
            seconds,
        ),
        (
            "CIRCUIT_BREAKER_INTERVAL",
            &["0", "3601", "2h"],
            "time_window must be 10ms to 1 hour",
        ),
        ("CIRCUIT_BREAKER_TIMEOUT", &["", "x", "1.5s"], seconds),
        ("CIRCUIT_BREAKER_TIMEOUT", &["0"], "reset_timeout must be"),
        (
            "CIRCUIT_BREAKER_FAILURES",
            &["", "-1", "4294967296"],
            "must be a number, 1 or more",
        ),
        (
            "CIRCUIT_BREAKER_FAILURES",
            &["0", "10001"],
            "consecutive_failures must be 1",
        ),
        (
            "CIRCUIT_BREAKER_FAILURE_RATE",
            &["", "half"],
            "must be a number above 0, up to 1",
        ),
        (
            "CIRCUIT_BREAKER_FAILURE_RATE",
            &["0", "1.1", "NaN"],
            "failure_rate must be",
        ),
        ("LOAD_BALANCER_ENABLED", &["x"], "must be true or false"),
        (
            "LOAD_BALANCER_STRATEGY",
            &["random"],
            "expected one of `round_robin`",
        ),
        ("RATE_LIMIT_ENABLED", &["x"], "must be true or false"),
        (
            "RATE_LIMIT_REQUESTS",
            &["", "0", "-1", "4294967296"],
            "must be a number from 1",
        ),
        (
            "RATE_LIMIT_WINDOW",
            &["", "60", "1x", "0s", "25h", "99999999999999999999s"],
            duration,
        ),
        ("RATE_LIMIT_BURST", &["0"], "must be a number from 1"),
        (
            "TRUSTED_PROXIES",
            &["", "10.0.0.1/8", "a,b"],
            "must be addresses or networks",
        ),
    ] {
        for value in values {
            let told = from_env(&[(name, value)]).expect_err(value);
            assert!(told.starts_with(&format!("{name} = {value:?}: ")), "{told}");
            assert!(told.contains(allowed), "{told}");
            assert!(!told.contains('\n'), "{told}");
        }
    }
    // A user and a password in a URL stay a secret.
    let told = from_env(&[("BASKET_SERVICE_URLS", "http://me:hunter2@h:1")]).unwrap_err();
    assert!(
        told.starts_with("BASKET_SERVICE_URLS = (not shown): must be"),
        "{told}"
    );
    let told = from_env(&[("PORT", "1\n2\u{1b}[2J")]).unwrap_err();
    assert!(!told.contains(['\n', '\u{1b}']), "{told}");
}

#[test]
fn over_a_file_a_variable_changes_what_it_names_and_nothing_else() {
    let file = "[[route]]\nprefix = \"/\"\nupstream = \"product\"\n\
                rate_limit = { requests = 3 }\n\
                [upstream.product]\nendpoints = [\"http://a:1\"]\n\
                breaker = { consecutive_failures = 9 }\nbalance = false\n";
    let before = parsed(file);
    assert_eq!(over(file, &[]).unwrap(), before);
    let after = over(file, &[("PRODUCT_SERVICE_URLS", "http://b:1")]).unwrap();
    assert_eq!(
        after.upstreams["product"].endpoints[0].url.authority(),
        "b:1"
    );
    assert_eq!(
        after.upstreams["product"].breaker,
        before.upstreams["product"].breaker
    );
    assert_eq!((after.routes, after.rate_limit), (before.routes, None));
    let after = over(file, &[("CIRCUIT_BREAKER_TIMEOUT", "5")]).unwrap();
    let breaker = &after.upstreams["product"].breaker;
    assert_eq!(breaker.reset_timeout(), Duration::from_secs(5));
    assert_eq!(breaker.consecutive_failures(), Some(9));
    assert_eq!(breaker.count_window(), Some(100));
    // Switched off in the file, it is not switched on by a strategy alone.
    let strategy = ("LOAD_BALANCER_STRATEGY", "peak_ewma");
    assert_eq!(
        over(file, &[strategy]).unwrap().upstreams["product"].balance,
        Switch::Off
    );
    let on = over(file, &[strategy, ("LOAD_BALANCER_ENABLED", "true")]).unwrap();
    let balance = on.upstreams["product"].balance.on().unwrap();
    assert_eq!(balance.strategy, BalanceStrategy::PeakEwma);
    let limited = over(file, &[("RATE_LIMIT_REQUESTS", "7")]).unwrap();
    let one = limit(&limited).unwrap();
    assert_eq!((one.requests.get(), one.burst.unwrap().get()), (7, 10));
    let off = over(file, &[("RATE_LIMIT_ENABLED", "false")]).unwrap();
    assert_eq!(off.routes[0].rate_limit, Some(Switch::Off));
    let told = over(file, &[("BASKET_SERVICE_ENABLED", "true")]).unwrap_err();
    assert_eq!(
        told,
        "BASKET_SERVICE_ENABLED: is for [upstream.basket], which the file does not have"
    );
    let two = "[[rate_limit]]\nrequests = 1\n[[rate_limit]]\nrequests = 2\nname = \"b\"\n";
    let told = over(two, &[("RATE_LIMIT_BURST", "2")]).unwrap_err();
    assert!(
        told.starts_with("RATE_LIMIT_BURST: there is more than one"),
        "{told}"
    );
}

#[tokio::test]
async fn with_the_load_balancer_off_the_first_url_gets_all() {
    // I2.c5
    let [a, b] = [Upstream::start().await, Upstream::start().await];
    let config = over(
        &routed(&[a.addr, b.addr]),
        &[("LOAD_BALANCER_ENABLED", "false")],
    )
    .unwrap();
    let gateway = Running::of(gateway_kit::Gateway::builder(config)).await;
    for _ in 0..6 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((a.calls(), b.calls()), (6, 0));
}
