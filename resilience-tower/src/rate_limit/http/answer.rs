use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, Entry, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use resilience_core::rate_limit::{Limited, Quota};

use super::policy::{self, Policy};
use super::{FieldsError, HttpFields, digits, fields};
use crate::rate_limit::{Admission, Answer, Keep, Quotas, RateLimitLayer, Reason, Refusal};
use crate::refusal::{self, Json, RefusalBody, whole_seconds};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Tells refusals as HTTP responses, and every client its limit; see the [module](super).
///
/// A clone is a handle on the same texts.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    texts: Arc<Texts>,
}

/// What is told, prepared.
#[derive(Debug)]
struct Texts {
    policies: Box<[Policy]>,
    /// `RateLimit-Policy`; `None` if it is not sent.
    field: Option<HeaderValue>,
    x_ratelimit: bool,
}

/// The figures that the fields tell.
struct Figures {
    place: usize,
    limit: u32,
    remaining: u32,
    /// `t`.
    seconds: u64,
    /// `X-RateLimit-Reset`.
    reset: u64,
    quota: Option<Quota>,
}

impl HttpAnswer {
    /// An answer for a limit with these quotas, in the order of their places.
    ///
    /// # Errors
    ///
    /// When there are not as many names as quotas, or a name is not allowed or not unique.
    pub fn new(settings: &HttpFields, quotas: &[Quota]) -> Result<Self, FieldsError> {
        let names = settings.names(quotas.len())?;
        Ok(Self::prepare(settings, names, quotas))
    }

    fn prepare(settings: &HttpFields, names: Vec<String>, quotas: &[Quota]) -> Self {
        let policies: Box<[Policy]> = names
            .into_iter()
            .zip(quotas)
            .map(|(name, quota)| Policy::new(name, *quota))
            .collect();
        let field = policy::field(&policies, |_, policy| policy.quota);
        Self {
            texts: Arc::new(Texts {
                policies,
                field: field.filter(|_| settings.ratelimit),
                x_ratelimit: settings.x_ratelimit,
            }),
        }
    }

    fn limited(&self, place: usize, limited: &Limited, quota: Option<Quota>) -> Response<Bytes> {
        let policy = self.texts.policies.get(place);
        let retry_after = limited.retry_after.map(whole_seconds);
        let body = policy.map(|policy| match retry_after {
            Some(_) => policy.exceeded.clone(),
            None => policy.impossible.clone(),
        });
        let mut response = Response::new(body.unwrap_or_default());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let headers = response.headers_mut();
        // What follows, in one allocation.
        headers.reserve(if self.texts.x_ratelimit { 7 } else { 4 });
        headers.insert(CONTENT_TYPE, PROBLEM);
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, digits::value(seconds));
        }
        let figures = Figures {
            place,
            limit: limited.burst,
            remaining: limited.remaining,
            seconds: retry_after.unwrap_or_else(|| {
                self.texts
                    .effective_window(place, limited.remaining, limited.reset_after, quota)
            }),
            reset: whole_seconds(limited.reset_after),
            quota,
        };
        self.texts.tell(headers, &figures);
        response
    }
}

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Texts {
    /// `t` of the limit at `place`, by `quota` or else the one that the texts were made for.
    fn effective_window(
        &self,
        place: usize,
        remaining: u32,
        reset_after: Duration,
        quota: Option<Quota>,
    ) -> u64 {
        let prepared = self.policies.get(place).map(|policy| policy.quota);
        // Without either there is no policy to tell of.
        quota.or(prepared).map_or(1, |quota| {
            fields::effective_window(remaining, reset_after, quota)
        })
    }

    fn tell(&self, headers: &mut HeaderMap, figures: &Figures) {
        let Some(policy) = self.policies.get(figures.place) else {
            return;
        };
        if let Some(prepared) = &self.field {
            let field = match figures.quota {
                Some(quota) if quota != policy.quota => {
                    policy::field(&self.policies, |place, policy| match place {
                        _ if place == figures.place => quota,
                        _ => policy.quota,
                    })
                }
                _ => Some(prepared.clone()),
            };
            let limit = policy.limit_value(figures.remaining, figures.seconds);
            for (name, value) in [(RATELIMIT_POLICY, field), (RATELIMIT, limit)] {
                if let Some(value) = value {
                    headers.append(name, value);
                }
            }
        }
        if self.x_ratelimit {
            for (name, number) in [
                (X_RATELIMIT_LIMIT, figures.limit.into()),
                (X_RATELIMIT_REMAINING, figures.remaining.into()),
                (X_RATELIMIT_RESET, figures.reset),
            ] {
                if let Entry::Vacant(entry) = headers.entry(name) {
                    entry.insert(digits::value(number));
                }
            }
        }
    }
}

