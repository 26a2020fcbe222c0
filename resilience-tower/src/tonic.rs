//! The name of a gRPC service passes through the layers, so that a tonic router knows where to
//! send its calls.

use tonic::server::NamedService;

#[cfg(feature = "adaptive")]
impl<S: NamedService, C> NamedService for crate::adaptive::Adaptive<S, C> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "breaker")]
impl<S: NamedService, J, P> NamedService for crate::breaker::Breaker<S, J, P> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "bulkhead")]
impl<S: NamedService, B> NamedService for crate::bulkhead::Bulkhead<S, B> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "bulkhead")]
impl<S: NamedService, P, B> NamedService for crate::bulkhead::Wait<S, P, B> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "hedge")]
impl<S: NamedService, C, R> NamedService for crate::hedge::Hedge<S, C, R> {
    const NAME: &'static str = S::NAME;
}

impl<S: NamedService, F> NamedService for crate::refusal::IntoResponse<S, F> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "fallback")]
impl<S: NamedService, A, C, M> NamedService for crate::fallback::Fallback<S, A, C, M> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "load-shed")]
impl<S: NamedService, C> NamedService for crate::load_shed::LoadShed<S, C> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "load-shed")]
impl<S: NamedService> NamedService for crate::load_shed::Stamp<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "load-shed")]
impl<S: NamedService> NamedService for crate::load_shed::Measure<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "rate-limit")]
impl<S: NamedService, L, A> NamedService for crate::rate_limit::RateLimit<S, L, A> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "wait")]
impl<S: NamedService, T, A> NamedService for crate::rate_limit::wait::Wait<S, T, A> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "stack")]
impl<S: NamedService, T: crate::stack::Kind> NamedService for crate::stack::Stacked<S, T> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "timeout")]
impl<S: NamedService> NamedService for crate::timeout::Timeout<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(feature = "timeout")]
impl<S: NamedService, P> NamedService for crate::timeout::deadline::WithDeadline<S, P> {
    const NAME: &'static str = S::NAME;
}
