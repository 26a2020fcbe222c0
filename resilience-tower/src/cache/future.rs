use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::breaker::Outcome;
use resilience_core::coalesce::Refused;
use tower_service::Service;

use super::fill::Fill;
use super::jobs::Place;
use super::store::{Entry, Store};
use super::{CacheStatus, Error, Rules, Source};
use crate::coalesce::flight::Landing;
use crate::coalesce::group::Member;
use crate::coalesce::oneshot::Oneshot;
use crate::coalesce::{KeyOf, Panicked};

/// One that waits for a call that fills an entry.
pub(super) type Waiting<S, Req, K, R> = Member<
    <K as KeyOf<Req>>::Key,
    Fill<S, Req, K, R>,
    <R as crate::coalesce::Share<<S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Kept,
>;

/// What one that waits needs to begin the call, and to judge its end.
pub(super) struct Part<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    pub(super) member: Waiting<S, Req, K, R>,
    /// `None` once it went into the call.
    pub(super) start: Option<(S, Req)>,
    pub(super) key: K::Key,
    pub(super) key_of: K,
    pub(super) rules: R,
    pub(super) store: Store<K::Key, R::Kept>,
}

impl<S, Req, K, R> Part<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error> + Clone,
{
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Landing<Result<S::Response, S::Error>>> {
        let (start, key_of, key) = (&mut self.start, &self.key_of, &self.key);
        let (rules, store) = (&self.rules, &self.store);
        let begin = || {
            let (inner, mut request) = start.take().expect(ONCE);
            key_of.detach(&mut request);
            let weight = key_of.size_of_key(key) as u64;
            let call = Oneshot::new(inner, request);
            Fill::new(call, key.clone(), weight, rules.clone(), store.clone())
        };
        self.member.poll(cx, rules, begin)
    }
}

// PANIC-FREE: a call is begun once, and a result that is for one alone goes to the one that began it.
const ONCE: &str = "a member starts one call at most";

/// The response of a [`Cache`](super::Cache): that of an entry, or of the inner service.
///
/// # Cancel safety
///
/// Dropping the future leaves the call to the others that wait for it. The last one drops it, and
/// nothing is kept then.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    #[pin]
    kind: Kind<S, Req, K, R>,
}

#[pin_project(project = KindProj)]
enum Kind<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    /// `None` once it was given out.
    Known(Option<Result<S::Response, Error<S::Error>>>),
    Waiting(Option<Part<S, Req, K, R>>, Source),
    Alone(
        #[pin] Oneshot<S, Req>,
        Option<Ending<K::Key, R, R::Kept>>,
        Source,
    ),
}

/// What judges the end of a call.
struct Ending<K, R, V> {
    key: Option<K>,
    rules: R,
    store: Store<K, V>,
}

impl<S, Req, K, R> ResponseFuture<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    pub(super) const fn known(result: Result<S::Response, Error<S::Error>>) -> Self {
        Self {
            kind: Kind::Known(Some(result)),
        }
    }

    pub(super) const fn waiting(part: Part<S, Req, K, R>, source: Source) -> Self {
        Self {
            kind: Kind::Waiting(Some(part), source),
        }
    }

    pub(super) const fn bypass(
        call: Oneshot<S, Req>,
        rules: R,
        store: Store<K::Key, R::Kept>,
    ) -> Self {
        let ending = Ending {
            key: None,
            rules,
            store,
        };
        Self {
            kind: Kind::Alone(call, Some(ending), Source::Bypass),
        }
    }

    pub(super) fn refused(
        refused: Refused,
        key: &K::Key,
        rules: &R,
        store: &Store<K::Key, R::Kept>,
    ) -> Self {
        let stand_in = store.stand_in(key);
        let known = stand_in.map(|entry| give(&entry, Source::StaleIfError, rules, store));
        Self::known(known.unwrap_or(Err(Error::Refused(refused))))
    }
}

/// The answer of an entry.
pub(super) fn give<T, E, K, R>(
    entry: &Arc<Entry<R::Kept>>,
    source: Source,
    rules: &R,
    store: &Store<K, R::Kept>,
) -> Result<T, Error<E>>
where
    R: Rules<T, E>,
{
    store.count(source);
    let mut answer = rules.give(&entry.kept).map_err(Error::Inner)?;
    let left = entry.stamp.fresh_until().checked_sub(store.now());
    let status = CacheStatus {
        source,
        fresh_for: left.filter(|left| !left.is_zero()),
    };
    rules.mark(&mut answer, status);
    Ok(answer)
}

impl<K, R, V> Ending<K, R, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The answer of a call that ended; that of a stale entry, if it failed and there is one.
    fn of<T, E>(
        &self,
        landing: Result<Result<T, E>, Panicked>,
        source: Source,
    ) -> Result<T, Error<E>>
    where
        R: Rules<T, E, Kept = V>,
    {
        let failed = match &landing {
            Ok(result) => matches!(
                self.rules.outcome(result.as_ref()),
                Outcome::Failure | Outcome::Overloaded { .. }
            ),
            Err(Panicked) => true,
        };
        let key = self.key.as_ref().filter(|_| failed);
        if let Some(entry) = key.and_then(|key| self.store.stand_in(key)) {
            return give(&entry, Source::StaleIfError, &self.rules, &self.store);
        }
        self.store.count(source);
        let mut answer = landing?.map_err(Error::Inner)?;
        self.rules.mark(&mut answer, CacheStatus::of(source));
        Ok(answer)
    }
}

impl<S, Req, K, R> Future for ResponseFuture<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error> + Clone,
{
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let ended = match this.kind.as_mut().project() {
                KindProj::Known(known) => match known.take() {
                    Some(known) => known,
                    // Polled after it was ready: there is nothing more to say.
                    None => return Poll::Pending,
                },
                KindProj::Waiting(part, source) => {
                    let Some(waiting) = part else {
                        return Poll::Pending;
                    };
                    let landing = ready!(waiting.poll(cx));
                    let (source, Some(part)) = (*source, part.take()) else {
                        return Poll::Pending;
                    };
                    let ending = Ending {
                        key: Some(part.key),
                        rules: part.rules,
                        store: part.store,
                    };
                    match landing {
                        Landing::Result(result) => ending.of(Ok(result), source),
                        Landing::Panicked => ending.of(Err(Panicked), source),
                        Landing::Alone => {
                            let (inner, request) = part.start.expect(ONCE);
                            let call = Oneshot::new(inner, request);
                            this.kind.set(Kind::Alone(call, Some(ending), source));
                            continue;
                        }
                    }
                }
                KindProj::Alone(call, ending, source) => {
                    let Some(waiting) = ending else {
                        return Poll::Pending;
                    };
                    let result = ready!(call.poll(cx));
                    let ended = waiting.of(Ok(result), *source);
                    *ending = None;
                    ended
                }
            };
            return Poll::Ready(ended);
        }
    }
}

/// A renewal: waits for a call, whoever has begun it.
pub(super) struct Renewal<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    pub(super) part: Part<S, Req, K, R>,
    pub(super) place: Place,
    pub(super) entry: Arc<Entry<R::Kept>>,
}

impl<S, Req, K, R> Renewal<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error> + Clone,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.place.is_kept(cx) {
            return Poll::Ready(());
        }
        if let Landing::Panicked = ready!(self.part.poll(cx)) {
            let store = &self.part.store;
            let pause = store.config().pause_after(Outcome::Failure, store.now());
            store.renewal_failed(&self.entry, pause.unwrap_or_default());
        }
        Poll::Ready(())
    }
}

impl<S, Req, K, R> fmt::Debug for ResponseFuture<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
