//! The contract of every outbox and inbox.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use nestcms::{
    adapters::sqlite::{Database, SqliteStore},
    domain::{
        event::{Event, EventData, Source, Timestamp},
        money::{Currency, Money},
        payment::{Payment, Status},
    },
    ports::{
        Attempt, DeadLetter, Effect, Entry, Failed, Inbox, Outbox, PaymentRepository, Settlement,
    },
    settings::Settings,
};
use resilience_core::breaker::CircuitBreaker;

use crate::flows::support::TempDir;

/// H8.c2, H5.c2
#[tokio::test]
async fn sqlite_keeps_the_contract_of_the_outbox() {
    let (_dir, store) = sqlite().await;
    contract(&store).await;
}

/// A store on a new file.
pub(crate) async fn sqlite() -> (TempDir, SqliteStore) {
    let dir = TempDir::new();
    let mut settings = Settings::demo().database;
    settings.path = dir.0.join("outbox.db");
    let database = Database::open(&settings, CircuitBreaker::new("database"));
    (dir, SqliteStore::new(database.await.unwrap()))
}

/// What every store must do, whatever engine stands behind it.
pub(crate) async fn contract(store: &(impl PaymentRepository + Outbox + Inbox)) {
    entries_come_with_their_change(store).await;
    one_leads(store).await;
    a_key_waits_for_its_entry(store).await;
    what_is_buried_can_be_replayed(store).await;
    what_is_old_is_swept(store).await;
    an_effect_happens_once(store).await;
    a_consumer_gives_up(store).await;
}

/// H8.c2
async fn entries_come_with_their_change(store: &(impl PaymentRepository + Outbox)) {
    let created = [event("p-1", "created")];
    store
        .create(&payment("p-1", "key"), &created)
        .await
        .unwrap();
    let due = store.due(at(1), 10).await.unwrap();
    assert_eq!(due.len(), 1);
    let expected = Entry::of(&created[0]).unwrap();
    assert_eq!(
        Entry {
            seq: 0,
            ..due[0].clone()
        },
        expected
    );
    assert_eq!(due[0].key, "p-1");

    // What is not done is not told.
    let again = [event("p-2", "created")];
    store.create(&payment("p-2", "key"), &again).await.unwrap();
    let settlement = Settlement {
        to: Status::Succeeded,
        reason: None,
        delivery: None,
        events: vec![event("p-1", "settled")],
    };
    store.settle("p-1", &settlement, at(2)).await.unwrap();
    assert_eq!(store.due(at(2), 10).await.unwrap().len(), 1);

    store
        .initiate("p-1", "ref", "http://page", at(2))
        .await
        .unwrap();
    let verify_at = at(9);
    store
        .begin_processing("p-1", "c", verify_at, at(2))
        .await
        .unwrap();
    store.settle("p-1", &settlement, at(3)).await.unwrap();
    store.settle("p-1", &settlement, at(3)).await.unwrap();
    assert_eq!(
        ids(&store.due(at(3), 10).await.unwrap()),
        ["created", "settled"]
    );

    // A change that fails when its first entry is written takes it back.
    for id in ["p-3", "p-4"] {
        store.create(&payment(id, id), &[]).await.unwrap();
    }
    let fails = |payment: &Payment, _| {
        assert_eq!(payment.id, "p-3", "told of the first only");
        vec![event(&payment.id, "lost")]
    };
    let expire = AssertUnwindSafe(store.expire(at(5000), 10, fails));
    assert!(expire.catch_unwind().await.is_err());
    assert_eq!(store.due(at(5000), 10).await.unwrap().len(), 2);
    assert_eq!(
        store.find("p-3").await.unwrap().unwrap().status,
        Status::Created
    );

    let tell = |payment: &Payment, from: Status| vec![event(&payment.id, from.as_str())];
    let expired = store.expire(at(5000), 1, tell).await.unwrap();
    assert_eq!(expired.len(), 1);
    let due = store.due(at(5000), 10).await.unwrap();
    assert_eq!(
        ids(&due),
        ["created", "settled", expired[0].events[0].id.as_str()]
    );

    assert_eq!(store.depth().await.unwrap().waiting, 3);
    assert_eq!(store.depth().await.unwrap().oldest, Some(at(7)));
    let seqs: Vec<_> = due.iter().map(|entry| entry.seq).collect();
    store.sent(&seqs, at(5000)).await.unwrap();
    assert!(store.due(at(5000), 10).await.unwrap().is_empty());
    assert_eq!(
        store.depth().await.unwrap(),
        nestcms::ports::Depth::default()
    );
}

