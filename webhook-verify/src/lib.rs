#![doc = include_str!("../README.md")]

pub mod clock;
pub mod diagnose;
#[cfg(feature = "layer")]
pub mod layer;
pub mod presets;
pub mod replay;

mod document;
mod encoding;
mod error;
mod headers;
mod mac;
mod payload;
mod scheme;
mod secret;
mod session;
mod signer;
mod source;
mod verifier;

pub use self::{
    error::{Error, Reason, Step, Trace},
    headers::HeaderPolicy,
    mac::{Hash, MAX_CANDIDATES},
    payload::{FieldType, PayloadPolicy},
    scheme::{Encoding, Part, ReplayBasis, Scheme, SchemeBuilder, SchemeError, TimeUnit},
    secret::{KeyFormat, KeySet, Secret, SecretError},
    session::{Session, Verified},
    signer::{SignError, SignedDelivery, Signer},
    source::{ForwardedBy, IpPolicy, IpRangeError, IpRules},
    verifier::{BuildError, Builder, Reservation, Verifier},
};
