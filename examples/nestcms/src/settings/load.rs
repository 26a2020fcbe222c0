//! Reading and joining the layers.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::{
    DEFAULTS, Settings,
    check::{SECRET, check},
};

/// A setting that cannot be used. Secrets are never part of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("settings file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{place}, line {line}: {reason}")]
    Syntax {
        /// The file.
        place: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A `NESTCMS_*` variable that does not exist.
    #[error("{variable}: no such setting; allowed: {allowed}")]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// All names.
        allowed: String,
    },
    /// A value out of its range, of the wrong type or missing, or an unknown field.
    #[error("{name} = {value}: {allowed}")]
    Value {
        /// The field (`auth.access_ttl`), or the variable that set it.
        name: String,
        /// What was given, `[redacted]` for a secret, `(not set)` when missing.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// The variables and the field that each sets. Lists are separated by commas.
pub const VARIABLES: &[(&str, &str)] = &[
    ("NESTCMS_LISTEN", "listen"),
    ("NESTCMS_PUBLIC_URL", "public_url"),
    ("NESTCMS_DATABASE_PATH", "database.path"),
    ("NESTCMS_DATABASE_BUSY_TIMEOUT", "database.busy_timeout"),
    (
        "NESTCMS_DATABASE_MAX_CONNECTIONS",
        "database.max_connections",
    ),
    ("NESTCMS_DATABASE_NODES", "database.nodes"),
    ("NESTCMS_DATABASE_POOL_SIZE", "database.pool_size"),
    ("NESTCMS_DATABASE_WAIT_LIMIT", "database.wait_limit"),
    ("NESTCMS_DATABASE_PATIENCE", "database.patience"),
    ("NESTCMS_DATABASE_WRITE_WAIT", "database.write_wait"),
    ("NESTCMS_DATABASE_READ_WAIT", "database.read_wait"),
    (
        "NESTCMS_DATABASE_REPORTS_ON_PRIMARY",
        "database.reports_on_primary",
    ),
    (
        "NESTCMS_DATABASE_HISTORY_FUNCTION",
        "database.history_function",
    ),
    ("NESTCMS_PAYTABS_BASE_URL", "paytabs.base_url"),
    ("NESTCMS_PAYTABS_PROFILE_ID", "paytabs.profile_id"),
    ("NESTCMS_PAYTABS_SERVER_KEY", "paytabs.server_key"),
    ("NESTCMS_PAYTABS_CALL_TIMEOUT", "paytabs.call_timeout"),
    ("NESTCMS_WEBHOOK_SECRETS", "webhook.secrets"),
    ("NESTCMS_WEBHOOK_ALLOWED_IPS", "webhook.allowed_ips"),
    ("NESTCMS_WEBHOOK_TRUSTED_PROXIES", "webhook.trusted_proxies"),
    ("NESTCMS_WEBHOOK_TOLERANCE_PAST", "webhook.tolerance_past"),
    (
        "NESTCMS_WEBHOOK_TOLERANCE_FUTURE",
        "webhook.tolerance_future",
    ),
    ("NESTCMS_WEBHOOK_ORDER", "webhook.order"),
    ("NESTCMS_WEBHOOK_BODY_LIMIT", "webhook.body_limit"),
    ("NESTCMS_AUTH_JWT_SECRET", "auth.jwt_secret"),
    ("NESTCMS_AUTH_ISSUER", "auth.issuer"),
    ("NESTCMS_AUTH_AUDIENCE", "auth.audience"),
    ("NESTCMS_AUTH_ACCESS_TTL", "auth.access_ttl"),
    ("NESTCMS_AUTH_BCRYPT_COST", "auth.bcrypt_cost"),
    ("NESTCMS_AUTH_MAX_FAILURES", "auth.max_failures"),
    ("NESTCMS_AUTH_FAILURE_WINDOW", "auth.failure_window"),
    ("NESTCMS_AUTH_DEMO_USER_EMAIL", "auth.demo_user.email"),
    ("NESTCMS_AUTH_DEMO_USER_PASSWORD", "auth.demo_user.password"),
    ("NESTCMS_AUTH_DEMO_USER_ROLE", "auth.demo_user.role"),
    ("NESTCMS_CACHE_LIFETIME", "cache.lifetime"),
    ("NESTCMS_CACHE_REPORTS", "cache.reports"),
    ("NESTCMS_CACHE_NEAR_LIFETIME", "cache.near_lifetime"),
    ("NESTCMS_CACHE_NEAR_BYTES", "cache.near_bytes"),
    ("NESTCMS_CACHE_REDIS", "cache.redis"),
    ("NESTCMS_CACHE_SENTINELS", "cache.sentinels"),
    ("NESTCMS_CACHE_SERVICE", "cache.service"),
    ("NESTCMS_CACHE_CALL_TIMEOUT", "cache.call_timeout"),
    ("NESTCMS_NATS_SERVERS", "nats.servers"),
    ("NESTCMS_NATS_CREDENTIALS", "nats.credentials"),
    ("NESTCMS_NATS_CONNECT_TIMEOUT", "nats.connect_timeout"),
    ("NESTCMS_NATS_REQUEST_TIMEOUT", "nats.request_timeout"),
    ("NESTCMS_NATS_REPLICAS", "nats.replicas"),
    ("NESTCMS_TASKS_LEAST_WORKERS", "tasks.least_workers"),
    ("NESTCMS_TASKS_MOST_WORKERS", "tasks.most_workers"),
    ("NESTCMS_TASKS_TASKS_PER_WORKER", "tasks.tasks_per_worker"),
    ("NESTCMS_TASKS_POLL", "tasks.poll"),
    ("NESTCMS_TASKS_VISIBILITY", "tasks.visibility"),
    ("NESTCMS_TASKS_RUN_LIMIT", "tasks.run_limit"),
    ("NESTCMS_TASKS_GRACE", "tasks.grace"),
    ("NESTCMS_TASKS_KEEP", "tasks.keep"),
    ("NESTCMS_PAYMENTS_EXPIRES_AFTER", "payments.expires_after"),
    ("NESTCMS_JOBS_EXPIRY_SCAN", "jobs.expiry_scan"),
    ("NESTCMS_JOBS_VERIFICATION", "jobs.verification"),
    ("NESTCMS_JOBS_REFUND", "jobs.refund"),
    ("NESTCMS_JOBS_INVALIDATION", "jobs.invalidation"),
    ("NESTCMS_JOBS_RETENTION", "jobs.retention"),
    ("NESTCMS_EVENTS_QUEUE", "events.queue"),
    ("NESTCMS_OUTBOX_POLL", "outbox.poll"),
    ("NESTCMS_OUTBOX_BATCH", "outbox.batch"),
    ("NESTCMS_OUTBOX_RETRY_BASE", "outbox.retry_base"),
    ("NESTCMS_OUTBOX_RETRY_MAX", "outbox.retry_max"),
    ("NESTCMS_OUTBOX_LEASE", "outbox.lease"),
    ("NESTCMS_OUTBOX_KEEP", "outbox.keep"),
    ("NESTCMS_STATUS_ENABLED", "status.enabled"),
    ("NESTCMS_LOG_LEVEL", "log.level"),
    ("NESTCMS_LOG_FORMAT", "log.format"),
];

/// Fields whose variable holds a list.
const LISTS: [&str; 7] = [
    "database.nodes",
    "cache.sentinels",
    "nats.servers",
    "webhook.secrets",
    "webhook.allowed_ips",
    "webhook.trusted_proxies",
    "webhook.order",
];

/// Fields whose variable holds a whole number.
const NUMBERS: [&str; 13] = [
    "nats.replicas",
    "tasks.least_workers",
    "tasks.most_workers",
    "tasks.tasks_per_worker",
    "database.pool_size",
    "database.max_connections",
    "cache.near_bytes",
    "paytabs.profile_id",
    "webhook.body_limit",
    "auth.bcrypt_cost",
    "auth.max_failures",
    "events.queue",
    "outbox.batch",
];

/// Fields whose variable is `true` or `false`.
const SWITCHES: [&str; 2] = ["status.enabled", "database.reports_on_primary"];

/// Fields whose value is never shown.
const SECRETS: [&str; 8] = [
    "database.nodes",
    "cache.redis",
    "cache.sentinels",
    "nats.servers",
    "paytabs.server_key",
    "webhook.secrets",
    "auth.jwt_secret",
    "auth.demo_user.password",
];

impl Settings {
    /// Reads `file`, if one is given, and the process's environment.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        let Some(path) = file else {
            return layered(&[], &env);
        };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| SettingsError::File {
            path: shown.clone(),
            reason: error.to_string(),
        })?;
        layered(&[(&shown, &text)], &env)
    }

    /// Reads `text` as TOML over the defaults, then `variables` over it.
    ///
    /// Variables whose name does not start with `NESTCMS_` are not looked at.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn from_toml(text: &str, variables: &[(String, String)]) -> Result<Self, SettingsError> {
        layered(&[("settings", text)], variables)
    }
}

