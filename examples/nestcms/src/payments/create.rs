//! Create a payment.

use super::{Error, PaymentService};
use crate::{
    domain::{
        event::{EventData, Source},
        money::Money,
        payment::{Payment, Status},
    },
    ports::Created,
};

/// A payment to be made, checked.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// Who makes it.
    pub user_id: String,
    /// What is to be paid; above zero.
    pub amount: Money,
    /// The client's own reference.
    pub order_ref: String,
    /// The key under which the client may repeat the call.
    pub idempotency_key: String,
    /// How it is to be paid.
    pub method: String,
}

impl PaymentService {
    /// Stores a payment in state `created`, or answers the one that this user made with
    /// the same idempotency key.
    ///
    /// # Errors
    ///
    /// [`Error::KeyReused`] when that one has other content, [`Error::Store`] when the
    /// database does not answer; nothing is stored then.
    pub async fn create(&self, new: NewPayment) -> Result<Created, Error> {
        let key = format!("idempotency:{}:{}", new.user_id, new.idempotency_key);
        if let Some(payment) = self.by_key(&key).await? {
            return check_same(&new, payment);
        }
        let now = self.now();
        let payment = Payment {
            id: uuid::Uuid::now_v7().to_string(),
            user_id: new.user_id.clone(),
            order_ref: new.order_ref.clone(),
            amount: new.amount,
            method: new.method.clone(),
            status: Status::Created,
            idempotency_key: new.idempotency_key.clone(),
            provider_ref: None,
            payment_url: None,
            reason: None,
            created_at: now,
            updated_at: now,
            expires_at: now.saturating_add(self.rules.expires_after),
            version: 1,
        };
        let data = EventData::PaymentCreated {
            payment_id: payment.id.clone(),
            order_ref: payment.order_ref.clone(),
            user_id: payment.user_id.clone(),
            amount: payment.amount.to_string(),
            currency: payment.amount.currency().to_string(),
            method: payment.method.clone(),
        };
        let events = [self.event(Source::PaymentService, data)];
        let created = self.ports.repository.create(&payment, &events).await?;
        if !created.is_new {
            return check_same(&new, created.payment);
        }
        let payment = &created.payment;
        events.into_iter().for_each(|event| self.told(event));
        if let Err(error) = self.ports.cache.put(&key, 1, payment.id.clone()).await {
            tracing::debug!(%error, "idempotency key not cached");
        }
        Ok(created)
    }

    /// The payment made under a key, as far as the cache knows it. A miss means nothing:
    /// the unique row in the store decides.
    async fn by_key(&self, key: &str) -> Result<Option<Payment>, Error> {
        let Ok(Some(id)) = self.ports.cache.get(key).await else {
            return Ok(None);
        };
        Ok(self.ports.repository.find(&id).await?)
    }
}

fn check_same(new: &NewPayment, payment: Payment) -> Result<Created, Error> {
    if payment.amount != new.amount || payment.order_ref != new.order_ref {
        return Err(Error::KeyReused);
    }
    Ok(Created {
        payment,
        is_new: false,
    })
}
