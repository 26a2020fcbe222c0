//! The application services around a payment.
