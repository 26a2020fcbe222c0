//! Strict hex and base64 of values whose length is known.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Decodes exactly `N` bytes in lower-case hex; anything else is `None`.
pub(crate) fn hex_decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let mut pairs: [[u8; 2]; N] = pairs.try_into().ok()?;
    // No branch and no table per digit: the compiler takes 16 digits at once, and the digits of
    // a MAC are random, so a branch guesses wrong often.
    let mut all = 0;
    for digit in pairs.as_flattened_mut() {
        *digit = nibble(*digit);
        all |= *digit;
    }
    let mut out = [0; N];
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = high << 4 | low & 15;
    }
    (all < 16).then_some(out)
}

const NO_DIGIT: u8 = 0xff;

/// The value of a lower-case hex digit.
const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => NO_DIGIT,
    }
}

/// Lower-case hex.
pub(crate) fn hex_encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

/// Decodes exactly `N` bytes (at most 64) in canonical, padded base64 of the standard
/// alphabet.
pub(crate) fn base64_decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != N.div_ceil(3) * 4 {
        return None;
    }
    let (digits, end) = text.split_at_checked((N * 4).div_ceil(3))?;
    // As with hex, but a table: five ranges are not compared in one step.
    let mut room = [0; 66];
    let mut all = 0;
    let groups = room.as_chunks_mut::<3>().0.iter_mut();
    for (group, four) in groups.zip(digits.chunks(4)) {
        let mut bits = 0;
        for at in 0..4 {
            // Zeros stand in for the padding.
            let value = four.get(at).map_or(0, |digit| SEXTETS[usize::from(*digit)]);
            all |= value;
            bits = bits << 6 | u32::from(value & 63);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        *group = bytes;
    }
    // What the last digit has beyond the last byte must be zero.
    let (bytes, rest) = room.split_first_chunk()?;
    let canonical = rest.iter().all(|byte| *byte == 0) && end.iter().all(|byte| *byte == b'=');
    (all < 64 && canonical).then_some(*bytes)
}

/// The value of each digit of the standard alphabet.
const SEXTETS: [u8; 256] = {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 64 {
        table[digits[value as usize] as usize] = value;
        value += 1;
    }
    table
};

/// Where `byte` stands first in `text`. Eight bytes at a time: header fields are too short for
/// what a library of searches does first.
pub(crate) fn find(byte: u8, text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        // The lowest byte that is zero here is the first one that is `byte`.
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(at * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|other| *other == byte)?;
    Some(words.len() * 8 + at)
}

/// Decodes canonical, padded base64 of the standard alphabet into the front of `room`; `None`
/// as well when there is no room.
#[cfg(feature = "ecdsa")]
pub(crate) fn base64_decode_up_to<'a>(text: &[u8], room: &'a mut [u8; 72]) -> Option<&'a [u8]> {
    // A text of 96 characters is 70 to 72 bytes; the decoder asks for room for all of them.
    let len = STANDARD.decode_slice(text, room).ok()?;
    room.get(..len)
}

/// Decodes canonical, padded base64 of the standard alphabet, of any length.
#[cfg(feature = "rsa")]
pub(crate) fn base64_decode_any(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Padded base64 of the standard alphabet.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_hex_of_the_exact_length_is_read() {
        let good = "0f".repeat(32);
        assert_eq!(hex_decode(good.as_bytes()), Some([15; 32]));
        for bad in [
            good.to_uppercase(),
            good[2..].into(),
            format!("{good}00"),
            format!("0x{}", &good[2..]),
        ] {
            assert_eq!(hex_decode::<32>(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_canonical_padded_base64_is_read() {
        let good = base64_encode(&[0xff; 32]);
        assert_eq!(base64_decode(good.as_bytes()), Some([0xff; 32]));
        // `9` leaves the two unused bits set: same bytes, another text.
        let loose = good.replace("8=", "9=");
        assert_ne!(good, loose);
        for bad in [
            loose,
            good.trim_end_matches('=').into(),
            good.replace('/', "_"),
            format!(" {}", &good[1..]),
        ] {
            assert_eq!(base64_decode::<32>(bad.as_bytes()), None, "{bad}");
        }
    }

    /// Every text that differs from a good one in one place, beside the decoder of a library.
    #[test]
    fn base64_is_read_as_a_library_reads_it() {
        fn one<const N: usize>(bytes: [u8; N]) {
            let good = base64_encode(&bytes).into_bytes();
            for at in 0..good.len() {
                for byte in 0..=u8::MAX {
                    let mut text = good.clone();
                    text[at] = byte;
                    let expected = STANDARD.decode(&text).ok();
                    let expected = expected.and_then(|bytes| bytes.try_into().ok());
                    assert_eq!(base64_decode::<N>(&text), expected, "{at} {byte}");
                }
            }
        }
        one::<20>(std::array::from_fn(|i| (i * 37) as u8));
        one::<32>(std::array::from_fn(|i| (i * 89 + 5) as u8));
        one::<64>(std::array::from_fn(|i| (i * 53 + 3) as u8));
    }

    #[test]
    fn each_byte_is_read_as_a_hex_digit_or_refused() {
        for byte in 0..=u8::MAX {
            let digit = b"0123456789abcdef".iter().position(|digit| *digit == byte);
            let expected = digit.map(|value| value as u8);
            assert_eq!(hex_decode(&[b'0', byte]), expected.map(|low| [low]));
            assert_eq!(hex_decode(&[byte, b'0']), expected.map(|high| [high << 4]));
        }
    }

    #[test]
    fn the_first_of_the_bytes_looked_for_is_found_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..=len {
                for second in at..=len {
                    // Neighbours that differ in the lowest bit or the sign.
                    for other in [b'-', b',' | 0x80, 0, 0xff] {
                        let mut text = vec![other; len];
                        text[at..].iter_mut().take(1).for_each(|byte| *byte = b',');
                        text[second..]
                            .iter_mut()
                            .take(1)
                            .for_each(|byte| *byte = b',');
                        assert_eq!(find(b',', &text), (at < len).then_some(at));
                    }
                }
            }
        }
    }

    #[test]
    fn every_length_that_a_signature_has_is_read_and_no_other() {
        fn both<const N: usize>() {
            let bytes = [0xa5; N];
            for len in [0, 19, 20, 21, 31, 32, 33, 63, 64, 65] {
                let other = vec![0xa5; len];
                let expected = (len == N).then_some(bytes);
                assert_eq!(hex_decode(hex_encode(&other).as_bytes()), expected);
                assert_eq!(base64_decode(base64_encode(&other).as_bytes()), expected);
            }
            assert_eq!(hex_decode::<N>(&[b'a'; N]), None);
        }
        both::<20>();
        both::<32>();
        both::<64>();
    }
}
