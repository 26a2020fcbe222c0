//! The HTML; maud escapes every value.

use std::sync::Arc;

use maud::{DOCTYPE, Markup, html};
use resilience_core::breaker::{CircuitBreaker, State};

use crate::domain::event::{Event, Severity};
use crate::payments::{Error, PaymentView};

/// Newest payments shown.
pub(super) const PAYMENTS_SHOWN: u32 = 12;
/// Newest events shown at first; the script keeps as many.
const EVENTS_SHOWN: usize = 40;

/// The whole page.
pub(super) fn full(
    all: &[CircuitBreaker],
    recent: &[Arc<Event>],
    list: &Result<Vec<PaymentView>, Error>,
    switches: &str,
) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "NestCMS status" }
                link rel="stylesheet" href="/status/style.css";
                link rel="icon" href="data:,";
                script src="/status/script.js" defer {}
            }
            body {
                header {
                    h1 { "NestCMS status" }
                    p #live data-live="no" { "not live" }
                }
                main {
                    section #controls {
                        h2 { "PayTabs is " span #paytabs { (paytabs(switches)) } }
                        div.buttons {
                            (button("pay", "primary", "Try a payment"))
                            (button("fail", "danger", "Make PayTabs fail"))
                            (button("recover", "plain", "Let PayTabs recover"))
                            (button("hold", "plain", "Let PayTabs recover, slowly"))
                        }
                        p #said role="status" {
                            "Make PayTabs fail, then try five payments: its breaker opens. "
                            "Let it recover and try again after the wait."
                        }
                    }
                    section {
                        h2 { "Circuit breakers" }
                        div #breakers { (breakers(all)) }
                    }
                    section {
                        h2 { "Payments" }
                        div #payments { (payments(list)) }
                    }
                    section {
                        h2 { "Events" }
                        ol #log {
                            @for event in recent.iter().rev().take(EVENTS_SHOWN) { (entry(event)) }
                        }
                    }
                }
            }
        }
    }
    .into_string()
}

fn button(action: &str, class: &str, label: &str) -> Markup {
    html! {
        form method="post" action={ "/status/" (action) } {
            button type="submit" id={ "do-" (action) } class=(class) { (label) }
        }
    }
}

/// How PayTabs behaves.
pub(super) fn paytabs(words: &str) -> Markup {
    html! { span class={ @if words == "healthy" { "good" } @else { "bad" } } { (words) } }
}

/// One card per breaker.
pub(super) fn breakers(all: &[CircuitBreaker]) -> Markup {
    html! {
        @for breaker in all { (card(breaker)) }
    }
}

fn card(breaker: &CircuitBreaker) -> Markup {
    let now = breaker.snapshot();
    let word = now.state.as_str().replace('_', "-");
    let wait = now
        .retry_after
        .unwrap_or_default()
        .as_millis()
        .div_ceil(1000);
    html! {
        article.breaker data-breaker=(breaker.name()) data-state=(now.state) {
            h3 { (breaker.name()) }
            p.state { (word) }
            p.detail {
                @match now.state {
                    State::Closed => { (now.calls) " calls, " (now.failures) " failed" },
                    State::HalfOpen => { "probing: a few calls may pass" },
                    State::Open if wait > 0 => { "next probe in " (wait) " s" },
                    _ => { "the next call is a probe" },
                }
            }
            p.detail { (now.rejected) " refused" }
        }
    }
}

/// The newest payments.
pub(super) fn payments(list: &Result<Vec<PaymentView>, Error>) -> Markup {
    let list = match list {
        Ok(list) => list,
        Err(error) => return html! { p.bad { "Payments cannot be read: " (error) } },
    };
    html! {
        @if list.is_empty() {
            p.empty { "No payments yet." }
        } @else {
            table {
                thead { tr { th { "Order" } th.number { "Amount" } th { "State" } th {} } }
                tbody { @for payment in list { (row(payment)) } }
            }
        }
    }
}

fn row(payment: &PaymentView) -> Markup {
    let page = payment
        .payment_url
        .as_deref()
        .filter(|url| payment.status == "initiated" && url.starts_with("http"));
    html! {
        tr data-payment=(payment.id) data-status=(payment.status) {
            td title=(payment.id) { (payment.order_ref) }
            td.number { (payment.amount) " " (payment.currency) }
            td { span class={ "tag " (payment.status) } { (payment.status) } }
            td {
                @if let Some(url) = page { a href=(url) { "pay" } }
                @if let Some(reason) = &payment.reason { span.detail { (reason) } }
            }
        }
    }
}

/// One line of the event list.
pub(super) fn entry(event: &Event) -> Markup {
    let class = match event.data.severity() {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let at = event.occurred_at.to_string();
    let clock = at.get(11..23).unwrap_or(&at);
    let about = event.data.payment_id().or_else(|| event.data.breaker());
    html! {
        li class=(class) data-event=(event.event_type()) {
            time datetime=(at) { (clock) }
            code { (event.event_type()) }
            @if let Some(about) = about { span.about { (about) } }
        }
    }
}
