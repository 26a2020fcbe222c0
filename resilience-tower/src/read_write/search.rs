//! The search for a node, and for a connection to it.

use std::{sync::Arc, time::Duration};

use resilience_core::{
    balance::EndpointId,
    breaker::Rejected,
    route::{Route, Step},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Checkout, Error, Failure, Lease, NoRoute, Node, Reason, Request, Why,
    lease::{Guard, Place},
    member::{Member, Wanted},
    shared::{Running, Shared},
    stats::add,
};

/// One call on its way: where it was, and how long it may take.
pub(super) struct Search<'a, N: Node> {
    shared: &'a Arc<Shared<N>>,
    checkout: &'a Checkout<N::Position>,
    arrived: Duration,
    until: Option<Instant>,
    /// Nodes that a read is not sent to any more.
    tried: Vec<EndpointId>,
    attempts: u32,
    rejected: Option<Rejected>,
    failed: Option<Error<N::Error>>,
    /// Where a write may have run, and what went wrong there.
    lost: Option<(Arc<str>, Option<N::Error>)>,
    /// That of the call, while no guard has it.
    running: Option<Running<N>>,
}

/// How far an attempt came.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Got {
    /// There was no connection: nothing was sent.
    NoConnection,
    /// The call had one.
    Connection,
}

type Found<N> = Route<Arc<Member<N>>>;
pub(super) type Next<N> = Result<Step<Arc<Member<N>>>, NoRoute>;

/// Who is looked at before the router is asked again.
enum Looked {
    One(EndpointId),
    /// Those that answered lately.
    Up,
    All,
    /// All, for the first time.
    First,
    These(Vec<Wanted>),
}

impl<'a, N: Node> Search<'a, N> {
    pub(super) fn new(shared: &'a Arc<Shared<N>>, checkout: &'a Checkout<N::Position>) -> Self {
        // Until the call ends, also between its attempts.
        let running = Some(Running::begin(shared));
        shared.budget.deposit();
        let until = checkout.deadline;
        Self {
            shared,
            checkout,
            arrived: shared.router.now(),
            until: until.and_then(|left| Instant::now().checked_add(left)),
            tried: Vec::new(),
            attempts: 1,
            rejected: None,
            failed: None,
            lost: None,
            running,
        }
    }

    /// The search of a call that arrived before, and was on these nodes.
    pub(super) const fn resumed(
        shared: &'a Arc<Shared<N>>,
        checkout: &'a Checkout<N::Position>,
        arrived: Duration,
        until: Option<Instant>,
        tried: Vec<EndpointId>,
        rejected: Option<Rejected>,
        running: Option<Running<N>>,
    ) -> Self {
        Self {
            shared,
            checkout,
            arrived,
            until,
            tried,
            attempts: 1,
            rejected,
            failed: None,
            lost: None,
            running,
        }
    }

    /// The nodes that the call is not sent to any more.
    pub(super) fn into_tried(self) -> Vec<EndpointId> {
        self.tried
    }

    /// The end of the call, if it has one.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// A connection to a node that will do.
    pub(super) async fn lease(&mut self) -> Result<Lease<N>, Error<N::Error>> {
        loop {
            let (guard, place) = self.guard(None).await?;
            if let Some(lease) = self.connect(guard, place).await? {
                return Ok(lease);
            }
        }
    }

    /// A node that will do, and whose breaker admits the call. `asked`: what the router said.
    pub(super) async fn guard(
        &mut self,
        mut asked: Option<Next<N>>,
    ) -> Result<(Guard<N>, Place), Error<N::Error>> {
        loop {
            let route = match self.route(asked.take()).await {
                Ok(route) => route,
                Err(error) => return Err(self.because(error)),
            };
            let place = Place::of(&route, self.checkout.intent, self.checkout.idempotent);
            let permit = match route.value().breaker.try_acquire_owned() {
                Ok(permit) => permit,
                Err(rejected) => {
                    add(&self.shared.counts.rejected);
                    let id = route.id();
                    route.into_pick().pass_over();
                    if self.checkout.needs_primary() {
                        return Err(Error::Breaker(rejected));
                    }
                    self.rejected = Some(rejected);
                    self.tried.push(id);
                    continue;
                }
            };
            let running = self.running.take();
            let running = running.unwrap_or_else(|| Running::begin(self.shared));
            return Ok((Guard::new(route, permit, running), place));
        }
    }

