//! Every operation there is.

use std::sync::LazyLock;
use std::time::Duration;

use http::{Method, StatusCode};
use resilience_core::breaker::Mode;
use resilience_core::bulkhead;
use resilience_core::rate_limit::Quota;
use serde_json::{Value, json};

use super::api::{Asked, Operation, Reply, Shape, document};
use super::samples;
use super::types::{self, BreakerAction};
use crate::config::EndpointConfig;
use crate::handle::{EndpointState, UpstreamState};
use crate::problem::Problem;
use crate::reload::{ReloadReport, ReloadTrigger};
use crate::upstream::service::RegisterError;

const NO_SERVICE: (StatusCode, &str) = (StatusCode::NOT_FOUND, "There is no such service.");
const NO_ENDPOINT: (StatusCode, &str) = (
    StatusCode::NOT_FOUND,
    "There is no such service, or it has no such endpoint.",
);
const NOT_TOGETHER: (StatusCode, &str) = (
    StatusCode::UNPROCESSABLE_ENTITY,
    "The values do not go together.",
);

/// The table; in the order of the document.
pub(super) fn all() -> &'static [Operation] {
    static ALL: LazyLock<Vec<Operation>> = LazyLock::new(|| {
        vec![
            read::<types::Status>("/admin/status", "status", "The gateway as a whole", status),
            read::<types::Services>(
                "/admin/services",
                "services",
                "All services with their endpoints",
                services,
            ),
            read::<types::LoadBalancer>(
                "/admin/loadbalancer/{service}",
                "loadbalancer",
                "The endpoints of a service, as its balancer knows them",
                loadbalancer,
            )
            .refuses(&[NO_SERVICE]),
            read::<types::Breakers>(
                "/admin/circuitbreaker/{service}",
                "circuitbreaker",
                "The circuit breakers of a service",
                circuitbreaker,
            )
            .refuses(&[NO_SERVICE]),
            read::<types::Routes>("/admin/routes", "routes", "All routes", routes),
            read::<types::Limits>("/admin/limits", "limits", "All limits", limits),
            read::<types::Samples>(
                "/admin/metrics",
                "metrics",
                "All series of the metrics",
                metrics,
            ),
            read::<types::History>(
                "/admin/changes",
                "changes",
                "What was changed by this API, the latest first",
                changes,
            ),
            read::<types::Reloads>(
                "/admin/reloads",
                "reloads",
                "Reloads, the latest first, with the reason of those refused",
                reloads,
            ),
            read::<types::InForce>(
                "/admin/config",
                "config",
                "The configuration in force",
                config,
            ),
            read::<Value>("/admin/openapi.json", "openapi", "This document", |_| {
                Reply::ok(&document())
            }),
            write::<types::SetWeight, types::Endpoint>(
                Method::PATCH,
                "/admin/loadbalancer/{service}/endpoints/{address}",
                "setWeight",
                "Gives an endpoint another weight; 0 drains it",
                set_weight,
            )
            .refuses(&[NO_ENDPOINT]),
            Operation {
                answers: const {
                    &[
                        (StatusCode::OK, Shape::of::<types::Endpoint>()),
                        (StatusCode::CREATED, Shape::of::<types::Endpoint>()),
                    ]
                },
                ..write::<types::Register, types::Endpoint>(
                    Method::POST,
                    "/admin/loadbalancer/{service}/endpoints",
                    "register",
                    "Registers an endpoint for a time, or renews it",
                    register,
                )
                .refuses(&[NO_SERVICE, NOT_TOGETHER])
            },
            act::<types::LoadBalancer>(
                Method::DELETE,
                "/admin/loadbalancer/{service}/endpoints/{address}",
                "deregister",
                "Takes a registered endpoint out",
                deregister,
            )
            .refuses(&[NO_ENDPOINT]),
            write::<types::SetBreaker, types::Breakers>(
                Method::POST,
                "/admin/circuitbreaker/{service}",
                "setBreaker",
                "Forces breakers open or closed, lets them decide again, or resets them",
                set_breaker,
            )
            .refuses(&[NO_ENDPOINT]),
            write::<types::SetSplit, types::Route>(
                Method::PATCH,
                "/admin/routes/split",
                "setSplit",
                "Gives the upstreams of a route other shares, all at once",
                set_split,
            )
            .refuses(&[
                (
                    StatusCode::NOT_FOUND,
                    "There is no such route with a split.",
                ),
                NOT_TOGETHER,
            ]),
            write::<types::SetRate, types::Rate>(
                Method::PUT,
                "/admin/limits/rate",
                "setRate",
                "Gives the clients of a limit another rate, from the next request on",
                set_rate,
            )
            .refuses(&[
                (StatusCode::NOT_FOUND, "There is no such limit."),
                NOT_TOGETHER,
            ]),
            write::<types::SetBulkhead, types::Bulkhead>(
                Method::PUT,
                "/admin/limits/bulkhead",
                "setBulkhead",
                "Gives a service another number of requests at once",
                set_bulkhead,
            )
            .refuses(&[(
                StatusCode::NOT_FOUND,
                "There is no such service with a bulkhead.",
            )]),
            #[cfg(feature = "cache")]
            read::<types::Cache>("/admin/cache", "cache", "What the cache holds", cache),
            #[cfg(feature = "cache")]
            write::<types::Purge, types::Purged>(
                Method::POST,
                "/admin/cache/purge",
                "purge",
                "Forgets answers that are kept",
                purge,
            ),
            act::<ReloadReport>(
                Method::POST,
                "/admin/reload",
                "reload",
                "Reads the configuration again",
                reload,
            )
            .refuses(&[(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The configuration was refused, and the old one stays.",
            )]),
        ]
    });
    &ALL
}

