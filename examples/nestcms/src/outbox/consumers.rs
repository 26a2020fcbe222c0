//! What the application itself does with published events.

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    domain::{
        event::{Event, EventData},
        money::{Currency, Money},
    },
    events::listeners::Notification,
    ports::Effect,
};

/// Why a consumer cannot say what an event means to it.
pub type ConsumerError = Box<dyn std::error::Error + Send + Sync>;

/// Says what an event means. It acts through the inbox only, so that it acts once.
pub trait Consumer: Debug + Send + Sync + 'static {
    /// Its name in the inbox and among the dead letters.
    fn name(&self) -> &'static str;

    /// The effect of `event`, if it has one here.
    fn effect<'a>(
        &'a self,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<Option<Effect>, ConsumerError>>;
}

/// Books each paid payment in the journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounting;

impl Consumer for Accounting {
    fn name(&self) -> &'static str {
        "accounting"
    }

    fn effect<'a>(
        &'a self,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<Option<Effect>, ConsumerError>> {
        Box::pin(async move {
            let EventData::PaymentSuccess {
                payment_id,
                amount,
                currency,
                verified_at,
                ..
            } = &event.data
            else {
                return Ok(None);
            };
            let currency = Currency::from_code(currency)
                .ok_or_else(|| format!("unknown currency {currency}"))?;
            Ok(Some(Effect::Booking {
                payment_id: payment_id.clone(),
                amount: Money::parse(amount, currency)?,
                at: *verified_at,
            }))
        })
    }
}

/// Makes sure of the receipt of each paid payment. The bus has sent it already, as a rule: both are
/// one message, for it bears the event's id.
#[derive(Clone, Debug)]
pub struct Receipts {
    letters: Arc<Notification>,
}

impl Receipts {
    /// Sends what `letters` writes.
    #[must_use]
    pub fn new(letters: Arc<Notification>) -> Self {
        Self { letters }
    }
}

impl Consumer for Receipts {
    fn name(&self) -> &'static str {
        "receipts"
    }

    fn effect<'a>(
        &'a self,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<Option<Effect>, ConsumerError>> {
        Box::pin(async move {
            if !matches!(event.data, EventData::PaymentSuccess { .. }) {
                return Ok(None);
            }
            let message = self.letters.message(event).await?;
            Ok(message.map(Effect::Message))
        })
    }
}
