use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::breaker::Outcome;
use resilience_core::cache::Freshness;
use tower_service::Service;

use super::Rules;
use super::store::{Store, Ticket};
use crate::coalesce::KeyOf;
use crate::coalesce::oneshot::Oneshot;

/// A call whose result is kept, if the rules say so; shared by all that wait for it.
#[pin_project]
pub(crate) struct Fill<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    #[pin]
    call: Oneshot<S, Req>,
    key: K::Key,
    weight_of_key: u64,
    rules: R,
    store: Store<K::Key, R::Kept>,
    /// Taken by the first poll; whoever looked in vain before may have come too late.
    ticket: Option<Ticket<K::Key, R::Kept>>,
}

impl<S, Req, K, R> Fill<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    pub(super) const fn new(
        call: Oneshot<S, Req>,
        key: K::Key,
        weight_of_key: u64,
        rules: R,
        store: Store<K::Key, R::Kept>,
    ) -> Self {
        Self {
            call,
            key,
            weight_of_key,
            rules,
            store,
            ticket: None,
        }
    }
}

impl<S, Req, K, R> Future for Fill<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (key, rules, store) = (&*this.key, &*this.rules, &*this.store);
        if this.ticket.is_none() {
            // Before the look, so that what is seen is not older than an invalidation unseen.
            *this.ticket = Some(store.begin());
            // An earlier call may have ended between the look of the caller and its place in this.
            if let Some((entry, Freshness::Fresh | Freshness::Negative)) = store.look(key) {
                return Poll::Ready(rules.give(&entry.kept));
            }
        }
        let result = ready!(this.call.poll(cx));
        let seen = result.as_ref();
        let outcome = rules.outcome(seen);
        let old = store.stand_in(key);
        let pause = store.config().pause_after(outcome, store.now());
        if let (Some(pause), Some(old)) = (pause, &old) {
            store.renewal_failed(old, pause);
        }
        let judged = match outcome {
            Outcome::Success => Some(rules.keep_for(seen)),
            Outcome::Failure | Outcome::Overloaded { .. } if old.is_none() => {
                Some(rules.keep_for(seen)).filter(super::Keep::is_negative)
            }
            _ => None,
        };
        if let (Some(keep), Some(ticket)) = (judged, this.ticket.take()) {
            let kept = keep.terms.and_then(|_| rules.keep(seen));
            match kept {
                Some(kept) => {
                    let weight = rules.weigh(&kept, &keep);
                    let weight = weight.saturating_add(*this.weight_of_key);
                    store.put(&ticket, key, kept, weight, keep);
                }
                None => store.not_kept(&ticket, key),
            }
        }
        Poll::Ready(result)
    }
}
