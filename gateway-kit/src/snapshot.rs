//! One configuration, compiled: immutable, read without a lock by every request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::config::{AccessLogConfig, Config, Network, ServerConfig, TraceConfig, UpstreamConfig};
use crate::guard::Guard;
use crate::headers::Origin;
use crate::policy::Policies;
use crate::policy::identity::Identity;
use crate::route::{Route, Table};
use crate::server::Downstream;
use crate::shared::Shared;
use crate::upstream::Upstream;

/// What a request needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) table: Table,
    /// In the order of the configuration.
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
    /// For requests without a route; those of a route are with the route.
    pub(crate) policies: Policies,
    pub(crate) identity: Identity,
    pub(crate) body_timeout: Duration,
    pub(crate) trace: Option<TraceConfig>,
    /// Where spans go.
    #[cfg(feature = "otel")]
    pub(crate) otel: Option<Arc<crate::otel::Export>>,
    pub(crate) access_log: Option<AccessLogConfig>,
    pub(crate) guard: Guard,
    /// For connections that begin while this snapshot is the current one.
    pub(crate) server: Arc<ServerConfig>,
    trusted: Vec<Network>,
    /// `None`: the admin is off.
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<crate::admin::Access>,
}

impl Snapshot {
    /// Compiles `config`. What runs by an earlier snapshot goes on as it was until
    /// [`attach`](Self::attach).
    pub(crate) fn compile(config: &Config, shared: &Shared) -> Result<Self, Error> {
        let upstream = |(name, settings): (&String, &UpstreamConfig)| {
            let upstream = Upstream {
                name: name.clone(),
                settings: settings.clone(),
                service: shared.service(name),
            };
            (name.clone(), Arc::new(upstream))
        };
        let upstreams: BTreeMap<_, _> = config.upstreams.iter().map(upstream).collect();
        let policies = Policies::compile(config, shared)?;
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let upstream = |name: &str| {
                upstreams.get(name).cloned().ok_or_else(|| {
                    Error::Settings(format!("route {} names no upstream", route.prefix))
                })
            };
            let targets = route.upstreams().map(upstream).collect::<Result<_, _>>()?;
            let split = (!route.split.is_empty()).then(|| shared.split(&route.label()));
            let own = policies.of_route(route, shared)?;
            let compiled = Route::new(route, targets, split, own);
            routes.push((route, Arc::new(compiled)));
        }
        let table = Table::new(&routes).map_err(Error::Settings)?;
        let routes = routes.into_iter().map(|(_, route)| route).collect();
        let extra = config.server.extra_methods.iter();
        let extra = extra.filter_map(|method| method.parse().ok());
        // What a route asks for by name is known.
        let named = config.routes.iter().flat_map(|route| &route.methods);
        let methods = extra.chain(named.map(|method| method.method().clone()));
        Ok(Self {
            table,
            routes,
            upstreams,
            policies,
            identity: Identity::of(config),
            body_timeout: config.server.body_timeout,
            trace: config.trace.on().copied(),
            #[cfg(feature = "otel")]
            otel: match &config.otel {
                Some(otel) => Some(crate::otel::Export::compile(otel, shared)?),
                None => None,
            },
            access_log: config.access_log.on().copied(),
            guard: Guard::new().with_methods(methods),
            server: Arc::new(config.server.clone()),
            trusted: config.trusted_proxies.clone(),
            #[cfg(feature = "admin")]
            admin: crate::admin::Access::compile(config.admin.as_ref())?,
        })
    }

    /// Puts the `config` that this was compiled from in force: endpoints that stay keep what is
    /// known of them, also where their settings change, and those gone get no new requests.
    pub(crate) fn attach(&self, config: &Config, shared: &Shared) {
        let services = self.upstreams.values();
        let services: Vec<_> = services.map(|one| Arc::clone(&one.service)).collect();
        let splits = self.routes.iter();
        let splits: Vec<_> = splits.filter_map(|route| route.split.clone()).collect();
        shared.attach(config, &services, &splits);
        #[cfg(feature = "cache")]
        shared.attach_store(config, self.policies.store.as_ref());
        #[cfg(feature = "otel")]
        shared.otel.lock().clone_from(&self.otel);
        let routes = self.routes.iter().map(|route| &route.policies);
        Policies::attach(std::iter::once(&self.policies).chain(routes), shared);
    }

    /// The policies of a route, or those for requests without one.
    pub(crate) fn policies_of<'p>(&'p self, route: Option<&'p Arc<Route>>) -> &'p Policies {
        route.map_or(&self.policies, |route| &route.policies)
    }

    pub(crate) fn origin(&self, downstream: &Downstream) -> Origin {
        let peer = downstream.peer.ip();
        Origin {
            peer,
            address: downstream.address.clone(),
            trusted: self.is_trusted(peer),
            scheme: if downstream.tls { "https" } else { "http" },
        }
    }

    /// The client's address as far as it can be believed.
    #[cfg(feature = "admin")]
    pub(crate) fn client(&self, headers: &http::HeaderMap, downstream: Downstream) -> IpAddr {
        let origin = self.origin(&downstream);
        crate::headers::client_address(headers, &origin, |address| self.is_trusted(address))
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use resilience_core::breaker::{Mode, State};
    use resilience_core::clock::{ManualClock, SharedClock};

    use super::*;
    use crate::upstream::View;

    const CONFIG: &str = "[[route]]\nprefix = \"/\"\nupstream = \"shop\"\n\
        [upstream.shop]\nendpoints = [\"http://a:1\", \"http://b:1\"]\n";

    /// A gateway's state with a configuration in force.
    fn running(text: &str) -> (Shared, Snapshot) {
        let clock = SharedClock::new(ManualClock::new());
        let shared = Shared::new(clock);
        let snapshot = put(&shared, text);
        (shared, snapshot)
    }

    fn put(shared: &Shared, text: &str) -> Snapshot {
        let config = Config::from_toml(text).unwrap();
        let snapshot = Snapshot::compile(&config, shared).unwrap();
        snapshot.attach(&config, shared);
        snapshot
    }

    fn views(snapshot: &Snapshot) -> Vec<View> {
        snapshot.upstreams["shop"].service.views()
    }

    #[tokio::test]
    async fn what_stays_keeps_all_that_is_known_of_it() {
        let (shared, before) = running(CONFIG);
        let [a, b] = <[View; 2]>::try_from(views(&before)).unwrap();
        a.endpoint.breaker.set_mode(Mode::ForcedOpen);
        let upstream = &before.upstreams["shop"];
        for _ in 0..4 {
            let mut picked = upstream.picks(None).next().unwrap();
            picked.record(resilience_core::breaker::Outcome::Success);
        }
        let running = upstream.picks(None).next().unwrap();
        assert_eq!(running.endpoint().address, "b:1");

        let next = CONFIG.replace("\"http://a:1\", ", "\"http://c:1\", \"http://a:1\", ")
            + "balance = { strategy = \"peak_ewma\" }\nbreaker = { consecutive_failures = 7 }\n";
        let after = put(&shared, &next);
        let views = views(&after);
        let addresses: Vec<_> = views.iter().map(|one| &*one.endpoint.address).collect();
        assert_eq!(addresses, ["c:1", "a:1", "b:1"]);
        assert!(Arc::ptr_eq(&views[1].endpoint, &a.endpoint));
        assert!(Arc::ptr_eq(&views[2].endpoint, &b.endpoint));
        assert_eq!(a.endpoint.breaker.state(), State::Open);
        assert!(!views[1].is_up() && views[2].is_up());
        assert_eq!(a.endpoint.breaker.config().consecutive_failures(), Some(7));
        assert_eq!(views[2].known.successes, 4);
        assert_eq!(views[2].known.in_flight, 1);
        assert!(views[2].known.latency.is_some());
        // The earlier snapshot goes by the same.
        assert_eq!(before.upstreams["shop"].service.views().len(), 3);
        drop(running);
    }

    #[tokio::test]
    async fn settings_of_connections_give_a_new_pool_and_nothing_else() {
        let (shared, before) = running(CONFIG);
        let old = views(&before).remove(0).endpoint;
        old.breaker.set_mode(Mode::ForcedOpen);
        let after = put(&shared, &(CONFIG.to_owned() + "connect_timeout = \"7s\"\n"));
        let new = views(&after).remove(0).endpoint;
        assert!(!Arc::ptr_eq(&old.pool, &new.pool));
        assert_eq!(new.breaker.state(), State::Open);
        assert!(Arc::ptr_eq(&old.metrics, &new.metrics));
    }

    #[tokio::test]
    async fn what_goes_is_let_go_when_nobody_uses_it() {
        let (shared, before) = running(CONFIG);
        let gone = Arc::downgrade(&views(&before)[0].endpoint);
        let service = Arc::downgrade(&before.upstreams["shop"].service);
        let running = before.upstreams["shop"].picks(None).next().unwrap();
        assert_eq!(running.endpoint().address, "a:1");
        let next = CONFIG.replace("\"http://a:1\", ", "");
        drop(before);
        let after = put(&shared, &next);
        assert_eq!(views(&after).len(), 1);
        assert!(gone.upgrade().is_some());
        drop(running);
        assert!(gone.upgrade().is_none());
        let other = next.replace("shop", "basket");
        drop(after);
        put(&shared, &other);
        assert!(service.upgrade().is_none());
    }

    #[tokio::test]
    async fn a_configuration_that_fails_leaves_all_as_it_was() {
        let (shared, before) = running(CONFIG);
        let next = CONFIG.replace("http://b:1", "http://c:1") + "breaker = { minimum_calls = 5 }\n";
        let mut config = Config::from_toml(&next).unwrap();
        config.routes[0].upstream = Some("nobody".to_owned());
        assert!(Snapshot::compile(&config, &shared).is_err());
        let views = views(&before);
        let addresses: Vec<_> = views.iter().map(|one| &*one.endpoint.address).collect();
        assert_eq!(addresses, ["a:1", "b:1"]);
        let breaker = views[0].endpoint.breaker.config();
        assert_ne!(breaker.minimum_calls(), 5);
    }

    #[tokio::test]
    async fn a_weight_set_at_run_time_holds_until_the_configured_one_changes() {
        let (shared, before) = running(CONFIG);
        assert!(before.upstreams["shop"].service.set_weight("a:1", 0));
        let weight = |snapshot: &Snapshot| views(snapshot)[0].known.weight;
        assert_eq!(weight(&before), 0);
        let after = put(&shared, &(CONFIG.to_owned() + "max_idle = 1\n"));
        assert_eq!(weight(&after), 0);
        let other = CONFIG.replace("\"http://a:1\"", "{ url = \"http://a:1\", weight = 2 }");
        assert_eq!(weight(&put(&shared, &other)), 2);
        // It does not come back by itself.
        let after = put(&shared, CONFIG);
        assert_eq!(weight(&after), 1);
        // Nor does it wait for an endpoint that goes.
        assert!(after.upstreams["shop"].service.set_weight("a:1", 0));
        put(&shared, &CONFIG.replace("\"http://a:1\", ", ""));
        assert_eq!(weight(&put(&shared, CONFIG)), 1);
    }

    #[tokio::test]
    async fn an_endpoint_that_is_unhealthy_stays_so_when_its_checks_change() {
        let health = "health = { interval = \"1h\", initial = \"unhealthy\" }\n";
        let (shared, before) = running(&(CONFIG.to_owned() + health));
        assert!(views(&before).iter().all(|one| !one.known.healthy));
        let other = "health = { interval = \"2h\" }\n";
        let after = put(&shared, &(CONFIG.to_owned() + other));
        assert!(views(&after).iter().all(|one| !one.known.healthy));
        // Without checks nobody would find out.
        let after = put(&shared, CONFIG);
        assert!(views(&after).iter().all(|one| one.known.healthy));
    }

    const LIMIT: &str = "[rate_limit]\nrequests = 1\nwindow = \"1m\"\n";

    fn admits(policies: &Policies) -> bool {
        let client = IpAddr::from([192, 0, 2, 1]);
        policies
            .limits
            .as_ref()
            .unwrap()
            .check_address(client)
            .is_ok()
    }

    #[tokio::test]
    async fn buckets_outlive_a_configuration_and_quotas_change_with_it() {
        let (shared, before) = running(&(CONFIG.to_owned() + LIMIT));
        assert!(admits(&before.policies) && !admits(&before.policies));
        let next = CONFIG.to_owned() + &LIMIT.replace("1m", "2m");
        let after = Snapshot::compile(&Config::from_toml(&next).unwrap(), &shared).unwrap();
        let quota = || shared.limiters.get("address").unwrap().quota();
        // A configuration that is not put in force changes nothing.
        assert_eq!(quota().fill_time(), Duration::from_secs(60));
        after.attach(&Config::from_toml(&next).unwrap(), &shared);
        assert_eq!(quota().fill_time(), Duration::from_secs(120));
        assert!(!admits(&after.policies) && !admits(&after.routes[0].policies));
        put(&shared, CONFIG);
        assert!(shared.limiters.get("address").is_none());
    }

    #[tokio::test]
    async fn a_route_shares_the_policies_of_all_unless_it_has_its_own_or_none() {
        let route =
            |own: &str| CONFIG.replace("[upstream.shop]", &format!("{own}\n[upstream.shop]"));
        let own = "rate_limit = { requests = 1 }";
        let (shared, snapshot) = running(&(route(own) + LIMIT));
        assert!(admits(&snapshot.policies) && !admits(&snapshot.policies));
        assert!(admits(&snapshot.routes[0].policies));
        let mut names = shared.limiters.all();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(names[0].name, "//address");
        assert_eq!(names[1].name, "address");
        let snapshot = put(&shared, &(route("rate_limit = false") + LIMIT));
        assert!(snapshot.routes[0].policies.limits.is_none());
        assert!(!admits(&snapshot.policies));
    }
}