/// A row that changes nothing.
fn read<T: schemars::JsonSchema>(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    run: fn(&Asked) -> Result<Reply, Problem>,
) -> Operation {
    Operation {
        method: Method::GET,
        path,
        id,
        summary,
        body: None,
        answers: const { &[(StatusCode::OK, Shape::of::<T>())] },
        problems: &[],
        run,
    }
}

/// A row that changes something, and wants no body.
fn act<T: schemars::JsonSchema>(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    run: fn(&Asked) -> Result<Reply, Problem>,
) -> Operation {
    Operation {
        method,
        ..read::<T>(path, id, summary, run)
    }
}

/// A row that changes something by what its body says.
fn write<B: schemars::JsonSchema, T: schemars::JsonSchema>(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    run: fn(&Asked) -> Result<Reply, Problem>,
) -> Operation {
    Operation {
        body: Some(Shape::of::<B>()),
        ..act::<T>(method, path, id, summary, run)
    }
}

impl Operation {
    /// Besides what all refuse.
    fn refuses(mut self, problems: &'static [(StatusCode, &'static str)]) -> Self {
        self.problems = problems;
        self
    }
}

fn status(asked: &Asked) -> Result<Reply, Problem> {
    let upstreams = asked.handle.upstreams();
    let endpoints = || upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    let is_open = |one: &&EndpointState| one.breaker.state == resilience_core::breaker::State::Open;
    Reply::ok(&types::Status {
        version: env!("CARGO_PKG_VERSION"),
        revision: asked.handle.revision(),
        uptime_seconds: asked.uptime(),
        stopping: asked.handle.is_stopping(),
        routes: asked.handle.routes().len(),
        services: upstreams.len(),
        endpoints: endpoints().count(),
        endpoints_up: endpoints().filter(|one| one.is_up).count(),
        breakers_open: endpoints().filter(is_open).count(),
        in_flight: endpoints().map(|one| one.in_flight).sum(),
    })
}

fn services(asked: &Asked) -> Result<Reply, Problem> {
    // Read before: what is newer than its revision does no harm, the other way round it would.
    let revision = asked.handle.revision();
    let upstreams = asked.handle.upstreams();
    let services = upstreams.iter().map(types::Service::from).collect();
    Reply::ok(&types::Services { revision, services })
}

