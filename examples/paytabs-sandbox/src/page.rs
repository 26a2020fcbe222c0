//! The hosted payment page, and the form that sends the browser back to the shop.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use crate::callback;
use crate::ledger::{Status, Transaction};
use crate::server::Shared;
use crate::signature::return_signature;

const CSS: &str = "body{font:16px/1.5 system-ui,sans-serif;background:#f3f4f6;color:#111;margin:0}\
main{max-width:26rem;margin:10vh auto;background:#fff;padding:2rem;border-radius:.75rem;\
box-shadow:0 1px 4px #0003}h1{font-size:1.2rem;margin:0 0 1rem}dl{display:grid;\
grid-template-columns:auto 1fr;gap:.25rem 1rem}dd{margin:0;text-align:right}\
.amount{font-size:1.6rem;font-weight:600}form{display:flex;gap:.75rem;margin-top:1.5rem}\
button{flex:1;padding:.7rem;font:inherit;border-radius:.5rem;border:1px solid #999;\
background:#fff;cursor:pointer}button.pay{background:#15803d;border-color:#15803d;color:#fff}\
.note{color:#555;font-size:.85rem}";

/// What the payer chose on the page.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    /// Pay.
    Pay,
    /// Do not.
    Decline,
}

/// The form of the payment page.
#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    decision: Decision,
}

/// Shows what is to be paid, with two buttons.
pub(crate) async fn show(State(shared): State<Shared>, Path(page): Path<String>) -> Response {
    shared.stats.add(|c| &c.page_views);
    let found = shared.ledger.lock().find_page(&page);
    match found {
        Some(found) if found.status == Status::Pending => Html(form(&found)).into_response(),
        Some(found) => Html(back_to_shop(&shared, &found)).into_response(),
        None => not_found(),
    }
}

/// The payer decided: the bank answers, the callback starts, the browser goes back.
pub(crate) async fn decide(
    State(shared): State<Shared>,
    Path(page): Path<String>,
    Form(choice): Form<Choice>,
) -> Response {
    let pays = matches!(choice.decision, Decision::Pay);
    let now = shared.config.clock.now();
    let decided = shared.ledger.lock().decide(&page, pays, now);
    let Some((decided, first)) = decided else {
        return not_found();
    };
    if first {
        match decided.status {
            Status::Authorised => shared.stats.add(|c| &c.approved),
            _ => shared.stats.add(|c| &c.declined),
        }
        callback::start(&shared, &decided);
    }
    Html(back_to_shop(&shared, &decided)).into_response()
}

fn form(open: &Transaction) -> String {
    let order = &open.order;
    layout(
        "Payment",
        html! {
            h1 { "Pay with PayTabs (sandbox)" }
            dl {
                dt { "Order" } dd { (order.cart_id) }
                dt { "For" } dd { (order.description) }
                dt { "Reference" } dd { (open.tran_ref) }
                dt { "Amount" }
                dd.amount { (order.currency.format(order.amount)) " " (order.currency.code) }
            }
            form method="post" {
                button.pay name="decision" value="pay" { "Pay" }
                button name="decision" value="decline" { "Decline" }
            }
            p.note { "No card is asked for: you play the payer, the sandbox plays the bank." }
        },
    )
}

/// A signed form to the shop's return URL that submits itself.
fn back_to_shop(shared: &Shared, decided: &Transaction) -> String {
    let order = &decided.order;
    let (letter, code, message) = decided.status.words();
    let unsigned = [
        ("cartId", order.cart_id.as_str()),
        ("customerEmail", ""),
        ("respCode", code),
        ("respMessage", message),
        ("respStatus", letter),
        ("token", ""),
        ("tranRef", decided.tran_ref.as_str()),
    ];
    let signature = return_signature(shared.signing_key().as_bytes(), &unsigned);
    layout(
        "Payment decided",
        html! {
            h1 { "The bank says: " (message) }
            @match &order.return_url {
                None => p { "You may close this page." },
                Some(url) => {
                    form #back method="post" action=(url) {
                        @for (name, value) in unsigned {
                            input type="hidden" name=(name) value=(value);
                        }
                        input type="hidden" name="signature" value=(signature);
                        button.pay { "Back to the shop" }
                    }
                    script { "document.getElementById('back').submit()" }
                }
            }
        },
    )
}

fn not_found() -> Response {
    let page = layout(
        "Not found",
        html! { h1 { "There is no such payment page." } },
    );
    (StatusCode::NOT_FOUND, Html(page)).into_response()
}

fn layout(title: &str, content: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (maud::PreEscaped(CSS)) }
            }
            body { main { (content) } }
        }
    }
    .into_string()
}
