use ::http::{HeaderName, StatusCode};

/// What goes wrong with a look at a node, or with a call to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The client failed.
    #[error(transparent)]
    Client(E),
    /// The look was not answered with 2xx.
    #[error("the node answered with {0}")]
    Status(StatusCode),
    /// A header is missing, comes twice, or is not what it should be.
    #[error("the header {0} is missing or malformed")]
    Header(HeaderName),
    /// The node did not say where it is after a commit, which holds, or is the primary no more. With
    /// the error of the client, if it is that which failed.
    #[error("the commit holds, and the node does not say where it is after it")]
    NoToken(#[source] Option<E>),
}