fn loadbalancer(asked: &Asked) -> Result<Reply, Problem> {
    let revision = asked.handle.revision();
    let service = types::Service::from(&service(asked)?);
    Reply::ok(&types::LoadBalancer { revision, service })
}

fn circuitbreaker(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&breakers(asked, &service(asked)?))
}

fn breakers(asked: &Asked, service: &UpstreamState) -> types::Breakers {
    types::Breakers {
        revision: asked.handle.revision(),
        service: service.name.clone(),
        breakers: service.endpoints.iter().map(types::Breaker::from).collect(),
    }
}

fn routes(asked: &Asked) -> Result<Reply, Problem> {
    let revision = asked.handle.revision();
    let routes = asked.handle.routes().into_iter().map(types::Route::from);
    let routes = routes.collect();
    Reply::ok(&types::Routes { revision, routes })
}

fn limits(asked: &Asked) -> Result<Reply, Problem> {
    let revision = asked.handle.revision();
    let rates = asked.handle.rate_limits().into_iter();
    let bulkheads = asked.handle.bulkheads().into_iter();
    Reply::ok(&types::Limits {
        revision,
        rates: rates.map(types::Rate::from).collect(),
        bulkheads: bulkheads.map(types::Bulkhead::from).collect(),
    })
}

fn metrics(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&types::Samples {
        uptime_seconds: asked.uptime(),
        samples: samples::read(&asked.handle.metrics()),
    })
}

fn changes(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&types::History {
        revision: asked.handle.revision(),
        changes: asked.handle.shared().admin.changes(),
    })
}

fn reloads(asked: &Asked) -> Result<Reply, Problem> {
    Reply::ok(&types::Reloads {
        revision: asked.handle.revision(),
        reloads: asked.handle.reloads(),
    })
}

fn config(asked: &Asked) -> Result<Reply, Problem> {
    let revision = asked.handle.revision();
    let config = serde_json::to_value(&*asked.handle.config());
    match config {
        Ok(Value::Object(config)) => Reply::ok(&types::InForce { revision, config }),
        _ => Err(Problem::internal()),
    }
}

fn reload(asked: &Asked) -> Result<Reply, Problem> {
    let before = asked.handle.revision();
    let report = asked.handle.reload_source(ReloadTrigger::Admin);
    if let Some(reason) = &report.reason {
        let problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reload_refused",
            "Unprocessable content",
            "the configuration was refused, and the old one stays",
        );
        return Err(problem.fault("(configuration)", Value::Null, reason.as_str()));
    }
    let outcome = report.outcome.as_str();
    let reply = Reply::ok(&report)?;
    Ok(reply.changed("reload", "configuration", before, outcome))
}

#[cfg(feature = "cache")]
fn cache(asked: &Asked) -> Result<Reply, Problem> {
    let state = asked.handle.cache();
    Reply::ok(&types::Cache {
        on: state.is_some(),
        addresses: state.as_ref().map_or(0, |state| state.addresses),
        bytes: state.map_or(0, |state| state.bytes),
    })
}

#[cfg(feature = "cache")]
fn purge(asked: &Asked) -> Result<Reply, Problem> {
    let (what, addresses) = match asked.body()? {
        types::Purge::Address(address) => {
            let addresses = usize::from(asked.handle.purge(&address));
            (format!("address {address}"), addresses)
        }
        types::Purge::Below(start) => {
            let addresses = asked.handle.purge_below(&start);
            (format!("below {start}"), addresses)
        }
        types::Purge::Route(route) => {
            let addresses = asked.handle.purge_route(&route);
            (format!("route {route}"), addresses)
        }
    };
    let reply = Reply::ok(&types::Purged { addresses })?;
    Ok(reply.changed("cache.purge", what, addresses, Value::Null))
}

