use std::fmt;

use resilience_core::load_shed::{self, Class};
use tower_layer::Layer;

use super::{LoadShed, MeasureLayer};

/// Puts a [`LoadShed`] around a service.
///
/// All services made by one layer, and by its clones, share one load shedder.
#[derive(Clone)]
#[must_use]
pub struct LoadShedLayer<C = Class> {
    shed: load_shed::LoadShed,
    class: C,
}

impl LoadShedLayer {
    /// Sheds calls by `shed`; all are [`Class::Normal`] until [`class`](Self::class) says more.
    pub fn new(shed: load_shed::LoadShed) -> Self {
        Self {
            shed,
            class: Class::Normal,
        }
    }
}

impl<C> LoadShedLayer<C> {
    /// Each call matters as `class`, a `Fn(&Request) -> Class`, finds in the request.
    pub fn class<D>(self, class: D) -> LoadShedLayer<D> {
        LoadShedLayer {
            shed: self.shed,
            class,
        }
    }

    /// The layer for the other end of the queues, which reports how long requests lay in them.
    pub fn measure(&self) -> MeasureLayer {
        MeasureLayer::new(self.shed.clone())
    }

    /// The load shedder, for its figures, events and settings.
    pub fn handle(&self) -> &load_shed::LoadShed {
        &self.shed
    }
}

impl<S, C: Clone> Layer<S> for LoadShedLayer<C> {
    type Service = LoadShed<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        LoadShed::new(inner, self.shed.clone(), self.class.clone())
    }
}

// By hand: closures have no `Debug`.
impl<C> fmt::Debug for LoadShedLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadShedLayer")
            .field("shed", &self.shed)
            .finish_non_exhaustive()
    }
}
