use std::sync::Arc;

use resilience_core::clock::SharedClock;
use resilience_core::retry::RetryBudget;
use tower_layer::Layer;

use super::parts::Shared;
use super::{Classifies, Description, DescriptionError, Handle, Stacked, Traffic};
use crate::retry::CloneRequest;

/// A whole stack of policies as one layer.
///
/// All services made by it, and by its clones, share the policies.
#[derive(Clone, Debug)]
#[must_use]
pub struct Stack<T = Traffic> {
    shared: Arc<Shared>,
    clock: SharedClock,
    budget: Option<RetryBudget>,
    traffic: T,
    records: bool,
}

impl Stack {
    /// The stack that `description` tells.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, by its path.
    pub fn from_description(description: &Description) -> Result<Self, DescriptionError> {
        let clock = SharedClock::default();
        let shared = Shared::new(description.clone(), &clock, None)?;
        Ok(Self {
            shared: Arc::new(shared),
            clock,
            budget: None,
            traffic: Traffic::default(),
            records: false,
        })
    }
}

impl<T> Stack<T> {
    /// The policies, to watch and change them.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The same stack with other settings; its policies are new ones.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, by its path.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use resilience_core::bulkhead;
    /// use resilience_tower::stack;
    ///
    /// let stack = stack::outbound("payments").configure(|payments| {
    ///     payments.bulkhead = Some(bulkhead::Config::builder().limit(20));
    /// })?;
    /// # Ok::<(), stack::DescriptionError>(())
    /// ```
    pub fn configure(
        self,
        change: impl FnOnce(&mut Description),
    ) -> Result<Self, DescriptionError> {
        let mut description = self.shared.description();
        change(&mut description);
        let shared = Shared::new(description, &self.clock, self.budget.as_ref())?;
        Ok(self.with(shared))
    }

    /// Lets the policies go by `clock`; they are made anew. Timeouts and waits are on tokio's clock,
    /// whatever this one is.
    pub fn clock(mut self, clock: impl Into<SharedClock>) -> Self {
        self.clock = clock.into();
        let shared = self.shared.again(&self.clock, self.budget.as_ref());
        self.with(shared)
    }

    /// Pays for retries from `budget`, which others that call the same upstream use as well, in
    /// place of a budget of its own: what a description says of one does not count then, but for
    /// [`Handle::apply`]. The policies are made anew.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        let shared = self.shared.again(&self.clock, Some(&budget));
        self.budget = Some(budget);
        self.with(shared)
    }

    fn with(self, shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { shared, ..self }
    }

    /// Tells admitted calls, too, what was decided: their responses carry an
    /// [`Admission`](crate::admission::Admission) in their extensions, which allocates. Refusals made
    /// responses always do. For HTTP and gRPC; others have no place for it.
    pub fn record_admitted(mut self) -> Self {
        self.records = true;
        self
    }

    /// Another kind of requests; for HTTP and gRPC there are `http` and `grpc`.
    pub fn traffic<U>(self, traffic: U) -> Stack<U> {
        self.map(|_| traffic)
    }

    fn map<U>(self, map: impl FnOnce(T) -> U) -> Stack<U> {
        Stack {
            shared: self.shared,
            clock: self.clock,
            budget: self.budget,
            traffic: map(self.traffic),
            records: self.records,
        }
    }
}

impl<J, R, P, H> Stack<Traffic<J, R, P, H>> {
    /// Judges calls by `judge`, for the breaker, the retries and the adaptive limit:
    /// [`OnResult`](crate::breaker::OnResult) or [`OnBodyEnd`](crate::breaker::http::OnBodyEnd) with
    /// a classifier of one's own. It judges what the service within answers; what the policies decide
    /// is judged by the stack.
    pub fn judge<K>(self, judge: K) -> Stack<Traffic<K, R, P, H>> {
        self.map(|traffic| Traffic {
            judge,
            replay: traffic.replay,
            propagate: traffic.propagate,
            beside: traffic.beside,
        })
    }

    /// Keeps requests by `replay`, so that they can be sent again.
    pub fn replay<Q>(self, replay: Q) -> Stack<Traffic<J, Q, P, H>> {
        self.map(|traffic| Traffic {
            judge: traffic.judge,
            replay,
            propagate: traffic.propagate,
            beside: traffic.beside,
        })
    }

    /// Sends any failed request again, a clone of it: doing it twice must be harmless.
    pub fn repeatable(self) -> Stack<Traffic<J, CloneRequest, P, H>> {
        self.replay(CloneRequest)
    }

    /// Keeps requests for hedges by `replay`, which says what may be done twice at the same time:
    /// [`CloneIf`](crate::hedge::CloneIf), or for HTTP
    /// [`HttpHedge`](crate::hedge::http::HttpHedge). Nothing is hedged otherwise, nor by a stack
    /// without a hedge policy.
    pub fn hedges<Q>(self, replay: Q) -> Stack<Traffic<J, R, P, Q>> {
        self.map(|traffic| Traffic {
            judge: traffic.judge,
            replay: traffic.replay,
            propagate: traffic.propagate,
            beside: replay,
        })
    }

    /// Reads and tells times by `propagate`; for HTTP an
    /// [`InExtensions`](super::http::InExtensions) with the headers to use.
    pub fn propagate<Q>(self, propagate: Q) -> Stack<Traffic<J, R, Q, H>> {
        self.map(|traffic| Traffic {
            judge: traffic.judge,
            replay: traffic.replay,
            propagate,
            beside: traffic.beside,
        })
    }
}

impl<S, J, R, P, H> Layer<S> for Stack<Traffic<J, R, P, H>>
where
    J: Classifies<Classifier: Clone> + Clone,
    R: Clone,
    P: Clone,
    H: Clone,
{
    type Service = Stacked<S, Traffic<J, R, P, H>>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = Arc::clone(&self.shared);
        Stacked::new(inner, shared, self.traffic.clone(), self.records)
    }
}
