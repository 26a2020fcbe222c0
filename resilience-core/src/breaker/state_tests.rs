//! Every transition of the state word, as plain values.

use super::*;

const NOW: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const LATER: u64 = 1_001_000_000_000;

/// Three probes, two must succeed.
fn two_of_three() -> Config {
    let builder = Config::builder().half_open_permits(3).success_threshold(2);
    builder.build().unwrap()
}

fn admit(word: Word, deadline: u64, config: &Config) -> Option<Word> {
    let (next, admission) = word.acquire(NOW, deadline, config);
    match admission {
        Admission::Refused => {
            assert_eq!(next, word, "a refusal changes nothing");
            None
        }
        _ => Some(next),
    }
}

/// Half-open with `out` probes handed out.
fn half_open(out: u32, config: &Config) -> Word {
    let mut word = admit(Word::NEW.open(), NOW, config).unwrap();
    for _ in 1..out {
        word = admit(word, LATER, config).unwrap();
    }
    word
}

#[test]
fn a_word_survives_packing_at_its_limits() {
    let full = Word {
        state: State::Open,
        gear: Gear::Observe,
        generation: GENERATION_MASK,
        openings: MAX_OPENINGS,
        spent: MAX_PERMITS,
        outstanding: MAX_PERMITS,
        successes: MAX_PERMITS,
    };
    assert_eq!(Word::unpack(full.pack()), full);
    // One field at a time, so that a shifted field cannot hide behind its neighbour.
    for word in [
        Word {
            gear: Gear::Observe,
            ..Word::NEW
        },
        Word {
            generation: GENERATION_MASK,
            ..Word::NEW
        },
        Word {
            openings: MAX_OPENINGS,
            ..Word::NEW
        },
        Word {
            spent: MAX_PERMITS,
            ..Word::NEW
        },
        Word {
            outstanding: MAX_PERMITS,
            ..Word::NEW
        },
        Word {
            successes: MAX_PERMITS,
            ..Word::NEW
        },
        Word {
            state: State::HalfOpen,
            ..Word::NEW
        },
        Word {
            state: State::Open,
            ..Word::NEW
        },
    ] {
        assert_eq!(Word::unpack(word.pack()), word);
        assert_eq!(Word::generation_of(word.pack()), word.generation);
        let plain = word
            == Word {
                generation: word.generation,
                ..Word::NEW
            };
        assert_eq!(word.pack() == u64::from(word.generation), plain);
    }
}

#[test]
fn closed_admits_and_changes_nothing_whatever_the_time() {
    let (next, admission) = Word::NEW.acquire(NOW, LATER, &Config::default());
    assert_eq!((next, admission), (Word::NEW, Admission::Call));
}

#[test]
fn closed_opens_into_the_next_generation() {
    let open = Word::NEW.open();
    assert_eq!(
        (open.state, open.generation, open.openings),
        (State::Open, 1, 1)
    );
    assert_eq!((open.spent, open.outstanding, open.successes), (0, 0, 0));
}

#[test]
fn open_refuses_before_its_deadline_and_admits_the_first_probe_at_it() {
    let config = two_of_three();
    let open = Word::NEW.open();
    let just_before = NOW + 1;
    assert_eq!(admit(open, just_before, &config), None);
    let (next, admission) = open.acquire(NOW, NOW, &config);
    assert_eq!(admission, Admission::Probe);
    assert_eq!((next.state, next.generation), (State::HalfOpen, 2));
    assert_eq!((next.spent, next.outstanding, next.successes), (1, 1, 0));
    assert_eq!(next.openings, 1, "only a close forgets the openings");
}

#[test]
fn half_open_admits_its_permits_and_no_more() {
    let config = two_of_three();
    let word = half_open(3, &config);
    assert_eq!((word.spent, word.outstanding), (3, 3));
    assert_eq!(word.generation, 2);
    assert_eq!(admit(word, LATER, &config), None);
    // A probe that ended does not come back, it is spent.
    let word = word.probe_succeeded(&config);
    assert_eq!(admit(word, LATER, &config), None);
}

