//! `size_limits`.

use serde::{Deserialize, Serialize};

use super::check::{Bounds, Place, bounds};
use super::{ByteSize, Switch};

/// `size_limits`: how large a request may be. What is larger costs no upstream anything.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct SizeLimitsConfig {
    /// Most bytes of a body; more answers 413; default 10 MiB, or `false`. A body of unknown length
    /// is cut off there.
    pub body: Switch<ByteSize>,
    /// Most bytes of a path as it is sent; more answers 414; default 4096.
    pub path: usize,
    /// Most bytes of a query; more answers 414; default 8192.
    pub query: usize,
    /// Most header fields; more answers 431; default 64.
    pub headers: usize,
    /// Most bytes of header fields, each with 4 for what is around it; more answers 431; default
    /// 32 KiB.
    pub header_bytes: ByteSize,
}

impl Default for SizeLimitsConfig {
    fn default() -> Self {
        Self {
            body: Switch::On(ByteSize::new(10 << 20)),
            path: 4096,
            query: 8192,
            headers: 64,
            header_bytes: ByteSize::new(32 << 10),
        }
    }
}

impl SizeLimitsConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.at("size_limits").bounds(self);
    }
}

bounds! {
    SizeLimitsConfig {
        body: Bounds::bytes(0, 1 << 50),
        path: Bounds::whole(1, 65_536),
        query: Bounds::whole(0, 65_536),
        headers: Bounds::whole(1, 1000),
        header_bytes: Bounds::bytes(1, 1 << 20),
    }
}
