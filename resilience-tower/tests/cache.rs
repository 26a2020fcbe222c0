//! The cache over an upstream that answers when told to, on a clock that moves when told to.
#![cfg(feature = "cache")]

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use resilience_core::cache::{Config, ConfigBuilder, Terms};
use resilience_core::clock::ManualClock;
use resilience_core::coalesce;
use resilience_tower::cache::{ByRule, Cache, CacheLayer, ENTRY, Error, Keep, Spawn, Store, Task};
use resilience_tower::coalesce::KeyFn;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service};

use crate::upstream::Upstream;

pub(crate) type Answer = Result<String, &'static str>;
pub(crate) type Net = Upstream<u64, String, &'static str>;
pub(crate) type Rule = fn(Result<&String, &&'static str>) -> Keep;
pub(crate) type Service_ = Cache<Net, u64, KeyFn<fn(&u64) -> Option<u64>>, ByRule<Rule>>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Renewals that run when the test polls them.
#[derive(Clone, Default)]
pub(crate) struct ByHand(Arc<Mutex<Vec<Task>>>);

impl std::fmt::Debug for ByHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByHand")
    }
}

impl Spawn for ByHand {
    fn spawn(&self, task: Task) {
        self.0.lock().push(task);
    }
}

impl ByHand {
    /// Polls all, and drops those that have ended.
    pub(crate) fn run(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock());
        let mut cx = Context::from_waker(Waker::noop());
        tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
        self.0.lock().append(&mut tasks);
    }

    pub(crate) fn running(&self) -> usize {
        self.0.lock().len()
    }
}

/// `tag:text` is kept for 10 s under its tag, `!text` not at all, anything else for 10 s without a
/// tag; the error `missing` is negative for 2 s.
pub(crate) fn rule(result: Result<&String, &&'static str>) -> Keep {
    match result {
        Ok(text) if text.starts_with('!') => Keep::not(),
        Ok(text) => {
            let keep = Keep::fresh_for(10 * SECOND).weight(text.len() as u64);
            match text.split_once(':') {
                Some((tag, _)) => keep.tag(tag),
                None => keep,
            }
        }
        Err(&"missing") => Keep::negative_for(2 * SECOND),
        Err(_) => Keep::fresh_for(10 * SECOND),
    }
}

pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) store: Store<u64, Answer>,
    pub(crate) clock: ManualClock,
    pub(crate) tasks: ByHand,
    pub(crate) service: Service_,
}

/// Keys are requests below 100; 5 s stale while revalidate, 20 s stale if error.
pub(crate) fn world(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> World {
    let (net, clock, tasks) = (Net::new(), ManualClock::new(), ByHand::default());
    let config = Config::builder().stale_while_revalidate(5 * SECOND);
    let config = change(config.stale_if_error(20 * SECOND)).build().unwrap();
    let store = Store::with_clock(config, clock.clone());
    let key: fn(&u64) -> Option<u64> = |request| (*request < 100).then_some(*request);
    let layer = CacheLayer::new(store.clone(), key, ByRule::new(rule as Rule));
    let service = layer.spawn(tasks.clone()).layer(net.clone());
    World {
        net,
        store,
        clock,
        tasks,
        service,
    }
}

impl World {
    /// The answer of a call that need not wait.
    fn known(&mut self, request: u64) -> Result<String, Error<&'static str>> {
        assert_ready!(task::spawn(self.service.call(request)).poll())
    }

    /// A call that the upstream answers.
    fn asked(&mut self, request: u64, answer: &str) -> String {
        let mut call = task::spawn(self.service.call(request));
        assert_pending!(call.poll());
        assert_eq!(self.net.answer(Ok(answer.to_owned())), request);
        assert_ready!(call.poll()).unwrap()
    }
}

fn same(config: ConfigBuilder) -> ConfigBuilder {
    config
}

