//! Receipts to payers, notes to operators.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Payers;
use crate::{
    domain::event::{Event, EventData},
    events::{Channel, ChannelKind, Listener, ListenerError, Message},
};

/// Sends a receipt for each paid payment, and a note to operators when a service answers
/// again. A payer whose address is not known here gets no receipt.
#[derive(Clone, Debug)]
pub struct Notification {
    channel: Arc<dyn Channel>,
    payers: Arc<dyn Payers>,
    operators: String,
}

impl Notification {
    /// Sends through `channel`; notes for operators go to the address `operators`.
    #[must_use]
    pub fn new(
        channel: Arc<dyn Channel>,
        payers: Arc<dyn Payers>,
        operators: impl Into<String>,
    ) -> Self {
        Self {
            channel,
            payers,
            operators: operators.into(),
        }
    }

    /// The message about `event`, if there is one.
    ///
    /// # Errors
    ///
    /// When the payer cannot be looked up.
    pub async fn message(&self, event: &Event) -> Result<Option<Message>, ListenerError> {
        let letter = self.letter(event).await?;
        Ok(letter.map(|(recipient, subject, body)| Message {
            channel: ChannelKind::Mail,
            recipient,
            subject,
            body,
            event_id: event.id.clone(),
            correlation_id: event.correlation_id.clone(),
            at: event.occurred_at,
        }))
    }

    /// The letter for `event`: recipient, subject and body.
    async fn letter(
        &self,
        event: &Event,
    ) -> Result<Option<(String, String, String)>, ListenerError> {
        Ok(match &event.data {
            EventData::PaymentSuccess {
                payment_id,
                provider_ref,
                amount,
                currency,
                verified_at,
            } => {
                let payer = self.payers.payer(payment_id).await?;
                let Some(email) = payer.and_then(|payer| payer.email) else {
                    tracing::debug!(payment_id, "no address for a receipt");
                    return Ok(None);
                };
                let body = format!(
                    "We have received {amount} {currency} for payment {payment_id}\n\
                     (reference {provider_ref}, verified at {verified_at}).\n"
                );
                Some((email, format!("Receipt: {amount} {currency}"), body))
            }
            EventData::ServiceRecovered {
                breaker,
                service,
                down_for_ms,
            } => {
                let body = format!(
                    "{service} answers again after {down_for_ms} ms (breaker {breaker}).\n"
                );
                Some((self.operators.clone(), format!("{service} recovered"), body))
            }
            _ => None,
        })
    }
}

impl Listener for Notification {
    fn name(&self) -> &'static str {
        "notification"
    }

    fn wants(&self, data: &EventData) -> bool {
        matches!(
            data,
            EventData::PaymentSuccess { .. } | EventData::ServiceRecovered { .. }
        )
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            let Some(message) = self.message(event).await? else {
                return Ok(());
            };
            Ok(self.channel.send(message).await?)
        })
    }
}
