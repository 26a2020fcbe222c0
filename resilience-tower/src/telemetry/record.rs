use std::sync::Arc;
#[cfg(feature = "metrics")]
use std::time::Duration;

#[cfg(feature = "metrics")]
use resilience_core::clock::Clock;
#[cfg(feature = "tracing")]
use tracing::Span;

use super::attempts::{self, OfCall};
use super::outcome::End;
use super::scope::{Scope, Shared};
#[cfg(feature = "tracing")]
use super::span;

/// What is kept of a call while it runs. Told when the call ends; dropped before, as cancelled.
#[derive(Debug)]
pub(super) struct Record {
    shared: Arc<Shared>,
    #[cfg(feature = "metrics")]
    began: Duration,
    #[cfg(feature = "tracing")]
    span: Span,
    /// Attempts made so far, of a call.
    made: u32,
    told: bool,
}

impl Record {
    /// A call begins.
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        #[cfg_attr(not(feature = "tracing"), expect(unused_variables))]
        let attempt = match shared.scope {
            Scope::Call => 0,
            Scope::Attempt => attempts::begin(),
        };
        Self {
            #[cfg(feature = "metrics")]
            began: shared.clock.now(),
            #[cfg(feature = "tracing")]
            span: span::open(shared, attempt),
            shared: Arc::clone(shared),
            made: 0,
            told: false,
        }
    }

    /// Does `work`, a part of the call, within its span. Should it panic, the call is told so.
    pub(super) fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        let span = self.span.clone();
        #[cfg(feature = "tracing")]
        let _entered = span.enter();
        let guard = OnUnwind(self);
        let done = {
            let _counted =
                (guard.0.shared.scope == Scope::Call).then(|| OfCall::enter(&mut guard.0.made));
            work()
        };
        std::mem::forget(guard);
        done
    }

    /// The call ends, unless it has.
    pub(super) fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        #[cfg(feature = "metrics")]
        {
            let shared = &*self.shared;
            let took = shared.clock.now().saturating_sub(self.began);
            let meters = &shared.meters;
            meters.tell(shared.scope, &shared.name, end, took, self.made);
        }
        #[cfg(feature = "tracing")]
        span::close(&self.span, end, self.made);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}

/// Dropped only by unwinding.
struct OnUnwind<'a>(&'a mut Record);

impl Drop for OnUnwind<'_> {
    fn drop(&mut self) {
        self.0.end(End::Panicked);
    }
}
