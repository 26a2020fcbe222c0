//! Words that belong to a generation: a tag on top of a value.

/// Bits of the value; the tag is the rest.
pub(super) const VALUE_BITS: u32 = 52;
pub(super) const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;
const TAG_MASK: u64 = u64::MAX >> VALUE_BITS;

/// The low 12 bits of a generation.
///
/// Tags wrap after 4096 generations. No word keeps its tag for so long: each half-open generation
/// and each change by hand writes all of them.
#[inline]
pub(super) fn tag(generation: u32) -> u64 {
    u64::from(generation) & TAG_MASK
}

/// `value` with the tag of `generation`; a value that is too large is the largest.
#[inline]
pub(super) fn tagged(generation: u32, value: u64) -> u64 {
    tag(generation) << VALUE_BITS | value.min(VALUE_MASK)
}

/// The value of `word`, if it is of `generation`.
#[inline]
pub(super) fn value(word: u64, generation: u32) -> Option<u64> {
    (word >> VALUE_BITS == tag(generation)).then_some(word & VALUE_MASK)
}

/// Nanoseconds as whole microseconds, rounded up so that a deadline never comes early.
pub(super) fn micros(nanos: u64) -> u64 {
    nanos.div_ceil(1000).min(VALUE_MASK)
}
