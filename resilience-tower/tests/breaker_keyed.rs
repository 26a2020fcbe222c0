//! A breaker per key: who shares one, and what becomes of keys that do not fit.
#![cfg(feature = "breaker")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use resilience_core::breaker::{CircuitBreaker, Config, Mode, Registry, Rejected, State};
use resilience_core::breaker::{OwnedPermit, Reason};
use resilience_tower::breaker::{Breaker, BreakerLayer, Error, Keyed, OnFull, Permits};
use tokio_test::{assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A host and how it answers.
type Request = (&'static str, Result<(), &'static str>);

const WORKS: Result<(), &str> = Ok(());
const DOWN: Result<(), &str> = Err("down");

fn registry(max: usize) -> Registry<String> {
    let config = Config::builder()
        .consecutive_failures(Some(1))
        .reset_timeout(Duration::from_secs(3_600))
        .build();
    Registry::builder(config.unwrap()).max(max).build()
}

fn host(request: &Request) -> String {
    request.0.to_owned()
}

type Upstream = fn(Request) -> Ready<Result<(), &'static str>>;
type Hosts = Breaker<
    tower::util::ServiceFn<Upstream>,
    resilience_tower::breaker::OnResult<resilience_core::breaker::ResultClassifier>,
    Keyed<String, fn(&Request) -> String>,
>;

fn hosts(registry: &Registry<String>, on_full: OnFull) -> Hosts {
    let upstream: Upstream = |(_, answer)| ready(answer);
    BreakerLayer::keyed(registry.clone(), on_full, host as fn(&Request) -> String)
        .layer(service_fn(upstream))
}

fn call(hosts: &Hosts, request: Request) -> Result<(), Error<&'static str>> {
    let mut call = task::spawn(hosts.clone().oneshot(request));
    assert_ready!(call.poll())
}

fn refusal(result: Result<(), Error<&'static str>>) -> Rejected {
    match result {
        Err(Error::Rejected(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

#[test]
fn one_key_opens_for_itself_alone() {
    let registry = registry(10);
    let hosts = hosts(&registry, OnFull::Refuse);
    call(&hosts, ("a", DOWN)).unwrap_err();
    assert_eq!(refusal(call(&hosts, ("a", WORKS))).name(), "a");
    call(&hosts, ("b", WORKS)).unwrap();
    assert_eq!(registry.len(), 2);
    assert_eq!(registry.get("a").unwrap().state(), State::Open);
    assert_eq!(hosts.permits().overflow().snapshot().rejected, 0);
}

/// A registry of one, whose breaker is open: it cannot go.
fn full() -> Registry<String> {
    let registry = registry(1);
    let open = registry.get("a").unwrap();
    open.try_acquire().unwrap().failure();
    registry
}

#[test]
fn a_key_that_does_not_fit_is_refused_if_so_chosen() {
    let hosts = hosts(&full(), OnFull::Refuse);
    let refused = refusal(call(&hosts, ("b", WORKS)));
    assert_eq!(refused.name(), "overflow");
    assert_eq!(refused.reason(), Reason::ForcedOpen);
    assert_eq!(refused.retry_after(), Duration::from_secs(3_600));
    assert_eq!(hosts.permits().overflow().snapshot().rejected, 1);
}

#[test]
fn a_key_that_does_not_fit_is_called_unguarded_if_so_chosen() {
    let hosts = hosts(&full(), OnFull::Admit);
    for _ in 0..100 {
        assert!(matches!(
            call(&hosts, ("b", DOWN)),
            Err(Error::Inner("down"))
        ));
    }
    call(&hosts, ("c", WORKS)).unwrap();
    // The open one is still refused.
    assert_eq!(refusal(call(&hosts, ("a", WORKS))).name(), "a");
}

#[test]
fn keys_that_do_not_fit_share_one_breaker_if_so_chosen() {
    let hosts = hosts(&full(), OnFull::Share);
    call(&hosts, ("b", WORKS)).unwrap();
    call(&hosts, ("b", DOWN)).unwrap_err();
    let refused = refusal(call(&hosts, ("c", WORKS)));
    assert_eq!(
        (refused.name(), refused.reason()),
        ("overflow", Reason::Open)
    );
}

#[test]
fn the_choice_can_be_changed_while_calls_run() {
    let hosts = hosts(&full(), OnFull::Refuse);
    let clone = hosts.clone();
    assert_eq!(refusal(call(&clone, ("b", WORKS))).name(), "overflow");
    hosts.permits().overflow().set_mode(Mode::Disabled);
    call(&clone, ("b", WORKS)).unwrap();
}

#[test]
fn a_mode_set_on_the_registry_holds_for_keys_that_do_not_fit_as_well() {
    for on_full in [OnFull::Refuse, OnFull::Admit, OnFull::Share] {
        let registry = full();
        let hosts = hosts(&registry, on_full);
        registry.set_mode(Mode::ForcedOpen);
        let refused = refusal(call(&hosts, ("b", WORKS)));
        assert_eq!(refused.reason(), Reason::ForcedOpen, "{on_full:?}");
        for mode in [Mode::Disabled, Mode::ForcedClosed] {
            registry.set_mode(mode);
            call(&hosts, ("b", WORKS)).unwrap();
        }
    }
}

/// Tells by the request which breaker guards it, and that some have none.
#[derive(Clone)]
struct Chosen(CircuitBreaker);

impl Permits<bool> for Chosen {
    fn try_acquire(&self, guarded: &bool) -> Result<Option<OwnedPermit>, Rejected> {
        guarded.then(|| self.0.try_acquire_owned()).transpose()
    }
}

#[test]
fn a_request_without_a_breaker_is_neither_refused_nor_counted() {
    let breaker = CircuitBreaker::new("payments");
    breaker.set_mode(Mode::ForcedOpen);
    let inner = service_fn(|_: bool| ready(Ok::<_, Infallible>("answer")));
    let mut service = BreakerLayer::from_permits(Chosen(breaker.clone())).layer(inner);
    let mut guarded = task::spawn(service.call(true));
    assert!(matches!(
        assert_ready!(guarded.poll()),
        Err(Error::Rejected(_))
    ));
    let mut free = task::spawn(service.call(false));
    assert_eq!(assert_ready!(free.poll()).unwrap(), "answer");
    assert_eq!(breaker.snapshot().rejected, 1);
}
