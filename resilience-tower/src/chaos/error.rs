/// Why a call through a [`Chaos`](super::Chaos) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called; or the error was
    /// made in its place ([`errors`](super::ChaosLayer::errors)).
    #[error(transparent)]
    Inner(E),
    /// A fault; the inner service never saw the request.
    #[error(transparent)]
    Injected(#[from] Injected),
}

/// A call failed on purpose.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Injected {
    /// It was to be answered by an error.
    #[error("injected: an error")]
    Error,
    /// It was to be broken off.
    #[error("injected: the connection broke")]
    Disconnected,
}

impl Injected {
    /// `error` or `disconnect`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Disconnected => "disconnect",
        }
    }
}

impl From<Injected> for std::io::Error {
    /// A broken connection is a connection reset, as the operating system would have it.
    fn from(injected: Injected) -> Self {
        let kind = match injected {
            Injected::Error => std::io::ErrorKind::Other,
            Injected::Disconnected => std::io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, injected)
    }
}
