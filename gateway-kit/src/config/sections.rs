//! Policies: sections at the top level, which are those of all routes, and the same ones in a
//! `[[route]]`, which replace them there.

#[cfg(feature = "cache")]
use super::CacheConfig;
#[cfg(feature = "compression")]
use super::CompressionConfig;
use super::TransformConfig;
use super::check::Place;
use super::{
    Config, CorsConfig, CsrfConfig, IpFilterConfig, RateLimitConfig, RouteConfig,
    SecurityHeadersConfig, Several, SizeLimitsConfig, Switch,
};
use crate::policy::identity::Identity;

/// The sections of one place, as far as they are there and on: each a field of that name in
/// [`Config`] and, in a [`Switch`], in [`RouteConfig`].
macro_rules! sections {
    ($($(#[$cfg:meta])* $name:ident: $section:ty,)*) => {
        #[derive(Clone, Copy, Debug)]
        struct Sections<'c> {
            $($(#[$cfg])* $name: Option<&'c $section>,)*
        }

        impl<'c> Sections<'c> {
            /// Those at the top level.
            const fn of_all(config: &'c Config) -> Self {
                Self {
                    $($(#[$cfg])* $name: config.$name.as_ref(),)*
                }
            }

            /// Those that a route has itself.
            fn own(route: &'c RouteConfig) -> Self {
                Self {
                    $($(#[$cfg])* $name: route.$name.as_ref().and_then(Switch::on),)*
                }
            }

            /// Each by itself.
            fn check(&self, place: &mut Place<'_>) {
                $($(#[$cfg])* if let Some(section) = self.$name {
                    section.check(place);
                })*
            }
        }
    };
}

sections! {
    ip_filter: IpFilterConfig,
    cors: CorsConfig,
    security_headers: SecurityHeadersConfig,
    size_limits: SizeLimitsConfig,
    rate_limit: Several<RateLimitConfig>,
    csrf: CsrfConfig,
    #[cfg(feature = "jwt")]
    jwt: super::JwtConfig,
    #[cfg(feature = "cache")]
    cache: CacheConfig,
    #[cfg(feature = "compression")]
    compression: CompressionConfig,
    transform: TransformConfig,
}

/// All sections `jwt` of a configuration.
#[cfg(feature = "jwt")]
pub(crate) fn tokens(config: &Config) -> impl Iterator<Item = &super::JwtConfig> {
    let routes = config.routes.iter();
    let routes = routes.filter_map(|route| Sections::own(route).jwt);
    config.jwt.iter().chain(routes)
}

/// What is wrong with the sections of any place.
pub(super) fn check(config: &Config, top: &mut Place<'_>) {
    Sections::of_all(config).check(top);
    let identity = Identity::of(config);
    if let Some(transform) = &config.transform {
        transform.check_identity(&identity, top);
    }
    #[cfg(feature = "cache")]
    top.at("cache_store").bounds(&config.cache_store);
    #[cfg(feature = "cache")]
    if let Some(cache) = &config.cache {
        cache.check_room(&config.cache_store, top);
    }
    for (index, route) in config.routes.iter().enumerate() {
        let place = &mut top.at(format_args!("route[{index}]"));
        let own = Sections::own(route);
        own.check(place);
        if let Some(transform) = own.transform {
            transform.check_identity(&identity, place);
        }
        #[cfg(feature = "cache")]
        if let Some(cache) = own.cache {
            cache.check_room(&config.cache_store, place);
        }
        #[cfg(feature = "webhook")]
        if let Some(webhook) = &route.webhook {
            webhook.check(&mut place.at("webhook"));
        }
    }
    check_names(config, top);
}

/// What a limit counts is found again by its name, which has that of its route in it.
fn check_names(config: &Config, top: &mut Place<'_>) {
    let mut names = std::collections::HashSet::new();
    let all = Sections::of_all(config).rate_limit.into_iter();
    for limit in all.flat_map(Several::as_slice) {
        names.insert(limit.label());
    }
    for (index, route) in config.routes.iter().enumerate() {
        let own = Sections::own(route).rate_limit.into_iter();
        let mut own: Vec<_> = own.flat_map(Several::as_slice).collect();
        // The same name twice in one route is told there.
        own.sort_by_key(|limit| limit.label());
        own.dedup_by_key(|limit| limit.label());
        for limit in own {
            let name = format!("{}/{}", route.label(), limit.label());
            if !names.insert(name.clone()) {
                let reason = format!("must differ: there is a limit {name:?} already");
                top.at(format_args!("route[{index}].name")).refuse(reason);
            }
        }
    }
}
