//! What a route asks of its requests and answers, compiled: one field for each step of
//! `pipeline`, `None` where a step is off.

pub(crate) mod rate_limit;

use self::rate_limit::ClientLimit;

/// The policies of one route, or of requests without a route.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    /// Requests per client address.
    pub(crate) client_limit: Option<ClientLimit>,
}
