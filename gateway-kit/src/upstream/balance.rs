//! The endpoints that one request is tried at, one after the other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use resilience_core::balance::{Criteria, EndpointId, Pick, Reason, hash_key};
use resilience_core::breaker::{Outcome, OwnedPermit};

use crate::config::{BalanceStrategy, HashKey};
use crate::upstream::{Endpoint, Upstream};

impl Upstream {
    /// The endpoints for a request of this key; see [`key`](Self::key).
    pub(crate) const fn picks(&self, key: Option<u64>) -> Picks<'_> {
        Picks {
            upstream: self,
            key,
            tried: Vec::new(),
            last: None,
            wait: None,
        }
    }

    /// What keeps requests together under `consistent_hash`; `None` with other strategies, and
    /// where the request lacks it.
    pub(crate) fn key(&self, headers: &HeaderMap, client: IpAddr, path: &str) -> Option<u64> {
        let balance = self.settings.balance.on()?;
        match balance.strategy {
            BalanceStrategy::ConsistentHash => hash(&balance.key, headers, client, path),
            _ => None,
        }
    }
}

/// The hash of what `key` names in a request, if it is there.
pub(crate) fn hash(key: &HashKey, headers: &HeaderMap, client: IpAddr, path: &str) -> Option<u64> {
    match key {
        HashKey::Address => Some(match client.to_canonical() {
            IpAddr::V4(v4) => hash_key(&v4.octets()),
            IpAddr::V6(v6) => hash_key(&v6.octets()),
        }),
        HashKey::Path => Some(hash_key(path.as_bytes())),
        HashKey::Header(name) => headers
            .get(name.name())
            .map(|value| hash_key(value.as_bytes())),
        HashKey::Cookie(name) => cookie(headers, name).map(hash_key),
    }
}

/// The value of the first cookie of that name (RFC 6265, section 4.2.1).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let fields = headers.get_all(header::COOKIE).iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| cookie_of(pair, name))
}

/// The value of a pair `name=value` of that name.
pub(crate) fn cookie_of<'h>(pair: &'h [u8], name: &str) -> Option<&'h [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
    value.strip_prefix(b"=")
}

/// The endpoints for one request, in the order in which it is to try them.
#[derive(Debug)]
pub(crate) struct Picks<'u> {
    upstream: &'u Upstream,
    key: Option<u64>,
    /// Those before the last: a request that succeeds at once allocates nothing.
    tried: Vec<EndpointId>,
    last: Option<EndpointId>,
    /// The least wait that a breaker asked for.
    wait: Option<Duration>,
}

/// Why there is no further endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Nobody {
    /// The breakers of all that were not tried refuse; the first lets a call through after this.
    Open(Duration),
    /// All were tried.
    Tried,
    /// No endpoint takes requests.
    None(Reason),
}

impl Picks<'_> {
    /// The next endpoint, with a permit of its breaker; never one that was tried before.
    ///
    /// An endpoint whose breaker refuses is passed over: that says nothing new about it.
    pub(crate) fn next(&mut self) -> Result<Picked, Nobody> {
        loop {
            self.tried.extend(self.last.take());
            let mut criteria = Criteria::default().excluding(&self.tried);
            if let Some(key) = self.key {
                criteria = criteria.key(key);
            }
            let picked = self.upstream.service.balancer.pick_by(criteria);
            let pick = picked.map_err(|nobody| Nobody::None(nobody.reason))?;
            if self.tried.contains(&pick.id()) {
                pick.pass_over();
                return self.ejected();
            }
            if let Some(picked) = self.admit(pick) {
                return Ok(picked);
            }
        }
    }

    /// All others were tried, or are given time by their breakers: rather one that is ejected
    /// than none, beginning with the one whose time ends first.
    #[cold]
    fn ejected(&mut self) -> Result<Picked, Nobody> {
        let balancer = &self.upstream.service.balancer;
        let mut ejected = balancer.snapshot().endpoints;
        ejected.retain(|one| {
            one.ejected_for.is_some() && one.weight > 0 && !self.tried.contains(&one.id)
        });
        ejected.sort_by_key(|one| one.ejected_for);
        for one in ejected {
            self.tried.extend(self.last.take());
            let pick = balancer.pick_endpoint(one.id);
            if let Some(picked) = pick.and_then(|pick| self.admit(pick)) {
                return Ok(picked);
            }
        }
        Err(self.wait.map_or(Nobody::Tried, Nobody::Open))
    }

    /// Asks the breaker of an endpoint, which is then tried.
    fn admit(&mut self, pick: Pick<Arc<Endpoint>>) -> Option<Picked> {
        self.last = Some(pick.id());
        let endpoint = pick.value();
        match endpoint.breaker.try_acquire_owned() {
            Ok(permit) => {
                let permit = Some(permit);
                Some(Picked { pick, permit })
            }
            Err(rejected) => {
                endpoint.metrics.breaker.rejected.increment(1);
                let wait = rejected.retry_after();
                self.wait = Some(self.wait.map_or(wait, |least| least.min(wait)));
                pick.pass_over();
                None
            }
        }
    }

    /// Forgets what was tried, so that a further try may go there again.
    pub(crate) fn again(&mut self) {
        self.tried.clear();
        self.last = None;
        self.wait = None;
    }
}