#[test]
fn an_answer_is_kept_as_long_as_it_is_fresh() {
    let mut world = world(|config| config.stale_while_revalidate(None).stale_if_error(None));
    assert_eq!(world.asked(1, "one"), "one");
    world.clock.advance(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(world.known(1).unwrap(), "one");
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(world.asked(1, "uno"), "uno");
    assert_eq!(world.known(1).unwrap(), "uno");
    let snapshot = world.store.snapshot();
    assert_eq!(
        (snapshot.hits, snapshot.misses, snapshot.revalidated),
        (2, 1, 1)
    );
    assert_eq!(snapshot.entries, 1);
}

#[test]
fn a_thousand_callers_of_a_cold_cache_make_one_call() {
    let mut world = world(same);
    let mut calls: Vec<_> = (0..1000)
        .map(|_| task::spawn(world.service.call(1)))
        .collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(world.net.total(), 1);
    world.net.answer(Ok("one".to_owned()));
    for call in &mut calls {
        assert_eq!(assert_ready!(call.poll()).unwrap(), "one");
    }
    assert_eq!(world.known(1).unwrap(), "one");
    assert_eq!(world.net.total(), 1);
}

// It looked in vain before another call ended, and came to its turn after it.
#[test]
fn who_looked_too_early_looks_again_before_it_calls() {
    let mut world = world(same);
    let mut late = task::spawn(world.service.call(1));
    // Another service over the same entries, which has calls of its own.
    let key = |request: &u64| Some(*request);
    let layer = CacheLayer::new(world.store.clone(), key, ByRule::new(rule as Rule));
    let mut other_service = layer.layer(world.net.clone());
    let mut other = task::spawn(other_service.call(1));
    assert_pending!(other.poll());
    world.net.answer(Ok("one".to_owned()));
    assert_eq!(assert_ready!(other.poll()).unwrap(), "one");
    assert_eq!(assert_ready!(late.poll()).unwrap(), "one");
    assert_eq!(world.net.total(), 1);
}

#[test]
fn a_stale_entry_is_served_at_once_and_renewed_by_one_call() {
    let mut world = world(same);
    world.asked(1, "old");
    world.clock.advance(12 * SECOND);
    for _ in 0..100 {
        assert_eq!(world.known(1).unwrap(), "old");
    }
    assert_eq!(
        (world.tasks.running(), world.net.total()),
        (1, 1),
        "nobody waits for it"
    );
    world.tasks.run();
    assert_eq!(world.net.total(), 2);
    assert_eq!(world.known(1).unwrap(), "old", "while it is renewed");
    world.net.answer(Ok("new".to_owned()));
    world.tasks.run();
    assert_eq!(world.known(1).unwrap(), "new");
    let snapshot = world.store.snapshot();
    assert_eq!((snapshot.stale_hits, snapshot.revalidations), (101, 1));
    assert_eq!((snapshot.renewing, world.tasks.running()), (0, 0));
}

#[test]
fn a_renewal_that_fails_is_tried_again_after_a_pause() {
    let mut world = world(same);
    world.asked(1, "old");
    world.clock.advance(10 * SECOND);
    for (failures, panics) in [(1, false), (2, true)] {
        assert_eq!(world.known(1).unwrap(), "old");
        world.tasks.run();
        assert_eq!(world.net.running(), 1);
        if panics {
            world.net.panic();
        } else {
            world.net.answer(Err("down")).to_string();
        }
        world.tasks.run();
        for _ in 0..10 {
            assert_eq!(world.known(1).unwrap(), "old");
        }
        assert_eq!(world.tasks.running(), 0, "not at once");
        assert_eq!(world.store.snapshot().revalidations_failed, failures);
        world.clock.advance(SECOND);
    }
    assert_eq!(world.known(1).unwrap(), "old");
    assert_eq!(world.tasks.running(), 1);
}

#[test]
fn a_renewal_that_hangs_blocks_neither_readers_nor_its_key() {
    let flights = coalesce::Config::builder().join_within(3 * SECOND).build();
    let mut world = world(|config| config.max_revalidations(1).coalesce(flights.unwrap()));
    world.asked(1, "old");
    world.asked(2, "two");
    world.clock.advance(10 * SECOND);
    assert_eq!(world.known(1).unwrap(), "old");
    world.tasks.run();
    // As many renewals as may; the other entry is served all the same.
    assert_eq!(world.known(2).unwrap(), "two");
    assert_eq!((world.tasks.running(), world.net.running()), (1, 1));
    world.clock.advance(3 * SECOND);
    assert_eq!(world.known(1).unwrap(), "old");
    world.tasks.run();
    assert_eq!(world.net.total(), 4);
    assert_eq!(
        (world.tasks.running(), world.net.running()),
        (1, 1),
        "the first was given up"
    );
    // When the entry is not served any more, who comes does not wait for one that hangs.
    world.clock.advance(3 * SECOND);
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    assert_eq!(world.net.total(), 5);
    world.net.answer(Ok("late".to_owned()));
    world.net.answer(Ok("new".to_owned()));
    assert_eq!(assert_ready!(call.poll()).unwrap(), "new");
    // What an older call brings does not take the place of what a newer one brought.
    world.tasks.run();
    assert_eq!(world.known(1).unwrap(), "new");
}

#[test]
fn a_stale_entry_stands_in_when_the_upstream_fails() {
    let mut world = world(same);
    world.asked(1, "old");
    world.clock.advance(15 * SECOND);
    let mut calls = [world.service.call(1), world.service.call(1)].map(task::spawn);
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(world.net.total(), 2, "it is asked, once");
    world.net.answer(Err("down"));
    for call in &mut calls {
        assert_eq!(assert_ready!(call.poll()).unwrap(), "old");
    }
    // A panic is a failure as well.
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    world.net.panic();
    assert_eq!(assert_ready!(call.poll()).unwrap(), "old");
    assert_eq!(world.store.snapshot().error_hits, 3);
    // Not for ever: by the time at which the call fails.
    world.clock.advance(15 * SECOND - Duration::from_nanos(1));
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    world.clock.advance(Duration::from_nanos(1));
    world.net.answer(Err("down"));
    assert!(matches!(
        assert_ready!(call.poll()),
        Err(Error::Inner("down"))
    ));
}

#[test]
fn a_refusal_is_a_failure_that_a_stale_entry_stands_in_for() {
    let flights = coalesce::Config::builder().max_followers(0).build();
    let mut world = world(|config| config.coalesce(flights.unwrap()));
    world.asked(1, "old");
    world.clock.advance(15 * SECOND);
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    assert_eq!(world.known(1).unwrap(), "old");
    let _running = task::spawn(world.service.call(2));
    assert!(matches!(world.known(2), Err(Error::Refused(_))));
}

#[test]
fn a_negative_answer_is_kept_for_its_own_time_and_displaces_nothing() {
    let mut world = world(same);
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    world.net.answer(Err("missing"));
    assert!(assert_ready!(call.poll()).is_err());
    assert!(matches!(world.known(1), Err(Error::Inner("missing"))));
    assert_eq!(world.store.snapshot().negative_hits, 1);
    world.clock.advance(2 * SECOND);
    assert_eq!(world.asked(1, "there"), "there");
    // A failure is not kept, whatever the rule says of it; and what stands in stays.
    world.clock.advance(15 * SECOND);
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    world.net.answer(Err("missing"));
    assert_eq!(assert_ready!(call.poll()).unwrap(), "there");
    let mut call = task::spawn(world.service.call(2));
    assert_pending!(call.poll());
    world.net.answer(Err("down"));
    assert!(assert_ready!(call.poll()).is_err());
    assert_eq!(world.asked(2, "two"), "two");
}

#[test]
fn a_newer_answer_that_is_not_kept_takes_the_old_one_along() {
    let mut world = world(same);
    world.asked(1, "old");
    world.clock.advance(12 * SECOND);
    assert_eq!(world.known(1).unwrap(), "old");
    world.tasks.run();
    world.net.answer(Ok("!secret".to_owned()));
    world.tasks.run();
    assert_eq!(world.asked(1, "new"), "new");
}

#[test]
fn requests_without_a_key_pass_by() {
    let mut world = world(same);
    for _ in 0..2 {
        assert_eq!(world.asked(100, "x"), "x");
    }
    let snapshot = world.store.snapshot();
    assert_eq!((snapshot.bypassed, snapshot.entries), (2, 0));
}

#[test]
fn entries_leave_when_they_weigh_too_much_and_leave_no_tag() {
    let most = 20 * (ENTRY + 200);
    let mut world = world(|config| config.max_weight(most));
    let text = "x".repeat(100);
    for request in 0..99 {
        world.asked(request, &format!("tag{request}:{text}"));
        let snapshot = world.store.snapshot();
        assert!(snapshot.weight <= most, "{snapshot:?}");
        assert_eq!(snapshot.tags as u64, snapshot.entries);
        assert_eq!(snapshot.tag_places as u64, snapshot.entries);
    }
    let snapshot = world.store.snapshot();
    assert!(snapshot.entries >= 15, "{snapshot:?}");
    assert_eq!(snapshot.evictions, 99 - snapshot.entries);
    // What is heavier than all is not kept, and nothing leaves for it.
    let giant = "x".repeat(most as usize);
    world.store.invalidate(&98);
    let before = world.store.snapshot().entries;
    world.asked(98, &giant);
    let snapshot = world.store.snapshot();
    assert_eq!((snapshot.entries, snapshot.not_kept), (before, 1));
    world.store.invalidate_all();
    let snapshot = world.store.snapshot();
    assert_eq!((snapshot.entries, snapshot.weight), (0, 0));
    assert_eq!((snapshot.tags, snapshot.tag_places), (0, 0));
}

#[test]
fn a_tag_takes_its_entries_along_and_no_other() {
    let mut world = world(same);
    for (request, answer) in [(1, "a:1"), (2, "a:2"), (3, "b:3"), (4, "4")] {
        world.asked(request, answer);
    }
    assert_eq!(world.store.invalidate_tag("a"), 2);
    assert_eq!(world.store.invalidate_tag("a"), 0);
    assert_eq!(world.known(3).unwrap(), "b:3");
    assert_eq!(world.known(4).unwrap(), "4");
    for request in [1, 2] {
        // Another tag this time: the old one says nothing of it.
        assert_eq!(world.asked(request, "c:new"), "c:new");
    }
    assert_eq!(world.store.invalidate_tag("a"), 0);
    assert_eq!(world.known(1).unwrap(), "c:new");
    let snapshot = world.store.snapshot();
    assert_eq!(
        (snapshot.tags, snapshot.tag_places, snapshot.entries),
        (2, 3, 4)
    );
}

// A value was read, then changed and invalidated, and then the read value was kept: for as long as it
// is fresh.
#[test]
fn what_was_loaded_before_an_invalidation_does_not_come_back_after_it() {
    let ways: [fn(&Store<u64, Answer>); 3] = [
        |store| store.invalidate(&1),
        |store| assert_eq!(store.invalidate_tag("a"), 0),
        |store| store.invalidate_all(),
    ];
    for invalidate in ways {
        let mut world = world(same);
        let mut before = task::spawn(world.service.call(1));
        assert_pending!(before.poll());
        invalidate(&world.store);
        // Who comes after it joins not the call that began before.
        let mut after = task::spawn(world.service.call(1));
        assert_pending!(after.poll());
        assert_eq!(world.net.total(), 2);
        world.net.answer(Ok("a:old".to_owned()));
        assert_eq!(assert_ready!(before.poll()).unwrap(), "a:old");
        let mut third = task::spawn(world.service.call(1));
        assert_pending!(third.poll());
        assert_eq!(world.net.total(), 2, "it joins the second");
        world.net.answer(Ok("a:new".to_owned()));
        assert_eq!(assert_ready!(after.poll()).unwrap(), "a:new");
        assert_eq!(assert_ready!(third.poll()).unwrap(), "a:new");
        assert_eq!(world.known(1).unwrap(), "a:new");
        assert_eq!(world.store.snapshot().remembered, 0);
    }
}

#[test]
fn a_renewal_does_not_bring_back_what_was_invalidated() {
    let mut world = world(same);
    world.asked(1, "a:old");
    world.clock.advance(12 * SECOND);
    assert_eq!(world.known(1).unwrap(), "a:old");
    world.tasks.run();
    assert_eq!(world.store.invalidate_tag("a"), 1);
    world.net.answer(Ok("a:old".to_owned()));
    world.tasks.run();
    assert_eq!(world.asked(1, "a:new"), "a:new");
}

#[test]
fn what_was_invalidated_stands_in_for_nothing() {
    let mut world = world(same);
    world.asked(1, "a:old");
    world.clock.advance(15 * SECOND);
    let mut call = task::spawn(world.service.call(1));
    assert_pending!(call.poll());
    world.store.invalidate_tag("a");
    world.net.answer(Err("down"));
    assert!(assert_ready!(call.poll()).is_err());
}

#[test]
fn a_call_that_all_have_left_is_dropped_and_keeps_nothing() {
    let mut world = world(same);
    let mut calls: Vec<_> = (0..3).map(|_| task::spawn(world.service.call(1))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    world.store.invalidate_tag("a");
    assert_eq!(world.store.snapshot().remembered, 1);
    drop(calls.remove(0));
    assert_eq!(world.net.running(), 1);
    drop(calls);
    assert_eq!(world.net.running(), 0);
    assert_eq!(world.store.snapshot().remembered, 0);
    assert_eq!(world.asked(1, "one"), "one");
}

#[test]
fn what_has_too_many_tags_is_not_kept() {
    let store: Store<u64, Answer> = Store::new(Config::builder().max_tags(2).build().unwrap());
    let (net, key) = (Net::new(), |request: &u64| Some(*request));
    let rules = ByRule::new(|result: Result<&String, &&'static str>| {
        let mut keep = Keep::fresh_for(SECOND);
        for tag in result.map_or("", String::as_str).split(' ') {
            keep = keep.tag(tag);
        }
        keep
    });
    let mut service = CacheLayer::new(store.clone(), key, rules).layer(net.clone());
    for (request, answer, kept) in [(1, "a b", 1), (2, "a b c", 1), (3, "a a a b", 2)] {
        let mut call = task::spawn(service.call(request));
        assert_pending!(call.poll());
        net.answer(Ok(answer.to_owned()));
        assert_ready!(call.poll()).unwrap();
        assert_eq!(store.snapshot().entries, kept, "{answer}");
    }
}

#[test]
fn settings_change_while_entries_stay() {
    let mut world = world(same);
    world.asked(1, "one");
    let longer = Config::builder().stale_while_revalidate(50 * SECOND);
    world.store.set_config(longer.build().unwrap()).unwrap();
    world.asked(2, "two");
    world.clock.advance(40 * SECOND);
    assert_eq!(world.known(2).unwrap(), "two");
    let mut first = task::spawn(world.service.call(1));
    assert_pending!(first.poll());
    let other = Config::builder().max_weight(5).build().unwrap();
    let error = world.store.set_config(other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_weight is 5, allowed: 67108864, as long as the cache lives"
    );
    let back = world.store.downgrade();
    assert!(back().is_some());
    drop(first);
    world.tasks.run();
    drop(world);
    assert!(back().is_none());
}

#[tokio::test]
async fn renewals_run_on_the_runtime_of_the_caller() {
    let (net, clock) = (Net::new(), ManualClock::new());
    let config = Config::builder().stale_while_revalidate(SECOND);
    let store = Store::with_clock(config.build().unwrap(), clock.clone());
    let rules = ByRule::new(|_: Result<&String, &&'static str>| {
        Keep::on(Terms::fresh_for(SECOND).stale_while_revalidate(5 * SECOND))
    });
    let key = |request: &u64| Some(*request);
    let mut service = CacheLayer::new(store.clone(), key, rules).layer(net.clone());
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    net.answer(Ok("old".to_owned()));
    assert_ready!(call.poll()).unwrap();
    clock.advance(SECOND);
    assert_eq!(service.call(1).await.unwrap(), "old");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    net.answer(Ok("new".to_owned()));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(service.call(1).await.unwrap(), "new");
}

