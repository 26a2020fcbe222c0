//! What a route asks of its requests and answers, compiled: one field for each step of
//! `pipeline`, `None` where a step is off.
//!
//! A section at the top level of the configuration is that of all routes, which then share what it
//! counts; the same section in a route replaces it there, and `false` switches it off.

#[cfg(feature = "cache")]
pub(crate) mod cache;
#[cfg(feature = "compression")]
pub(crate) mod compression;
pub(crate) mod cors;
pub(crate) mod csrf;
pub(crate) mod identity;
pub(crate) mod ip_filter;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
pub(crate) mod rate_limit;
mod rename;
pub(crate) mod security_headers;
pub(crate) mod size_limits;
pub(crate) mod transform;
#[cfg(feature = "webhook")]
pub(crate) mod webhook;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

#[cfg(feature = "cache")]
use self::cache::{Cache, Store};
#[cfg(feature = "compression")]
use self::compression::Compression;
use self::cors::Cors;
use self::csrf::Csrf;
use self::ip_filter::IpFilter;
use self::rate_limit::Limits;
use self::security_headers::SecurityHeaders;
use self::size_limits::SizeLimits;
use self::transform::Transforms;
#[cfg(feature = "webhook")]
use self::webhook::Webhook;
use crate::Error;
use crate::config::{
    Config, CorsConfig, CsrfConfig, IpFilterConfig, RouteConfig, SecurityHeadersConfig,
    SizeLimitsConfig, Switch,
};
use crate::shared::Shared;

/// The policies of one route, or of requests without a route.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) ip_filter: Option<Arc<IpFilter>>,
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) security_headers: Option<Arc<SecurityHeaders>>,
    pub(crate) size_limits: Option<SizeLimits>,
    pub(crate) csrf: Option<Arc<Csrf>>,
    #[cfg(feature = "jwt")]
    pub(crate) jwt: Option<Arc<jwt::Jwt>>,
    /// Requests per client.
    pub(crate) limits: Option<Limits>,
    /// Deliveries; of a route only.
    #[cfg(feature = "webhook")]
    pub(crate) webhook: Option<Arc<Webhook>>,
    pub(crate) transforms: Option<Arc<Transforms>>,
    #[cfg(feature = "compression")]
    pub(crate) compression: Option<Arc<Compression>>,
    #[cfg(feature = "cache")]
    pub(crate) cache: Option<Arc<Cache>>,
    /// Where answers are kept, if any route has a cache: what changes something forgets them.
    #[cfg(feature = "cache")]
    pub(crate) store: Option<Arc<Store>>,
}

/// Where a section stands, and what is known already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The label of the route; `None` at the top level.
    route: Option<&'a str>,
    pub(crate) shared: &'a Shared,
}

impl Place<'_> {
    /// What state of a section here is kept under.
    pub(crate) fn name(&self, name: &str) -> String {
        match self.route {
            Some(route) => format!("{route}/{name}"),
            None => name.to_owned(),
        }
    }
}

impl Policies {
    /// Those of the sections at the top level. Changes nothing that runs; nor does
    /// [`of_route`](Self::of_route).
    pub(crate) fn compile(config: &Config, shared: &Shared) -> Result<Self, Error> {
        let place = Place {
            route: None,
            shared,
        };
        Ok(Self {
            ip_filter: all(&config.ip_filter, ip_filter)?,
            cors: all(&config.cors, cors)?,
            security_headers: all(&config.security_headers, security_headers)?,
            size_limits: all(&config.size_limits, size_limits)?,
            csrf: all(&config.csrf, csrf)?,
            #[cfg(feature = "jwt")]
            jwt: all(&config.jwt, |config| {
                jwt::Jwt::compile(config, place).map(Arc::new)
            })?,
            limits: all(&config.rate_limit, |limits| {
                Limits::compile(limits.as_slice(), place)
            })?,
            #[cfg(feature = "webhook")]
            webhook: None,
            transforms: Transforms::new(config.transform.as_ref(), Vec::new()).map(Arc::new),
            #[cfg(feature = "compression")]
            compression: config
                .compression
                .as_ref()
                .map(Compression::new)
                .map(Arc::new),
            #[cfg(feature = "cache")]
            cache: config.cache.as_ref().map(Cache::new).map(Arc::new),
            #[cfg(feature = "cache")]
            store: shared.store(config),
        })
    }

