//! Initiate a payment: get a page where it can be paid.

use super::{Error, PaymentService, service::PROVIDER};
use crate::{
    domain::{
        event::{EventData, Source},
        payment::{Payment, Status},
    },
    flow,
    ports::{Applied, PageRequest},
};

impl PaymentService {
    /// Asks the provider for a payment page and brings the payment to `initiated`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] when it is not `created` (the provider is not asked then),
    /// [`Error::Provider`] and [`Error::Store`] when they fail; the payment stays
    /// `created`. A page that the provider made in vain is never shown to anyone.
    pub async fn initiate(&self, id: &str) -> Result<Payment, Error> {
        let payment = self.ports.repository.find(id).await?;
        let payment = payment.ok_or(Error::NotFound)?;
        if payment.status != Status::Created {
            return Err(wrong_state(payment.status));
        }
        flow::step(8, "ask the breaker");
        let request = PageRequest {
            payment_id: payment.id.clone(),
            description: payment.order_ref.clone(),
            amount: payment.amount,
        };
        let page = match self.ports.provider.create_page(&request).await {
            Ok(page) => page,
            Err(error) => {
                self.report(&error, "initiate");
                return Err(error.into());
            }
        };
        let now = self.now();
        let applied = self
            .ports
            .repository
            .initiate(id, &page.provider_ref, &page.url, now);
        match applied.await? {
            Applied::Done(payment) => {
                self.emit(
                    Source::PaytabsService,
                    EventData::PaymentInitiated {
                        payment_id: payment.id.clone(),
                        provider: PROVIDER.to_owned(),
                        provider_ref: page.provider_ref,
                        payment_url: page.url,
                    },
                );
                self.remember(&payment).await;
                Ok(*payment)
            }
            Applied::Conflict(status) => Err(wrong_state(status)),
            Applied::Duplicate | Applied::Missing => Err(Error::NotFound),
        }
    }
}

fn wrong_state(status: Status) -> Error {
    Error::WrongState {
        status,
        required: Status::Created,
    }
}