async fn one_leads(store: &impl Outbox) {
    assert!(store.lead("a", at(10), at(20)).await.unwrap());
    assert!(!store.lead("b", at(19), at(29)).await.unwrap());
    assert!(store.lead("a", at(19), at(30)).await.unwrap());
    assert!(!store.lead("b", at(29), at(40)).await.unwrap());
    assert!(store.lead("b", at(30), at(40)).await.unwrap());
    assert!(!store.lead("a", at(31), at(41)).await.unwrap());
}

async fn a_key_waits_for_its_entry(store: &(impl PaymentRepository + Outbox)) {
    let events = [
        event("k-1", "k-1a"),
        event("k-1", "k-1b"),
        event("k-2", "k-2a"),
    ];
    store.create(&payment("k-1", "k"), &events).await.unwrap();
    assert_eq!(
        ids(&store.due(at(10), 10).await.unwrap()),
        ["k-1a", "k-1b", "k-2a"]
    );
    assert_eq!(ids(&store.due(at(10), 2).await.unwrap()), ["k-1a", "k-1b"]);
    let mut first = store.due(at(10), 1).await.unwrap().remove(0);
    first.history.push(attempt(10, "no"));
    store.put_off(&first, at(20)).await.unwrap();
    assert_eq!(ids(&store.due(at(19), 10).await.unwrap()), ["k-2a"]);
    let due = store.due(at(20), 10).await.unwrap();
    assert_eq!(ids(&due), ["k-1a", "k-1b", "k-2a"]);
    assert_eq!(due[0], first);
    let seqs: Vec<_> = due.iter().skip(1).map(|entry| entry.seq).collect();
    store.sent(&seqs, at(20)).await.unwrap();
}

/// G.6, G.c2
async fn what_is_buried_can_be_replayed(store: &impl Outbox) {
    let mut entry = store.due(at(20), 10).await.unwrap().remove(0);
    entry.history.push(attempt(20, "still no"));
    store.bury(&entry, at(21)).await.unwrap();
    assert!(store.due(at(99), 10).await.unwrap().is_empty());
    assert_eq!(store.depth().await.unwrap().dead, 1);
    let letter = DeadLetter {
        id: "k-1a".to_owned(),
        source: "outbox".to_owned(),
        event_id: "k-1a".to_owned(),
        kind: entry.kind.clone(),
        key: "k-1".to_owned(),
        payload: entry.payload.clone(),
        correlation_id: "corr".to_owned(),
        history: vec![attempt(10, "no"), attempt(20, "still no")],
        died_at: Timestamp::from_unix(at(21)),
    };
    let listed = store.dead_letters(10).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&letter));
    assert_eq!(store.dead_letter("k-1a").await.unwrap(), Some(letter));
    assert_eq!(store.dead_letter("nobody").await.unwrap(), None);

    assert!(!store.replay("nobody", at(30)).await.unwrap());
    assert!(store.replay("k-1a", at(30)).await.unwrap());
    assert!(!store.replay("k-1a", at(30)).await.unwrap());
    assert!(store.dead_letters(10).await.unwrap().is_empty());
    let due = store.due(at(30), 10).await.unwrap();
    assert_eq!(ids(&due), ["k-1a"]);
    assert!(due[0].history.is_empty());
    // A broker that leaves out what it has seen has not seen this.
    assert_ne!(due[0].message_id, entry.message_id);
    store.sent(&[due[0].seq], at(30)).await.unwrap();
}

async fn what_is_old_is_swept(store: &(impl PaymentRepository + Outbox)) {
    while store.sweep(at(9999), 100).await.unwrap() > 0 {}
    let events = [
        event("s-1", "s-1a"),
        event("s-1", "s-1b"),
        event("s-1", "s-1c"),
    ];
    store.create(&payment("s-1", "s"), &events).await.unwrap();
    let due = store.due(at(40), 10).await.unwrap();
    store.sent(&[due[0].seq, due[1].seq], at(40)).await.unwrap();
    assert_eq!(store.sweep(at(40), 10).await.unwrap(), 0);
    assert_eq!(store.sweep(at(41), 1).await.unwrap(), 1);
    assert_eq!(store.sweep(at(41), 10).await.unwrap(), 1);
    assert_eq!(ids(&store.due(at(41), 10).await.unwrap()), ["s-1c"]);
    store.sent(&[due[2].seq], at(41)).await.unwrap();
}

