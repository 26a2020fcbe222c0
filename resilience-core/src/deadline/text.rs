use std::{fmt, ops::Deref};

/// A short text that is written without the heap: a number, and what stands behind it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Text {
    bytes: [u8; MOST],
    start: usize,
}

/// The digits of the largest number of 64 bits, and a unit.
const MOST: usize = 21;

impl Text {
    /// `number` in decimal digits, and `unit`, which is ASCII.
    pub(super) fn new(number: u64, unit: Option<u8>) -> Self {
        let mut text = Self {
            bytes: [0; MOST],
            start: MOST,
        };
        if let Some(unit) = unit {
            text.put(unit);
        }
        let mut rest = number;
        loop {
            text.put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                return text;
            }
        }
    }

    fn put(&mut self, byte: u8) {
        // PANIC-FREE: at most 20 digits and one unit are put.
        self.start -= 1;
        self.bytes[self.start] = byte;
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        // Never the default: every byte that was put is ASCII.
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