fn set_weight(asked: &Asked) -> Result<Reply, Problem> {
    let wanted: types::SetWeight = asked.body()?;
    in_range("weight", wanted.weight, 0, 1000)?;
    let before = endpoint(asked)?;
    let (upstream, address) = (&before.upstream, &before.address);
    if !asked.handle.set_weight(upstream, address, wanted.weight) {
        return Err(no_endpoint());
    }
    let reply = Reply::ok(&types::Endpoint::from(&endpoint(asked)?))?;
    let target = format!("{upstream}/{address}");
    Ok(reply.changed("endpoint.weight", target, before.weight, wanted.weight))
}

fn register(asked: &Asked) -> Result<Reply, Problem> {
    let wanted: types::Register = asked.body()?;
    in_range("weight", wanted.weight, 0, 1000)?;
    in_range("ttl_seconds", wanted.ttl_seconds, 1, 86_400)?;
    if wanted
        .zone
        .as_ref()
        .is_some_and(|zone| zone.chars().count() > 100)
    {
        return Err(
            super::api::invalid("bad_body", "the zone is too long").fault(
                "zone",
                Value::Null,
                "at most 100 characters",
            ),
        );
    }
    let url = parse_url(&wanted.url)?;
    let service = service(asked)?;
    let address = url.authority().to_owned();
    let known = service.endpoints.iter().find(|one| one.address == address);
    let is_new = known.is_none();
    let before = known.map(|one| json!(one.weight)).unwrap_or_default();
    let mut config = EndpointConfig::new(url);
    config.weight = wanted.weight;
    config.priority = wanted.priority;
    config.zone = wanted.zone;
    let time = Duration::from_secs(wanted.ttl_seconds.into());
    let done = asked.handle.register(&service.name, &config, time);
    done.map_err(|error| match error {
        RegisterError::UnknownUpstream => no_service(),
        error => conflict("not_registered", &error.to_string()),
    })?;
    let now = service_named(asked, &service.name)?;
    let now = now.endpoints.iter().find(|one| one.address == address);
    let reply = Reply::ok(&types::Endpoint::from(now.ok_or_else(no_endpoint)?))?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let after = json!({ "weight": wanted.weight, "ttl_seconds": wanted.ttl_seconds });
    let target = format!("{}/{address}", service.name);
    Ok(reply
        .status(status)
        .changed("endpoint.register", target, before, after))
}

