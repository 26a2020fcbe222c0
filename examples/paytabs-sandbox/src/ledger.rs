//! The bank's book: transactions and the rules of what may follow what. No I/O.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::error::ApiError;
use crate::money::Currency;

/// What a transaction does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Sale,
    Auth,
    Capture,
    Refund,
    Void,
}

impl Kind {
    pub(crate) const ALLOWED: &'static str = "sale, auth, capture, refund, void";

    pub(crate) fn find(name: &str) -> Option<Self> {
        [
            Self::Sale,
            Self::Auth,
            Self::Capture,
            Self::Refund,
            Self::Void,
        ]
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sale => "Sale",
            Self::Auth => "Auth",
            Self::Capture => "Capture",
            Self::Refund => "Refund",
            Self::Void => "Void",
        }
    }
}

/// How a transaction stands: `payment_result.response_status` on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    Pending,
    Authorised,
    Declined,
    Voided,
}

impl Status {
    /// Letter, response code and message.
    pub(crate) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Pending => ("P", "0", "Pending: the payer has not decided"),
            Self::Authorised => ("A", "831000", "Authorised"),
            Self::Declined => ("D", "310", "Declined by the bank"),
            Self::Voided => ("V", "831000", "Voided"),
        }
    }
}

/// What a client asks for, checked.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) class: String,
    pub(crate) cart_id: String,
    pub(crate) description: String,
    pub(crate) currency: Currency,
    pub(crate) amount: u64,
    pub(crate) callback: Option<String>,
    pub(crate) return_url: Option<String>,
}

/// One line of the book.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) tran_ref: String,
    pub(crate) page: String,
    pub(crate) order: Order,
    pub(crate) status: Status,
    pub(crate) decided_at: Duration,
    pub(crate) previous: Option<String>,
    captured: u64,
    refunded: u64,
}

/// All transactions.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    transactions: HashMap<String, Transaction>,
    created: u64,
}

impl Ledger {
    /// Books a sale or authorisation that waits for the payer.
    pub(crate) fn open(&mut self, order: Order, now: Duration) -> Transaction {
        self.insert(order, Status::Pending, None, now)
    }

    pub(crate) fn find(&self, tran_ref: &str) -> Result<Transaction, ApiError> {
        self.transactions
            .get(tran_ref)
            .cloned()
            .ok_or_else(|| unknown(tran_ref))
    }

    pub(crate) fn find_page(&self, page: &str) -> Option<Transaction> {
        self.transactions
            .values()
            .find(|transaction| transaction.page == page)
            .cloned()
    }

    /// The payer decided on the page; `None` when the page is unknown, and `false` with
    /// the transaction when it had been decided before.
    pub(crate) fn decide(
        &mut self,
        page: &str,
        pays: bool,
        now: Duration,
    ) -> Option<(Transaction, bool)> {
        let transaction = self
            .transactions
            .values_mut()
            .find(|transaction| transaction.page == page)?;
        let first = transaction.status == Status::Pending;
        if first {
            transaction.status = if pays {
                Status::Authorised
            } else {
                Status::Declined
            };
            transaction.decided_at = now;
            if pays && transaction.order.kind == Kind::Sale {
                transaction.captured = transaction.order.amount;
            }
        }
        Some((transaction.clone(), first))
    }

    /// Captures, refunds or voids the earlier transaction `on`.
    pub(crate) fn follow_up(
        &mut self,
        order: Order,
        on: &str,
        now: Duration,
    ) -> Result<Transaction, ApiError> {
        let original = self.transactions.get_mut(on).ok_or_else(|| unknown(on))?;
        original.apply(&order)?;
        Ok(self.insert(order, Status::Authorised, Some(on.to_owned()), now))
    }

    fn insert(
        &mut self,
        order: Order,
        status: Status,
        previous: Option<String>,
        now: Duration,
    ) -> Transaction {
        self.created += 1;
        // Unique for ever, so that a shop that outlives a reset sees no reference twice.
        let random = uuid::Uuid::new_v4().simple().to_string();
        let transaction = Transaction {
            tran_ref: format!("TST{:04}{}", self.created, random[..12].to_uppercase()),
            page: random,
            order,
            status,
            decided_at: now,
            previous,
            captured: 0,
            refunded: 0,
        };
        self.transactions
            .insert(transaction.tran_ref.clone(), transaction.clone());
        transaction
    }
}

