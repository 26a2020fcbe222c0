//! Refusals as HTTP and gRPC responses, and the header fields that tell a client its limit.
//!
//! [`into_response`](crate::rate_limit::RateLimitLayer::into_response) puts refusals into the
//! response, so that the service's error is the inner service's alone (`Infallible`, as axum
//! asks, stays that). The body becomes a [`RefusalBody`](crate::refusal::RefusalBody).
//!
//! | call | status | header fields |
//! |---|---|---|
//! | admitted | the inner service's | `RateLimit-Policy`, `RateLimit` |
//! | refused for now | 429 | these, `Retry-After`, a body of `application/problem+json` |
//! | refused for ever (its cost is above the burst) | 429 | the same without `Retry-After` |
//! | refused a place in line, or its turn would come too late | 429 | as refused for now, `Retry-After` until its turn |
//! | without a key | 403 | a body of `application/problem+json` |
//! | while the limit's store gives no answer | 503 | `Retry-After`, a body of `application/problem+json` |
//!
//! The typed [`Refusal`](crate::rate_limit::Refusal) is in the extensions of the response.
//!
//! # The fields
//!
//! `RateLimit-Policy` and `RateLimit` are those of
//! [draft-ietf-httpapi-ratelimit-headers-11]; `Retry-After` is that of RFC 9110, section 10.2.3;
//! problem details are RFC 9457, of the type `quota-exceeded` that the draft registers.
//!
//! ```text
//! RateLimit-Policy: "default";q=100;w=60     all limits, in the order of their places
//! RateLimit: "default";r=41;t=25             the one with the least left, or that refused
//! Retry-After: 3
//! X-RateLimit-Limit: 100                     only on request
//! X-RateLimit-Remaining: 41
//! X-RateLimit-Reset: 36
//! ```
//!
//! | parameter | is |
//! |---|---|
//! | `w` | the time in which the burst comes back, in whole seconds, rounded up |
//! | `q` | the permits that come back in `w`: the burst, or more where `w` was rounded up |
//! | `r` | what would be admitted at once now |
//! | `t` of an admitted call | the time in which `r` permits come back; with `r=0`, until the next one does |
//! | `t` of a refused call | the same number as `Retry-After` |
//! | `Limit`, `Remaining`, `Reset` | the burst, `r`, and the time until the whole burst is back |
//!
//! All times are whole seconds from now, rounded up and never 0: a client that comes back after
//! `Retry-After` is not refused for the same reason. A token bucket has no window that ends:
//! `t` is such that `r` over `t`, and `q` over `w`, are never more than the quota's rate, as the draft
//! demands (section 6), and that `Retry-After` is never before the end of `t`. (A quota keeps the
//! time between two permits in whole nanoseconds, rounded up; `q` is told as if it were up to one
//! shorter, so that 3 per second are told as 3 per second.)
//!
//! Fields that the inner service has set already (a limit further in, an upstream's) stay;
//! `RateLimit` and `RateLimit-Policy` are lists and get one line more, so use different names;
//! of `X-RateLimit-*` the inner ones win.
//!
//! # What it costs
//!
//! Bodies and the policy field are made once, with the layer. A refusal builds its header map, the
//! `RateLimit` value and the entry in the extensions. A quota that is not the one the layer was made
//! with (it was changed, or it is the key's own) is told rightly too, and formatted for each response.
//!
//! [draft-ietf-httpapi-ratelimit-headers-11]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/

mod answer;
mod digits;
mod fields;
mod grpc;
mod policy;
mod settings;

pub use self::answer::HttpAnswer;
pub use self::grpc::GrpcAnswer;
pub use self::settings::{FieldsError, HttpFields};