/// Joins the defaults, `texts` and `variables`, each over the ones before.
pub(super) fn layered(
    texts: &[(&str, &str)],
    variables: &[(String, String)],
) -> Result<Settings, SettingsError> {
    let mut joined = parse("built-in defaults", DEFAULTS)?;
    for (place, text) in texts {
        merge(&mut joined, parse(place, text)?);
    }
    let mut from_variables = Vec::new();
    for (variable, value) in variables {
        if !variable.starts_with(PREFIX) {
            continue;
        }
        let Some((_, field)) = VARIABLES.iter().find(|(name, _)| name == variable) else {
            let names: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
            return Err(SettingsError::UnknownVariable {
                variable: variable.clone(),
                allowed: names.join(", "),
            });
        };
        set(&mut joined, field, typed(field, value));
        from_variables.push((variable.clone(), *field));
    }
    let name_of = |field: &str| {
        from_variables
            .iter()
            .find(|(_, set)| field == *set || field.starts_with(&format!("{set}[")))
            .map_or_else(|| field.to_owned(), |(variable, _)| variable.clone())
    };
    let root = Value::Table(joined);
    let settings: Settings = serde_path_to_error::deserialize(root.clone()).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let (field, value) = locate(&root, &path, inner.message());
        let allowed = if value == SECRET {
            // serde's message for a wrong type quotes the value.
            "allowed: a text that is not empty (a list of such for webhook.secrets and database.nodes)"
        } else {
            inner.message().trim()
        };
        SettingsError::Value {
            name: name_of(&field),
            value,
            allowed: allowed.to_owned(),
        }
    })?;
    check(&settings).map_err(|(field, value, allowed)| SettingsError::Value {
        name: name_of(&field),
        value,
        allowed: format!("allowed: {allowed}"),
    })?;
    Ok(settings)
}

