use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

/// Waits until a service is ready, and calls that very one.
#[pin_project]
pub(crate) struct Oneshot<S: Service<Req>, Req> {
    #[pin]
    kind: Kind<S, Req, S::Future>,
}

#[pin_project(project = KindProj)]
enum Kind<S, Req, F> {
    // `None` only once the call began, and that is another kind.
    Readying(S, Option<Req>),
    Called(#[pin] F),
}

impl<S: Service<Req>, Req> Oneshot<S, Req> {
    pub(crate) const fn new(service: S, request: Req) -> Self {
        Self {
            kind: Kind::Readying(service, Some(request)),
        }
    }
}

impl<S: Service<Req>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.kind.as_mut().project() {
                KindProj::Readying(service, request) => {
                    ready!(service.poll_ready(cx))?;
                    // Always there: only this state takes it, and leaves.
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    let call = service.call(request);
                    this.kind.set(Kind::Called(call));
                }
                KindProj::Called(call) => return call.poll(cx),
            }
        }
    }
}
