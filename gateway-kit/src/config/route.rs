//! Which requests go to which upstream.

use std::collections::{BTreeMap, HashMap};

use http::Method;
use serde::{Deserialize, Serialize};

#[cfg(feature = "cache")]
use super::CacheConfig;
#[cfg(feature = "compression")]
use super::CompressionConfig;
use super::TransformConfig;
#[cfg(feature = "webhook")]
use super::WebhookConfig;
use super::check::{Place, WEIGHT, bounds};
use super::values::{HostPattern, MethodName, PlainPath, Prefix};
use super::{
    Config, CorsConfig, CsrfConfig, HashKey, IpFilterConfig, RateLimitConfig,
    SecurityHeadersConfig, Several, SizeLimitsConfig, Switch,
};

/// One `[[route]]`.
///
/// A route is found by host, then path, then method: an exact host before a `*.` one before any,
/// the longest prefix, a route that names the method before one that takes all. A host without a
/// matching path leaves the request to the next.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RouteConfig {
    /// What it is called in metrics and logs; default the prefix, with the first host before it.
    pub name: Option<String>,
    /// The hosts, `shop.example.com` or `*.example.com`; default any.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// Requests whose path is this prefix or below it.
    pub prefix: Prefix,
    /// The methods; `GET` takes `HEAD` as well; default all.
    #[serde(default)]
    pub methods: Vec<MethodName>,
    /// `false`: 404, also where a shorter prefix would match; default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The name of the upstream; or `split`.
    pub upstream: Option<String>,
    /// Several upstreams by weight.
    #[serde(default)]
    pub split: Vec<SplitConfig>,
    /// What keeps requests of a split with one upstream; default nothing.
    pub split_key: Option<HashKey>,
    /// Removes the prefix before forwarding; default false.
    #[serde(default)]
    pub strip_prefix: bool,
    /// Puts this in place of the prefix; not together with `strip_prefix`.
    pub rewrite: Option<Prefix>,
    /// The path that all requests get; not together with the two above.
    pub fixed_path: Option<PlainPath>,
    /// Takes paths with `%2F` or `%5C`, which are passed on as they are; default false.
    #[serde(default)]
    pub encoded_slash: bool,
    /// In place of the section at the top level, as all that follow; `false` for none.
    pub ip_filter: Option<Switch<IpFilterConfig>>,
    /// See `ip_filter`.
    pub cors: Option<Switch<CorsConfig>>,
    /// See `ip_filter`.
    pub security_headers: Option<Switch<SecurityHeadersConfig>>,
    /// See `ip_filter`.
    pub size_limits: Option<Switch<SizeLimitsConfig>>,
    /// See `ip_filter`.
    pub csrf: Option<Switch<CsrfConfig>>,
    /// See `ip_filter`.
    #[cfg(feature = "jwt")]
    pub jwt: Option<Switch<super::JwtConfig>>,
    /// See `ip_filter`.
    pub rate_limit: Option<Switch<Several<RateLimitConfig>>>,
    /// In place of the cache at the top level; `false` for none.
    #[cfg(feature = "cache")]
    pub cache: Option<Switch<CacheConfig>>,
    /// In place of the compression at the top level; `false` for none.
    #[cfg(feature = "compression")]
    pub compression: Option<Switch<CompressionConfig>>,
    /// In place of the changes at the top level; `false` for none.
    pub transform: Option<Switch<TransformConfig>>,
    /// Its requests are deliveries of webhooks; default they are not.
    #[cfg(feature = "webhook")]
    pub webhook: Option<WebhookConfig>,
}

/// One share of a split.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SplitConfig {
    /// The name of the upstream.
    pub upstream: String,
    /// Its share in proportion to the others', 0 to 1000.
    pub weight: u32,
}

pub(super) const fn yes() -> bool {
    true
}

impl RouteConfig {
    /// The name that metrics and logs show.
    pub fn label(&self) -> String {
        match (&self.name, self.hosts.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => format!("{host}{}", self.prefix),
            (None, None) => self.prefix.as_str().to_owned(),
        }
    }

    /// The upstreams its requests may go to.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &str> {
        let split = self.split.iter().map(|share| share.upstream.as_str());
        self.upstream.as_deref().into_iter().chain(split)
    }
}

bounds! {
    SplitConfig {
        weight: WEIGHT,
    }
}

/// All routes, each by itself and none in the way of another.
pub(super) fn check(config: &Config, top: &mut Place<'_>) {
    let mut taken = HashMap::new();
    let mut splits = BTreeMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        let place = &mut top.at(format_args!("route[{index}]"));
        check_one(config, route, place);
        if !route.split.is_empty()
            && let Some(first) = splits.insert(route.label(), index)
        {
            place.at("name").refuse(format!(
                "must differ from that of route[{first}], which has a split as well"
            ));
        }
        let mut others = takes(route).filter_map(|one| taken.insert(one, index));
        if let Some(first) = others.next() {
            place.at("prefix").refuse(format!(
                "is the prefix of route[{first}] already, for the same host and method; each once"
            ));
        }
        others.for_each(drop);
    }
}

type Taken<'r> = (Option<&'r HostPattern>, &'r Prefix, Option<&'r Method>);

/// All that a route takes; `None` is any host, or all methods.
fn takes(route: &RouteConfig) -> impl Iterator<Item = Taken<'_>> {
    fn any_or<T>(list: &[T]) -> impl Iterator<Item = Option<&T>> {
        let any = list.is_empty().then_some(None);
        any.into_iter().chain(list.iter().map(Some))
    }
    any_or(&route.hosts).flat_map(move |host| {
        let methods = any_or(&route.methods);
        methods.map(move |method| (host, &route.prefix, method.map(MethodName::method)))
    })
}

fn check_one(config: &Config, route: &RouteConfig, place: &mut Place<'_>) {
    let unknown = |name: &str| {
        let known = config.upstreams.keys().map(String::as_str);
        let known = || known.collect::<Vec<_>>().join(", ");
        let is_known = config.upstreams.contains_key(name);
        (!is_known).then(|| format!("names no [upstream.NAME]; there are: {}", known()))
    };
    if let Some(reason) = route.upstream.as_deref().and_then(unknown) {
        place.at("upstream").refuse(reason);
    }
    for (index, share) in route.split.iter().enumerate() {
        let mut place = place.at(format_args!("split[{index}]"));
        let mut before = route.split[..index].iter();
        let twice = before.any(|other| other.upstream == share.upstream);
        let twice = twice.then(|| "is in the split already; each upstream once".to_owned());
        if let Some(reason) = unknown(&share.upstream).or(twice) {
            place.at("upstream").refuse(reason);
        }
        place.bounds(share);
    }
    let wrong = match (&route.upstream, route.split.as_slice()) {
        (None, []) => Some((
            "upstream",
            "is missing; name an upstream, or a split over several",
        )),
        (Some(_), [_, ..]) => Some(("split", "not together with upstream; keep one of the two")),
        (None, split) if split.iter().all(|share| share.weight == 0) => {
            Some(("split", "needs a weight above 0"))
        }
        (_, []) if route.split_key.is_some() => Some(("split_key", "needs a split")),
        _ => None,
    };
    if let Some((name, reason)) = wrong {
        place.at(name).refuse(reason);
    }
    let one = "keep one of strip_prefix, rewrite and fixed_path";
    if route.rewrite.is_some() && (route.strip_prefix || route.fixed_path.is_some()) {
        place.at("rewrite").refuse(one);
    } else if route.fixed_path.is_some() && route.strip_prefix {
        place.at("fixed_path").refuse(one);
    }
}
