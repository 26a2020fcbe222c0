//! The metrics there are: the same rows as the tables in TELEMETRY.md, which a test compares.

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};

/// What all series of one name have in common.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    kind: Kind,
    unit: Unit,
    /// The label beside `policy` and `name`, if there is one.
    pub(super) label: Option<&'static str>,
    help: &'static str,
}

/// How the values of several policies of one name become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Counter,
    /// They are added.
    Gauge,
    /// The greatest of them.
    Greatest,
    Histogram,
}

const METADATA: Metadata<'static> = Metadata::new("resilience_tower", Level::INFO, None);

impl Family {
    pub(super) const fn is_greatest(&self) -> bool {
        matches!(self.kind, Kind::Greatest)
    }

    pub(super) fn describe(&self, recorder: &dyn Recorder) {
        let name = KeyName::from_const_str(self.name);
        let help = SharedString::const_str(self.help);
        match self.kind {
            Kind::Counter => recorder.describe_counter(name, Some(self.unit), help),
            Kind::Gauge | Kind::Greatest => recorder.describe_gauge(name, Some(self.unit), help),
            Kind::Histogram => recorder.describe_histogram(name, Some(self.unit), help),
        }
    }

    pub(super) fn counter(&self, recorder: &dyn Recorder, labels: Vec<Label>) -> Counter {
        recorder.register_counter(&self.key(labels), &METADATA)
    }

    pub(super) fn gauge(&self, recorder: &dyn Recorder, labels: Vec<Label>) -> Gauge {
        recorder.register_gauge(&self.key(labels), &METADATA)
    }

    pub(super) fn histogram(&self, recorder: &dyn Recorder, labels: Vec<Label>) -> Histogram {
        recorder.register_histogram(&self.key(labels), &METADATA)
    }

    fn key(&self, labels: Vec<Label>) -> Key {
        Key::from_parts(KeyName::from_const_str(self.name), labels)
    }
}

