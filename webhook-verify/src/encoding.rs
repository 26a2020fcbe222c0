//! Strict hex and base64 of exactly one HMAC-SHA256 value.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Decodes 64 lower-case hex digits; anything else is `None`.
pub(crate) fn hex_decode(text: &[u8]) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.try_into().ok()?;
    let mut out = [0; 32];
    // No branch per digit: the digits of a MAC are random, so a branch guesses wrong often.
    let mut all = 0;
    for (byte, pair) in out.iter_mut().zip(text.as_chunks::<2>().0) {
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

/// Decodes 32 bytes in canonical, padded base64 of the standard alphabet.
pub(crate) fn base64_decode(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 44 {
        return None;
    }
    // One group more than needed: the decoder asks for room before it sees the padding.
    let mut room = [0; 48];
    match STANDARD.decode_slice(text, &mut room) {
        Ok(32) => room.first_chunk().copied(),
        _ => None,
    }
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
            assert_eq!(hex_decode(bad.as_bytes()), None, "{bad}");
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
            assert_eq!(base64_decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
