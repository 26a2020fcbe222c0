//! Racing calls under the model checker, on a table of two places that every key may take.

use loom::{model::Builder, sync::Arc, thread};

use super::{
    super::Quota,
    fills::{Fills, Terms},
    live::LiveQuota,
    slot::Slot,
    table::Table,
};

const SECOND: u64 = 1_000_000_000;
const A: u64 = 1 << 40;
const B: u64 = 2 << 40;
const C: u64 = 3 << 40;
const D: u64 = 4 << 40;

fn table(max_keys: usize) -> Arc<Table> {
    Arc::new(Table::with_buckets(max_keys, 2))
}

/// One permit a second.
fn terms(table: &Table, burst: u32) -> Terms {
    table
        .fills
        .terms(Quota::per_second(1).unwrap().burst(burst).unwrap())
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = None;
    builder.check(model);
}

#[test]
fn loom_two_calls_of_a_new_key_share_one_bucket() {
    explore(|| {
        let table = table(2);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(A, 1, 0, &terms(&other, 1)).is_ok());
        let mine = table.take(A, 1, 0, &terms(&table, 1)).is_ok();
        assert!(mine ^ thread.join().unwrap());
        assert_eq!(table.len(), 1);
    });
}

#[test]
fn loom_two_hits_cannot_both_spend_the_last_permit() {
    explore(|| {
        let table = table(2);
        let terms = terms(&table, 2);
        table.take(A, 1, 0, &terms).unwrap();
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(A, 1, 0, &terms).is_ok());
        let mine = table.take(A, 1, 0, &terms).is_ok();
        assert!(mine ^ thread.join().unwrap());
    });
}

/// Both places are taken: by A, and by a key that has spent so much that it is never evicted.
fn full(table: &Table, terms: &Terms) {
    table.take(D, 3, 0, terms).unwrap();
    table.take(A, 1, 0, terms).unwrap();
}

// The new key's word has the time that the old one's had: a late exchange for the old key must not
// be taken for one of the new key's.
#[test]
fn loom_a_call_of_an_evicted_key_never_charges_the_next_one() {
    explore(|| {
        let table = table(2);
        let terms = terms(&table, 3);
        full(&table, &terms);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || {
            other.take(B, 1, 0, &terms).unwrap();
            assert_eq!(other.len(), 2);
        });
        table.take(A, 1, 0, &terms).unwrap();
        thread.join().unwrap();
        // Whoever is held was charged its own calls only.
        let (a, b) = (table.look(A, 0, &terms), table.look(B, 0, &terms));
        assert!(
            (a, b) == (SECOND, 0) || (a, b) == (0, SECOND),
            "charged {a}, {b}"
        );
        assert_eq!(table.look(D, 0, &terms), 3 * SECOND);
    });
}

// The same on one place alone, where the checker explores every step.
#[test]
fn loom_a_place_that_changes_hands_is_charged_for_its_own_key_only() {
    explore(|| {
        let quota = Quota::per_second(1).unwrap().burst(3).unwrap();
        let slot = Arc::new(Slot::new());
        slot.fill(A | 1, SECOND);
        let other = Arc::clone(&slot);
        let thread = thread::spawn(move || {
            other.freeze();
            other.fill(B | 1, SECOND);
        });
        if slot.holds(A | 1) {
            let _ = slot.take(A | 1, 1, 0, &quota);
        }
        thread.join().unwrap();
        assert_eq!(slot.word().time(), SECOND);
    });
}

#[test]
fn loom_a_key_that_is_moved_keeps_the_charge_of_every_call() {
    explore(|| {
        let quota = Quota::per_second(1).unwrap().burst(3).unwrap();
        let slots = Arc::new([Slot::new(), Slot::new()]);
        slots[0].fill(A | 1, SECOND);
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || other[0].move_to(&other[1]));
        let held = slots.iter().find(|slot| slot.holds(A | 1));
        let taken = held.and_then(|slot| slot.take(A | 1, 1, 0, &quota));
        thread.join().unwrap();
        let calls = 1 + u64::from(taken.is_some());
        assert!(slots[0].is_empty());
        assert_eq!(slots[1].word().time(), calls * SECOND);
    });
}

// A recovered key loses nothing by eviction; so if it was called again it must not count as such.
#[test]
fn loom_a_recovered_key_that_is_called_again_is_not_evicted_as_recovered() {
    explore(|| {
        let table = table(2);
        let terms = terms(&table, 3);
        full(&table, &terms);
        let other = Arc::clone(&table);
        let now = SECOND;
        let thread = thread::spawn(move || other.take(B, 1, now, &terms).is_ok());
        assert!(table.take(A, 1, now, &terms).is_ok() && thread.join().unwrap());
        let (a, b) = (table.look(A, now, &terms), table.look(B, now, &terms));
        match table.evicted() {
            // A was dropped while full and came back, for which B had to go early.
            (1, 1) => assert_eq!((a, b), (2 * SECOND, SECOND)),
            // A's call came first, and A had to go early.
            (0, 1) => assert_eq!((a, b), (0, 2 * SECOND)),
            other => panic!("evicted {other:?}"),
        }
    });
}

#[test]
fn loom_a_change_of_quota_loses_no_call_and_grants_none() {
    explore(|| {
        let table = table(2);
        let old = terms(&table, 2);
        let new = table
            .fills
            .terms(Quota::per_minute(20).unwrap().burst(2).unwrap());
        table.take(A, 1, 0, &old).unwrap();
        let other = Arc::clone(&table);
        // Half of the burst is left, under either quota.
        let thread = thread::spawn(move || other.take(A, 1, 0, &new).is_ok());
        let mine = table.take(A, 1, 0, &old).is_ok();
        assert!(mine ^ thread.join().unwrap());
        assert_eq!(table.look(A, 0, &old), 2 * SECOND);
    });
}

#[test]
fn loom_a_refund_and_a_call_are_both_counted() {
    explore(|| {
        let table = table(2);
        let terms = terms(&table, 3);
        table.take(A, 2, 0, &terms).unwrap();
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.give_back(A, SECOND, 0, &terms));
        table.take(A, 1, 0, &terms).unwrap();
        thread.join().unwrap();
        assert_eq!(table.look(A, 0, &terms), 2 * SECOND);
    });
}

#[test]
fn loom_the_cap_holds_whoever_comes_and_goes() {
    explore(|| {
        let table = table(1);
        let terms = terms(&table, 1);
        table.take(A, 1, 0, &terms).unwrap();
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || {
            other.remove(A);
            assert!(other.len() <= 1);
        });
        table.take(C, 1, 0, &terms).unwrap();
        assert!(table.len() <= 1);
        thread.join().unwrap();
        assert_eq!(table.look(C, 0, &terms), SECOND);
        assert_eq!(table.len(), 1);
    });
}

#[test]
fn loom_a_quota_is_never_read_half_and_half() {
    explore(|| {
        let fills = Fills::new();
        let quotas = [1, 2, 3, 4, 5, 6].map(|n| Quota::per_second(n).unwrap());
        let live = Arc::new(LiveQuota::new(&fills.terms(quotas[0])));
        let other = Arc::clone(&live);
        let terms = [1, 2, 3, 4, 5].map(|place: usize| fills.terms(quotas[place]));
        let thread = thread::spawn(move || {
            for terms in &terms {
                other.store(terms);
            }
        });
        assert!(quotas.contains(&live.load().quota));
        thread.join().unwrap();
        assert_eq!(live.load().quota, quotas[5]);
    });
}