    /// Has one node looked at.
    pub(super) async fn look_at(&self, id: EndpointId) -> Result<(), Error<N::Error>> {
        self.look(Looked::One(id), None).await.map(drop)
    }

    /// What is most to the point when no node is left.
    fn because(&mut self, error: Error<N::Error>) -> Error<N::Error> {
        let Error::NoRoute(no_route) = &error else {
            return error;
        };
        let exhausted = matches!(
            no_route.reason,
            Reason::NoNode | Reason::Behind | Reason::SpillSpent
        );
        match (exhausted, self.failed.take(), self.rejected) {
            (true, Some(failed), _) => failed,
            (true, None, Some(rejected)) => Error::Breaker(rejected),
            _ => error,
        }
    }

    /// `None`: ask for another node.
    async fn connect(
        &mut self,
        guard: Guard<N>,
        place: Place,
    ) -> Result<Option<Lease<N>>, Error<N::Error>> {
        let member = Arc::clone(guard.member());
        let connect = member.node.connect(place.incarnation(), place.intent);
        let within = self.within(self.shared.connect_timeout);
        let (failure, source) = match timeout_at(within, connect).await {
            Ok(Ok(connection)) if place.is_current(self.shared) && self.is_fresh(place) => {
                return Ok(Some(Lease::new(connection, guard, place)));
            }
            Ok(Ok(connection)) => {
                // Fenced, ejected, drained or too old meanwhile. The router knows: this ends.
                drop(connection);
                if !self.checkout.needs_primary() {
                    self.tried.push(guard.id());
                }
                self.running = Some(guard.pass_over());
                add(&self.shared.counts.outdated);
                return Ok(None);
            }
            Ok(Err(error)) => (member.node.failure(&error), Some(error)),
            Err(_) if self.is_over() => return Err(Error::Deadline),
            Err(_) => (Failure::NotSent, None),
        };
        // Nothing of the call was sent.
        let failure = match failure {
            Failure::Lost => Failure::NotSent,
            failure => failure,
        };
        let id = guard.id();
        let first = member.looks.first();
        self.goes_on(guard.fail(failure));
        match (failure, source) {
            (Failure::Failed, Some(error)) => return Err(Error::Inner(error)),
            // What the router knows of it is what its adapter before was told, and not this one.
            (Failure::Misrouted, _) if !first.is_over() => {
                self.look(Looked::These(vec![first]), None).await?;
            }
            (failure, source) => {
                let node = Arc::clone(&member.name);
                let got = Got::NoConnection;
                self.elsewhere(id, node, failure, source, got).await?;
            }
        }
        Ok(None)
    }

    /// An attempt has ended, and the call has not.
    pub(super) fn goes_on(&mut self, running: Running<N>) {
        self.running = Some(running);
    }

    /// The error with which the call ends. One that says that it did not run is true of the last
    /// attempt alone.
    pub(super) fn ended(&mut self, error: Error<N::Error>) -> Error<N::Error> {
        match (error, self.lost.take()) {
            (error @ (Error::Inner(_) | Error::OutcomeUnknown { .. }), _) | (error, None) => error,
            (_, Some((node, source))) => {
                add(&self.shared.counts.unknown);
                Error::OutcomeUnknown { node, source }
            }
        }
    }

