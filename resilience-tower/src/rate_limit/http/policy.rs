//! A named limit, as clients are told of it.

use bytes::Bytes;
use http::HeaderValue;
use resilience_core::rate_limit::Quota;

use super::{digits, fields};

/// A limit with its name, and what can be said of it before any call.
#[derive(Debug)]
pub(super) struct Policy {
    name: String,
    /// The quota when the layer was made.
    pub(super) quota: Quota,
    /// The problem details of a call that may come back later.
    pub(super) exceeded: Bytes,
    /// Those of a call whose cost no waiting makes possible.
    pub(super) impossible: Bytes,
}

impl Policy {
    /// `name` is of characters that neither a structured field nor JSON has to escape.
    pub(super) fn new(name: String, quota: Quota) -> Self {
        let problem = |detail: &str| -> Bytes {
            format!(
                r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Request cannot be satisfied as assigned quota has been exceeded","status":429{detail},"violated-policies":["{name}"]}}"#
            )
            .into()
        };
        let detail = r#","detail":"This request costs more than the quota ever holds at once.""#;
        Self {
            exceeded: problem(""),
            impossible: problem(detail),
            name,
            quota,
        }
    }

    /// Appends the item of `RateLimit-Policy`: `"name";q=100;w=60`.
    pub(super) fn push_item(&self, text: &mut Vec<u8>, quota: Quota) {
        let (permits, seconds) = fields::window(quota);
        self.push_name(text);
        text.extend_from_slice(b";q=");
        digits::push(text, permits);
        text.extend_from_slice(b";w=");
        digits::push(text, seconds);
    }

    /// The value of `RateLimit`: `"name";r=41;t=25`.
    pub(super) fn limit_value(&self, remaining: u32, seconds: u64) -> Option<HeaderValue> {
        let numbers = digits::width(remaining.into()) + digits::width(seconds);
        // Exactly as long as it gets, or the conversion below would allocate once more.
        let mut text = Vec::with_capacity(self.name.len() + numbers + 8);
        self.push_name(&mut text);
        text.extend_from_slice(b";r=");
        digits::push(&mut text, remaining.into());
        text.extend_from_slice(b";t=");
        digits::push(&mut text, seconds);
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }

    fn push_name(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        text.extend_from_slice(self.name.as_bytes());
        text.push(b'"');
    }
}

/// The value of `RateLimit-Policy` for all of `policies`; `quota` finds that of a place.
pub(super) fn field(
    policies: &[Policy],
    quota: impl Fn(usize, &Policy) -> Quota,
) -> Option<HeaderValue> {
    let mut text = Vec::new();
    for (place, policy) in policies.iter().enumerate() {
        if place > 0 {
            text.extend_from_slice(b", ");
        }
        policy.push_item(&mut text, quota(place, policy));
    }
    // Names are plain and the rest is digits, so it is always a value.
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}
