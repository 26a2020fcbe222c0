//! Totals for the dashboard, per currency and hour.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::Payers;
use crate::{
    domain::{
        event::{Event, EventData, Timestamp},
        money::{Currency, Money},
    },
    events::{Listener, ListenerError},
    metrics::Metrics,
};

/// The totals, in memory: the last 168 hours in which something happened. They start
/// at zero with the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Analytics {
    hours: Arc<Mutex<BTreeMap<(Timestamp, &'static str), HourTotals>>>,
}

/// One hour of one currency.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct HourTotals {
    /// Successful payments.
    pub succeeded: u64,
    /// Their sum in minor units.
    pub minor: i128,
    /// Changes into each state.
    pub changes: BTreeMap<String, u64>,
}

/// How many hours are kept: a week.
const HOURS: usize = 7 * 24;

/// Milliseconds.
const HOUR: u64 = 3_600_000;

impl Analytics {
    /// The start of each hour and its currency, oldest first, with the totals.
    #[must_use]
    pub fn hours(&self) -> Vec<(Timestamp, &'static str, HourTotals)> {
        let hours = self.hours.lock();
        let copy = |((at, code), totals): (&(Timestamp, &'static str), &HourTotals)| {
            (*at, *code, totals.clone())
        };
        hours.iter().map(copy).collect()
    }

    fn change(&self, at: Timestamp, currency: Currency, apply: impl FnOnce(&mut HourTotals)) {
        let hour = Timestamp::from_millis(at.as_millis() / HOUR * HOUR);
        let mut hours = self.hours.lock();
        apply(hours.entry((hour, currency.code())).or_default());
        let oldest_kept = Timestamp::from_millis(
            hours
                .last_key_value()
                .map_or(0, |((newest, _), _)| newest.as_millis())
                .saturating_sub(HOUR * (HOURS as u64 - 1)),
        );
        hours.retain(|(hour, _), _| *hour >= oldest_kept);
    }
}

/// Feeds [`Analytics`].
#[derive(Debug)]
pub struct AnalyticsListener {
    analytics: Analytics,
    payers: Arc<dyn Payers>,
    metrics: Option<Metrics>,
}

impl AnalyticsListener {
    /// Feeds `analytics`; `payers` tells the currency of a payment.
    #[must_use]
    pub fn new(analytics: Analytics, payers: Arc<dyn Payers>) -> Self {
        Self {
            analytics,
            payers,
            metrics: None,
        }
    }

    /// Feeds the business counters of `metrics` as well.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }
}

impl Listener for AnalyticsListener {
    fn name(&self) -> &'static str {
        "analytics"
    }

    fn wants(&self, data: &EventData) -> bool {
        matches!(
            data,
            EventData::PaymentSuccess { .. } | EventData::StatusChanged { .. }
        )
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            match &event.data {
                EventData::PaymentSuccess {
                    amount, currency, ..
                } => {
                    let known = Currency::from_code(currency)
                        .ok_or_else(|| format!("unknown currency {currency}"))?;
                    let money = Money::parse(amount, known)?;
                    if let Some(metrics) = &self.metrics {
                        metrics.payment_succeeded(known.code(), money.minor());
                    }
                    self.analytics.change(event.occurred_at, known, |totals| {
                        totals.succeeded += 1;
                        totals.minor += i128::from(money.minor());
                    });
                }
                EventData::StatusChanged { payment_id, to, .. } => {
                    let payer = self.payers.payer(payment_id).await?;
                    let currency = payer
                        .ok_or_else(|| format!("unknown payment {payment_id}"))?
                        .currency;
                    if let Some(metrics) = &self.metrics {
                        metrics.status_changed(currency.code(), to.clone());
                    }
                    self.analytics
                        .change(event.occurred_at, currency, |totals| {
                            *totals.changes.entry(to.clone()).or_default() += 1;
                        });
                }
                _ => {}
            }
            Ok(())
        })
    }
}