    /// A replica is still as fresh as asked after the time that its connection took.
    fn is_fresh(&self, place: Place) -> bool {
        let on_primary = !matches!(place.why(), Why::Fresh | Why::LastResort);
        on_primary || !self.checkout.ages() || {
            let request = self.checkout.request(self.arrived, &self.tried, None);
            self.shared.router.is_fresh(place.node(), &request)
        }
    }

    /// The call may be tried once more, and not by a read where it was.
    pub(super) async fn elsewhere(
        &mut self,
        id: EndpointId,
        node: Arc<str>,
        failure: Failure,
        mut source: Option<N::Error>,
        got: Got,
    ) -> Result<(), Error<N::Error>> {
        if failure == Failure::Lost && self.checkout.intent.writes() {
            self.lost = Some((Arc::clone(&node), source.take()));
        }
        let error = Error::Unreachable {
            node,
            failure,
            source,
        };
        let shared = self.shared;
        // A read without a connection costs nobody anything, and is sent nowhere twice.
        if self.checkout.needs_primary() || got == Got::Connection {
            if self.attempts >= shared.max_attempts {
                return Err(error);
            }
            if shared.budget.try_withdraw().is_err() {
                add(&shared.counts.budget_spent);
                return Err(error);
            }
            self.attempts += 1;
        }
        add(&shared.counts.retries);
        if self.checkout.needs_primary() {
            // Who is the primary by now, the node itself tells best.
            self.look(Looked::One(id), None).await?;
            return Ok(());
        }
        self.tried.push(id);
        self.failed = Some(error);
        Ok(())
    }

    /// The node to go to, after what must be done before.
    async fn route(&self, asked: Option<Next<N>>) -> Result<Found<N>, Error<N::Error>> {
        let shared = self.shared;
        let preferred = self.checkout.preferred.as_ref();
        let preferred = preferred.and_then(|name| shared.router.id(name));
        let mut request = self.checkout.request(self.arrived, &self.tried, preferred);
        if self.checkout.intent.writes() && shared.buffer.is_open() {
            return self.buffered(&request).await;
        }
        let mut began = false;
        let mut patience = None;
        let mut next = asked.unwrap_or_else(|| shared.router.route(&request));
        loop {
            let looked = match next {
                Ok(Step::Go(route)) => return Ok(route),
                Ok(Step::Probe(id)) => {
                    request = request.probed();
                    Looked::One(id)
                }
                Ok(Step::Wait(time)) => {
                    request = request.probed().waited();
                    self.sleep(time).await?;
                    Looked::Up
                }
                // More steps may come: none of them is wanted twice.
                Ok(Step::Observe | _) => {
                    request = request.observed();
                    Looked::All
                }
                Err(no_route) if no_route.retry_after.is_none() => return Err(no_route.into()),
                Err(_) if self.checkout.intent.writes() => return self.buffered(&request).await,
                Err(_) if !began && !shared.has_begun() => Looked::First,
                Err(no_route) => {
                    let patience = *patience.get_or_insert_with(|| self.within(shared.read_wait));
                    if !self.reappears(no_route.reason, &request, patience).await {
                        return Err(no_route.into());
                    }
                    next = shared.router.route(&request);
                    continue;
                }
            };
            began |= matches!(looked, Looked::First);
            next = match self.look(looked, Some(&request)).await? {
                Some(next) => next,
                None => shared.router.route(&request),
            };
        }
    }

    /// Whether a node that a read found missing may be there, before `within`.
    async fn reappears(
        &self,
        missing: Reason,
        request: &Request<'_, N::Position>,
        within: Instant,
    ) -> bool {
        let shared = self.shared;
        let passes = matches!(
            missing,
            Reason::NoNode | Reason::NoPrimary | Reason::Conflict | Reason::Behind
        );
        if !passes || self.tried.len() >= shared.members.lock().len() {
            return false;
        }
        let mut changes = shared.changes.subscribe();
        let readable = async {
            // What came after the refusal, and before the subscription, is not missed.
            while !shared.router.readable(request) {
                let _ = changes.changed().await;
            }
        };
        timeout_at(within, readable).await.is_ok()
    }

