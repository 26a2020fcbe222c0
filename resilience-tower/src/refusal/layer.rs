use tower_layer::Layer;

use super::IntoResponse;

/// Puts an [`IntoResponse`] around what another layer makes.
///
/// Made by the `into_response` methods of the layers that refuse.
#[derive(Clone, Debug)]
#[must_use]
pub struct IntoResponseLayer<L, F> {
    layer: L,
    refuse: F,
}

impl<L, F> IntoResponseLayer<L, F> {
    /// Services of `layer` whose refusals `refuse` turns into responses.
    ///
    /// `refuse` is cloned once per service and once per call.
    pub fn new(layer: L, refuse: F) -> Self {
        Self { layer, refuse }
    }

    /// The layer within, for its handle.
    pub fn layer_ref(&self) -> &L {
        &self.layer
    }
}

impl<S, L: Layer<S>, F: Clone> Layer<S> for IntoResponseLayer<L, F> {
    type Service = IntoResponse<L::Service, F>;

    fn layer(&self, inner: S) -> Self::Service {
        IntoResponse::new(self.layer.layer(inner), self.refuse.clone())
    }
}
