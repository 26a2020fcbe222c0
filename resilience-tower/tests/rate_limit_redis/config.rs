//! Settings.

use resilience_tower::rate_limit::redis::{Mode, OnOutage};

use super::*;

fn quota(per_second: u32) -> Quota {
    Quota::per_second(per_second).unwrap()
}

#[test]
fn leases_are_for_quotas_above_a_thousand_per_second() {
    let lease = |permits| Config::builder(quota(permits)).build().unwrap().lease();
    assert_eq!(lease(1_000), None);
    assert_eq!(lease(1_001), Some(Duration::from_millis(100)));
    assert_eq!(lease(10_000), Some(Duration::from_millis(100)));
    // A burst of one cannot be leased.
    let one = Config::builder(quota(10_000).burst(1).unwrap());
    assert_eq!(one.build().unwrap().lease(), None);
    let exact = Config::builder(quota(10_000)).mode(Mode::Exact);
    assert_eq!(exact.build().unwrap().lease(), None);
    let leased = Config::builder(quota(10)).mode(Mode::Leased);
    assert_eq!(
        leased.build().unwrap().lease(),
        Some(Duration::from_millis(100))
    );
}

#[test]
fn settings_out_of_range_are_told_with_what_is_allowed() {
    let base = || Config::builder(quota(10_000));
    let day = Duration::from_secs(86_400);
    for (settings, told) in [
        (
            base().timeout(Duration::ZERO),
            "timeout is 0ns, allowed: 1ms to 10s",
        ),
        (
            base().reset_timeout(2 * day),
            "reset_timeout is 172800s, allowed: 1ms to 86400s",
        ),
        (base().max_keys(0), "max_keys is 0, allowed: 1 to 10000000"),
        (base().failures(0), "failures is 0, allowed: 1 to 1000"),
        (
            base().prefix("a b"),
            "prefix is a b, allowed: up to 64 visible ASCII characters",
        ),
        (
            base().lease(Duration::from_millis(251)),
            "lease is 251ms, allowed: 1ms to 250ms (a quarter of the fill time)",
        ),
        (
            base().on_outage(OnOutage::Local(0.0)),
            "on_outage is 0, allowed: a share over 0, up to 1, of which a permit comes back each day",
        ),
        (
            base().on_outage(OnOutage::Local(f64::NAN)),
            "on_outage is NaN, allowed: a share over 0, up to 1, of which a permit comes back each day",
        ),
        (
            base().on_outage(OnOutage::Local(1e-300)),
            "on_outage is 0.000",
        ),
    ] {
        let error = settings.build().unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
    let config = base().build().unwrap();
    let error = RedisLimiter::new("redis://:secret@/x", "one", config.clone()).unwrap_err();
    assert_eq!(error.field, "url");
    assert!(!error.to_string().contains("secret"));
    let error = RedisLimiter::new("redis://127.0.0.1/", "a:b", config.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "name is \"a:b\", allowed: 1 to 64 of A-Z a-z 0-9 . _ -"
    );
    // A change that cannot be changes nothing.
    let limiter = RedisLimiter::new("redis://127.0.0.1/", "a", config).unwrap();
    assert!(limiter.set_quota(quota(10_000).burst(1).unwrap()).is_err());
    assert_eq!(limiter.quota(), quota(10_000));
    limiter.set_quota(quota(50)).unwrap();
    assert_eq!(limiter.snapshot().lease.unwrap().quota, quota(50));
}

#[cfg(feature = "serde")]
#[test]
fn settings_are_read_from_a_file() {
    let text = r#"
        quota = { permits = 5000, per = "1s", burst = 10000 }
        mode = "leased"
        lease = "250ms"
        timeout = "50ms"
        on_outage = { local = 0.25 }
        max_keys = 500
        failures = 5
        reset_timeout = "2s"
        prefix = "shop:"
    "#;
    let quota = quota(5_000).burst(10_000).unwrap();
    let config = Config::builder(quota)
        .mode(Mode::Leased)
        .lease(Duration::from_millis(250))
        .timeout(Duration::from_millis(50))
        .on_outage(OnOutage::Local(0.25))
        .max_keys(500)
        .failures(5)
        .reset_timeout(Duration::from_secs(2))
        .prefix("shop:");
    assert_eq!(
        toml::from_str::<Config>(text).unwrap(),
        config.build().unwrap()
    );

    let short: Config =
        toml::from_str("quota = { permits = 5, per = \"1s\" }\non_outage = \"open\"").unwrap();
    assert_eq!(short.on_outage(), OnOutage::Open);
    assert_eq!(
        (short.timeout(), short.failures(), short.prefix()),
        (Duration::from_millis(100), 3, "rate-limit:")
    );
    for (text, told) in [
        ("mode = \"exact\"", "missing field `quota`"),
        (
            "quota = { permits = 5, per = \"1s\" }\nleases = \"1s\"",
            "unknown field `leases`",
        ),
        (
            "quota = { permits = 5, per = \"1s\" }\ntimeout = \"11s\"",
            "timeout is 11s, allowed: 1ms to 10s",
        ),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