impl Keep for HttpAnswer {
    type Note = Admission;
    type Kept = Refusal;

    const QUOTA: bool = true;

    fn note(&self, admission: &Admission) -> Admission {
        *admission
    }

    fn keep(&self, refusal: &Refusal) -> Refusal {
        *refusal
    }
}

impl<B, E> Answer<Response<B>, E> for HttpAnswer {
    type Response = Response<RefusalBody<B>>;
    type Error = E;

    fn admitted(
        &self,
        note: Admission,
        result: Result<Response<B>, E>,
    ) -> Result<Self::Response, E> {
        let mut response = result?;
        let Some(admitted) = note.admitted else {
            return Ok(response.map(RefusalBody::inner));
        };
        let (remaining, reset_after) = (admitted.remaining, admitted.reset_after);
        let figures = Figures {
            place: note.place,
            limit: admitted.burst,
            remaining,
            seconds: self
                .texts
                .effective_window(note.place, remaining, reset_after, note.quota),
            reset: whole_seconds(reset_after),
            quota: note.quota,
        };
        self.texts.tell(response.headers_mut(), &figures);
        Ok(response.map(RefusalBody::inner))
    }

    fn refused(&self, refusal: &Refusal) -> Result<Self::Response, E> {
        let mut response = match (refusal.figures(), refusal.reason) {
            (Some(limited), _) => self.limited(refusal.place, &limited, refusal.quota()),
            (None, Reason::Outage(outage)) => {
                let wait = Some(outage.retry_after);
                refusal::problem(StatusCode::SERVICE_UNAVAILABLE, wait, Json::new())
            }
            (None, _) => refusal::problem(StatusCode::FORBIDDEN, None, no_key()),
        };
        response.extensions_mut().insert(*refusal);
        Ok(response.map(RefusalBody::refusal))
    }

    fn not_ready(&self, error: E) -> E {
        error
    }
}

fn no_key() -> Json {
    let mut json = Json::new();
    json.text(
        "detail",
        "The request names nobody it could be counted for.",
    );
    json
}

impl<L: Quotas> RateLimitLayer<L> {
    /// Answers refusals by 429 and tells clients their limit, by the names `default`, or `limit-0`,
    /// `limit-1` … of several; see [`rate_limit::http`](crate::rate_limit::http).
    ///
    /// For services of `http` types. The service's error is the inner service's alone: with
    /// `Infallible` inside, the result is what axum takes as a layer or a route.
    pub fn into_response(self) -> RateLimitLayer<L, HttpAnswer> {
        let quotas = self.limit().quotas();
        let names = HttpFields::default_names(quotas.len());
        self.answer(HttpAnswer::prepare(&HttpFields::default(), names, &quotas))
    }

    /// As [`into_response`](Self::into_response), with fields and names of one's own.
    ///
    /// # Errors
    ///
    /// When there are not as many names as limits, or a name is not allowed or not unique.
    pub fn into_response_with(
        self,
        settings: &HttpFields,
    ) -> Result<RateLimitLayer<L, HttpAnswer>, FieldsError> {
        let quotas = self.limit().quotas();
        Ok(self.answer(HttpAnswer::new(settings, &quotas)?))
    }
}