/// Declares the families, and a list of them for the test.
macro_rules! families {
    ($(
        $(#[$only:meta])?
        $ident:ident = $kind:ident $unit:ident $name:literal $label:expr, $help:literal;
    )*) => {
        $($(#[$only])? pub(super) static $ident: Family = Family {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            label: $label,
            help: $help,
        };)*
    };
}

families! {
    REFUSED = Counter Count "resilience_refused_total" Some("reason"),
        "Calls that the policy refused";
    IN_FLIGHT = Gauge Count "resilience_in_flight" None,
        "Calls that run";
    LIMIT = Gauge Count "resilience_concurrency_limit" None,
        "The most calls at once";
    QUEUED = Gauge Count "resilience_queued" None,
        "Calls that wait; of a rate limit the permits that they ask for";
    KEYS = Gauge Count "resilience_keys" None,
        "Keys that are held";
    MAX_KEYS = Gauge Count "resilience_keys_max" None,
        "The most keys that are held";
    EVICTED = Counter Count "resilience_keys_evicted_total" Some("reason"),
        "Keys that made room for others";
    NO_ROOM = Counter Count "resilience_keys_full_total" None,
        "Keys that found no room";
    BREAKER_STATE = Gauge Count "resilience_breaker_state" Some("state"),
        "Breakers in this state";
    BREAKER_MODE = Gauge Count "resilience_breaker_mode" Some("mode"),
        "Breakers in this mode";
    BREAKER_OPENED = Counter Count "resilience_breaker_opened_total" Some("cause"),
        "Openings";
    WINDOW_CALLS = Gauge Count "resilience_breaker_window_calls" None,
        "Calls that are judged: in the window, or probes that have ended";
    WINDOW_FAILURES = Gauge Count "resilience_breaker_window_failures" None,
        "Failures among the calls that are judged";
    WINDOW_SLOW = Gauge Count "resilience_breaker_window_slow_calls" None,
        "Slow calls among the calls that are judged";
    WOULD_HAVE_REFUSED = Counter Count "resilience_breaker_would_have_refused_total" None,
        "Calls that an observing breaker admitted and would have refused";
    STALE = Counter Count "resilience_breaker_stale_outcomes_total" None,
        "Outcomes that came too late to count";
    LOST_EVENTS = Counter Count "resilience_lost_events_total" None,
        "Events that a subscriber's channel had no room for";
    RATE_BURST = Gauge Count "resilience_rate_limit_burst" None,
        "The most permits at once";
    RATE_REMAINING = Gauge Count "resilience_rate_limit_remaining" None,
        "Permits that are there";
    #[cfg(all(feature = "rate-limit", feature = "redis"))]
    RATE_QUESTIONS = Counter Count "resilience_rate_limit_questions_total" Some("result"),
        "Questions to the store of a limit that processes share";
    #[cfg(all(feature = "rate-limit", feature = "redis"))]
    RATE_OUTAGE = Counter Count "resilience_rate_limit_outage_total" Some("fallback"),
        "Calls that were decided without the store";
    RETRIES = Counter Count "resilience_retries_total" None,
        "Further attempts that were granted";
    RETRY_STOPPED = Counter Count "resilience_retry_stopped_total" Some("reason"),
        "Failed attempts that were not tried again";
    BUDGET_BALANCE = Gauge Count "resilience_retry_budget_balance" None,
        "Retries that the budget would grant at once";
    BUDGET_BURST = Gauge Count "resilience_retry_budget_burst" None,
        "The most retries that the budget saves up";
    TIMEOUTS = Counter Count "resilience_timeouts_total" Some("reason"),
        "Calls whose time was up while they ran";
    RTT = Greatest Seconds "resilience_adaptive_rtt_seconds" None,
        "How long calls took on average in the last window that was not overloaded";
    USUAL_RTT = Greatest Seconds "resilience_adaptive_usual_rtt_seconds" None,
        "How long calls take when they do not queue";
    WINDOWS = Counter Count "resilience_adaptive_windows_total" Some("overloaded"),
        "Windows that were judged";
    ENDPOINTS = Gauge Count "resilience_endpoints" Some("state"),
        "Endpoints in this state";
    EJECTIONS = Counter Count "resilience_ejections_total" None,
        "Ejections of endpoints";
    SHED_LEVEL = Greatest Count "resilience_load_shed_level" None,
        "The level of shedding, 16 for each class; 0 when all are admitted";
    SHED_CHANGES = Counter Count "resilience_load_shed_level_changes_total" Some("direction"),
        "Changes of the level of shedding";
    QUEUE_DELAY = Greatest Seconds "resilience_load_shed_queue_delay_seconds" None,
        "The shortest queue delay of the last interval";
    CPU = Greatest Count "resilience_load_shed_cpu_ratio" None,
        "The share of the CPU that was used at the end of the last interval, if it is told";
    ADMITTED = Counter Count "resilience_load_shed_admitted_total" Some("class"),
        "Calls of this class that were admitted";
    SHED = Counter Count "resilience_load_shed_shed_total" Some("class"),
        "Calls of this class that were shed";
    HEDGES = Counter Count "resilience_hedges_total" None,
        "Hedges that were begun";
    HEDGES_WON = Counter Count "resilience_hedges_won_total" None,
        "Hedges that answered first";
    HEDGES_STOPPED = Counter Count "resilience_hedges_stopped_total" Some("reason"),
        "Hedges that were not begun";
    HEDGE_DELAY = Greatest Seconds "resilience_hedge_delay_seconds" None,
        "After what time a call asks for a hedge";
    #[cfg(feature = "coalesce")]
    COALESCED = Counter Count "resilience_coalesce_calls_total" Some("role"),
        "Calls that were begun for all of a key, and those that joined one";
    #[cfg(feature = "cache")]
    CACHE_ANSWERS = Counter Count "resilience_cache_answers_total" Some("answer"),
        "Calls by where their answer came from";
    #[cfg(feature = "cache")]
    CACHE_RENEWALS = Counter Count "resilience_cache_renewals_total" Some("result"),
        "Renewals that began beside an answer, and calls that failed while there was an entry";
    #[cfg(feature = "cache")]
    CACHE_NOT_KEPT = Counter Count "resilience_cache_not_kept_total" None,
        "Results that were not kept";
    #[cfg(feature = "cache")]
    CACHE_WEIGHT = Gauge Count "resilience_cache_weight" None,
        "The weight of all entries";
    CHAOS_ON = Gauge Count "resilience_chaos_on" None,
        "Chaos policies that are switched on";
    CHAOS_FAULTS = Counter Count "resilience_chaos_faults_total" Some("fault"),
        "Calls that were hit on purpose";
    #[cfg(feature = "fallback")]
    FALLBACKS = Counter Count "resilience_fallbacks_total" Some("reason"),
        "Calls for which a fallback was begun";
    #[cfg(feature = "fallback")]
    FALLBACKS_LOST = Counter Count "resilience_fallbacks_lost_total" Some("reason"),
        "Fallbacks that gave no answer";
    #[cfg(feature = "read-write")]
    NODES = Gauge Count "resilience_nodes" Some("state"),
        "Nodes of a replicated store in this state";
    #[cfg(feature = "read-write")]
    NODE_LAG = Greatest Seconds "resilience_node_lag_seconds" None,
        "How old the data of the replica that is furthest behind may be, of those that are in";
    #[cfg(feature = "read-write")]
    ROUTED = Counter Count "resilience_routed_total" Some("why"),
        "Calls that were given a node";
    #[cfg(feature = "read-write")]
    ROUTE_STEPS = Counter Count "resilience_route_steps_total" Some("step"),
        "Looks and waits that calls were told before they were given a node";
    #[cfg(feature = "read-write")]
    NODE_ANSWERS = Counter Count "resilience_node_answers_total" Some("answer"),
        "Answers of nodes that told a newer epoch, or were not what they should be";
    #[cfg(feature = "read-write")]
    LOOKS = Counter Count "resilience_node_looks_total" None,
        "Looks at nodes that began";
    #[cfg(feature = "read-write")]
    LOOKS_FAILED = Counter Count "resilience_node_looks_failed_total" None,
        "Looks at nodes without an answer";
    #[cfg(feature = "read-write")]
    BUFFERED = Counter Count "resilience_buffered_writes_total" None,
        "Writes that waited for a primary";
    #[cfg(feature = "read-write")]
    PASSED_OVER = Counter Count "resilience_nodes_passed_over_total" Some("reason"),
        "Nodes that were given and not used";
    #[cfg(feature = "read-write")]
    OUTCOME_UNKNOWN = Counter Count "resilience_outcome_unknown_total" None,
        "Writes of which nobody knows whether they ran";
    CALL_DURATION = Histogram Seconds "resilience_call_duration_seconds" Some("outcome"),
        "How long calls took, all attempts and waits included";
    CALL_ATTEMPTS = Histogram Count "resilience_call_attempts" None,
        "Attempts that calls took";
    CALL_REFUSED = Counter Count "resilience_call_refused_total" Some("reason"),
        "Calls that a policy refused";
    ATTEMPT_DURATION = Histogram Seconds "resilience_attempt_duration_seconds" Some("outcome"),
        "How long attempts took";
    ATTEMPT_REFUSED = Counter Count "resilience_attempt_refused_total" Some("reason"),
        "Attempts that a policy refused";
}
