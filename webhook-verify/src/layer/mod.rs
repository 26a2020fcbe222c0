//! The tower layer.
