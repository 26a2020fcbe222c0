//! Keys that rotate and address rules that change while deliveries arrive.
//!
//! Each check knows what was changed before it began and what had not been touched when it
//! ended. Between the two it may see the old or the new, but never neither, both or a mix.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use http::{Request, request::Parts};
use webhook_verify::{
    IpPolicy, IpRules, KeySet, Reason, Secret, Signer, Verifier, clock::ManualWallClock, presets,
};

const BODY: &[u8] = b"{\"action\":\"opened\"}";
const ROUNDS: usize = 1_500;
const VERIFIERS: usize = 3;

fn secret(index: usize) -> Secret {
    Secret::new(&format!("k{index}"), format!("key number {index}")).unwrap()
}

fn parts(headers: http::HeaderMap) -> Parts {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    parts.headers = headers;
    parts
}

/// Deliveries without a time, so that only the keys decide.
fn signed(index: usize) -> Parts {
    let signer = Signer::new(presets::github(), secret(index));
    parts(signer.sign(BODY).unwrap())
}

/// How far the rotation has come; each counter is moved beside the change it names.
#[derive(Default)]
struct Progress {
    /// Keys up to this one are being added: moved before the change.
    adding: AtomicUsize,
    /// Keys up to this one are there: moved after the change.
    added: AtomicUsize,
    /// Keys below this one are being taken away: moved before.
    ending: AtomicUsize,
    /// Keys below this one are gone: moved after.
    ended: AtomicUsize,
    done: AtomicBool,
}

struct Rotation {
    keys: KeySet,
    clock: ManualWallClock,
    verifier: Verifier,
    progress: Progress,
}

impl Rotation {
    fn new() -> Arc<Self> {
        let clock = ManualWallClock::new(1);
        let keys = KeySet::new([secret(0)]).unwrap();
        let verifier = Verifier::builder(presets::github())
            .keys(keys.clone())
            .clock(clock.clone())
            .build()
            .unwrap();
        let progress = Progress::default();
        Arc::new(Self {
            keys,
            clock,
            verifier,
            progress,
        })
    }

    /// Key `next - 1` makes room for key `next`, in one of the ways there are.
    fn rotate(&self, next: usize) {
        let (progress, old) = (&self.progress, secret(next - 1));
        let end = Duration::from_secs(2 * next as u64);
        progress.adding.store(next, SeqCst);
        match next % 3 {
            // All at once, the order the other way round.
            0 => self
                .keys
                .replace([(old, Some(end)), (secret(next), None)])
                .unwrap(),
            _ => self.keys.rotate(&secret(next), end).unwrap(),
        }
        progress.added.store(next, SeqCst);
        progress.ending.store(next, SeqCst);
        match next % 2 {
            0 => self.clock.set(end),
            _ => assert!(self.keys.remove(&format!("k{}", next - 1))),
        }
        progress.ended.store(next, SeqCst);
    }

    fn accepted(&self, delivery: &Parts, streamed: bool) -> bool {
        if !streamed {
            return self.verifier.verify(delivery, None, BODY).is_ok();
        }
        let Ok(mut session) = self.verifier.begin(delivery, None) else {
            return false;
        };
        let chunks = BODY.chunks(5).try_for_each(|chunk| session.update(chunk));
        chunks.is_ok() && session.finish().is_ok()
    }

    /// Verifies until the rotation is done; counts what had to pass and what must not.
    fn verify(&self, deliveries: &[Parts]) -> [usize; 2] {
        let (progress, mut counts) = (&self.progress, [0; 2]);
        for turn in 0.. {
            let (ended, added) = (progress.ended.load(SeqCst), progress.added.load(SeqCst));
            // The key that goes, the one that stays, the one that comes, and one after it.
            let index = (ended + turn % 4).saturating_sub(1).min(ROUNDS);
            let accepted = self.accepted(&deliveries[index], turn % 3 == 0);
            let (ending, adding) = (progress.ending.load(SeqCst), progress.adding.load(SeqCst));
            if index <= added && index >= ending {
                assert!(accepted, "key {index} was there all the time");
                counts[0] += 1;
            }
            if index < ended || index > adding {
                assert!(!accepted, "key {index} was never there");
                counts[1] += 1;
            }
            if progress.done.load(SeqCst) {
                break;
            }
        }
        counts
    }
}

