//! Policies: sections at the top level, which are those of all routes, and the same ones in a
//! `[[route]]`, which replace them there.

#[cfg(feature = "cache")]
use super::CacheConfig;
#[cfg(feature = "compression")]
use super::CompressionConfig;
use super::TransformConfig;
use super::{
    Config, ConfigError, CorsConfig, CsrfConfig, IpFilterConfig, RateLimitConfig, RouteConfig,
    SecurityHeadersConfig, Several, SizeLimitsConfig, Switch, rate_limit,
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

            /// Each by itself; `field` tells where the place is.
            fn check(&self, field: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
                $($(#[$cfg])* if let Some(section) = self.$name {
                    section.check(field)?;
                })*
                Ok(())
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

impl Several<RateLimitConfig> {
    fn check(&self, field: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
        rate_limit::check(self, field)
    }
}

/// All sections `jwt` of a configuration.
#[cfg(feature = "jwt")]
pub(crate) fn tokens(config: &Config) -> impl Iterator<Item = &super::JwtConfig> {
    let routes = config.routes.iter();
    let routes = routes.filter_map(|route| Sections::own(route).jwt);
    config.jwt.iter().chain(routes)
}

/// What is wrong with the sections of any place.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    Sections::of_all(config).check(&str::to_owned)?;
    let identity = Identity::of(config);
    if let Some(transform) = &config.transform {
        transform.check_identity(&identity, &str::to_owned)?;
    }
    #[cfg(feature = "cache")]
    config.cache_store.check()?;
    #[cfg(feature = "cache")]
    if let Some(cache) = &config.cache {
        cache.check_room(&config.cache_store, &str::to_owned)?;
    }
    for (index, route) in config.routes.iter().enumerate() {
        let field = |field: &str| format!("route[{index}].{field}");
        Sections::own(route).check(&field)?;
        if let Some(transform) = Sections::own(route).transform {
            transform.check_identity(&identity, &field)?;
        }
        #[cfg(feature = "cache")]
        if let Some(Switch::On(cache)) = &route.cache {
            cache.check_room(&config.cache_store, &field)?;
        }
        #[cfg(feature = "webhook")]
        if let Some(webhook) = &route.webhook {
            webhook.check(|name| field(&format!("webhook.{name}")))?;
        }
    }
    check_names(config)
}

/// What a limit counts is found again by its name, which has that of its route in it.
fn check_names(config: &Config) -> Result<(), ConfigError> {
    let mut names = std::collections::HashSet::new();
    let all = Sections::of_all(config).rate_limit.into_iter();
    for limit in all.flat_map(Several::as_slice) {
        names.insert(limit.label());
    }
    for (index, route) in config.routes.iter().enumerate() {
        let own = Sections::own(route).rate_limit.into_iter();
        for limit in own.flat_map(Several::as_slice) {
            let name = format!("{}/{}", route.label(), limit.label());
            if !names.insert(name.clone()) {
                return Err(ConfigError::new(
                    format!("route[{index}].name"),
                    format!("must differ: there is a limit {name:?} already"),
                ));
            }
        }
    }
    Ok(())
}