#[test]
fn the_success_threshold_closes_and_forgets_the_openings() {
    let config = two_of_three();
    let word = Word {
        openings: 5,
        ..half_open(2, &config)
    };
    let word = word.probe_succeeded(&config);
    assert_eq!(
        (word.state, word.successes, word.outstanding),
        (State::HalfOpen, 1, 1)
    );
    let closed = word.probe_succeeded(&config);
    assert_eq!(
        closed,
        Word {
            generation: 3,
            ..Word::NEW
        }
    );
}

#[test]
fn half_open_reopens_when_the_success_threshold_is_out_of_reach() {
    let config = two_of_three();
    let word = half_open(3, &config).probe_failed(&config);
    assert_eq!(
        (word.state, word.failures(), word.outstanding),
        (State::HalfOpen, 1, 2)
    );
    let open = word.probe_failed(&config);
    assert_eq!(
        (open.state, open.generation, open.openings),
        (State::Open, 3, 2)
    );
    assert_eq!((open.spent, open.outstanding, open.successes), (0, 0, 0));
}

#[test]
fn with_no_probe_failure_allowed_the_first_one_reopens() {
    let config = Config::builder().probe_failures(0).build().unwrap();
    let word = half_open(2, &config).probe_failed(&config);
    assert_eq!(word.state, State::Open);
}

#[test]
fn an_abandoned_probe_gives_its_permit_back() {
    let config = two_of_three();
    let word = half_open(3, &config).probe_abandoned();
    assert_eq!((word.spent, word.outstanding), (2, 2));
    assert_eq!((word.failures(), word.state), (0, State::HalfOpen));
    assert_eq!(admit(word, LATER, &config).map(|word| word.spent), Some(3));
}

#[test]
fn an_expired_lease_writes_off_the_probes_that_are_out_and_keeps_the_others() {
    let config = two_of_three();
    let word = half_open(3, &config).probe_failed(&config);
    assert_eq!(admit(word, LATER, &config), None);
    let next = admit(word, NOW, &config).unwrap();
    // One failed and is spent; two were lost; one of their permits is taken at once.
    assert_eq!((next.spent, next.outstanding, next.failures()), (2, 1, 1));
    assert_eq!((next.state, next.generation), (State::HalfOpen, 3));
}

#[test]
fn an_expired_lease_is_not_looked_at_while_permits_are_left() {
    let config = two_of_three();
    let next = admit(half_open(1, &config), NOW, &config).unwrap();
    assert_eq!((next.spent, next.outstanding, next.generation), (2, 2, 2));
}

#[test]
fn the_generation_wraps_at_2_to_the_23() {
    let last = Word {
        generation: (1 << 23) - 1,
        ..Word::NEW
    };
    let open = last.open();
    assert_eq!(open.generation, 0);
    assert_eq!(Word::unpack(open.pack()), open);
}

#[test]
fn the_openings_stop_at_63() {
    let mut word = Word::NEW;
    for _ in 0..100 {
        word = word.open();
    }
    assert_eq!(word.openings, 63);
    assert_eq!(word.generation, 100);
}

#[test]
fn the_wait_doubles_with_each_opening_up_to_the_cap() {
    let config = Config::default();
    let seconds = |openings| open_for(&config, openings, 7, None) / SECOND;
    let waits: Vec<_> = [1, 2, 3, 4, 5, 32, 63].map(seconds).into();
    assert_eq!(waits, [30, 60, 120, 240, 300, 300, 300]);
}

#[test]
fn jitter_stays_in_its_range_and_reaches_both_sides() {
    let config = Config::builder().jitter(0.2).build().unwrap();
    let waits: Vec<_> = (0..1000)
        .map(|seed| open_for(&config, 1, seed, None) as f64 / SECOND as f64)
        .collect();
    assert!(waits.iter().all(|wait| (24.0..=36.0).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < 25.0));
    assert!(waits.iter().any(|wait| *wait > 35.0));
    // The same seed gives the same wait: whoever helps a slow opener agrees with it.
    assert_eq!(open_for(&config, 1, 9, None), open_for(&config, 1, 9, None));
}

#[test]
fn retry_after_is_a_floor_of_at_most_a_day() {
    let config = Config::default();
    let wait = |asked| open_for(&config, 1, 0, Some(Duration::from_secs(asked))) / SECOND;
    assert_eq!(wait(5), 30);
    assert_eq!(wait(400), 400, "above the cap of the doubling as well");
    assert_eq!(wait(u64::MAX), 86_400);
}
