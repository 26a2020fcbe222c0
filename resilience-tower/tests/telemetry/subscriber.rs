//! A subscriber that keeps what it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A span or an event: its fields as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) target: String,
    pub(super) level: String,
    /// The names of all fields that there may be.
    pub(super) declared: Vec<&'static str>,
    pub(super) fields: BTreeMap<&'static str, String>,
    /// The place of the span around it.
    pub(super) parent: Option<usize>,
    pub(super) closed: bool,
}

#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    spans: Vec<Told>,
    references: Vec<usize>,
    entered: Vec<usize>,
    events: Vec<Told>,
}

impl Kept {
    /// Runs `f` with this as the subscriber of the thread.
    pub(super) fn local<T>(&self, f: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(self.clone(), f)
    }

    pub(super) fn spans(&self) -> Vec<Told> {
        self.0.lock().unwrap().spans.clone()
    }

    pub(super) fn events(&self) -> Vec<Told> {
        self.0.lock().unwrap().events.clone()
    }

    fn told(&self, metadata: &'static Metadata<'static>, parent: Option<usize>) -> Told {
        Told {
            name: metadata.name(),
            target: metadata.target().to_owned(),
            level: metadata.level().to_string(),
            declared: metadata.fields().iter().map(|field| field.name()).collect(),
            parent,
            ..Told::default()
        }
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

fn place(id: &Id) -> usize {
    usize::try_from(id.into_u64() - 1).unwrap()
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "resilience_tower"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let parent = self.0.lock().unwrap().entered.last().copied();
        let mut told = self.told(attributes.metadata(), parent);
        attributes.record(&mut told);
        let mut inner = self.0.lock().unwrap();
        inner.spans.push(told);
        inner.references.push(1);
        Id::from_u64(inner.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut self.0.lock().unwrap().spans[place(span)]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let parent = self.0.lock().unwrap().entered.last().copied();
        let mut told = self.told(event.metadata(), parent);
        event.record(&mut told);
        self.0.lock().unwrap().events.push(told);
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(place(span));
    }

    fn exit(&self, span: &Id) {
        let left = self.0.lock().unwrap().entered.pop();
        assert_eq!(left, Some(place(span)), "spans are left in turn");
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.0.lock().unwrap().references[place(span)] += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut inner = self.0.lock().unwrap();
        let place = place(&span);
        inner.references[place] -= 1;
        inner.spans[place].closed = inner.references[place] == 0;
        inner.spans[place].closed
    }
}