async fn an_effect_happens_once(store: &impl Inbox) {
    let effects = [booking("e-1"), booking("e-2")];
    assert_eq!(store.apply("accounting", &effects, at(1)).await.unwrap(), 2);
    assert_eq!(store.apply("accounting", &effects, at(2)).await.unwrap(), 0);
    let more = [booking("e-2"), booking("e-3"), booking("e-3")];
    assert_eq!(store.apply("accounting", &more, at(3)).await.unwrap(), 1);
    // Another consumer has an inbox of its own.
    assert_eq!(store.apply("other", &more, at(3)).await.unwrap(), 2);
}

/// G.c2
async fn a_consumer_gives_up(store: &(impl Outbox + Inbox)) {
    let entry = Entry::of(&event("d-1", "d-1a")).unwrap();
    for n in 1..6 {
        let failed = store.failed("receipts", &entry, attempt(n, "no"), 6).await;
        assert_eq!(failed.unwrap(), Failed::Again(n as usize));
        assert!(store.dead_letters(10).await.unwrap().is_empty());
    }
    let failed = store
        .failed("receipts", &entry, attempt(6, "never"), 6)
        .await;
    assert_eq!(failed.unwrap(), Failed::Dead);
    let letters = store.dead_letters(10).await.unwrap();
    assert_eq!(
        (letters[0].source.as_str(), letters[0].history.len()),
        ("receipts", 6)
    );
    store.recovered("receipts", "d-1a").await.unwrap();
    assert_eq!(store.dead_letters(10).await.unwrap().len(), 1);
    assert!(store.replay(&letters[0].id, at(50)).await.unwrap());
    let due = store.due(at(50), 10).await.unwrap();
    assert_eq!(ids(&due), ["d-1a"]);
    store.sent(&[due[0].seq], at(50)).await.unwrap();

    // What went well in the end has no history.
    let other = Entry::of(&event("d-2", "d-2a")).unwrap();
    store
        .failed("receipts", &other, attempt(1, "no"), 6)
        .await
        .unwrap();
    store.recovered("receipts", "d-2a").await.unwrap();
    let failed = store.failed("receipts", &other, attempt(2, "no"), 6).await;
    assert_eq!(failed.unwrap(), Failed::Again(1));
}

pub(crate) fn event(payment_id: &str, id: &str) -> Event {
    let data = EventData::PaymentSuccess {
        payment_id: payment_id.to_owned(),
        provider_ref: "ref".to_owned(),
        amount: "12.50".to_owned(),
        currency: "SAR".to_owned(),
        verified_at: Timestamp::from_unix(at(7)),
    };
    let time = Timestamp::from_unix(at(7));
    let mut event = Event::new(Source::PaytabsService, "corr", time, data);
    id.clone_into(&mut event.id);
    event
}

fn booking(event_id: &str) -> (String, Effect) {
    let sar = Currency::from_code("SAR").unwrap();
    let booking = Effect::Booking {
        payment_id: "p".to_owned(),
        amount: Money::parse("12.50", sar).unwrap(),
        at: Timestamp::from_unix(at(1)),
    };
    (event_id.to_owned(), booking)
}

fn attempt(seconds: u64, reason: &str) -> Attempt {
    Attempt {
        at: Timestamp::from_unix(at(seconds)),
        reason: reason.to_owned(),
    }
}

pub(crate) fn payment(id: &str, key: &str) -> Payment {
    Payment {
        id: id.to_owned(),
        user_id: "outbox".to_owned(),
        order_ref: "order".to_owned(),
        amount: Money::parse("12.50", Currency::from_code("SAR").unwrap()).unwrap(),
        method: "card".to_owned(),
        status: Status::Created,
        idempotency_key: key.to_owned(),
        provider_ref: None,
        payment_url: None,
        reason: None,
        created_at: at(0),
        updated_at: at(0),
        expires_at: at(4000),
        version: 1,
    }
}

pub(crate) fn ids(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry.event_id.as_str())
        .collect()
}

pub(crate) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
