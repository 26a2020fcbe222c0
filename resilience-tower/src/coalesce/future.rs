use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::coalesce::Refused;
use tower_service::Service;

use super::flight::Landing;
use super::group::Member;
use super::oneshot::Oneshot;
use super::{Error, KeyOf, Panicked, Share};

/// The response of a [`Coalesce`](super::Coalesce).
///
/// The call of the inner service begins when the first of those that wait for it is polled, and goes
/// on whenever any of them is.
///
/// # Cancel safety
///
/// Dropping the future leaves the call to the others that wait for it. The last one drops it.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    #[pin]
    kind: Kind<S, Req, K, H>,
}

#[pin_project(project = KindProj)]
enum Kind<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    Member {
        member: Member<K::Key, Oneshot<S, Req>, H::Kept>,
        // `None` once it went into the call.
        start: Option<(S, Req)>,
        key: K,
        share: H,
    },
    Alone(#[pin] Oneshot<S, Req>),
    Refused(Refused),
    Done,
}

impl<S, Req, K, H> ResponseFuture<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    pub(super) fn member(
        member: Member<K::Key, Oneshot<S, Req>, H::Kept>,
        inner: S,
        request: Req,
        key: K,
        share: H,
    ) -> Self {
        let start = Some((inner, request));
        Self {
            kind: Kind::Member {
                member,
                start,
                key,
                share,
            },
        }
    }

    pub(super) fn alone(inner: S, request: Req) -> Self {
        Self {
            kind: Kind::Alone(Oneshot::new(inner, request)),
        }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self {
            kind: Kind::Refused(refused),
        }
    }
}

impl<S, Req, K, H> Future for ResponseFuture<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let ended = match this.kind.as_mut().project() {
                KindProj::Member {
                    member,
                    start,
                    key,
                    share,
                } => {
                    let begin = || {
                        let (inner, mut request) = start.take().expect(ONCE);
                        key.detach(&mut request);
                        Oneshot::new(inner, request)
                    };
                    match ready!(member.poll(cx, share, begin)) {
                        Landing::Result(result) => result.map_err(Error::Inner),
                        Landing::Panicked => Err(Error::Panicked(Panicked)),
                        Landing::Alone => {
                            let (inner, request) = start.take().expect(ONCE);
                            this.kind.set(Kind::Alone(Oneshot::new(inner, request)));
                            continue;
                        }
                    }
                }
                KindProj::Alone(call) => ready!(call.poll(cx)).map_err(Error::Inner),
                KindProj::Refused(refused) => Err(Error::Refused(*refused)),
                // Polled after it was ready: there is nothing more to say.
                KindProj::Done => return Poll::Pending,
            };
            // Not only when the future is dropped.
            this.kind.set(Kind::Done);
            return Poll::Ready(ended);
        }
    }
}

// PANIC-FREE: a call is begun once, and a result that is for one alone goes to the one that began it.
// What would go wrong nevertheless in `begin` is caught, and told to all as a panic.
const ONCE: &str = "a member starts one call at most";

impl<S, Req, K, H> fmt::Debug for ResponseFuture<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
