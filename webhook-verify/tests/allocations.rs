//! The HMAC path allocates nothing.

use std::time::Duration;

use http::Request;
use webhook_verify::{Secret, Signer, Verifier, clock::ManualWallClock, presets};

/// Keys of another kind; and those that read the delivery to know what was signed.
const OTHERS: [&str; 6] = [
    "discord",
    "sendgrid",
    "adyen",
    "mailgun",
    "mailgun_parent",
    "paytabs_return",
];

#[test]
fn verify_allocates_nothing_under_two_keys() {
    let hmac = presets::names().filter(|name| !OTHERS.contains(name));
    let square = presets::square("https://example.com/hook");
    let all: Vec<_> = hmac.filter_map(presets::by_name).chain([square]).collect();
    assert!(all.len() >= 17, "{}", all.len());
    for scheme in all {
        let now = Duration::from_secs(1_700_000_000);
        let [new, old] = ["new", "old"].map(|id| Secret::new(id, format!("key {id}")).unwrap());
        let verifier = Verifier::builder(scheme.clone())
            .secret(new)
            .secret(old.clone())
            .clock(ManualWallClock::new(now.as_secs()))
            .build()
            .unwrap();
        let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
        parts.headers = Signer::new(scheme, old)
            .sign_with_id("msg_1", now, b"{}")
            .unwrap();
        // The first load of a thread sets up arc-swap's own slot.
        verifier.verify(&parts, None, b"{}").unwrap();
        let used = allocation_counter::measure(|| {
            assert_eq!(
                verifier.verify(&parts, None, b"{}").unwrap().key_id(),
                "old"
            );
        });
        assert_eq!(used.count_total, 0);
    }
}
