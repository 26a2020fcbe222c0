//! Why a delivery was refused: precise for the inside, neutral for the outside.

use std::fmt;

use http::{HeaderName, StatusCode};

/// A step of the pipeline.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// The request method.
    Method,
    /// The size limit of the body.
    BodyLimit,
    /// The address of the sender.
    Source,
    /// Content type, required headers, no repeated signature header.
    Header,
    /// The timestamp and its tolerance.
    Timestamp,
    /// The signature header and the MAC.
    Signature,
    /// The JSON body.
    Payload,
    /// Reading the body (layer only).
    Body,
    /// The replay store.
    Replay,
}

impl Step {
    /// The default order: what costs least first.
    pub const CHEAP_FIRST: [Self; 5] = [
        Self::Source,
        Self::Header,
        Self::Timestamp,
        Self::Signature,
        Self::Payload,
    ];
    /// Signature, timestamp, source, header, payload.
    pub const SIGNATURE_FIRST: [Self; 5] = [
        Self::Signature,
        Self::Timestamp,
        Self::Source,
        Self::Header,
        Self::Payload,
    ];

    /// The name used in events, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::BodyLimit => "body_limit",
            Self::Source => "source",
            Self::Header => "header",
            Self::Timestamp => "timestamp",
            Self::Signature => "signature",
            Self::Payload => "payload",
            Self::Body => "body",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The precise reason of a refusal; for logs, events and metrics, never for the sender.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The method is not accepted.
    #[error("method not accepted")]
    Method,
    /// A required header is absent.
    #[error("header `{0}` is missing")]
    Missing(HeaderName),
    /// A header is repeated or its text is not of the exact form.
    #[error("header `{0}` is malformed")]
    Malformed(HeaderName),
    /// More candidate signatures than [`MAX_CANDIDATES`](crate::MAX_CANDIDATES).
    #[error("too many candidate signatures")]
    TooManySignatures,
    /// No active key made any of the signatures.
    #[error("no active key made this signature")]
    SignatureMismatch,
    /// Every key has reached its end time, or there is none.
    #[error("no key is active")]
    NoActiveKey,
    /// The timestamp is further in the past than tolerated.
    #[error("timestamp too old by {by_seconds} s")]
    TooOld {
        /// Seconds beyond the tolerance.
        by_seconds: u64,
    },
    /// The timestamp is further in the future than tolerated.
    #[error("timestamp too far in the future by {by_seconds} s")]
    TooNew {
        /// Seconds beyond the tolerance.
        by_seconds: u64,
    },
    /// No peer address, or a trusted proxy named none that can be read.
    #[error("address of the sender is unknown")]
    SourceUnknown,
    /// The address is not in the allow list.
    #[error("address {0} is not allowed")]
    SourceDenied(std::net::IpAddr),
    /// The content type is not the required one.
    #[error("content type not accepted")]
    ContentType,
    /// The body is larger than the limit.
    #[error("body larger than {limit} bytes")]
    TooLarge {
        /// The configured limit in bytes.
        limit: usize,
    },
    /// The body could not be read to its end.
    #[error("body could not be read")]
    BodyFailed,
    /// The body did not arrive within the read deadline.
    #[error("body did not arrive in time")]
    BodyTimeout,
    /// The body is not JSON, or repeats a key of an object.
    #[error("body is not well-formed JSON")]
    NotJson,
    /// The body is not a form (`application/x-www-form-urlencoded`) in its exact shape.
    #[error("body is not a well-formed form")]
    NotForm,
    /// Nested deeper than allowed.
    #[error("JSON nested too deep")]
    TooDeep,
    /// A string, array or object is longer than allowed.
    #[error("JSON value too long")]
    TooLong,
    /// A required field is absent.
    #[error("field `{0}` is missing")]
    FieldMissing(std::sync::Arc<str>),
    /// A field has another type than required.
    #[error("field `{0}` has the wrong type")]
    FieldType(std::sync::Arc<str>),
    /// A field or parameter that is signed, or that signs, is not of the exact form.
    #[error("field `{0}` is malformed")]
    FieldMalformed(std::sync::Arc<str>),
    /// A field or parameter is there more than once.
    #[error("field `{0}` is repeated")]
    FieldRepeated(std::sync::Arc<str>),
    /// The digest of the body that was signed is that of another body.
    #[error("digest does not match the body")]
    Digest,
    /// A component that must be signed is not covered by the signature.
    #[error("`{0}` is not covered by the signature")]
    NotCovered(std::sync::Arc<str>),
    /// The delivery has been handled before.
    #[error("delivery seen before")]
    Duplicate,
    /// The same delivery is being handled right now.
    #[error("delivery is being handled")]
    InFlight {
        /// Whole seconds after which the reservation ends; at least 1.
        retry_after_seconds: u64,
    },
    /// The replay store is at its cap.
    #[error("replay store is full")]
    ReplayFull,
    /// The replay store cannot be asked.
    #[error("replay store is out of order")]
    ReplayOutage,
}

