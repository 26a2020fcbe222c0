//! Who listens on the bus of one instance.

use std::sync::Arc;

use super::AppState;
use crate::{
    adapters::postgres::PostgresUsers,
    events::{
        Channel,
        channel::SqliteChannel,
        listeners::{
            Alert, AnalyticsListener, Audit, AuditLog, CacheInvalidation, Logging, Notification,
            Payers, SqlitePayers,
        },
    },
    ports::Cache,
};

/// Subscribes every listener.
pub(super) fn wire(state: &AppState, cache: Arc<dyn Cache>) {
    let (bus, pool) = (state.bus(), state.database().write().clone());
    let (channel, payers): (Arc<dyn Channel>, Arc<dyn Payers>) = match state.postgres() {
        Some(postgres) => {
            let users = Arc::new(PostgresUsers::new(postgres.clone()));
            (Arc::clone(&users) as Arc<dyn Channel>, users)
        }
        None => (
            Arc::new(SqliteChannel::new(pool.clone())),
            Arc::new(SqlitePayers::new(state.database().read().clone())),
        ),
    };
    let audit = AuditLog::new(pool);
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
