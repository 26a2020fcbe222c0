//! Policies over replicated stores.

use resilience_core::route::{NodeSnapshot, Reason, Role, Why};

use super::{Observe, WayBack};
use crate::read_write::{Cluster, Node};
use crate::telemetry::family as of;
use crate::telemetry::samples::Samples;

impl<N: Node> Observe for Cluster<N> {
    const POLICY: &'static str = "read_write";

    fn way_back(&self) -> WayBack<Self> {
        Box::new(self.downgrade())
    }

    /// No label tells nodes apart, as with endpoints.
    fn observe(&self, samples: &mut Samples<'_>) {
        let figures = self.snapshot();
        let route = &figures.route;
        for one in STATES {
            let there = route.nodes.iter().filter(|node| state(node) == one);
            samples.gauge(&of::NODES, one, there.count() as f64);
        }
        let replicas = route.nodes.iter().filter(|node| state(node) == "replica");
        samples.span(&of::NODE_LAG, replicas.filter_map(|node| node.lag).max());
        for why in Why::ALL {
            samples.count(&of::ROUTED, why.as_str(), route.routed(why));
        }
        for reason in Reason::ALL {
            samples.count(&of::REFUSED, reason.as_str(), route.refused(reason));
        }
        samples.count(&of::REFUSED, "buffer_full", figures.buffer_full);
        for (step, steps) in [
            ("probe", route.probes),
            ("wait", route.waits),
            ("observe", route.observes),
        ] {
            samples.count(&of::ROUTE_STEPS, step, steps);
        }
        for (answer, answers) in [
            ("promoted", route.promotions),
            ("fenced", route.fenced),
            ("set_back", route.set_back),
            ("foreign", route.foreign),
            ("late", route.late),
        ] {
            samples.count(&of::NODE_ANSWERS, answer, answers);
        }
        let looks = figures.nodes.iter().map(|node| node.looks).sum();
        let failed = figures.nodes.iter().map(|node| node.looks_failed).sum();
        samples.count(&of::LOOKS, "", looks);
        samples.count(&of::LOOKS_FAILED, "", failed);
        samples.gauge(&of::IN_FLIGHT, "", figures.in_flight as f64);
        samples.gauge(&of::QUEUED, "", figures.waiting_writes as f64);
        samples.count(&of::BUFFERED, "", figures.buffered);
        samples.count(&of::PASSED_OVER, "breaker", figures.rejected);
        samples.count(&of::PASSED_OVER, "outdated", figures.outdated);
        samples.count(&of::RETRIES, "", figures.retries);
        samples.count(&of::RETRY_STOPPED, "budget", figures.budget_spent);
        super::attempts::tell_budget(samples, self.retry_budget().snapshot());
        samples.count(&of::OUTCOME_UNKNOWN, "", figures.outcome_unknown);
        samples.count(&of::EJECTIONS, "", figures.balance.ejections);
        samples.count(&of::LOST_EVENTS, "", route.lost_events);
    }
}

const STATES: [&str; 7] = [
    "foreign", "down", "fenced", "draining", "lagging", "primary", "replica",
];

/// The first of them that holds.
fn state<P>(node: &NodeSnapshot<P>) -> &'static str {
    match node.role {
        _ if node.foreign => "foreign",
        _ if !node.up => "down",
        _ if node.fenced => "fenced",
        _ if node.draining => "draining",
        _ if node.lagging => "lagging",
        Some(Role::Primary) => "primary",
        _ => "replica",
    }
}
