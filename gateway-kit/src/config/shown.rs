//! How values are written, in the form in which they are read.

use std::time::Duration;

use resilience_core::retry::BudgetConfig;
use resilience_core::{adaptive, breaker as core, bulkhead as places};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::health::StatusRange;
use super::{
    ByteSize, EndpointUrl, FieldName, FieldText, HostPattern, MethodName, Network, OriginPattern,
    PlainPath, Prefix, ProbeHost, ProbePath, Several, Switch,
};

/// Values that are read from a text.
macro_rules! texts {
    ($($name:ident: |$value:ident| $text:expr;)*) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                serializer.collect_str(&$text)
            }
        })*
    };
}

texts! {
    ByteSize: |value| value;
    EndpointUrl: |value| value;
    FieldName: |value| value.name();
    FieldText: |value| value.as_str();
    HostPattern: |value| value;
    MethodName: |value| value.method();
    Network: |value| value;
    OriginPattern: |value| value;
    PlainPath: |value| value.as_str();
    Prefix: |value| value;
    ProbeHost: |value| value.as_str();
    ProbePath: |value| value.target();
    StatusRange: |value| value;
}

impl<T: Serialize> Serialize for Switch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(value) => value.serialize(serializer),
        }
    }
}

impl<T: Serialize> Serialize for Several<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(one) => one.serialize(serializer),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

/// `"30s"`.
struct Span(Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        humantime_serde::serialize(&self.0, serializer)
    }
}

pub(super) fn breaker<S: Serializer>(
    config: &core::Config,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut shown = serializer.serialize_struct("breaker", 14)?;
    shown.serialize_field("failure_rate", &config.failure_rate())?;
    shown.serialize_field("failure_count", &config.failure_count())?;
    shown.serialize_field("minimum_calls", &config.minimum_calls())?;
    shown.serialize_field("count_window", &config.count_window())?;
    shown.serialize_field("time_window", &config.time_window().map(Span))?;
    shown.serialize_field("slow_call", &config.slow_call().map(Span))?;
    shown.serialize_field("slow_call_rate", &config.slow_call_rate())?;
    shown.serialize_field("consecutive_failures", &config.consecutive_failures())?;
    shown.serialize_field("half_open_permits", &config.half_open_permits())?;
    shown.serialize_field("success_threshold", &config.success_threshold())?;
    shown.serialize_field("probe_failures", &config.probe_failures())?;
    shown.serialize_field("reset_timeout", &Span(config.reset_timeout()))?;
    shown.serialize_field("max_reset_timeout", &Span(config.max_reset_timeout()))?;
    shown.serialize_field("jitter", &config.jitter())?;
    shown.end()
}

pub(super) fn service_breaker<S: Serializer>(
    config: &Option<core::Config>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match config {
        Some(config) => breaker(config, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn bulkhead<S: Serializer>(
    config: &Option<places::Config>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(config) = config else {
        return serializer.serialize_none();
    };
    let mut shown = serializer.serialize_struct("bulkhead", 3)?;
    shown.serialize_field("limit", &config.limit())?;
    shown.serialize_field("max_queue", &config.max_queue())?;
    shown.serialize_field("max_wait", &config.max_wait().map(Span))?;
    shown.end()
}

pub(super) fn adaptive<S: Serializer>(
    config: &Option<adaptive::Config>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(config) = config else {
        return serializer.serialize_none();
    };
    let mut shown = serializer.serialize_struct("adaptive", 13)?;
    shown.serialize_field("algorithm", config.algorithm().as_str())?;
    shown.serialize_field("initial_limit", &config.initial_limit())?;
    shown.serialize_field("min_limit", &config.min_limit())?;
    shown.serialize_field("max_limit", &config.max_limit())?;
    shown.serialize_field("window", &Span(config.window()))?;
    shown.serialize_field("min_samples", &config.min_samples())?;
    shown.serialize_field("drop_rate", &config.drop_rate())?;
    shown.serialize_field("backoff_ratio", &config.backoff_ratio())?;
    shown.serialize_field("timeout", &config.timeout().map(Span))?;
    shown.serialize_field("tolerance", &config.tolerance())?;
    shown.serialize_field("queue_size", &config.queue_size())?;
    shown.serialize_field("smoothing", &config.smoothing())?;
    shown.serialize_field("long_window", &config.long_window())?;
    shown.end()
}

pub(super) fn retry<S: Serializer>(
    config: &Switch<BudgetConfig>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(config) = config.on() else {
        return serializer.serialize_bool(false);
    };
    let mut shown = serializer.serialize_struct("retry", 3)?;
    shown.serialize_field("share", &config.share())?;
    shown.serialize_field("floor_per_second", &config.floor_per_second())?;
    shown.serialize_field("burst", &config.burst_size())?;
    shown.end()
}