    /// A write that waits until a primary is seen.
    async fn buffered(
        &self,
        request: &Request<'_, N::Position>,
    ) -> Result<Found<N>, Error<N::Error>> {
        let (shared, buffer) = (self.shared, &self.shared.buffer);
        let Some(_place) = buffer.enter() else {
            add(&shared.counts.buffer_full);
            let retry_after = shared.router.config().poll_interval();
            return Err(Error::BufferFull { retry_after });
        };
        add(&shared.counts.buffered);
        let within = self.within(shared.write_wait);
        let turn = timeout_at(within, buffer.line.lock()).await;
        loop {
            let mut seen = std::pin::pin!(buffer.primary.notified());
            // Before the question: what comes after it is not missed.
            seen.as_mut().enable();
            let refused = match shared.router.route(request) {
                Ok(Step::Go(route)) => return Ok(route),
                Err(no_route) if no_route.retry_after.is_none() => return Err(no_route.into()),
                Err(no_route) => no_route,
                // Not for writes.
                Ok(_) => return Err(Error::Deadline),
            };
            if turn.is_err() || timeout_at(within, seen).await.is_err() {
                return Err(refused.into());
            }
        }
    }

    /// Has nodes looked at; ends when all looks have, or when one of them decides for `request`.
    async fn look(
        &self,
        looked: Looked,
        request: Option<&Request<'_, N::Position>>,
    ) -> Result<Option<Next<N>>, Error<N::Error>> {
        let shared = self.shared;
        let mut changes = shared.changes.subscribe();
        let config = shared.router.config();
        let within = match (&looked, request) {
            // One of them may hang: others may do.
            (Looked::One(_) | Looked::Up, Some(_)) => {
                config.max_wait().unwrap_or_else(|| config.poll_interval())
            }
            _ => shared.observe_timeout().saturating_mul(2),
        };
        let within = self.within(within);
        let looks = self.looks(looked);
        loop {
            changes.borrow_and_update();
            let over = looks.iter().filter(|look| look.is_over()).count();
            if over == looks.len() {
                return Ok(None);
            }
            let early = request.filter(|_| over > 0);
            let early = early.and_then(|request| shared.router.route_early(request));
            if early.is_some() {
                return Ok(early);
            }
            if timeout_at(within, changes.changed()).await.is_err() {
                return match self.is_over() {
                    true => Err(Error::Deadline),
                    false => Ok(None),
                };
            }
        }
    }

    fn looks(&self, looked: Looked) -> Vec<Wanted> {
        let shared = self.shared;
        let want = |does: &dyn Fn(&Member<N>) -> bool| {
            let members = shared.members.lock();
            let members = members.iter().map(|watched| &*watched.member);
            members
                .filter(|member| does(member))
                .map(|member| member.looks.want())
                .collect()
        };
        match looked {
            Looked::All => want(&|_| true),
            Looked::Up => want(&|member| member.looks.reachable()),
            Looked::One(id) => want(&|member| shared.router.id(&member.name) == Some(id)),
            Looked::First => {
                let members = shared.members.lock();
                let members = members.iter().map(|watched| &watched.member.looks);
                members.map(super::member::Looks::first).collect()
            }
            Looked::These(looks) => looks,
        }
    }

    async fn sleep(&self, time: Duration) -> Result<(), Error<N::Error>> {
        sleep_until(self.within(time)).await;
        match self.is_over() {
            true => Err(Error::Deadline),
            false => Ok(()),
        }
    }

    /// The end of a step that may take so long, or that of the call.
    fn within(&self, time: Duration) -> Instant {
        let now = Instant::now();
        let end = now.checked_add(time).unwrap_or(now);
        self.until.map_or(end, |until| until.min(end))
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}
