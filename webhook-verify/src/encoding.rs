//! Strict hex and base64 of values whose length is known.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Decodes exactly `N` bytes in lower-case hex; anything else is `None`.
pub(crate) fn hex_decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut out = [0; N];
    // No branch per digit: the digits of a MAC are random, so a branch guesses wrong often.
    let mut all = 0;
    for (byte, pair) in out.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| NIBBLES[usize::from(digit)]);
        all |= high | low;
        *byte = high << 4 | low & 15;
    }
    (all < 16).then_some(out)
}

const NO_DIGIT: u8 = 0xff;

/// The value of each lower-case hex digit.
const NIBBLES: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

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
    // One group more than needed: the decoder asks for room before it sees the padding.
    let mut room = [0; 72];
    match STANDARD.decode_slice(text, &mut room) {
        Ok(len) if len == N => room.first_chunk().copied(),
        _ => None,
    }
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