#[test]
fn outside_of_a_runtime_a_renewal_is_dropped_and_the_entry_is_served() {
    let (net, clock) = (Net::new(), ManualClock::new());
    let config = Config::builder().stale_while_revalidate(5 * SECOND);
    let store = Store::with_clock(config.build().unwrap(), clock.clone());
    let key = |request: &u64| Some(*request);
    let layer = CacheLayer::new(store.clone(), key, ByRule::new(rule as Rule));
    let mut service = layer.layer(net.clone());
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    net.answer(Ok("old".to_owned()));
    assert_ready!(call.poll()).unwrap();
    clock.advance(10 * SECOND);
    for _ in 0..3 {
        let answer = assert_ready!(task::spawn(service.call(1)).poll());
        assert_eq!(answer.unwrap(), "old");
    }
    assert_eq!((net.total(), store.snapshot().renewing), (1, 0));
}

#[test]
fn threads_that_read_and_invalidate_never_see_what_was_invalidated() {
    use std::sync::atomic::{AtomicU64, Ordering};

    // The truth, which the upstream reads at the beginning of a call and answers later.
    let truth = Arc::new(AtomicU64::new(0));
    let source = Arc::clone(&truth);
    let upstream = tower::service_fn(move |_: u64| {
        let value = source.load(Ordering::SeqCst);
        async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok::<_, &'static str>(value)
        }
    });
    let store = Store::new(Config::default());
    let rules = ByRule::new(|_: Result<&u64, &&'static str>| Keep::fresh_for(SECOND).tag("truth"));
    let key = |request: &u64| Some(*request);
    let service = CacheLayer::new(store.clone(), key, rules).layer(upstream);
    let threads: Vec<_> = (0..3_u64)
        .map(|thread| {
            let (mut service, store, truth) = (service.clone(), store.clone(), Arc::clone(&truth));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.build().unwrap();
                for round in 0..3000 {
                    if thread == 0 && round % 3 == 0 {
                        truth.fetch_add(1, Ordering::SeqCst);
                        match round % 2 {
                            0 => assert!(store.invalidate_tag("truth") <= 1),
                            _ => store.invalidate(&1),
                        }
                    }
                    // Only this thread changes it.
                    let least = truth.load(Ordering::SeqCst);
                    let seen = runtime.block_on(service.call(1)).unwrap();
                    assert!(thread != 0 || seen == least, "{seen} after {least}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let snapshot = store.snapshot();
    assert_eq!(
        (snapshot.remembered, store.coalescing().snapshot().keys),
        (0, 0)
    );
    assert!(snapshot.tag_places as u64 <= snapshot.entries);
}

#[test]
fn hits_allocate_next_to_nothing() {
    let store = Store::new(Config::default());
    let rules = ByRule::new(|_: Result<&u64, &&'static str>| Keep::fresh_for(60 * SECOND).tag("a"));
    let upstream =
        tower::service_fn(|request: u64| std::future::ready(Ok::<_, &'static str>(request)));
    let mut service = CacheLayer::new(store, |request: &u64| Some(*request), rules).layer(upstream);
    let mut context = Context::from_waker(Waker::noop());
    let mut thousand = || {
        allocation_counter::measure(|| {
            for request in 0..1000 {
                let call = std::pin::pin!(service.call(request % 4));
                assert!(call.poll(&mut context).is_ready());
            }
        })
    };
    // The first calls make the entries, and what a thread keeps for reading them.
    thousand();
    // What moka makes of a batch of reads.
    let allocations = thousand().count_total;
    assert!(allocations <= 16, "{allocations}");
}

/// A thousand callers of ten keys come within 200 ms to an upstream that takes 100 ms.
#[tokio::test(start_paused = true)]
async fn a_cold_cache_asks_its_upstream_once_for_each_key() {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use resilience_tower::coalesce::{CoalesceLayer, Coalescing};
    use tokio::time::sleep;
    use tower::{ServiceExt, service_fn};

    const MICROS: Duration = Duration::from_micros(200);
    let calls = AtomicUsize::new(0);
    let upstream = |calls: &'static AtomicUsize| {
        service_fn(move |key: u64| async move {
            calls.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(100)).await;
            Ok::<_, &'static str>(key)
        })
    };
    let calls: &'static AtomicUsize = Box::leak(Box::new(calls));
    let counted = || calls.swap(0, Ordering::Relaxed);
    let callers = || (0..1000_u32).map(|at| (at * MICROS, u64::from(at % 10)));

    let bare = upstream(calls);
    join_all(callers().map(async |(at, key)| {
        sleep(at).await;
        bare.oneshot(key).await
    }))
    .await;
    let without = counted();

    // Looks, calls, keeps.
    let known = Mutex::new(HashSet::new());
    join_all(callers().map(async |(at, key)| {
        sleep(at).await;
        if !known.lock().contains(&key) {
            bare.oneshot(key).await.unwrap();
            known.lock().insert(key);
        }
    }))
    .await;
    let plain = counted();

    let key = |request: &u64| Some(*request);
    let shared = CoalesceLayer::new(Coalescing::default(), key).layer(upstream(calls));
    join_all(callers().map(async |(at, key)| {
        sleep(at).await;
        shared.clone().oneshot(key).await
    }))
    .await;
    let coalesced = counted();

    let rules = ByRule::new(|_: Result<&u64, &&'static str>| Keep::fresh_for(60 * SECOND));
    let layer = CacheLayer::new(Store::new(Config::default()), key, rules);
    let cached = layer.layer(upstream(calls));
    join_all(callers().map(async |(at, key)| {
        sleep(at).await;
        cached.clone().oneshot(key).await
    }))
    .await;
    assert_eq!((without, coalesced, counted()), (1000, 20, 10));
    assert!((500..=510).contains(&plain), "{plain}");
}
