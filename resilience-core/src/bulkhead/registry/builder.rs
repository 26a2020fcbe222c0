//! Settings of a registry.

use std::{fmt, sync::Arc};

use super::{super::config::Config, Registry, inner::Inner};
use crate::clock::SharedClock;

pub(super) type Configs<K> = Box<dyn Fn(&K) -> Option<Config> + Send + Sync>;

/// Settings of a [`Registry`]; made by [`Registry::builder`].
///
/// Defaults: at most 1 000 bulkheads; the same settings for all; the default clock.
#[must_use]
pub struct RegistryBuilder<K> {
    pub(super) config: Config,
    pub(super) configs: Option<Configs<K>>,
    pub(super) max: usize,
    pub(super) clock: SharedClock,
}

impl<K> RegistryBuilder<K> {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            configs: None,
            max: 1_000,
            clock: SharedClock::default(),
        }
    }

    /// The most bulkheads it ever holds; at least 1 (0 counts as 1).
    pub fn max(mut self, bulkheads: usize) -> Self {
        self.max = bulkheads.max(1);
        self
    }

    /// Settings by key: asked when a bulkhead is made, and for all bulkheads by
    /// [`Registry::set_config`]. `None` for a key means the settings of the registry.
    ///
    /// Runs outside any lock, and may run twice for one bulkhead.
    pub fn config_for(
        mut self,
        config: impl Fn(&K) -> Option<Config> + Send + Sync + 'static,
    ) -> Self {
        self.configs = Some(Box::new(config));
        self
    }

    /// The clock of all bulkheads, by which deadlines are counted.
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
            .finish_non_exhaustive()
    }
}
