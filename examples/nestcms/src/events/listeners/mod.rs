//! Who acts on which event.
//!
//! | event | listeners |
//! |---|---|
//! | `payment.success` | notification, analytics |
//! | `payment.failed` | alert, audit |
//! | `payment.status_changed` | cache, analytics |
//! | `webhook.validated` | audit |
//! | `webhook.rejected`, `security.alert`, `service.unavailable` | alert |
//! | `circuit.opened` | alert, logging |
//! | `service.recovered` | notification |
//! | `system.started`, `system.stopping`, `config.changed`, `health.changed` | logging |
//!
//! All other events have no listener.

mod alert;
mod analytics;
mod audit;
mod cache;
mod logging;
mod notification;
mod payers;

pub use self::{
    alert::{Alert, DEDUP_WINDOW},
    analytics::{Analytics, AnalyticsListener, HourTotals},
    audit::{Audit, AuditError, AuditLog, Chain},
    cache::CacheInvalidation,
    logging::Logging,
    notification::Notification,
    payers::{MemoryPayers, Payer, Payers, SqlitePayers},
};
