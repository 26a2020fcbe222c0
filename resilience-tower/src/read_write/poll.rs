//! The task that looks at a node, again and again.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{Node, cluster::Shared, member::Member};

/// Looks at `member` every `poll_interval`, and whenever somebody wants it; until it is aborted.
pub(super) async fn poll<N: Node>(
    shared: Arc<Shared<N>>,
    member: Arc<Member<N>>,
    ended: watch::Sender<u64>,
) {
    loop {
        let began = Instant::now();
        let number = member.looks.begin();
        look(&shared, &member).await;
        ended.send_replace(number);
        shared.noticed();
        let next = began.checked_add(shared.router.config().poll_interval());
        let Some(next) = next else { return };
        let _ = timeout_at(next, member.looks.wanted()).await;
    }
}

async fn look<N: Node>(shared: &Shared<N>, member: &Member<N>) {
    let router = &shared.router;
    let at = router.now();
    let looked = timeout(shared.observe_timeout(), member.look(at)).await;
    let observation = looked.ok().flatten();
    member.looks.note(observation.is_some());
    match observation {
        Some(observation) => router.observe(&member.name, observation),
        None => router.unreachable(&member.name, at),
    };
}
