use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Label, Recorder};

use super::family::Family;

/// One series: family, policy, name, and the value of the family's own label.
type Series = (&'static str, &'static str, Arc<str>, &'static str);

/// What one policy has counted up to now, by family and label.
pub(super) type Counted = Vec<(&'static Family, &'static str, u64)>;

/// The values of all policies, those of one series put together.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// What was counted since the last time.
    counts: BTreeMap<Series, (&'static Family, u64)>,
    gauges: BTreeMap<Series, (&'static Family, f64)>,
}

/// Takes the figures of one policy.
#[derive(Debug)]
pub struct Samples<'a> {
    policy: &'static str,
    name: &'a Arc<str>,
    counted: &'a mut Counted,
    totals: &'a mut Totals,
}

impl<'a> Samples<'a> {
    pub(super) fn new(
        policy: &'static str,
        name: &'a Arc<str>,
        counted: &'a mut Counted,
        totals: &'a mut Totals,
    ) -> Self {
        Self {
            policy,
            name,
            counted,
            totals,
        }
    }

    /// `total` is what the policy has counted since it was made.
    pub(super) fn count(&mut self, family: &'static Family, label: &'static str, total: u64) {
        let before = self.told(family, label);
        let since = total.saturating_sub(*before);
        *before = total.max(*before);
        let series = self.series(family, label);
        let sum = self.totals.counts.entry(series).or_insert((family, 0));
        sum.1 = sum.1.saturating_add(since);
    }

    pub(super) fn gauge(&mut self, family: &'static Family, label: &'static str, value: f64) {
        let series = self.series(family, label);
        let sum = self.totals.gauges.entry(series).or_insert((family, 0.0));
        sum.1 = if family.is_greatest() {
            sum.1.max(value)
        } else {
            sum.1 + value
        };
    }

    pub(super) fn span(&mut self, family: &'static Family, span: Option<Duration>) {
        if let Some(span) = span {
            self.gauge(family, "", span.as_secs_f64());
        }
    }

    /// What was told of a counter the last time.
    fn told(&mut self, family: &'static Family, label: &'static str) -> &mut u64 {
        let of = |(one, other, _): &(&'static Family, &'static str, u64)| {
            one.name == family.name && *other == label
        };
        let place = self.counted.iter().position(of).unwrap_or_else(|| {
            self.counted.push((family, label, 0));
            self.counted.len() - 1
        });
        // PANIC-FREE: found, or just put there.
        &mut self.counted[place].2
    }

    fn series(&self, family: &'static Family, label: &'static str) -> Series {
        (family.name, self.policy, Arc::clone(self.name), label)
    }
}

impl Totals {
    /// Tells `recorder`; what was told `before` and is not there any more is zero.
    pub(super) fn tell(&mut self, before: &Self, recorder: &dyn Recorder) {
        let mut described = "";
        for (series, (family, since)) in &self.counts {
            if described != family.name {
                family.describe(recorder);
                described = family.name;
            }
            family
                .counter(recorder, labels(series, family))
                .increment(*since);
        }
        for (series, (family, _)) in &before.gauges {
            if !self.gauges.contains_key(series) {
                family.gauge(recorder, labels(series, family)).set(0.0);
            }
        }
        for (series, (family, value)) in &self.gauges {
            if described != family.name {
                family.describe(recorder);
                described = family.name;
            }
            family.gauge(recorder, labels(series, family)).set(*value);
        }
    }
}

fn labels((_, policy, name, value): &Series, family: &Family) -> Vec<Label> {
    let mut labels = vec![
        Label::from_static_parts("policy", policy),
        Label::new("name", Arc::clone(name)),
    ];
    if let Some(label) = family.label {
        labels.push(Label::from_static_parts(label, value));
    }
    labels
}
