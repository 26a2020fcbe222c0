//! The circuit breakers of the application, by name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use resilience_core::{
    breaker::{Cause, CircuitBreaker, State, Transition},
    clock::{Clock, SharedClock},
};
use webhook_verify::clock::WallClock;

use crate::{
    correlation,
    domain::event::{EventData, Source, Timestamp},
    ports::EventSink,
    settings::{BREAKERS, Settings},
};

/// The breakers of one instance; clones share them.
#[derive(Clone, Debug)]
pub struct Breakers {
    by_name: Arc<BTreeMap<&'static str, CircuitBreaker>>,
}

impl Breakers {
    /// One breaker per name in [`BREAKERS`], with its settings.
    #[must_use]
    pub fn new(settings: &Settings, clock: &SharedClock) -> Self {
        let breaker = |name| {
            let config = settings.breaker(name);
            (
                name,
                CircuitBreaker::with_clock(name, config, clock.clone()),
            )
        };
        Self {
            by_name: Arc::new(BREAKERS.into_iter().map(breaker).collect()),
        }
    }

    /// The breaker of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&CircuitBreaker> {
        self.by_name.get(name)
    }

    /// All breakers, by name.
    pub fn iter(&self) -> impl Iterator<Item = &CircuitBreaker> {
        self.by_name.values()
    }

    /// The breaker before PayTabs, shared by all versions of the API.
    #[must_use]
    pub fn paytabs(&self) -> &CircuitBreaker {
        self.named("paytabs")
    }

    /// The breaker before the database.
    #[must_use]
    pub fn database(&self) -> &CircuitBreaker {
        self.named("database")
    }

    /// The breaker before the cache.
    #[must_use]
    pub fn cache(&self) -> &CircuitBreaker {
        self.named("cache")
    }

    /// The breaker before mail, SMS and push.
    #[must_use]
    pub fn external(&self) -> &CircuitBreaker {
        self.named("external")
    }

    /// Emits an event for each change of state, for as long as the breakers live.
    pub fn report_to(
        &self,
        sink: &Arc<dyn EventSink>,
        clock: &SharedClock,
        wall: &Arc<dyn WallClock>,
    ) {
        for breaker in self.iter() {
            let reporter = Reporter {
                permits: u64::from(breaker.config().half_open_permits()),
                reset_timeout: breaker.config().reset_timeout(),
                sink: Arc::clone(sink),
                clock: clock.clone(),
                wall: Arc::clone(wall),
                down_since: Mutex::new(None),
            };
            breaker
                .subscribe(move |change| reporter.report(change))
                .forget();
        }
    }

    fn named(&self, name: &'static str) -> &CircuitBreaker {
        // PANIC-FREE: `new` makes one for each of `BREAKERS`, a test reads all four.
        &self.by_name[name]
    }
}

struct Reporter {
    permits: u64,
    reset_timeout: Duration,
    sink: Arc<dyn EventSink>,
    clock: SharedClock,
    wall: Arc<dyn WallClock>,
    /// When the breaker left closed.
    down_since: Mutex<Option<Duration>>,
}

impl Reporter {
    fn report(&self, change: &Transition) {
        // Probes that were lost, not a change of state.
        if change.from == change.to {
            return;
        }
        let breaker = change.breaker.to_string();
        let data = match change.to {
            State::Open => {
                self.down_since
                    .lock()
                    .get_or_insert_with(|| self.clock.now());
                let wait = change.open_for.unwrap_or(self.reset_timeout);
                EventData::CircuitOpened {
                    breaker,
                    from: change.from.as_str().to_owned(),
                    cause: cause(change.cause).to_owned(),
                    failures: change.failures,
                    calls: change.calls,
                    rate: change.failure_rate,
                    retry_at: Timestamp::from_unix(self.wall.now()).plus(wait),
                }
            }
            State::HalfOpen => EventData::CircuitHalfOpen {
                breaker,
                permits: self.permits,
            },
            _ => return self.closed(change, breaker),
        };
        self.emit(Source::Breaker, data);
    }

    fn closed(&self, change: &Transition, breaker: String) {
        let since = self.down_since.lock().take();
        let down = since.map_or(Duration::ZERO, |since| {
            self.clock.now().saturating_sub(since)
        });
        let down_for_ms = u64::try_from(down.as_millis()).unwrap_or(u64::MAX);
        let closed = EventData::CircuitClosed {
            breaker: breaker.clone(),
            probes: change.calls,
            open_for_ms: down_for_ms,
        };
        self.emit(Source::Breaker, closed);
        let recovered = EventData::ServiceRecovered {
            service: breaker.clone(),
            breaker,
            down_for_ms,
        };
        self.emit(Source::Breaker, recovered);
    }

    fn emit(&self, source: Source, data: EventData) {
        self.sink.emit(source, &correlation::current(), data);
    }
}

/// The catalogue's short words for what opens a breaker most often.
fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::ConsecutiveFailures => "consecutive",
        Cause::FailureRate => "rate",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_breaker_of_the_settings_is_there() {
        let breakers = Breakers::new(&Settings::demo(), &SharedClock::std());
        for (breaker, name) in [
            (breakers.paytabs(), "paytabs"),
            (breakers.database(), "database"),
            (breakers.cache(), "cache"),
            (breakers.external(), "external"),
        ] {
            assert_eq!(breaker.name(), name);
        }
    }
}
