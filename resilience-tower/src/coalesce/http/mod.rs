//! HTTP requests that share an answer.
//!
//! # Which requests
//!
//! GET and HEAD without a body. Those that carry credentials (`Authorization`, `Cookie`,
//! `Proxy-Authorization`), ask for a part or under a condition (`Range`, `If-…`) or for another
//! protocol (`Upgrade`) have an answer of their own, unless the field is part of the key.
//!
//! The key ([`HttpKey`]) is method, scheme, host, path and query, and some fields of the request:
//! `Accept`, `Accept-Encoding`, `Accept-Language` and `Origin`, and those that are named. The host is
//! that of the URI and that of `Host`, both; credentials in the URI are as those in a field.
//!
//! Nothing is known of fields of one's own. Name those by which the service within tells callers
//! apart or finds its answer ([`HttpKey::field`]): `X-Api-Key`, `X-Forwarded-Host`, the user that a
//! layer further out found. Else one caller gets the answer of another.
//!
//! # Which answers
//!
//! Those whose body is read within a limit, and which do not say that they are for one caller: with
//! `Set-Cookie`, with `Cache-Control: private` or `no-store`, or with a `Vary` that names a field
//! outside of the key. Any other is passed on as it comes to the caller whose request it answers, and
//! the others that waited make a call of their own. The extensions of a response go to one caller.
//!
//! A body whose length is not known beforehand is passed on, too, unless
//! [`unknown_lengths`](Limits::unknown_lengths) says otherwise: it may be one that never ends, of
//! which nobody would see anything before the limit is reached.
//!
//! # What an operator must know
//!
//! Calls under way belong to one service and its clones. `axum::serve` makes the services of a
//! `Router` from their layers anew for each connection, so that calls of two connections share
//! nothing. `.with_state(())` on the finished router makes them once, as `into_make_service` does.

mod answer;
mod body;
mod buffer;
mod key;
mod layer;
mod unanswered;

pub use self::answer::{HttpShare, Kept, Size};
pub use self::body::SharedBody;
pub use self::buffer::{Buffer, BufferFuture, Limits};
pub use self::key::{HttpKey, Key};
pub use self::layer::HttpCoalesceLayer;
pub use self::unanswered::{Refuse, Unanswered, problem};
