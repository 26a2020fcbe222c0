//! Settings of a registry.

use std::{fmt, sync::Arc, time::Duration};

use super::{super::config::Config, Registry, inner::Inner};
use crate::clock::SharedClock;

pub(super) type Names<K> = Box<dyn Fn(&K) -> String + Send + Sync>;
pub(super) type Configs<K> = Box<dyn Fn(&K) -> Option<Config> + Send + Sync>;

/// Settings of a [`Registry`]; made by [`Registry::builder`].
///
/// Defaults: at most 1 000 breakers; one may go when it was not used for 60 s; the same settings
/// for all; the default clock.
#[must_use]
pub struct RegistryBuilder<K> {
    pub(super) config: Config,
    pub(super) names: Names<K>,
    pub(super) configs: Option<Configs<K>>,
    pub(super) max: usize,
    pub(super) idle_after: Duration,
    pub(super) clock: SharedClock,
}

impl<K> RegistryBuilder<K> {
    pub(super) fn new(config: Config, names: Names<K>) -> Self {
        Self {
            config,
            names,
            configs: None,
            max: 1_000,
            idle_after: Duration::from_secs(60),
            clock: SharedClock::default(),
        }
    }

    /// The most breakers it ever holds; at least 1 (0 counts as 1).
    pub fn max(mut self, breakers: usize) -> Self {
        self.max = breakers.max(1);
        self
    }

    /// How long a breaker must not have been looked up before it may make room for another. Known
    /// to an eighth: it goes after this time to 9/8 of it. Zero: as soon as nobody holds it, and
    /// lookups then read no clock. At most 292 years; more counts as that.
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = idle;
        self
    }

    /// Settings by key: asked when a breaker is made, and for all breakers by
    /// [`Registry::set_config`]. `None` for a key means the settings of the registry.
    ///
    /// Runs outside any lock, and may run twice for one breaker.
    pub fn config_for(
        mut self,
        config: impl Fn(&K) -> Option<Config> + Send + Sync + 'static,
    ) -> Self {
        self.configs = Some(Box::new(config));
        self
    }

    /// The clock of the registry and of its breakers.
    pub fn clock(mut self, clock: impl Into<SharedClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// An empty registry.
    pub fn build(self) -> Registry<K> {
        Registry {
            inner: Arc::new(Inner::new(self)),
        }
    }
}

impl<K> fmt::Debug for RegistryBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("config", &self.config)
            .field("max", &self.max)
            .field("idle_after", &self.idle_after)
            .finish_non_exhaustive()
    }
}
