//! Who listens on the bus of one instance.

use std::sync::Arc;

use super::AppState;
use crate::{
    adapters::{
        postgres::{PostgresAudit, PostgresUsers},
        sqlite::SqliteAudit,
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
};

/// Subscribes every listener.
pub(super) fn wire(state: &AppState, cache: Arc<dyn Cache>) {
    let (bus, pool) = (state.bus(), state.database().write().clone());
    let (channel, payers, audit): (Arc<dyn Channel>, Arc<dyn Payers>, Arc<dyn AuditStore>);
    match state.postgres() {
        Some(postgres) => {
            let users = Arc::new(PostgresUsers::new(postgres.clone()));
            channel = Arc::clone(&users) as Arc<dyn Channel>;
            payers = users;
            audit = Arc::new(PostgresAudit::new(postgres.clone()));
        }
        None => {
            channel = Arc::new(SqliteChannel::new(pool.clone()));
            payers = Arc::new(SqlitePayers::new(state.database().read().clone()));
            audit = Arc::new(SqliteAudit::new(pool));
        }
    }
    let audit = AuditLog::new(audit);
    bus.subscribe(Notification::new(
        Arc::clone(&channel),
        Arc::clone(&payers),
        OPERATORS,
    ));
    let analytics = AnalyticsListener::new(state.analytics().clone(), payers);
    bus.subscribe(analytics.metrics(state.metrics().clone()));
    bus.subscribe(Audit::new(audit.clone()));
    bus.subscribe(Alert::new(channel, ROOM, TELEPHONE));
    bus.subscribe(CacheInvalidation::new(cache));
    bus.subscribe(Logging::new(audit));
}

/// Where notes to operators go.
const OPERATORS: &str = "operators@nestcms.test";
/// The chat room of alerts.
const ROOM: &str = "#alerts";
/// The number of critical alerts.
const TELEPHONE: &str = "+10000000000";
