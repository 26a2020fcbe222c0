//! The task that looks at a node, again and again.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{Node, Observation, Role, member::Member, shared::Shared};

/// Looks at `member` every `poll_interval`, and whenever somebody wants it; until it is aborted.
pub(super) async fn poll<N: Node>(
    shared: Arc<Shared<N>>,
    member: Arc<Member<N>>,
    ended: watch::Sender<u64>,
) {
    let mut unconfirmed = false;
    let mut identity = None;
    loop {
        let began = Instant::now();
        let number = member.looks.begin();
        let at = look(&shared, &member, &mut identity).await;
        ended.send_replace(number);
        shared.noticed();
        // Once, as what the others say may change nothing.
        let was = std::mem::replace(&mut unconfirmed, shared.router.is_unconfirmed(&member.name));
        if unconfirmed && !was {
            shared.hurry_since(at);
        }
        let next = began.checked_add(shared.router.config().poll_interval());
        let Some(next) = next else { return };
        let _ = timeout_at(next, member.looks.wanted()).await;
    }
}

/// One look; when it began.
async fn look<N: Node>(
    shared: &Shared<N>,
    member: &Member<N>,
    identity: &mut Option<(Role, u64)>,
) -> Duration {
    let router = &shared.router;
    let at = router.now();
    member.looks.begins_at(at);
    let looked = timeout(shared.observe_timeout(), member.look(at)).await;
    let observation = looked.ok().flatten();
    member.looks.note(observation.is_some());
    if let Some(now) = observation.as_ref().map(Observation::identity) {
        let before = identity.replace(now);
        if before.is_some_and(|before| before.1 != now.1 || before.0 != now.0) {
            member.forgive();
        }
    }
    match observation {
        Some(observation) => router.observe(&member.name, observation),
        None => router.unreachable(&member.name, at),
    };
    at
}