    /// Those of a route: its own sections in place of the ones of all, which are `self`.
    pub(crate) fn of_route(&self, route: &RouteConfig, shared: &Shared) -> Result<Self, Error> {
        let label = route.label();
        let place = Place {
            route: Some(&label),
            shared,
        };
        Ok(Self {
            ip_filter: own(&route.ip_filter, &self.ip_filter, ip_filter)?,
            cors: own(&route.cors, &self.cors, cors)?,
            security_headers: own(
                &route.security_headers,
                &self.security_headers,
                security_headers,
            )?,
            size_limits: own(&route.size_limits, &self.size_limits, size_limits)?,
            csrf: own(&route.csrf, &self.csrf, csrf)?,
            #[cfg(feature = "jwt")]
            jwt: own(&route.jwt, &self.jwt, |config| {
                jwt::Jwt::compile(config, place).map(Arc::new)
            })?,
            limits: own(&route.rate_limit, &self.limits, |limits| {
                Limits::compile(limits.as_slice(), place)
            })?,
            #[cfg(feature = "webhook")]
            webhook: match &route.webhook {
                Some(webhook) => Some(Arc::new(Webhook::new(webhook, &label, shared)?)),
                None => None,
            },
            transforms: self.transforms_of(route, &label, shared),
            #[cfg(feature = "compression")]
            compression: own(&route.compression, &self.compression, |compression| {
                Ok(Arc::new(Compression::new(compression)))
            })?,
            #[cfg(feature = "cache")]
            cache: own(&route.cache, &self.cache, |cache| {
                Ok(Arc::new(Cache::new(cache)))
            })?,
            #[cfg(feature = "cache")]
            store: self.store.clone(),
        })
    }

    /// The changes of a route: by its own section or that of all, and by the program itself.
    fn transforms_of(
        &self,
        route: &RouteConfig,
        label: &str,
        shared: &Shared,
    ) -> Option<Arc<Transforms>> {
        let hooks = shared.transforms.get(label).cloned().unwrap_or_default();
        let section = match &route.transform {
            None => return Transforms::with(self.transforms.as_ref(), hooks),
            Some(section) => section.on(),
        };
        Transforms::new(section, hooks).map(Arc::new)
    }

    /// Whether a step reads, changes or keeps what goes through.
    pub(crate) const fn work_on_content(&self) -> bool {
        #[cfg(feature = "webhook")]
        if self.webhook.is_some() {
            return true;
        }
        #[cfg(feature = "compression")]
        if self.compression.is_some() {
            return true;
        }
        #[cfg(feature = "cache")]
        if self.store.is_some() {
            return true;
        }
        self.transforms.is_some()
    }

    /// Whether answers are compressed on their way out.
    #[cfg(feature = "cache")]
    pub(crate) const fn compresses(&self) -> bool {
        #[cfg(feature = "compression")]
        return self.compression.is_some();
        #[cfg(not(feature = "compression"))]
        return false;
    }

    /// Puts the settings of all policies of a snapshot in force and keeps what they count; what is
    /// in them no more is let go, and ends with the last request that holds it.
    pub(crate) fn attach<'p>(all: impl Iterator<Item = &'p Self> + Clone, shared: &Shared) {
        #[cfg(feature = "jwt")]
        jwt::keep(all.clone().filter_map(|one| one.jwt.as_ref()), shared);
        let limits = all.clone().filter_map(|policies| policies.limits.as_ref());
        let limiters = limits.flat_map(Limits::attach);
        let limiters = limiters.map(|limiter| (limiter.name.clone(), limiter));
        shared.limiters.replace(limiters.collect());
        #[cfg(feature = "webhook")]
        {
            let webhooks = all.clone().filter_map(|policies| policies.webhook.as_ref());
            let deliveries = webhooks.filter_map(|webhook| webhook.deliveries());
            shared.deliveries.replace(deliveries.collect());
        }
    }
}

/// How a section of each kind is compiled, at whatever place.
fn ip_filter(config: &IpFilterConfig) -> Result<Arc<IpFilter>, Error> {
    Ok(Arc::new(IpFilter::new(config)))
}

fn cors(config: &CorsConfig) -> Result<Arc<Cors>, Error> {
    Cors::compile(config).map(Arc::new)
}

fn security_headers(config: &SecurityHeadersConfig) -> Result<Arc<SecurityHeaders>, Error> {
    SecurityHeaders::compile(config).map(Arc::new)
}

fn size_limits(config: &SizeLimitsConfig) -> Result<SizeLimits, Error> {
    Ok(SizeLimits::new(config))
}

fn csrf(config: &CsrfConfig) -> Result<Arc<Csrf>, Error> {
    Ok(Arc::new(Csrf::new(config)))
}

/// The section of all routes.
fn all<T, P>(
    section: &Option<T>,
    compile: impl FnOnce(&T) -> Result<P, Error>,
) -> Result<Option<P>, Error> {
    section.as_ref().map(compile).transpose()
}

/// A route's own section, or what is compiled of the one of all.
fn own<T, P: Clone>(
    section: &Option<Switch<T>>,
    all: &Option<P>,
    compile: impl FnOnce(&T) -> Result<P, Error>,
) -> Result<Option<P>, Error> {
    match section {
        None => Ok(all.clone()),
        Some(Switch::Off) => Ok(None),
        Some(Switch::On(section)) => compile(section).map(Some),
    }
}

/// State of one kind that outlives a configuration, by name.
#[derive(Debug)]
pub(crate) struct Registry<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Registry<T> {
    /// What is kept under that name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.0.lock().get(name).cloned()
    }

    /// All that is kept, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.0.lock().values().cloned().collect()
    }

    /// Keeps these and lets all others go.
    fn replace(&self, next: HashMap<String, Arc<T>>) {
        let gone = std::mem::replace(&mut *self.0.lock(), next);
        // Outside the lock.
        drop(gone);
    }
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
