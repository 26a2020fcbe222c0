//! Who listens on the bus of one instance.

use std::sync::Arc;

use super::AppState;
use crate::{
    adapters::{
        postgres::{Postgres, PostgresAudit, PostgresUsers},
        sqlite::{Database, SqliteAudit},
    },
    events::{
        Channel,
        channel::SqliteChannel,
        listeners::{
            Alert, AnalyticsListener, Audit, AuditLog, CacheInvalidation, Logging, Notification,
            Payers, SqlitePayers,
        },
    },
    ports::{AuditStore, Cache},
    tasks::QueuedChannel,
};

/// Subscribes every listener.
pub(super) fn wire(state: &AppState, cache: Arc<dyn Cache>) {
    let (bus, pool) = (state.bus(), state.database().write().clone());
    let (_, payers) = people(state.database(), state.postgres());
    // A channel that is slow or down holds no listener up.
    let channel: Arc<dyn Channel> = Arc::new(QueuedChannel::new(state.tasks().clone()));
    let audit: Arc<dyn AuditStore> = match state.postgres() {
        Some(postgres) => Arc::new(PostgresAudit::new(postgres.clone())),
        None => Arc::new(SqliteAudit::new(pool)),
    };
    let audit = AuditLog::new(audit);
    bus.subscribe(letters(&channel, &payers));
    let analytics = AnalyticsListener::new(state.analytics().clone(), payers);
    bus.subscribe(analytics.metrics(state.metrics().clone()));
    bus.subscribe(Audit::new(audit.clone()));
    bus.subscribe(Alert::new(channel, ROOM, TELEPHONE));
    bus.subscribe(CacheInvalidation::new(cache));
    bus.subscribe(Logging::new(audit));
}

/// The way to people, and who they are.
pub(super) fn people(
    database: &Database,
    postgres: Option<&Postgres>,
) -> (Arc<dyn Channel>, Arc<dyn Payers>) {
    if let Some(postgres) = postgres {
        let users = Arc::new(PostgresUsers::new(postgres.clone()));
        return (Arc::clone(&users) as Arc<dyn Channel>, users);
    }
    (
        Arc::new(SqliteChannel::new(database.write().clone())),
        Arc::new(SqlitePayers::new(database.read().clone())),
    )
}

/// Receipts and notes.
pub(super) fn letters(channel: &Arc<dyn Channel>, payers: &Arc<dyn Payers>) -> Notification {
    Notification::new(Arc::clone(channel), Arc::clone(payers), OPERATORS)
}

/// Where notes to operators go.
const OPERATORS: &str = "operators@nestcms.test";
/// The chat room of alerts.
const ROOM: &str = "#alerts";
/// The number of critical alerts.
const TELEPHONE: &str = "+10000000000";
