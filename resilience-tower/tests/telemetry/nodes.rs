//! What is told of a read/write split.
#![cfg(feature = "read-write")]

use std::time::Duration;

use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Checkout, Cluster, Config, Failure, Intent, Node, Observation, Role,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

/// A node that is what it is, and that nobody can be connected to if it is down.
pub(super) struct Still {
    role: Option<Role>,
}

#[derive(Debug, thiserror::Error)]
#[error("down")]
pub(super) struct Down;

impl Node for Still {
    type Position = Counter;
    type Connection = ();
    type Error = Down;

    async fn observe(&self, at: Duration) -> Result<Observation<Counter>, Down> {
        let role = self.role.ok_or(Down)?;
        Ok(Observation::new(role, 7, 3, Counter(1), at))
    }

    async fn connect(&self, _: u64, _: Intent) -> Result<(), Down> {
        Ok(())
    }

    async fn position(&self, (): &mut ()) -> Result<(u64, Counter), Down> {
        Ok((3, Counter(1)))
    }

    fn failure(&self, _: &Down) -> Failure {
        Failure::NotSent
    }
}

/// A primary, a replica and one that is down, and the time in which they are.
pub(super) fn cluster() -> (Runtime, Cluster<Still>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let entered = runtime.enter();
    let nodes = [
        ("a", Some(Role::Primary)),
        ("b", Some(Role::Replica)),
        ("c", None),
    ];
    let nodes = nodes.map(|(name, role)| (name, Still { role }));
    // The router's clock is the real one: an answer counts, however slow the machine is.
    let config = Config::builder().observation_ttl(Duration::from_secs(300));
    let cluster = Cluster::builder(nodes)
        .config(config.build().unwrap())
        .spawn()
        .unwrap();
    drop(entered);
    (runtime, cluster)
}

#[cfg(feature = "metrics")]
#[test]
fn a_cluster_tells_its_nodes_and_where_calls_went() {
    let (runtime, cluster) = cluster();
    runtime.block_on(async {
        sleep(Duration::from_millis(500)).await;
        cluster.lease(&Checkout::write()).await.unwrap().succeeded();
    });
    let kept = published!(&cluster);
    let of =
        |name: &str, more: &str| format!("{name}{{name=\"payments\",policy=\"read_write\"{more}}}");
    for (state, nodes) in [
        ("primary", 1.0),
        ("replica", 1.0),
        ("down", 1.0),
        ("fenced", 0.0),
        ("lagging", 0.0),
    ] {
        let series = of("resilience_nodes", &format!(",state=\"{state}\""));
        assert_eq!(kept.gauge(&series), Some(nodes), "{series}");
    }
    let routed = of("resilience_routed_total", ",why=\"write\"");
    assert_eq!(kept.counter(&routed), Some(1));
    let looks = kept
        .counter(&of("resilience_node_looks_total", ""))
        .unwrap();
    let failed = kept
        .counter(&of("resilience_node_looks_failed_total", ""))
        .unwrap();
    assert!(looks > failed && failed > 0, "{failed} of {looks}");
    assert_eq!(kept.gauge(&of("resilience_in_flight", "")), Some(0.0));
}

#[cfg(feature = "tracing")]
#[test]
fn a_change_of_a_node_is_an_event() {
    use resilience_tower::telemetry::events;

    use super::subscriber::Kept;

    let (runtime, cluster) = cluster();
    events::read_write("payments", &cluster).forget();
    let kept = Kept::default();
    kept.local(|| runtime.block_on(async { sleep(Duration::from_millis(500)).await }));
    let told = kept.events();
    let mut told: Vec<_> = told
        .iter()
        .map(|event| {
            let field = |name: &str| &*event.fields[name];
            assert_eq!(event.name, "resilience.read_write.change");
            assert_eq!(field("resilience.policy"), "read_write");
            assert_eq!(field("resilience.name"), "payments");
            let (node, change) = (
                field("resilience.read_write.node"),
                field("resilience.read_write.change"),
            );
            format!("{} {node} {change}", event.level)
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        ["INFO a primary", "INFO a up", "INFO b up", "WARN c down"]
    );
    let table = super::documented("| field of a read/write split |");
    let names: Vec<_> = table.iter().map(|row| &*row[0]).collect();
    let events = kept.events();
    let declared = events[0].declared.iter().copied();
    let declared: Vec<_> = declared.filter(|name| *name != "message").collect();
    assert_eq!(declared, names);
}