/// An endpoint for one attempt: in flight there until this is dropped. Dropped without an outcome
/// the attempt was given up, which breaker and balancer judge by their settings.
#[derive(Debug)]
#[must_use]
pub(crate) struct Picked {
    pick: Pick<Arc<Endpoint>>,
    // `None` once the outcome is told.
    permit: Option<OwnedPermit>,
}

impl Picked {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.pick.value()
    }

    /// Tells the breaker and the balancer how the attempt ended; its latency is the time until
    /// now. Only the first outcome counts.
    pub(crate) fn record(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.record(outcome);
            self.pick.record(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use resilience_core::breaker::Mode;
    use resilience_core::clock::{ManualClock, SharedClock};

    use super::*;
    use crate::config::Config;
    use crate::shared::Shared;
    use crate::snapshot::Snapshot;

    /// Endpoints `a:1` and `b:1` in turn.
    fn two() -> Arc<Upstream> {
        of("breaker = { failure_rate = \"off\", consecutive_failures = 1000 }\n").0
    }

    /// The same with these settings.
    fn of(settings: &str) -> (Arc<Upstream>, ManualClock) {
        let text =
            format!("[upstream.shop]\nendpoints = [\"http://a:1\", \"http://b:1\"]\n{settings}");
        let config = Config::from_toml(&text).unwrap();
        let clock = ManualClock::new();
        let shared = Shared::new(SharedClock::new(clock.clone()));
        let snapshot = Snapshot::compile(&config, &shared).unwrap();
        snapshot.attach(&config, &shared);
        (Arc::clone(&snapshot.upstreams["shop"]), clock)
    }

    fn next(picks: &mut Picks<'_>) -> Result<(String, Picked), Nobody> {
        let picked = picks.next()?;
        Ok((picked.endpoint().address.clone(), picked))
    }

    #[tokio::test]
    async fn no_endpoint_is_given_twice_before_all_is_forgotten() {
        let upstream = two();
        let mut picks = upstream.picks(None);
        let (first, _one) = next(&mut picks).unwrap();
        let (second, _other) = next(&mut picks).unwrap();
        assert_ne!(first, second);
        assert_eq!(picks.next().unwrap_err(), Nobody::Tried);
        assert_eq!(picks.next().unwrap_err(), Nobody::Tried);
        picks.again();
        assert!(picks.next().is_ok());
    }

    #[tokio::test]
    async fn an_ejected_endpoint_is_asked_when_the_breakers_of_all_others_refuse() {
        let upstream = two();
        let endpoints = upstream.service.endpoints();
        while upstream.service.views()[1].known.ejected_for.is_none() {
            let (address, mut picked) = next(&mut upstream.picks(None)).unwrap();
            let outcome = if address == "b:1" {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            picked.record(outcome);
        }
        for _ in 0..4 {
            assert_eq!(next(&mut upstream.picks(None)).unwrap().0, "a:1");
        }
        endpoints[0].breaker.set_mode(Mode::ForcedOpen);
        let mut picks = upstream.picks(None);
        assert_eq!(next(&mut picks).unwrap().0, "b:1");
        assert!(matches!(picks.next().unwrap_err(), Nobody::Open(_)));
        endpoints[1].breaker.set_mode(Mode::ForcedOpen);
        for _ in 0..10 {
            assert!(upstream.picks(None).next().is_err());
        }
        assert!(matches!(
            upstream.picks(None).next().unwrap_err(),
            Nobody::Open(_)
        ));
        // Refusals are no calls: nobody is in flight, and no failure was added.
        let views = upstream.service.views();
        assert!(views.iter().all(|view| view.known.in_flight == 0));
        assert_eq!(views[1].known.failures, 5);
        assert_eq!(views[0].known.failures, 0);
        assert!(views[0].known.ejected_for.is_none());
    }

    #[tokio::test]
    async fn a_drained_endpoint_is_not_asked_because_it_is_ejected() {
        let upstream = two();
        while upstream.service.views()[1].known.ejected_for.is_none() {
            let (address, mut picked) = next(&mut upstream.picks(None)).unwrap();
            picked.record(match &*address {
                "b:1" => Outcome::Failure,
                _ => Outcome::Success,
            });
        }
        upstream.service.endpoints()[0]
            .breaker
            .set_mode(Mode::ForcedOpen);
        assert_eq!(next(&mut upstream.picks(None)).unwrap().0, "b:1");
        assert!(upstream.service.set_weight("b:1", 0));
        assert!(upstream.service.views()[1].known.ejected_for.is_some());
        let refused = upstream.picks(None).next().unwrap_err();
        assert!(matches!(refused, Nobody::Open(_)), "{refused:?}");
    }

    #[tokio::test]
    async fn the_first_breaker_that_lets_a_call_through_says_how_long_to_wait() {
        let breaker = "{ failure_rate = \"off\", consecutive_failures = 1, reset_timeout = \"30s\", jitter = 0 }";
        let (upstream, clock) = of(&format!("ejection = false\nbreaker = {breaker}\n"));
        for wait in [5, 1] {
            let (_, mut picked) = next(&mut upstream.picks(None)).unwrap();
            picked.record(Outcome::Failure);
            clock.advance(Duration::from_secs(wait));
        }
        // One has 24 s left, the other 29 s, whoever is asked first.
        for _ in 0..2 {
            let refused = upstream.picks(None).next().unwrap_err();
            assert_eq!(refused, Nobody::Open(Duration::from_secs(24)));
        }
    }

    #[tokio::test]
    async fn only_the_first_outcome_counts_and_a_call_given_up_is_none() {
        let upstream = two();
        let mut picked = upstream.picks(None).next().unwrap();
        picked.record(Outcome::Success);
        picked.record(Outcome::Failure);
        let endpoint = Arc::clone(picked.endpoint());
        assert_eq!(upstream.service.views()[0].known.in_flight, 1);
        drop(picked);
        drop(upstream.picks(None).next().unwrap());
        let known: Vec<_> = upstream
            .service
            .views()
            .into_iter()
            .map(|view| view.known)
            .collect();
        let counts = known
            .iter()
            .map(|one| (one.successes, one.failures, one.in_flight));
        assert_eq!(counts.collect::<Vec<_>>(), [(1, 0, 0), (0, 0, 0)]);
        assert_eq!(endpoint.breaker.snapshot().failures, 0);
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "xsid=1; sid2=2".parse().unwrap());
        assert_eq!(cookie(&headers, "sid"), None);
        headers.append(
            header::COOKIE,
            "a=b;  sid=abc=; sid=second".parse().unwrap(),
        );
        assert_eq!(cookie(&headers, "sid"), Some(&b"abc="[..]));
        assert_eq!(cookie(&headers, "a"), Some(&b"b"[..]));
    }

    #[test]
    fn an_address_is_one_key_in_both_notations() {
        let headers = HeaderMap::new();
        let key = |text: &str| hash(&HashKey::Address, &headers, text.parse().unwrap(), "/");
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
