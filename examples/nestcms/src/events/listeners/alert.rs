//! Alerts to the team chat, and to a telephone when somebody must act now.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::{
    domain::event::{Event, EventData, Severity, Timestamp},
    events::{Channel, ChannelKind, Listener, ListenerError, Message},
};

/// Sends one chat message per alert, and an SMS besides when it is critical.
///
/// Events of one breaker give one alert per [`DEDUP_WINDOW`], judged by the events' own
/// times; only a more urgent event breaks through. Other events are not deduplicated.
#[derive(Debug)]
pub struct Alert {
    channel: Arc<dyn Channel>,
    room: String,
    telephone: String,
    /// The last alert of each breaker; as many entries as there are breakers.
    last: Mutex<HashMap<String, (Timestamp, Severity)>>,
}

/// Within this time one breaker gives one alert.
pub const DEDUP_WINDOW: Duration = Duration::from_secs(60);

impl Alert {
    /// Sends through `channel` to the chat room `room` and the number `telephone`.
    #[must_use]
    pub fn new(
        channel: Arc<dyn Channel>,
        room: impl Into<String>,
        telephone: impl Into<String>,
    ) -> Self {
        Self {
            channel,
            room: room.into(),
            telephone: telephone.into(),
            last: Mutex::default(),
        }
    }

    /// Whether this event's breaker had an alert just before; if not, it has one now.
    fn is_repeated(&self, event: &Event) -> bool {
        let Some(breaker) = event.data.breaker() else {
            return false;
        };
        let severity = event.data.severity();
        let mut last = self.last.lock();
        if let Some((at, before)) = last.get(breaker) {
            let since = event.occurred_at.as_millis().checked_sub(at.as_millis());
            // A wall clock that went back says nothing: alert.
            let recent = since.is_some_and(|ms| u128::from(ms) < DEDUP_WINDOW.as_millis());
            if recent && severity <= *before {
                return true;
            }
        }
        last.insert(breaker.to_owned(), (event.occurred_at, severity));
        false
    }
}

impl Listener for Alert {
    fn name(&self) -> &'static str {
        "alert"
    }

    fn wants(&self, data: &EventData) -> bool {
        matches!(
            data,
            EventData::PaymentFailed { .. }
                | EventData::WebhookRejected { .. }
                | EventData::SecurityAlert { .. }
                | EventData::CircuitOpened { .. }
                | EventData::ServiceUnavailable { .. }
        )
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move {
            if self.is_repeated(event) {
                return Ok(());
            }
            let message = |channel, recipient: &str| Message {
                channel,
                recipient: recipient.to_owned(),
                subject: format!("[{}] {}", event.data.severity(), event.event_type()),
                body: text(&event.data),
                event_id: event.id.clone(),
                correlation_id: event.correlation_id.clone(),
                at: event.occurred_at,
            };
            let chat = self
                .channel
                .send(message(ChannelKind::Slack, &self.room))
                .await;
            // A chat that is down must not keep the telephone silent.
            if event.data.is_critical() {
                let sms = message(ChannelKind::Sms, &self.telephone);
                self.channel.send(sms).await?;
            }
            Ok(chat?)
        })
    }
}

/// The alert in words.
fn text(data: &EventData) -> String {
    match data {
        EventData::PaymentFailed {
            payment_id,
            reason_code,
            reason,
            ..
        } => format!("Payment {payment_id} failed: {reason} ({reason_code})."),
        EventData::WebhookRejected {
            provider,
            remote_ip,
            step,
            reason,
        } => format!("Webhook of {provider} from {remote_ip} refused at {step}: {reason}."),
        EventData::SecurityAlert {
            kind,
            subject,
            count,
            window_s,
            ..
        } => format!("{kind}: {subject} ({count} times in {window_s} s)."),
        EventData::CircuitOpened {
            breaker,
            cause,
            failures,
            calls,
            retry_at,
            ..
        } => format!(
            "Breaker {breaker} opened ({cause}; {failures} of {calls} calls failed), \
             next attempt at {retry_at}."
        ),
        EventData::ServiceUnavailable {
            breaker,
            service,
            operation,
            retry_after_ms,
        } => format!(
            "{service} is not available for {operation} (breaker {breaker}), \
             retry after {retry_after_ms} ms."
        ),
        other => other.event_type().to_owned(),
    }
}
