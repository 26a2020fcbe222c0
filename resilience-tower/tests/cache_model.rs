//! The cache beside a plain model, over any sequence of events.
#![cfg(feature = "cache")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use resilience_core::coalesce;
use resilience_tower::cache::Error;
use tokio_test::task;
use tower::Service;

use crate::cache::{Answer, SECOND, World, world};

/// An entry: what, when, of which call, and when it may be renewed again. Seconds throughout.
#[derive(Clone, Debug)]
struct Entry {
    answer: Answer,
    stored: u64,
    call: usize,
    next_try: u64,
}

/// A call under way.
#[derive(Clone, Debug)]
struct Call {
    key: u64,
    number: usize,
    began: u64,
    /// Invalidated since it began: its key or all; and these tags.
    spoiled: bool,
    spoiled_tags: Vec<&'static str>,
    /// Nobody joins it: something was invalidated since it began, or another took its place.
    closed: bool,
    renews: bool,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    numbers: usize,
    entries: BTreeMap<u64, Entry>,
    calls: Vec<Call>,
}

/// What a call is told at once; `None` when it waits.
type Told = Option<Answer>;

const FRESH: u64 = 10;
const NEGATIVE: u64 = 2;
const REVALIDATE: u64 = 5;
const ERROR: u64 = 20;
const JOIN: u64 = 8;

impl Model {
    fn joinable(&self, key: u64) -> Option<usize> {
        let now = self.now;
        let open = |call: &Call| call.key == key && !call.closed && now - call.began < JOIN;
        self.calls.iter().position(open)
    }

    fn begin(&mut self, key: u64, renews: bool) {
        for call in &mut self.calls {
            call.closed |= call.key == key;
        }
        self.numbers += 1;
        self.calls.push(Call {
            key,
            number: self.numbers,
            began: self.now,
            spoiled: false,
            spoiled_tags: Vec::new(),
            closed: false,
            renews,
            waiting: usize::from(!renews),
        });
    }

    /// Renewals that take too long go on only if somebody waits for them.
    fn give_up_renewals(&mut self) {
        for call in &mut self.calls {
            call.renews &= self.now - call.began < JOIN;
        }
        self.calls.retain(|call| call.renews || call.waiting > 0);
    }

    /// The answer, or the number of the call that is waited for.
    fn call(&mut self, key: u64) -> Result<Answer, usize> {
        if let Some(entry) = self.entries.get(&key).cloned() {
            let age = self.now - entry.stored;
            if age
                < if entry.answer.is_err() {
                    NEGATIVE
                } else {
                    FRESH
                }
            {
                return Ok(entry.answer);
            }
            if entry.answer.is_ok() && age < FRESH + REVALIDATE {
                if self.now >= entry.next_try {
                    self.give_up_renewals();
                    if self.joinable(key).is_none() {
                        self.begin(key, true);
                    }
                }
                return Ok(entry.answer);
            }
        }
        match self.joinable(key) {
            Some(at) => {
                self.calls[at].waiting += 1;
                Err(self.calls[at].number)
            }
            None => {
                self.begin(key, false);
                Err(self.numbers)
            }
        }
    }

    fn stand_in(&self, key: u64) -> Option<Answer> {
        let entry = self.entries.get(&key)?;
        let good = entry.answer.is_ok() && self.now - entry.stored < FRESH + ERROR;
        good.then(|| entry.answer.clone())
    }

    /// What those hear that wait for a call.
    fn answer(&mut self, at: usize, answer: &Answer) -> (Call, Told) {
        let call = self.calls.remove(at);
        let newer = |entry: &Entry| entry.call > call.number;
        let has_newer = self.entries.get(&call.key).is_some_and(newer);
        let stand_in = self.stand_in(call.key);
        if answer.is_err()
            && let Some(old) = &stand_in
        {
            let pause = self.now + 1;
            if let Some(entry) = self.entries.get_mut(&call.key) {
                entry.next_try = pause;
            }
            return (call, Some(old.clone()));
        }
        let tag = answer.as_ref().ok().and_then(|text| text.split_once(':'));
        let spoiled = tag.is_some_and(|(tag, _)| call.spoiled_tags.contains(&tag));
        let (keep, remove) = match answer {
            Ok(text) => (!text.starts_with('!'), text.starts_with('!')),
            Err(error) => (*error == "missing", false),
        };
        if keep && !spoiled && !call.spoiled && !has_newer {
            let entry = Entry {
                answer: answer.clone(),
                stored: self.now,
                call: call.number,
                next_try: 0,
            };
            self.entries.insert(call.key, entry);
        }
        if remove && !has_newer {
            self.entries.remove(&call.key);
        }
        (call, Some(answer.clone()))
    }

