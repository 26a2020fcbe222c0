//! Numbers as header values, without a detour over the heap where it can be had.

use http::HeaderValue;

const ONE: &str = "0123456789";
const TWO: &str = "0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// `number` in decimal digits; below 100, and so for most waits, without an allocation.
pub(super) fn value(number: u64) -> HeaderValue {
    // PANIC-FREE: the ranges are within the texts, which are digits.
    match number as usize {
        small @ 0..10 => HeaderValue::from_static(&ONE[small..=small]),
        small @ 10..100 => HeaderValue::from_static(&TWO[2 * small..2 * small + 2]),
        _ => {
            let mut digits = [0; MOST];
            let digits = write(&mut digits, number);
            // Digits are always a value; 0 is the answer that cannot be.
            HeaderValue::from_bytes(digits).unwrap_or(HeaderValue::from_static("0"))
        }
    }
}

/// How many digits `number` has.
pub(super) fn width(number: u64) -> usize {
    // At most 20.
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Appends `number` in decimal digits.
pub(super) fn push(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(write(&mut [0; MOST], number));
}

/// The digits of the largest number.
const MOST: usize = 20;

fn write(digits: &mut [u8; MOST], number: u64) -> &[u8] {
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        // PANIC-FREE: a number of 64 bits has at most 20 digits.
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    &digits[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_back() {
        let large = [100, 101, 999, 1_000, 4_294_967_295, u64::MAX - 1, u64::MAX];
        for number in (0..=100).chain(large) {
            assert_eq!(value(number), number.to_string());
            let mut text = b"n=".to_vec();
            push(&mut text, number);
            assert_eq!(text, format!("n={number}").into_bytes());
            assert_eq!(text.len(), 2 + width(number));
        }
    }
}