#[test]
fn every_delivery_finds_its_key_while_keys_rotate_and_none_afterwards() {
    // D.c5
    let rotation = Rotation::new();
    let deliveries: Arc<Vec<_>> = Arc::new((0..=ROUNDS).map(signed).collect());
    let verifiers: Vec<_> = (0..VERIFIERS)
        .map(|_| {
            let (rotation, deliveries) = (Arc::clone(&rotation), Arc::clone(&deliveries));
            thread::spawn(move || {
                let _stop = Stop(&rotation.progress.done);
                rotation.verify(&deliveries)
            })
        })
        .collect();
    for next in 1..=ROUNDS {
        rotation.rotate(next);
    }
    rotation.progress.done.store(true, SeqCst);
    for verifier in verifiers {
        let [passed, refused] = verifier.join().unwrap();
        assert!(
            passed > 100 && refused > 100,
            "{passed} passed, {refused} refused"
        );
    }
    assert!(!rotation.accepted(&deliveries[ROUNDS - 1], false));
    assert!(rotation.accepted(&deliveries[ROUNDS], true));
}

/// A failed thread must not leave the others running.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_key_stops_at_its_end_time_and_not_before() {
    let clock = ManualWallClock::new(100);
    let verifier = Verifier::builder(presets::github())
        .secret(secret(0))
        .clock(clock.clone())
        .build()
        .unwrap();
    verifier
        .keys()
        .rotate(&secret(1), Duration::from_secs(200))
        .unwrap();
    let seen = |index| {
        verifier
            .verify(&signed(index), None, BODY)
            .map(|by| by.key_id().to_owned())
    };
    for (now, old_passes) in [
        (Duration::from_secs(100), true),
        (Duration::new(199, 999_999_999), true),
        (Duration::from_secs(200), false),
        (Duration::from_secs(201), false),
        // The clock was set back: the end is a time, not an event.
        (Duration::from_secs(150), true),
    ] {
        clock.set(now);
        assert_eq!(seen(0).is_ok(), old_passes, "{now:?}");
        assert_eq!(seen(1).unwrap(), "k1");
    }
    // An end that was nearer stays.
    verifier
        .keys()
        .rotate(&secret(2), Duration::from_secs(300))
        .unwrap();
    clock.set(Duration::from_secs(200));
    assert_eq!(seen(0).unwrap_err().reason(), &Reason::SignatureMismatch);
    assert_eq!(seen(1).unwrap(), "k1");
    clock.set(Duration::from_secs(300));
    assert!(seen(1).is_err());
    verifier.keys().remove("k2");
    assert_eq!(seen(2).unwrap_err().reason(), &Reason::NoActiveKey);
}

#[test]
fn a_session_that_began_keeps_the_keys_it_began_with() {
    let verifier = Verifier::builder(presets::github())
        .secret(secret(0))
        .build()
        .unwrap();
    let delivery = signed(0);
    let mut session = verifier.begin(&delivery, None).unwrap();
    verifier.keys().replace([(secret(1), None)]).unwrap();
    session.update(BODY).unwrap();
    assert_eq!(session.finish().unwrap().key_id(), "k0");
    assert!(verifier.verify(&delivery, None, BODY).is_err());
}

