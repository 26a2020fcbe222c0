//! Server-to-server callbacks: signed, sent, and sent again until acknowledged.

use reqwest::RequestBuilder;

use crate::ledger::Transaction;
use crate::server::Shared;
use crate::signature::hex_hmac_sha256;
use crate::switches::CallbackScheme;

/// Starts the callback of a decided transaction in the background.
pub(crate) fn start(shared: &Shared, decided: &Transaction) {
    let Some(url) = decided.order.callback.clone() else {
        return;
    };
    let copies = if shared.switches.get().duplicates {
        2
    } else {
        1
    };
    for _ in 0..copies {
        let (shared, decided, url) = (shared.clone(), decided.clone(), url.clone());
        let stop = shared.stop.clone();
        shared.clone().tasks.spawn(async move {
            stop.run_until_cancelled(deliver(&shared, &decided, &url))
                .await;
        });
    }
}

async fn deliver(shared: &Shared, decided: &Transaction, url: &str) {
    shared.switches.callbacks_released().await;
    for attempt in 1..=shared.config.retry.attempts {
        // A reset forgets transactions, and with them their callbacks.
        if shared.ledger.lock().find(&decided.tran_ref).is_err() {
            return;
        }
        if send(shared, decided, url).await {
            return;
        }
        if attempt < shared.config.retry.attempts {
            tokio::time::sleep(shared.config.retry.delay_after(attempt)).await;
        }
    }
    shared.stats.add(|c| &c.callbacks_abandoned);
    tracing::warn!(tran_ref = decided.tran_ref, url, "callback given up");
}

/// Sends once; whether it was acknowledged.
async fn send(shared: &Shared, decided: &Transaction, url: &str) -> bool {
    shared.stats.add(|c| &c.callbacks_sent);
    let body = body(shared, decided);
    let request = shared
        .client
        .post(url)
        .timeout(shared.config.retry.timeout)
        .header("content-type", "application/json");
    let answer = sign(shared, request, &body).body(body).send().await;
    let acknowledged = match &answer {
        Ok(response) => response.status().is_success(),
        Err(_) => false,
    };
    let status = answer.as_ref().map(|response| response.status().as_u16());
    let tran_ref = decided.tran_ref.as_str();
    if acknowledged {
        shared.stats.add(|c| &c.callbacks_acknowledged);
        tracing::info!(tran_ref, url, "callback acknowledged");
    } else {
        shared.stats.add(|c| &c.callbacks_refused);
        tracing::info!(tran_ref, url, ?status, "callback not acknowledged");
    }
    acknowledged
}

fn body(shared: &Shared, decided: &Transaction) -> String {
    let order = &decided.order;
    let amount = match shared.switches.get().wrong_amount {
        true => order.amount.saturating_add(order.currency.unit()),
        false => order.amount,
    };
    decided
        .to_json(shared.config.profile_id, decided.status, amount)
        .to_string()
}

fn sign(shared: &Shared, request: RequestBuilder, body: &str) -> RequestBuilder {
    let key = shared.signing_key();
    match shared.switches.get().callback_scheme {
        CallbackScheme::Paytabs => request.header(
            "signature",
            hex_hmac_sha256(key.as_bytes(), body.as_bytes()),
        ),
        CallbackScheme::Timestamped => {
            let timestamp = shared.config.clock.now().as_secs();
            let signed = format!("{timestamp}.{body}");
            request
                .header("x-webhook-timestamp", timestamp.to_string())
                .header(
                    "x-webhook-signature",
                    hex_hmac_sha256(key.as_bytes(), signed.as_bytes()),
                )
        }
    }
}
