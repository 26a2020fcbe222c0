//! The JSON that PayTabs speaks.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    domain::money::{Currency, Money},
    ports::Verdict,
};

/// `POST /payment/request`, for a page or a refund.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    pub(super) profile_id: u64,
    pub(super) tran_type: &'static str,
    pub(super) tran_class: &'static str,
    pub(super) cart_id: &'a str,
    pub(super) cart_description: &'a str,
    pub(super) cart_currency: &'static str,
    pub(super) cart_amount: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tran_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) callback: Option<&'a str>,
    #[serde(rename = "return", skip_serializing_if = "Option::is_none")]
    pub(super) return_url: Option<&'a str>,
}

/// `POST /payment/query`.
#[derive(Debug, Serialize)]
pub(super) struct Query<'a> {
    pub(super) profile_id: u64,
    pub(super) tran_ref: &'a str,
}

/// The answer to a request for a page.
#[derive(Debug, Deserialize)]
pub(super) struct PageAnswer {
    pub(super) tran_ref: String,
    pub(super) redirect_url: String,
}

/// The answer to a query or a refund.
#[derive(Debug, Deserialize)]
pub(super) struct ResultAnswer {
    pub(super) tran_ref: String,
    #[serde(default)]
    pub(super) cart_currency: Option<String>,
    #[serde(default)]
    pub(super) cart_amount: Option<Box<RawValue>>,
    pub(super) payment_result: PaymentResult,
}

/// How PayTabs names a result.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PaymentResult {
    pub(super) response_status: String,
    #[serde(default)]
    pub(super) response_code: String,
    #[serde(default)]
    pub(super) response_message: String,
}

/// The answer to a call that was refused.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) message: String,
}

/// The body of a server-to-server callback, as far as we need it.
#[derive(Clone, Debug, Deserialize)]
pub struct Callback {
    /// The transaction.
    pub tran_ref: String,
    /// Our payment's id.
    #[serde(default)]
    pub cart_id: String,
    /// `Sale`, `Refund`, …
    #[serde(default)]
    pub tran_type: String,
    /// The currency.
    pub cart_currency: String,
    cart_amount: Box<RawValue>,
}

impl Callback {
    /// What the callback says was paid; `None` when it is no amount of a known currency.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        amount(&self.cart_currency, &self.cart_amount)
    }
}

impl ResultAnswer {
    pub(super) fn amount(&self) -> Option<Money> {
        amount(self.cart_currency.as_deref()?, self.cart_amount.as_deref()?)
    }
}

impl PaymentResult {
    pub(super) fn verdict(&self) -> Verdict {
        match self.response_status.as_str() {
            "A" => Verdict::Paid,
            "H" | "P" => Verdict::Pending,
            _ => Verdict::NotPaid,
        }
    }
}

/// An amount that PayTabs writes as a string or as a number. The number is read from
/// its digits, so that it never becomes a float.
fn amount(currency: &str, raw: &RawValue) -> Option<Money> {
    let currency = Currency::from_code(currency)?;
    let text = raw.get();
    let text = text
        .strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .unwrap_or(text);
    Money::parse(text, currency).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callback(amount: &str) -> Callback {
        let text =
            format!(r#"{{"tran_ref":"T1","cart_currency":"SAR","cart_amount":{amount},"x":1}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_amount_is_read_exactly_from_a_string_or_a_number() {
        for text in ["\"12.30\"", "12.30", "12.3"] {
            assert_eq!(callback(text).amount().unwrap().minor(), 1230, "{text}");
        }
        for text in ["\"\"", "null", "1e2", "[1]", "-1", "12.301"] {
            assert_eq!(callback(text).amount(), None, "{text}");
        }
    }
}
