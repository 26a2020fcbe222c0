//! A recorder that keeps what it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// What was told of one metric: type, unit, meaning.
pub(super) type Described = (&'static str, Option<Unit>, String);

#[derive(Default)]
pub(super) struct Kept(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    described: BTreeMap<String, Described>,
    counters: BTreeMap<String, Arc<AtomicU64>>,
    gauges: BTreeMap<String, Arc<AtomicU64>>,
    histograms: BTreeMap<String, Arc<Sum>>,
}

/// Values of a histogram; allocates nothing.
#[derive(Default)]
struct Sum {
    values: AtomicU64,
    /// In millionths, which is exact for the tests' values.
    millionths: AtomicU64,
}

impl HistogramFn for Sum {
    fn record(&self, value: f64) {
        self.values.fetch_add(1, Ordering::Relaxed);
        let millionths = (value * 1e6).round() as u64;
        self.millionths.fetch_add(millionths, Ordering::Relaxed);
    }
}

impl Kept {
    /// Runs `f` with this as the recorder of the thread.
    pub(super) fn local<T>(&self, f: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self, f)
    }

    pub(super) fn counter(&self, series: &str) -> Option<u64> {
        let inner = self.0.lock().unwrap();
        let counter = inner.counters.get(series);
        counter.map(|counter| counter.load(Ordering::Relaxed))
    }

    pub(super) fn gauge(&self, series: &str) -> Option<f64> {
        let inner = self.0.lock().unwrap();
        let gauge = inner.gauges.get(series);
        gauge.map(|gauge| f64::from_bits(gauge.load(Ordering::Relaxed)))
    }

    /// How many values were recorded, and their sum.
    pub(super) fn histogram(&self, series: &str) -> Option<(u64, f64)> {
        let inner = self.0.lock().unwrap();
        let sum = inner.histograms.get(series)?;
        let millionths = sum.millionths.load(Ordering::Relaxed);
        Some((sum.values.load(Ordering::Relaxed), millionths as f64 / 1e6))
    }

    pub(super) fn described(&self) -> BTreeMap<String, Described> {
        self.0.lock().unwrap().described.clone()
    }

    /// Every series, as `type name{label="value",…}` with sorted labels.
    pub(super) fn series(&self) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        let of = |kind: &'static str| move |series: &String| format!("{kind} {series}");
        let counters = inner.counters.keys().map(of("counter"));
        let gauges = inner.gauges.keys().map(of("gauge"));
        let histograms = inner.histograms.keys().map(of("histogram"));
        counters.chain(gauges).chain(histograms).collect()
    }

    fn describe(&self, key: &KeyName, kind: &'static str, unit: Option<Unit>, help: &str) {
        let described = (kind, unit, help.to_owned());
        let mut inner = self.0.lock().unwrap();
        inner.described.insert(key.as_str().to_owned(), described);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, "counter", unit, &help);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, "gauge", unit, &help);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, "histogram", unit, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut inner = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(inner.counters.entry(series(key)).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut inner = self.0.lock().unwrap();
        Gauge::from_arc(Arc::clone(inner.gauges.entry(series(key)).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut inner = self.0.lock().unwrap();
        Histogram::from_arc(Arc::clone(inner.histograms.entry(series(key)).or_default()))
    }
}

fn series(key: &Key) -> String {
    let label = |label: &metrics::Label| format!("{}={:?}", label.key(), label.value());
    let mut labels: Vec<_> = key.labels().map(label).collect();
    labels.sort();
    format!("{}{{{}}}", key.name(), labels.join(","))
}
