use std::time::Duration;

/// How the time that is left comes from the caller and goes to the upstream, other processes both.
pub trait Propagate<Req> {
    /// How much time the caller leaves, if `request` says so.
    fn received(&self, request: &Req) -> Option<Duration>;

    /// Tells the upstream how much time it has. Not called for a call without any limit.
    fn send(&self, request: &mut Req, left: Duration);

    /// The least time that can be told: a call with less is refused. None by default.
    fn least(&self) -> Duration {
        Duration::ZERO
    }
}

/// The deadline goes no further than this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl<Req> Propagate<Req> for InProcess {
    fn received(&self, _: &Req) -> Option<Duration> {
        None
    }

    fn send(&self, _: &mut Req, _: Duration) {}
}