    fn invalidate(&mut self, spoil: impl Fn(&mut Call), goes: impl Fn(u64, &Entry) -> bool) {
        self.entries.retain(|key, entry| !goes(*key, entry));
        for call in &mut self.calls {
            call.closed = true;
            spoil(call);
        }
    }
}

fn has_tag(entry: &Entry, tag: &str) -> bool {
    let own = entry
        .answer
        .as_ref()
        .ok()
        .and_then(|text| text.split_once(':'));
    own.is_some_and(|(own, _)| own == tag)
}

fn plain(result: Result<String, Error<&'static str>>) -> Answer {
    result.map_err(|error| match error {
        Error::Inner(error) => error,
        other => panic!("{other:?}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn it_does_what_a_plain_model_does(
        steps in prop::collection::vec((0..12_u8, 0..40_u64), 1..100),
    ) {
        let flights = coalesce::Config::builder().join_within((JOIN as u32) * SECOND).build();
        let World { net, store, clock, tasks, mut service } =
            world(|config| config.coalesce(flights.unwrap()).max_revalidations(1000));
        let mut model = Model::default();
        let mut callers = Vec::new();
        for (step, (kind, which)) in steps.into_iter().enumerate() {
            match kind {
                0..=4 => {
                    let key = which % 3;
                    let told = model.call(key);
                    let mut call = task::spawn(service.call(key));
                    match (call.poll(), told) {
                        (std::task::Poll::Ready(seen), Ok(right)) => prop_assert_eq!(plain(seen), right),
                        (std::task::Poll::Pending, Err(number)) => callers.push((number, call)),
                        (seen, right) => prop_assert!(false, "{seen:?}, but the model {right:?}"),
                    }
                    tasks.run();
                }
                5 | 6 if !model.calls.is_empty() => {
                    let answer: Answer = match which % 6 {
                        0 => Err("down"),
                        1 => Err("missing"),
                        2 => Ok(format!("!{step}")),
                        3 => Ok(format!("a:{step}")),
                        4 => Ok(format!("b:{step}")),
                        _ => Ok(step.to_string()),
                    };
                    let at = which as usize / 6 % model.calls.len();
                    let (ended, told) = model.answer(at, &answer);
                    prop_assert_eq!(net.answer_at(at, answer), ended.key);
                    tasks.run();
                    let (heard, waiting): (Vec<_>, Vec<_>) =
                        callers.into_iter().partition(|(number, _)| *number == ended.number);
                    callers = waiting;
                    prop_assert_eq!(heard.len(), ended.waiting);
                    for (_, mut call) in heard {
                        match call.poll() {
                            std::task::Poll::Ready(seen) => {
                                prop_assert_eq!(Some(plain(seen)), told.clone());
                            }
                            std::task::Poll::Pending => prop_assert!(false, "it has an answer"),
                        }
                    }
                }
                7 if !callers.is_empty() => {
                    let (number, call) = callers.swap_remove(which as usize % callers.len());
                    drop(call);
                    let at = model.calls.iter().position(|call| call.number == number);
                    let at = at.expect("it is waited for");
                    model.calls[at].waiting -= 1;
                    if model.calls[at].waiting == 0 && !model.calls[at].renews {
                        model.calls.remove(at);
                    }
                }
                8 if which < 10 => {
                    let key = which % 3;
                    store.invalidate(&key);
                    model.invalidate(|call| call.spoiled |= call.key == key, |of, _| of == key);
                }
                8 if which < 20 => {
                    let tag = ["a", "b"][which as usize % 2];
                    let entries = model.entries.values();
                    let with_tag = entries.filter(|entry| has_tag(entry, tag)).count();
                    prop_assert_eq!(store.invalidate_tag(tag), with_tag);
                    model.invalidate(
                        |call| call.spoiled_tags.push(tag),
                        |_, entry| has_tag(entry, tag),
                    );
                }
                8 if which == 20 => {
                    store.invalidate_all();
                    model.invalidate(|call| call.spoiled = true, |_, _| true);
                }
                _ => {
                    model.now += which % 9;
                    clock.set(u32::try_from(model.now).unwrap() * SECOND);
                }
            }
            prop_assert_eq!(net.running(), model.calls.len());
            let snapshot = store.snapshot();
            prop_assert_eq!(snapshot.entries as usize, model.entries.len());
            let tagged = |entry: &&Entry| has_tag(entry, "a") || has_tag(entry, "b");
            prop_assert_eq!(snapshot.tag_places, model.entries.values().filter(tagged).count());
            if model.calls.is_empty() {
                prop_assert_eq!(snapshot.remembered, 0);
            }
        }
    }
}
