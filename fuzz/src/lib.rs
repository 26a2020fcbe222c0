//! What the fuzz targets share: how bytes become choices, and the plain models.

#[path = "../../resilience-core/tests/model/breaker.rs"]
pub mod breaker;
#[path = "../../resilience-core/tests/model/bucket.rs"]
pub mod bucket;
pub mod limits;
pub mod webhook;

/// Bytes as choices. Each takes one byte or two, so that small changes of the input are small
/// changes of the history; when the bytes end, so does the history.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn short(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    /// 0 up to, not including, `n` (at most 256).
    pub fn below(&mut self, n: usize) -> Option<usize> {
        Some(usize::from(self.byte()?) % n)
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let index = self.below(choices.len())?;
        Some(choices[index])
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}
