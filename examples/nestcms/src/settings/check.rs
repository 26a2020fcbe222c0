//! The rules that types alone cannot state.

use std::{net::IpAddr, time::Duration};

use http::Uri;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::{BREAKERS, Settings};

/// A broken rule: the field, its value (as it may be shown) and what is allowed.
pub(super) type Broken = (String, String, String);

/// Reads addresses (`127.0.0.1`) and CIDR ranges (`10.0.0.0/8`).
pub(super) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(from)?
        .iter()
        .map(|text| {
            text.parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
                .ok_or_else(|| {
                    de::Error::custom(format!(
                        "`{text}` is neither an address (192.0.2.1) nor a range (192.0.2.0/24)"
                    ))
                })
        })
        .collect()
}

/// The first broken rule, in the order of the fields.
pub(super) fn check(settings: &Settings) -> Result<(), Broken> {
    let Settings {
        database,
        paytabs,
        webhook,
        auth,
        cache,
        nats,
        tasks,
        payments,
        jobs,
        events,
        outbox,
        ..
    } = settings;
    url("public_url", &settings.public_url)?;
    span("database.busy_timeout", database.busy_timeout, 0, MINUTE)?;
    range(
        "database.max_connections",
        u64::from(database.max_connections),
        1,
        64,
    )?;
    let pool = u64::from(database.pool_size);
    range("database.pool_size", pool, 1, 1000)?;
    span("database.wait_limit", database.wait_limit, 1, MINUTE)?;
    span("database.patience", database.patience, 1, MINUTE)?;
    span("database.write_wait", database.write_wait, 1, MINUTE)?;
    span("database.read_wait", database.read_wait, 0, MINUTE)?;
    url("paytabs.base_url", &paytabs.base_url)?;
    span("paytabs.call_timeout", paytabs.call_timeout, 1, 5 * MINUTE)?;
    span("webhook.tolerance_past", webhook.tolerance_past, 0, DAY)?;
    span("webhook.tolerance_future", webhook.tolerance_future, 0, DAY)?;
    let mut order = webhook.order;
    order.sort_unstable();
    if order.windows(2).any(|pair| pair[0] == pair[1]) {
        return broken(
            "webhook.order",
            format!("{:?}", webhook.order),
            "signature, timestamp, ip, header and payload, each exactly once",
        );
    }
    range(
        "webhook.body_limit",
        webhook.body_limit as u64,
        1,
        16 * 1024 * 1024,
    )?;
    if auth.jwt_secret.expose().len() < 32 {
        return broken("auth.jwt_secret", SECRET, "32 bytes or more");
    }
    for (field, text) in [
        ("auth.issuer", &auth.issuer),
        ("auth.audience", &auth.audience),
    ] {
        if text.is_empty() {
            return broken(field, "\"\"", "a text that is not empty");
        }
    }
    span("auth.access_ttl", auth.access_ttl, SECOND, DAY)?;
    range("auth.bcrypt_cost", u64::from(auth.bcrypt_cost), 4, 16)?;
    range("auth.max_failures", u64::from(auth.max_failures), 1, 1000)?;
    span("auth.failure_window", auth.failure_window, SECOND, DAY)?;
    if let Some(user) = &auth.demo_user {
        if !user.email.contains('@') {
            return broken("auth.demo_user.email", &user.email, "an e-mail address");
        }
        if !(8..=72).contains(&user.password.expose().len()) {
            return broken("auth.demo_user.password", SECRET, "8 to 72 bytes");
        }
        if !["user", "editor", "admin"].contains(&user.role.as_str()) {
            return broken("auth.demo_user.role", &user.role, "user, editor or admin");
        }
    }
    for name in settings.breakers.keys() {
        if !BREAKERS.contains(&name.as_str()) {
            return broken("breakers", name, format!("one of {}", BREAKERS.join(", ")));
        }
    }
    for (field, time) in [
        ("cache.lifetime", cache.lifetime),
        ("cache.reports", cache.reports),
        ("cache.near_lifetime", cache.near_lifetime),
    ] {
        span(field, time, 10, DAY)?;
    }
    span("cache.call_timeout", cache.call_timeout, 1, 10 * SECOND)?;
    range("cache.near_bytes", cache.near_bytes, 64 << 10, 64 << 30)?;
    span("nats.connect_timeout", nats.connect_timeout, 1, MINUTE)?;
    span("nats.request_timeout", nats.request_timeout, 1, MINUTE)?;
    range("nats.replicas", nats.replicas as u64, 1, 5)?;
    let least = tasks.least_workers as u64;
    range("tasks.least_workers", least, 1, 1000)?;
    let most = tasks.most_workers as u64;
    range("tasks.most_workers", most, least, 1000)?;
    let share = tasks.tasks_per_worker as u64;
    range("tasks.tasks_per_worker", share, 1, 1_000_000)?;
    span("tasks.poll", tasks.poll, 10, MINUTE)?;
    span("tasks.visibility", tasks.visibility, 100, HOUR)?;
    span("tasks.run_limit", tasks.run_limit, 100, DAY)?;
    span("tasks.grace", tasks.grace, 0, 4 * SECOND)?;
    span("tasks.keep", tasks.keep, MINUTE, 365 * DAY)?;
    span(
        "payments.expires_after",
        payments.expires_after,
        SECOND,
        30 * DAY,
    )?;
    for (field, every) in [
        ("jobs.expiry_scan", jobs.expiry_scan),
        ("jobs.verification", jobs.verification),
        ("jobs.refund", jobs.refund),
        ("jobs.invalidation", jobs.invalidation),
        ("jobs.retention", jobs.retention),
    ] {
        span(field, every, 10, HOUR)?;
    }
    range("events.queue", events.queue as u64, 1, 1_000_000)?;
    span("outbox.poll", outbox.poll, 10, HOUR)?;
    range("outbox.batch", u64::from(outbox.batch), 1, 10_000)?;
    span("outbox.retry_base", outbox.retry_base, 1, DAY)?;
    let base = u64::try_from(outbox.retry_base.as_millis()).unwrap_or(DAY);
    span("outbox.retry_max", outbox.retry_max, base, DAY)?;
    span("outbox.lease", outbox.lease, 100, HOUR)?;
    span("outbox.keep", outbox.keep, 0, 365 * DAY)
}

/// An absolute `http` or `https` URL without query and trailing slash.
fn url(field: &str, text: &str) -> Result<(), Broken> {
    let fits = text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()
    });
    if fits && !text.ends_with('/') {
        return Ok(());
    }
    broken(
        field,
        format!("{text:?}"),
        "an http:// or https:// URL without query and trailing slash",
    )
}

/// `value` in whole milliseconds between `least` and `most`.
fn span(field: &str, value: Duration, least: u64, most: u64) -> Result<(), Broken> {
    if (u128::from(least)..=u128::from(most)).contains(&value.as_millis()) {
        return Ok(());
    }
    let shown = |ms| humantime_serde::re::humantime::format_duration(Duration::from_millis(ms));
    broken(
        field,
        humantime_serde::re::humantime::format_duration(value).to_string(),
        format!("{} to {}", shown(least), shown(most)),
    )
}

fn range(field: &str, value: u64, least: u64, most: u64) -> Result<(), Broken> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    broken(field, value.to_string(), format!("{least} to {most}"))
}

fn broken(field: &str, value: impl Into<String>, allowed: impl Into<String>) -> Result<(), Broken> {
    Err((field.to_owned(), value.into(), allowed.into()))
}

/// Shown in place of a secret's value.
pub(super) const SECRET: &str = "[redacted]";

// Milliseconds.
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