fn parse(place: &str, text: &str) -> Result<Table, SettingsError> {
    // The parser's own message would print the line, and with it perhaps a secret.
    Table::deserialize(toml::Deserializer::parse(text).map_err(|e| syntax(place, text, &e))?)
        .map_err(|e| syntax(place, text, &e))
}

fn syntax(place: &str, text: &str, error: &toml::de::Error) -> SettingsError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    SettingsError::Syntax {
        place: place.to_owned(),
        line: 1 + text.as_bytes()[..start]
            .iter()
            .filter(|b| **b == b'\n')
            .count(),
        reason: error.message().to_owned(),
    }
}

/// Lays `over` onto `base`: tables are joined, everything else replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Sets the dotted `field`; a value in the way of a table is replaced by one.
fn set(table: &mut Table, field: &str, value: Value) {
    let Some((head, rest)) = field.split_once('.') else {
        table.insert(field.to_owned(), value);
        return;
    };
    let below = table
        .entry(head)
        .or_insert_with(|| Value::Table(Table::new()));
    if !below.is_table() {
        *below = Value::Table(Table::new());
    }
    if let Value::Table(below) = below {
        set(below, rest, value);
    }
}

/// The variable's text as the type that the field wants; a text that is no number
/// stays a text, so that the error can quote it.
fn typed(field: &str, text: &str) -> Value {
    if LISTS.contains(&field) {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    }
    if NUMBERS.contains(&field)
        && let Ok(number) = text.trim().parse()
    {
        return Value::Integer(number);
    }
    if SWITCHES.contains(&field)
        && let Ok(on) = text.trim().parse()
    {
        return Value::Boolean(on);
    }
    Value::String(text.to_owned())
}

/// The field that an error is about, and its value as it may be shown.
fn locate(root: &Value, path: &str, message: &str) -> (String, String) {
    let mut field = if path == "." { "" } else { path }.to_owned();
    // A missing field is reported at the table that should hold it.
    if let Some(missing) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        if !field.is_empty() && !field.ends_with(missing) {
            field.push('.');
        }
        if !field.ends_with(missing) {
            field.push_str(missing);
        }
        return (field, "(not set)".to_owned());
    }
    if SECRETS.iter().any(|secret| field.starts_with(secret)) {
        return (field, SECRET.to_owned());
    }
    let mut value = Some(root);
    for part in field.split(['.', '[']).filter(|part| !part.is_empty()) {
        let index = part.strip_suffix(']').and_then(|n| n.parse::<usize>().ok());
        value = value.and_then(|value| match index {
            Some(index) => value.get(index),
            None => value.get(part),
        });
    }
    let shown = match value {
        // A whole table may hold a secret.
        None | Some(Value::Table(_)) => "(table)".to_owned(),
        Some(value) => serde_json::to_string(value).unwrap_or_else(|_| "(value)".to_owned()),
    };
    (field, shown)
}

/// What all our variables start with.
const PREFIX: &str = "NESTCMS_";