#[test]
fn changes_made_at_once_are_all_made() {
    const EACH: usize = 300;
    let keys = KeySet::new([secret(0)]).unwrap();
    let threads: Vec<_> = [1_000, 2_000]
        .into_iter()
        .map(|first| {
            let keys = keys.clone();
            thread::spawn(move || {
                for index in first..first + EACH {
                    keys.rotate(&secret(index), Duration::MAX).unwrap();
                    if index % 2 == 0 {
                        assert!(keys.remove(&format!("k{index}")));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut ids: Vec<_> = keys.ids().iter().map(ToString::to_string).collect();
    ids.sort();
    let odd = |first: usize| (first..first + EACH).filter(|index| index % 2 == 1);
    let mut expected: Vec<_> = odd(1_000)
        .chain(odd(2_000))
        .map(|index| format!("k{index}"))
        .collect();
    expected.push("k0".to_owned());
    expected.sort();
    assert_eq!(ids, expected);
}

/// Two sets of rules that have one sender in common, and neither proxies nor header.
fn rules() -> [IpRules; 2] {
    let one = IpRules::allow(["192.0.2.0/24", "203.0.113.9"]).unwrap();
    let other = IpRules::allow(["198.51.100.0/24", "203.0.113.9"]).unwrap();
    [
        one.trust_proxies(["10.0.0.0/8"]).unwrap(),
        other
            .trust_proxies(["172.16.0.0/12"])
            .unwrap()
            .forwarded_by(webhook_verify::ForwardedBy::Forwarded),
    ]
}

#[test]
fn address_rules_are_swapped_as_a_whole() {
    const TURNS: usize = 20_000;
    let [one, other] = rules();
    let policy = IpPolicy::new(one.clone());
    let verifier = Verifier::builder(presets::github())
        .secret(secret(0))
        .source(policy.clone())
        .build()
        .unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let verifiers: Vec<_> = (0..2)
        .map(|_| {
            let (verifier, done) = (verifier.clone(), Arc::clone(&done));
            thread::spawn(move || {
                let _stop = Stop(&done);
                check_addresses(&verifier, TURNS)
            })
        })
        .collect();
    while !done.load(SeqCst) {
        policy.replace(other.clone());
        policy.replace(one.clone());
    }
    for verifier in verifiers {
        let [one, other] = verifier.join().unwrap();
        assert!(
            one > 100 && other > 100,
            "{one} under one, {other} under the other"
        );
    }
}

/// A peer, what it says of others, and the addresses that may be judged: under the one rules
/// and under the others. `Ok` passes.
type Case = (
    &'static str,
    [&'static str; 2],
    [Result<&'static str, &'static str>; 2],
);

const CASES: [Case; 6] = [
    // In both; in one; in the other; in neither.
    (
        "203.0.113.9",
        ["", ""],
        [Ok("203.0.113.9"), Ok("203.0.113.9")],
    ),
    ("192.0.2.1", ["", ""], [Ok("192.0.2.1"), Err("192.0.2.1")]),
    (
        "198.51.100.1",
        ["", ""],
        [Err("198.51.100.1"), Ok("198.51.100.1")],
    ),
    ("8.8.8.8", ["", ""], [Err("8.8.8.8"), Err("8.8.8.8")]),
    // Would pass under the proxies of the one and the senders of the other.
    (
        "10.0.0.1",
        ["198.51.100.1", "for=198.51.100.1"],
        [Err("198.51.100.1"), Err("10.0.0.1")],
    ),
    (
        "172.16.0.1",
        ["192.0.2.1", "for=192.0.2.1"],
        [Err("172.16.0.1"), Err("192.0.2.1")],
    ),
];

fn check_addresses(verifier: &Verifier, turns: usize) -> [usize; 2] {
    let deliveries = CASES.map(|(peer, [list, element], _)| {
        let mut parts = signed(0);
        if !list.is_empty() {
            parts
                .headers
                .insert("x-forwarded-for", list.parse().unwrap());
            parts.headers.insert("forwarded", element.parse().unwrap());
        }
        (peer.parse().ok(), parts)
    });
    let mut counts = [0; 2];
    for turn in 0..turns {
        let ((peer, parts), (_, _, expected)) = (&deliveries[turn % 6], CASES[turn % 6]);
        let answer = verifier.verify(parts, *peer, BODY);
        let answer = answer
            .map(|by| by.source())
            .map_err(|error| error.reason().clone());
        let expected = expected.map(|expected| match expected {
            Ok(source) => Ok(source.parse().ok()),
            Err(source) => Err(Reason::SourceDenied(source.parse().unwrap())),
        });
        assert!(
            expected.contains(&answer),
            "{:?}: {answer:?}",
            CASES[turn % 6]
        );
        if expected[0] != expected[1] {
            counts[usize::from(answer == expected[1])] += 1;
        }
    }
    counts
}