impl Transaction {
    /// Books a follow-up on this transaction, or says why not.
    fn apply(&mut self, order: &Order) -> Result<(), ApiError> {
        let refuse = |message: String| Err(ApiError::transaction(210, message));
        let status = self.status.words().0;
        if order.currency != self.order.currency {
            return Err(ApiError::field(
                "cart_currency",
                json!(order.currency.code),
                self.order.currency.code,
            ));
        }
        if self.status != Status::Authorised {
            return refuse(format!(
                "{} needs an authorised transaction; this one is {status}",
                order.kind.name()
            ));
        }
        let (done, most) = match order.kind {
            Kind::Capture if self.order.kind == Kind::Auth => {
                (&mut self.captured, self.order.amount)
            }
            Kind::Refund if self.captured > 0 => (&mut self.refunded, self.captured),
            Kind::Void if self.order.kind == Kind::Auth && self.captured == 0 => {
                self.status = Status::Voided;
                return Ok(());
            }
            Kind::Void => return refuse("Void needs an authorisation before its capture".into()),
            Kind::Capture => return refuse("Capture needs an authorisation".into()),
            _ => return refuse("Refund needs a captured amount".into()),
        };
        let left = most.saturating_sub(*done);
        if order.amount > left {
            let allowed = format!("at most {}", order.currency.format(left));
            let value = json!(order.currency.format(order.amount));
            return Err(ApiError::field("cart_amount", value, allowed));
        }
        *done += order.amount;
        Ok(())
    }

    /// The transaction as query answers and callbacks show it.
    pub(crate) fn to_json(&self, profile_id: u64, shown: Status, amount: u64) -> Value {
        let order = &self.order;
        let amount = order.currency.format(amount);
        let mut json = json!({
            "tran_ref": self.tran_ref,
            "profile_id": profile_id,
            "cart_id": order.cart_id,
            "cart_description": order.description,
            "cart_currency": order.currency.code,
            "cart_amount": amount,
            "tran_currency": order.currency.code,
            "tran_total": amount,
            "tran_type": order.kind.name(),
            "tran_class": order.class,
            "payment_result": self.result(shown),
        });
        if let Some(previous) = &self.previous {
            json["previous_tran_ref"] = json!(previous);
        }
        json
    }

    fn result(&self, shown: Status) -> Value {
        let (letter, code, message) = shown.words();
        json!({
            "response_status": letter,
            "response_code": code,
            "response_message": message,
            "transaction_time": rfc3339(self.decided_at),
        })
    }
}

fn unknown(tran_ref: &str) -> ApiError {
    ApiError::field(
        "tran_ref",
        json!(tran_ref),
        "the reference of an existing transaction",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn order(kind: Kind, amount: u64) -> Order {
        Order {
            kind,
            class: "ecom".into(),
            cart_id: "cart-1".into(),
            description: "test".into(),
            currency: Currency::find("AED").expect("known"),
            amount,
            callback: None,
            return_url: None,
        }
    }

    fn decided(ledger: &mut Ledger, kind: Kind, pays: bool) -> String {
        let open = ledger.open(order(kind, 1000), NOW);
        ledger.decide(&open.page, pays, NOW).expect("known page");
        open.tran_ref
    }

    #[test]
    fn a_decision_counts_once() {
        let mut ledger = Ledger::default();
        let open = ledger.open(order(Kind::Sale, 1000), NOW);
        let (first, fresh) = ledger.decide(&open.page, true, NOW).expect("known");
        assert!(fresh && first.status == Status::Authorised);
        let (second, fresh) = ledger.decide(&open.page, false, NOW).expect("known");
        assert!(!fresh && second.status == Status::Authorised);
    }

    #[test]
    fn refunds_never_exceed_what_was_captured() {
        let mut ledger = Ledger::default();
        let sale = decided(&mut ledger, Kind::Sale, true);
        assert!(
            ledger
                .follow_up(order(Kind::Refund, 600), &sale, NOW)
                .is_ok()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Refund, 401), &sale, NOW)
                .is_err()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Refund, 400), &sale, NOW)
                .is_ok()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Refund, 1), &sale, NOW)
                .is_err()
        );
    }

    #[test]
    fn an_authorisation_is_captured_in_parts_and_voided_only_before() {
        let mut ledger = Ledger::default();
        let auth = decided(&mut ledger, Kind::Auth, true);
        assert!(
            ledger
                .follow_up(order(Kind::Refund, 1), &auth, NOW)
                .is_err()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Capture, 700), &auth, NOW)
                .is_ok()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Capture, 301), &auth, NOW)
                .is_err()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Void, 1000), &auth, NOW)
                .is_err()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Refund, 700), &auth, NOW)
                .is_ok()
        );

        let auth = decided(&mut ledger, Kind::Auth, true);
        assert!(
            ledger
                .follow_up(order(Kind::Void, 1000), &auth, NOW)
                .is_ok()
        );
        assert!(
            ledger
                .follow_up(order(Kind::Capture, 1), &auth, NOW)
                .is_err()
        );
        assert_eq!(ledger.find(&auth).expect("known").status, Status::Voided);
    }

    #[test]
    fn nothing_follows_a_declined_or_unknown_transaction() {
        let mut ledger = Ledger::default();
        let declined = decided(&mut ledger, Kind::Sale, false);
        for kind in [Kind::Capture, Kind::Refund, Kind::Void] {
            assert!(ledger.follow_up(order(kind, 1), &declined, NOW).is_err());
            assert!(ledger.follow_up(order(kind, 1), "TST0", NOW).is_err());
        }
    }
}