/// A refused delivery.
///
/// `Display` is one neutral text for every reason, so that it can go to the sender;
/// [`step`](Self::step) and [`reason`](Self::reason) (and `Debug`) are for the inside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    step: Step,
    reason: Reason,
    trace: Trace,
}

impl Error {
    pub(crate) const fn new(step: Step, reason: Reason, trace: Trace) -> Self {
        Self {
            step,
            reason,
            trace,
        }
    }

    /// The first step that failed, in the configured order.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// The precise reason.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The steps that ran, in the order in which they began; the last one failed.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The status for the sender.
    ///
    /// 401 signature and timestamp, 403 source, 400 header and unreadable body, 405
    /// method, 408 late body, 413 size, 422 payload; replay: 200 for a duplicate, 409 in
    /// flight, 503 when the store is full or out of order.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match (self.step, &self.reason) {
            (_, Reason::Duplicate) => StatusCode::OK,
            (_, Reason::InFlight { .. }) => StatusCode::CONFLICT,
            (_, Reason::BodyTimeout) => StatusCode::REQUEST_TIMEOUT,
            (Step::Method, _) => StatusCode::METHOD_NOT_ALLOWED,
            (Step::BodyLimit, _) => StatusCode::PAYLOAD_TOO_LARGE,
            (Step::Source, _) => StatusCode::FORBIDDEN,
            (Step::Header | Step::Body, _) => StatusCode::BAD_REQUEST,
            (Step::Timestamp | Step::Signature, _) => StatusCode::UNAUTHORIZED,
            (Step::Payload, _) => StatusCode::UNPROCESSABLE_ENTITY,
            (Step::Replay, _) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("webhook refused")
    }
}

impl std::error::Error for Error {}

/// The steps of one verification in the order in which they began.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
// Four bits for each step, its place in `STEPS` and one; the last one lowest. A number, not a
// list: it stays in a register while it grows, and is copied into every answer.
pub struct Trace(u64);

/// In the order of their declaration.
const STEPS: [Step; 9] = [
    Step::Method,
    Step::BodyLimit,
    Step::Source,
    Step::Header,
    Step::Timestamp,
    Step::Signature,
    Step::Payload,
    Step::Body,
    Step::Replay,
];

impl Trace {
    // PANIC-FREE: five ordered steps and three fixed ones at most; beyond 16 they would be cut.
    pub(crate) const fn push(&mut self, step: Step) {
        self.0 = (self.0 << 4) | (step as u64 + 1);
    }

    /// The steps, first one first.
    pub fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        let places = (0..u64::BITS / 4)
            .rev()
            .map(|place| self.0 >> (place * 4) & 15);
        places.filter_map(|step| STEPS.get((step as usize).checked_sub(1)?).copied())
    }

    /// Whether `step` began.
    #[must_use]
    pub const fn contains(&self, step: Step) -> bool {
        let mut left = self.0;
        while left != 0 {
            if left & 15 == step as u64 + 1 {
                return true;
            }
            left >>= 4;
        }
        false
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_each_step_in_the_order_in_which_it_began() {
        let backwards = STEPS.into_iter().rev();
        for steps in [STEPS.to_vec(), backwards.collect(), vec![]] {
            let mut trace = Trace::default();
            for (at, step) in steps.iter().enumerate() {
                assert!(!trace.contains(*step));
                trace.push(*step);
                assert!(steps[..=at].iter().all(|ran| trace.contains(*ran)));
                assert!(trace.iter().eq(steps[..=at].iter().copied()));
            }
            assert_eq!(format!("{trace:?}"), format!("{steps:?}"));
        }
    }
}
