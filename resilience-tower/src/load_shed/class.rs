use resilience_core::load_shed::Class;

/// How much a request matters: any `Fn(&Request) -> Class`, or a [`Class`] for all.
///
/// Health checks and operators' requests are to be [`Class::Critical`]; for HTTP `Paths` (feature
/// `http`) says so by path. What a request says of itself should only lower its class, unless the
/// caller is trusted: everybody thinks himself important.
pub trait ClassOf<Req> {
    /// The class of `request`.
    fn class_of(&self, request: &Req) -> Class;
}

impl<Req> ClassOf<Req> for Class {
    fn class_of(&self, _: &Req) -> Class {
        *self
    }
}

impl<Req, F: Fn(&Req) -> Class> ClassOf<Req> for F {
    fn class_of(&self, request: &Req) -> Class {
        self(request)
    }
}
