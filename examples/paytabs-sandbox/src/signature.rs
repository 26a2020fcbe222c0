//! PayTabs' two signatures, written down once more and apart from the verifier under test.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Lower-case hex HMAC-SHA256 of `message` under `key`: the callback's `signature`
/// header when `message` is the raw body and `key` the profile's server key.
#[must_use]
#[allow(clippy::missing_panics_doc)] // PANIC-FREE: HMAC takes keys of any length.
pub fn hex_hmac_sha256(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize()
        .into_bytes()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            for nibble in [byte >> 4, byte & 0xf] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
            hex
        })
}

/// The signature of a return form: the fields without `signature` and without empty
/// values (`"0"` stays), sorted by name, encoded as PHP's `http_build_query` does.
///
/// Of a repeated field the last value counts, as in PHP.
#[must_use]
pub fn return_signature(key: &[u8], fields: &[(&str, &str)]) -> String {
    let sorted: BTreeMap<&str, &str> = fields
        .iter()
        .copied()
        .filter(|(name, _)| *name != "signature")
        .collect();
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in sorted {
        if !value.is_empty() {
            query.append_pair(name, value);
        }
    }
    // `form_urlencoded` and PHP differ in one character: PHP encodes `*`. Both write
    // `~` as %7E and a blank as `+`.
    let query = query.finish().replace('*', "%2A");
    hex_hmac_sha256(key, query.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_agrees_with_rfc_4231_case_2() {
        assert_eq!(
            hex_hmac_sha256(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn return_fields_are_sorted_filtered_and_encoded_as_php_does() {
        let fields = [
            ("tranRef", "T*1~"),
            ("signature", "ignored"),
            ("token", ""),
            ("zero", "0"),
            ("respMessage", "paid in full"),
        ];
        let query = b"respMessage=paid+in+full&tranRef=T%2A1%7E&zero=0";
        assert_eq!(
            return_signature(b"k", &fields),
            hex_hmac_sha256(b"k", query)
        );
    }
}