/// An URL in the form of [`types::URL`].
fn parse_url(text: &str) -> Result<crate::config::EndpointUrl, Problem> {
    const ALLOWED: &str = "\"http://host:port\" or \"https://host:port\"";
    let bad = || super::api::invalid("bad_body", "the url is not one of an endpoint");
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let (host, port) = rest
        .and_then(|rest| rest.rsplit_once(':'))
        .unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let v6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let host = match inside {
        Some(inside) => !inside.is_empty() && inside.bytes().all(v6),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    let digits = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    if !host || !digits || port.parse::<u16>().is_err() {
        return Err(bad().fault("url", text.into(), ALLOWED));
    }
    // What is left: brackets around what is no address.
    let v6 = inside.is_none_or(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok());
    let url = text.parse().ok().filter(|_| v6);
    url.ok_or_else(|| not_together("the host is no address").fault("url", text.into(), ALLOWED))
}

fn deregister(asked: &Asked) -> Result<Reply, Problem> {
    let before = endpoint(asked)?;
    let (upstream, address) = (&before.upstream, &before.address);
    if !asked.handle.deregister(upstream, address) {
        return Err(conflict(
            "not_registered",
            "the endpoint was not registered, so it cannot be taken out; drain it",
        ));
    }
    let target = format!("{upstream}/{address}");
    let reply = loadbalancer(asked)?;
    Ok(reply.changed("endpoint.deregister", target, before.weight, Value::Null))
}

fn set_breaker(asked: &Asked) -> Result<Reply, Problem> {
    let wanted: types::SetBreaker = asked.body()?;
    let before = service(asked)?;
    let endpoint = wanted.endpoint.as_deref();
    let (upstream, handle) = (&before.name, &asked.handle);
    let (action, found) = match wanted.action {
        BreakerAction::ForceOpen => (
            "breaker.force_open",
            handle.set_breaker_mode(upstream, endpoint, Mode::ForcedOpen),
        ),
        BreakerAction::ForceClosed => (
            "breaker.force_closed",
            handle.set_breaker_mode(upstream, endpoint, Mode::ForcedClosed),
        ),
        BreakerAction::Automatic => (
            "breaker.automatic",
            handle.set_breaker_mode(upstream, endpoint, Mode::Automatic),
        ),
        BreakerAction::Reset => ("breaker.reset", handle.reset_breaker(upstream, endpoint)),
    };
    if !found {
        return Err(no_endpoint());
    }
    let after = service(asked)?;
    let words = |state: &UpstreamState| {
        let endpoints = state.endpoints.iter();
        let endpoints = endpoints.filter(|one| endpoint.is_none_or(|name| name == one.address));
        let word = |one: &EndpointState| {
            let word = format!("{} {}", one.breaker.mode, one.breaker.state);
            (one.address.clone(), Value::from(word))
        };
        Value::Object(endpoints.map(word).collect())
    };
    let target = match endpoint {
        Some(endpoint) => format!("{upstream}/{endpoint}"),
        None => upstream.clone(),
    };
    let reply = Reply::ok(&breakers(asked, &after))?;
    Ok(reply.changed(action, target, words(&before), words(&after)))
}

fn set_split(asked: &Asked) -> Result<Reply, Problem> {
    let wanted: types::SetSplit = asked.body()?;
    if wanted.weights.is_empty() {
        return Err(super::api::invalid("bad_body", "no weight is given").fault(
            "weights",
            json!({}),
            "at least one upstream with its weight",
        ));
    }
    for (upstream, weight) in &wanted.weights {
        in_range(&format!("weights.{upstream}"), *weight, 0, 1000)?;
    }
    let find = || {
        let mut routes = asked.handle.routes().into_iter();
        routes.find(|route| route.is_split && route.name == wanted.route)
    };
    let before =
        find().ok_or_else(|| not_found("route_not_found", "no route of that name has a split"))?;
    let mut next = before.upstreams.clone();
    for (upstream, weight) in &wanted.weights {
        let share = next.iter_mut().find(|(name, _)| name == upstream);
        let Some(share) = share else {
            let names: Vec<_> = before
                .upstreams
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            return Err(not_together("the split has no such upstream").fault(
                "weights",
                upstream.as_str().into(),
                names.join(", "),
            ));
        };
        share.1 = *weight;
    }
    if next.iter().all(|(_, weight)| *weight == 0) {
        return Err(not_together("the route would lead nowhere").fault(
            "weights",
            json!(wanted.weights),
            "at least one weight above 0",
        ));
    }
    let weights: Vec<_> = wanted
        .weights
        .iter()
        .map(|(name, weight)| (name.as_str(), *weight))
        .collect();
    if !asked.handle.set_split(&wanted.route, &weights) {
        return Err(not_found(
            "route_not_found",
            "no route of that name has a split",
        ));
    }
    let words = |shares: &[(String, u32)]| {
        let shares = shares.iter();
        Value::Object(
            shares
                .map(|(name, weight)| (name.clone(), json!(weight)))
                .collect(),
        )
    };
    let after = find().ok_or_else(Problem::internal)?;
    let (was, is) = (words(&before.upstreams), words(&after.upstreams));
    let reply = Reply::ok(&types::Route::from(after))?;
    Ok(reply.changed("route.split", wanted.route, was, is))
}

fn set_rate(asked: &Asked) -> Result<Reply, Problem> {
    let wanted: types::SetRate = asked.body()?;
    in_range("requests", wanted.requests.get(), 1, 1_000_000_000)?;
    in_range("window_seconds", wanted.window_seconds, 1, 86_400)?;
    let window = Duration::from_secs(wanted.window_seconds.into());
    let burst = wanted.burst.unwrap_or(wanted.requests);
    let quota = Quota::new(wanted.requests.get(), window);
    let quota = quota.and_then(|quota| quota.burst(burst.get()));
    let quota = quota.map_err(|error| {
        let problem = not_together("there is no such rate");
        problem.fault("burst", burst.get().into(), error.to_string())
    })?;
    let find = || {
        let mut limits = asked.handle.rate_limits().into_iter();
        limits
            .find(|limit| limit.name == wanted.limit)
            .map(types::Rate::from)
    };
    let missing = || not_found("limit_not_found", "there is no limit of that name");
    let before = find().ok_or_else(missing)?;
    if !asked.handle.set_rate_limit(&wanted.limit, quota) {
        return Err(missing());
    }
    let after = find().ok_or_else(missing)?;
    let words = |rate: &types::Rate| json!({ "per_second": rate.per_second, "burst": rate.burst });
    let (was, is) = (words(&before), words(&after));
    Ok(Reply::ok(&after)?.changed("limit.rate", wanted.limit, was, is))
}

fn set_bulkhead(asked: &Asked) -> Result<Reply, Problem> {
    let wanted: types::SetBulkhead = asked.body()?;
    in_range("limit", wanted.limit, 1, 1_000_000_000)?;
    let find = || {
        let mut bulkheads = asked.handle.bulkheads().into_iter();
        bulkheads.find(|bulkhead| bulkhead.upstream == wanted.service)
    };
    let missing = || not_found("limit_not_found", "no service of that name has a bulkhead");
    let before = find().ok_or_else(missing)?;
    let max_queue = wanted
        .max_queue
        .unwrap_or_else(|| before.config.max_queue());
    if max_queue > 1_000_000 {
        let problem = super::api::invalid("bad_body", "a value is out of its range");
        return Err(problem.fault("max_queue", max_queue.into(), "0 to 1000000"));
    }
    let config = bulkhead::Config::builder()
        .limit(wanted.limit)
        .max_queue(max_queue)
        .max_wait(before.config.max_wait())
        .build();
    let config = config.map_err(|error| {
        super::api::invalid("bad_body", "a value is out of its range").fault(
            error.field,
            error.value.into(),
            error.allowed,
        )
    })?;
    if !asked.handle.set_bulkhead(&wanted.service, config) {
        return Err(missing());
    }
    let after = find().ok_or_else(missing)?;
    let words = |config: &bulkhead::Config| json!({ "limit": config.limit(), "max_queue": config.max_queue() });
    let (was, is) = (words(&before.config), words(&after.config));
    let reply = Reply::ok(&types::Bulkhead::from(after))?;
    Ok(reply.changed("limit.bulkhead", wanted.service, was, is))
}

/// The service that the path names.
fn service(asked: &Asked) -> Result<UpstreamState, Problem> {
    service_named(asked, asked.parameter("service"))
}

fn service_named(asked: &Asked, name: &str) -> Result<UpstreamState, Problem> {
    let mut upstreams = asked.handle.upstreams().into_iter();
    upstreams
        .find(|upstream| upstream.name == name)
        .ok_or_else(no_service)
}

/// The endpoint that the path names.
fn endpoint(asked: &Asked) -> Result<EndpointState, Problem> {
    let mut endpoints = service(asked)?.endpoints.into_iter();
    let found = endpoints.find(|one| one.address == asked.parameter("address"));
    found.ok_or_else(no_endpoint)
}

fn in_range(field: &str, value: u32, least: u32, most: u32) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let problem = super::api::invalid("bad_body", "a value is out of its range");
    Err(problem.fault(field, value.into(), format!("{least} to {most}")))
}

fn not_found(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, code, "Not found", detail)
}

fn no_service() -> Problem {
    not_found("service_not_found", "there is no service of that name")
}

fn no_endpoint() -> Problem {
    not_found(
        "endpoint_not_found",
        "the service has no endpoint of that address",
    )
}

fn not_together(detail: &'static str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "not_together",
        "Unprocessable content",
        detail,
    )
}

fn conflict(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, code, "Conflict", detail.to_owned())
}
