//! What a collector publishes of policies that answer for the upstream.
#![cfg(feature = "cache")]

use std::time::Duration;

use resilience_core::cache::Config;
use resilience_core::coalesce;
use resilience_tower::cache::{ByRule, CacheLayer, Keep, Store};
use resilience_tower::coalesce::{CoalesceLayer, Coalescing};
use resilience_tower::telemetry::Collector;
use tokio_test::{assert_pending, assert_ready_err, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::recorder::Kept;

#[tokio::test]
async fn a_cache_tells_where_its_answers_came_from() {
    let store = Store::new(Config::default());
    let rules = ByRule::new(|user: Result<&String, &&str>| match user {
        Ok(_) => Keep::fresh_for(Duration::from_secs(60)),
        Err(_) => Keep::not(),
    });
    let users = service_fn(async |id: u64| match id {
        0 => Err("nobody"),
        id => Ok(format!("user {id}")),
    });
    let layer = CacheLayer::new(store.clone(), |id: &u64| Some(*id), rules);
    let users = layer.layer(users);
    for id in [7, 7, 8, 7, 0] {
        let _ = users.clone().oneshot(id).await;
    }
    let (kept, collector) = (Kept::default(), Collector::new());
    collector.add("users", &store);
    kept.local(|| collector.publish());
    let is = store.snapshot();
    let answers = |answer: &str| {
        let labels = format!("answer=\"{answer}\",name=\"users\",policy=\"cache\"");
        kept.counter(&format!("resilience_cache_answers_total{{{labels}}}"))
    };
    assert_eq!((answers("hit"), answers("miss")), (Some(2), Some(3)));
    for (answer, calls) in [
        ("hit", is.hits),
        ("stale", is.stale_hits),
        ("stale_if_error", is.error_hits),
        ("negative", is.negative_hits),
        ("miss", is.misses),
        ("revalidated", is.revalidated),
        ("bypassed", is.bypassed),
    ] {
        assert_eq!(answers(answer), Some(calls), "{answer}");
    }
    let of = |name: &str| format!("{name}{{name=\"users\",policy=\"cache\"}}");
    assert_eq!(kept.gauge(&of("resilience_keys")), Some(2.0));
    assert_eq!(
        kept.gauge(&of("resilience_cache_weight")),
        Some(is.weight as f64)
    );
    assert_eq!(
        kept.counter(&of("resilience_cache_not_kept_total")),
        Some(is.not_kept)
    );
    let leaders =
        "resilience_coalesce_calls_total{name=\"users\",policy=\"cache\",role=\"leader\"}";
    assert_eq!(kept.counter(leaders), Some(3));
}

#[test]
fn calls_that_share_an_answer_are_told_by_their_role() {
    let config = coalesce::Config::builder()
        .max_followers(1)
        .build()
        .unwrap();
    let handle = Coalescing::new(config);
    let prices = service_fn(async |_: u32| std::future::pending::<Result<u32, ()>>().await);
    let layer = CoalesceLayer::new(handle.clone(), |item: &u32| Some(*item));
    let mut prices = layer.layer(prices);
    let mut leader = task::spawn(prices.call(7));
    assert_pending!(leader.poll());
    let mut follower = task::spawn(prices.call(7));
    assert_pending!(follower.poll());
    assert_ready_err!(task::spawn(prices.call(7)).poll());

    let (kept, collector) = (Kept::default(), Collector::new());
    collector.add("prices", &handle);
    kept.local(|| collector.publish());
    let calls = |role: &str| {
        let labels = format!("name=\"prices\",policy=\"coalesce\",role=\"{role}\"");
        kept.counter(&format!("resilience_coalesce_calls_total{{{labels}}}"))
    };
    assert_eq!((calls("leader"), calls("follower")), (Some(1), Some(1)));
    let labels = "name=\"prices\",policy=\"coalesce\",reason=\"followers\"";
    let refused = kept.counter(&format!("resilience_refused_total{{{labels}}}"));
    assert_eq!(refused, Some(1));
    let keys = "resilience_keys{name=\"prices\",policy=\"coalesce\"}";
    assert_eq!(kept.gauge(keys), Some(1.0));
}
