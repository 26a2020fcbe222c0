//! Answers that are kept for later requests, as a shared cache may (RFC 9111), and one request to
//! the service where many ask for the same at once.

mod directives;
mod entry;
mod store;

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LOCATION,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use self::directives::{Asked, Directives, assess};
use self::entry::{Came, Key, Stored, Times, Wanted, bypass};
pub(crate) use self::store::Store;
use self::store::{Flight, Found, Guard};
use crate::body::{Body, BoxError};
use crate::config::CacheConfig;
use crate::path;
use crate::pipeline::Context;
use crate::problem::Problem;
use crate::route::Route;
use crate::server::Inner;

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How long nobody waits for an answer that could not be kept, and for one that failed.
const PASS: Duration = Duration::from_secs(120);
const PASS_FAILED: Duration = Duration::from_secs(1);

/// The cache of one route.
#[derive(Debug)]
pub(crate) struct Cache {
    config: CacheConfig,
}

impl Cache {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        Self {
            config: config.clone(),
        }
    }
}

/// What became of a request, for `Cache-Status` and the metrics.
#[derive(Clone, Copy, Debug)]
enum Became {
    Hit,
    /// Kept, and no longer fresh.
    Stale,
    /// The service said that it is still the same.
    Revalidated,
    /// Waited for another request's answer.
    Coalesced,
    Miss(&'static str),
    /// Not the cache's to answer.
    Bypass(&'static str),
}

impl Inner {
    /// Answers out of the cache, or by the service.
    pub(crate) async fn cached(
        self: &Arc<Self>,
        request: Request<Body>,
        route: &Arc<Route>,
        store: &Arc<Store>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        let host = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default().to_owned();
        let key = Key::new(&host, &context.checked.path, request.uri().query());
        if !request.method().is_safe() {
            let response = self.forward(request, route, context).await?;
            if response.status().is_success() || response.status().is_redirection() {
                invalidate(
                    store,
                    &key,
                    &host,
                    &context.checked.path,
                    response.headers(),
                );
            }
            return Ok(response);
        }
        let Some(cache) = &route.policies.cache else {
            return self.forward(request, route, context).await;
        };
        let lookup = Lookup {
            inner: self,
            store,
            cache,
            route,
        };
        lookup.answer(request, key, context).await
    }
}

/// An unsafe request went well: what is kept of its address, and of those that the answer names on
/// the same host, may be old (RFC 9111, section 4.4).
fn invalidate(store: &Store, key: &Key, host: &str, base: &str, headers: &HeaderMap) {
    store.forget(key);
    for name in [LOCATION, CONTENT_LOCATION] {
        for value in headers.get_all(name) {
            let Some(uri) = value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<Uri>().ok())
            else {
                continue;
            };
            let same = uri
                .authority()
                .is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host));
            let path = match uri.path().starts_with('/') {
                true => Cow::Borrowed(uri.path()),
                false => {
                    let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
                    Cow::Owned(format!("{folder}/{}", uri.path()))
                }
            };
            if let (true, Ok(path)) = (same, path::canonical(&path)) {
                store.forget(&Key::new(host, &path, uri.query()));
            }
        }
    }
}

struct Lookup<'a> {
    inner: &'a Arc<Inner>,
    store: &'a Arc<Store>,
    cache: &'a Arc<Cache>,
    route: &'a Arc<Route>,
}

/// Since 1970; a clock before that reads as then.
fn unix(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

impl Lookup<'_> {
    fn now(&self) -> Duration {
        use resilience_core::clock::Clock;
        self.inner.shared.clock.now()
    }

    fn times(&self) -> Times {
        Times {
            clock: self.now(),
            wall: unix(self.inner.shared.wall.now()),
        }
    }

    async fn answer(
        &self,
        mut request: Request<Body>,
        key: Key,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        let directives = Directives::of(request.headers());
        let why = bypass(&request, self.cache.config.cookies);
        let why = why.or_else(|| directives.no_store.then_some("request"));
        if let Some(why) = why.or_else(|| context.checked.upgrade.then_some("bypass")) {
            return self.pass(request, context, Became::Bypass(why)).await;
        }
        let mut wanted = Wanted::new(key, &request, context.is_authenticated());
        if self.route.policies.compresses() {
            // What is kept is compressed for each client on its way out.
            wanted.without_encoding = true;
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let wish = self.cache.config.client_refresh.then_some(directives);
        let until = Instant::now() + self.cache.config.wait;
        let mut waited = false;
        loop {
            let found = self.store.find(&wanted, request.headers(), self.now());
            let (stored, chosen) = match found {
                Found::Kept(stored) => {
                    match self.kept(&wanted, &request, &stored, wish, waited, context) {
                        Ok(response) => return Ok(response),
                        // All waiting for one would only be one after the other.
                        Err(solo) if solo || wish.is_some_and(|wish| wish.no_cache) => {
                            let lead = None;
                            return self
                                .fetch(request, &wanted, Some(stored), lead, context)
                                .await;
                        }
                        Err(_) => {
                            let names = store::names(&stored.chosen);
                            let chosen = entry::chosen_by(names, request.headers());
                            (Some(stored), chosen)
                        }
                    }
                }
                _ if directives.only_if_cached => return Err(not_kept()),
                // Nobody waits; one that can be kept after all is.
                Found::Pass if !wanted.head => {
                    return self.fetch(request, &wanted, None, None, context).await;
                }
                Found::Pass => (None, entry::Chosen::new()),
                Found::Nothing(chosen) => (None, chosen),
            };
            if directives.only_if_cached {
                return Err(not_kept());
            }
            // An answer to HEAD is not kept, and one to credentials most often neither.
            if stored.is_none() && wanted.head {
                return self
                    .pass(request, context, Became::Miss("fwd=uri-miss"))
                    .await;
            }
            if stored.is_none() && wanted.authorized {
                return self.fetch(request, &wanted, None, None, context).await;
            }
            match self.store.fly(&wanted, chosen) {
                Flight::First(guard) => {
                    let lead = Some(guard);
                    return self.fetch(request, &wanted, stored, lead, context).await;
                }
                Flight::Behind(mut first) => {
                    // It ends by being dropped, whatever came of it.
                    let done = tokio::time::timeout_at(until, first.changed()).await;
                    if done.is_err() {
                        return self.fetch(request, &wanted, stored, None, context).await;
                    }
                    waited = true;
                }
            }
        }
    }

    /// The service's answer as it is, neither asked about nor kept.
    async fn pass(
        &self,
        request: Request<Body>,
        context: &mut Context,
        result: Became,
    ) -> Result<Response<Body>, Problem> {
        let response = self.inner.forward(request, self.route, context).await?;
        Ok(self.note(response, result, None))
    }

    /// What is kept, if it may be used now; else whether it could never be used without asking.
    fn kept(
        &self,
        wanted: &Wanted,
        request: &Request<Body>,
        stored: &Arc<Stored>,
        wish: Option<Directives>,
        waited: bool,
        context: &Context,
    ) -> Result<Response<Body>, bool> {
        let now = self.now();
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let too_old = wish.is_some_and(|wish| {
            wish.no_cache || seconds(wish.max_age).is_some_and(|most| stored.age(now) > most)
        });
        let solo = stored.freshness.time.is_zero();
        if too_old {
            return Err(solo);
        }
        match stored.fresh(now) {
            Ok(left) => {
                let least = wish.and_then(|wish| seconds(wish.min_fresh));
                if least.is_some_and(|least| left < least) {
                    return Err(solo);
                }
                let result = match waited {
                    true => Became::Coalesced,
                    false => Became::Hit,
                };
                Ok(self.note(stored.answer(wanted, now), result, Some(stored)))
            }
            Err(stale) if stale < stored.freshness.while_revalidate => {
                self.refresh(wanted, request, stored, context);
                Ok(self.note(stored.answer(wanted, now), Became::Stale, Some(stored)))
            }
            Err(_) => Err(solo),
        }
    }

    /// Fetches a newer answer beside the client's request, unless that is being done.
    fn refresh(
        &self,
        wanted: &Wanted,
        request: &Request<Body>,
        stored: &Arc<Stored>,
        context: &Context,
    ) {
        let chosen = entry::chosen_by(store::names(&stored.chosen), request.headers());
        let Flight::First(guard) = self.store.fly(wanted, chosen) else {
            return;
        };
        let mut again = Request::new(Body::empty());
        *again.uri_mut() = request.uri().clone();
        *again.headers_mut() = request.headers().clone();
        let mut own = Wanted::new(wanted.key.clone(), &again, wanted.authorized);
        own.without_encoding = wanted.without_encoding;
        let mut context = context.background();
        let inner = Arc::clone(self.inner);
        let (store, cache) = (Arc::clone(self.store), Arc::clone(self.cache));
        let (route, stored) = (Arc::clone(self.route), Arc::clone(stored));
        tokio::spawn(async move {
            let lookup = Lookup {
                inner: &inner,
                store: &store,
                cache: &cache,
                route: &route,
            };
            let lead = Some(guard);
            let fetched = lookup.fetch(again, &own, Some(stored), lead, &mut context);
            // A stale answer that may still be used has been sent; the next request tries again.
            drop(fetched.await);
        });
    }

    /// Asks the service, keeps its answer if that is allowed, and answers. Others may be waiting
    /// behind the one that leads.
    async fn fetch(
        &self,
        mut request: Request<Body>,
        wanted: &Wanted,
        stored: Option<Arc<Stored>>,
        lead: Option<Guard>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        let generation = self.store.generation(&wanted.key);
        let asked = request.headers().clone();
        let leads = lead.is_some();
        let headers = request.headers_mut();
        if leads || stored.is_some() {
            // The whole answer is wanted, for others; the client's conditions are judged here.
            headers.remove(IF_NONE_MATCH);
            headers.remove(IF_MODIFIED_SINCE);
        }
        if let Some(stored) = &stored {
            stored.ask_about(headers);
            // What is kept is the answer to GET.
            *request.method_mut() = Method::GET;
        }
        let mut this = Fetch {
            lookup: self,
            wanted,
            asked,
            generation,
            stored,
            leads,
        };
        let answer = self.inner.forward(request, self.route, context).await;
        let answer = this.answered(answer).await;
        // From here on the others may look again.
        drop(lead);
        answer
    }

    /// Tells what became of the request.
    fn note(
        &self,
        mut response: Response<Body>,
        result: Became,
        stored: Option<&Stored>,
    ) -> Response<Body> {
        let metrics = &self.store.metrics;
        let (label, text) = match result {
            Became::Hit => ("hit", "hit"),
            Became::Stale => ("stale", "hit"),
            Became::Revalidated => ("revalidated", "fwd=stale; fwd-status=304"),
            Became::Coalesced => ("coalesced", "fwd=uri-miss; collapsed"),
            Became::Miss(text) => ("miss", text),
            Became::Bypass("method") => ("bypass", "fwd=method"),
            Became::Bypass("request") => ("bypass", "fwd=request"),
            Became::Bypass(_) => ("bypass", "fwd=bypass"),
        };
        metrics.requests(label);
        if !self.cache.config.status {
            return response;
        }
        let mut value = format!("gateway-kit; {text}");
        if let Some(stored) = stored {
            let ttl = match stored.fresh(self.now()) {
                Ok(left) => left.as_secs().to_string(),
                Err(stale) => format!("-{}", stale.as_secs()),
            };
            value.push_str("; ttl=");
            value.push_str(&ttl);
        }
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(CACHE_STATUS, value);
        }
        response
    }
}

/// A request that is with the service.
struct Fetch<'a> {
    lookup: &'a Lookup<'a>,
    wanted: &'a Wanted,
    /// The fields of the request as the client, and the steps before, made them.
    asked: HeaderMap,
    generation: u64,
    stored: Option<Arc<Stored>>,
    leads: bool,
}

impl Fetch<'_> {
    async fn answered(
        &mut self,
        answer: Result<Response<Body>, Problem>,
    ) -> Result<Response<Body>, Problem> {
        let failed = match &answer {
            Ok(response) => is_failure(response.status()),
            Err(problem) => is_failure(problem.status),
        };
        if failed && let Some(response) = self.despite_failure() {
            return Ok(response);
        }
        let response = answer.inspect_err(|_| self.mark(PASS_FAILED))?;
        match self.stored.take() {
            Some(stored) if response.status() == StatusCode::NOT_MODIFIED => {
                self.confirmed(&stored, &response)
            }
            stored => {
                let fwd = if stored.is_some() {
                    "fwd=stale"
                } else {
                    "fwd=uri-miss"
                };
                self.came(response, fwd).await
            }
        }
    }

    /// What is kept, if it may be used when the service fails (RFC 5861, section 4).
    fn despite_failure(&self) -> Option<Response<Body>> {
        let stored = self.stored.as_ref()?;
        let now = self.lookup.now();
        let stale = stored.fresh(now).err()?;
        if stale >= stored.freshness.if_error {
            return None;
        }
        let response = stored.answer(self.wanted, now);
        Some(self.lookup.note(response, Became::Stale, Some(stored)))
    }

    /// A 304: what is kept is still the answer.
    fn confirmed(
        &self,
        stored: &Arc<Stored>,
        news: &Response<Body>,
    ) -> Result<Response<Body>, Problem> {
        let key = &self.wanted.key;
        if !stored.is_meant(news.headers()) {
            tracing::warn!("a 304 about another answer than was asked about");
            self.lookup.store.forget(key);
            return Err(Problem::new(
                StatusCode::BAD_GATEWAY,
                "upstream_bad_answer",
                "Bad gateway",
                "the service's answer is not allowed",
            ));
        }
        let headers = stored.with_news(news.headers());
        let times = self.lookup.times();
        let freshness = assess(self.asked(), stored.status(), &headers, times.wall);
        let came = Came {
            status: stored.status(),
            headers: &headers,
            body: stored.body(),
        };
        let Some(freshness) = freshness else {
            // It is good for this once, as the news have it: others on the way are not to keep it.
            self.lookup.store.forget(key);
            let once = self.stored(&came, stored.freshness, times);
            let response = once.answer(self.wanted, times.clock);
            return Ok(self.lookup.note(response, Became::Revalidated, None));
        };
        let renewed = self.stored(&came, freshness, times);
        self.keep(&renewed);
        let response = renewed.answer(self.wanted, times.clock);
        Ok(self
            .lookup
            .note(response, Became::Revalidated, Some(&renewed)))
    }

    fn asked(&self) -> Asked {
        Asked {
            authorized: self.wanted.authorized,
            without_encoding: self.wanted.without_encoding,
        }
    }

    fn stored(
        &self,
        came: &Came<'_>,
        freshness: directives::Freshness,
        times: Times,
    ) -> Arc<Stored> {
        let route = self.lookup.route.label.as_str();
        let hold = |size| self.lookup.store.metrics.hold(size);
        let stored = Stored::new(
            self.wanted,
            &self.asked,
            came,
            route,
            freshness,
            times,
            hold,
        );
        Arc::new(stored)
    }

    fn keep(&self, stored: &Arc<Stored>) -> bool {
        let store = self.lookup.store;
        store.keep(self.wanted, &self.asked, stored, self.generation)
    }

    /// Nobody is to wait for an answer to this for a time.
    fn mark(&self, time: Duration) {
        if self.leads {
            let until = self.lookup.now().saturating_add(time);
            self.lookup.store.pass(&self.wanted.key, until);
        }
    }

    /// An answer of its own: kept if that is allowed, and passed on.
    async fn came(
        &mut self,
        response: Response<Body>,
        fwd: &'static str,
    ) -> Result<Response<Body>, Problem> {
        let lookup = self.lookup;
        let (parts, body) = response.into_parts();
        let times = lookup.times();
        let freshness = assess(self.asked(), parts.status, &parts.headers, times.wall);
        // Checked to be far less than the memory there is.
        let most = lookup.cache.config.max_object.bytes() as usize;
        let announced = body.size_hint().lower();
        let room = body
            .size_hint()
            .exact()
            .map_or(most, |length| length.min(most as u64) as usize);
        let filling = freshness
            .filter(|_| announced <= most as u64)
            .and_then(|freshness| Some((freshness, lookup.store.fill(room)?)));
        let Some((freshness, _filling)) = filling else {
            self.mark(match is_failure(parts.status) {
                true => PASS_FAILED,
                false => PASS,
            });
            let response = Response::from_parts(parts, body);
            return Ok(lookup.note(response, Became::Miss(fwd), None));
        };
        let until = Instant::now() + lookup.cache.config.wait;
        let body = match read(body, most, until).await {
            Ok(body) => body,
            Err(rest) if rest.is_broken() => {
                self.mark(PASS_FAILED);
                return Err(broken());
            }
            Err(rest) => {
                self.mark(PASS);
                let response = Response::from_parts(parts, Body::new(rest));
                return Ok(lookup.note(response, Became::Miss(fwd), None));
            }
        };
        let told = parts.headers.get(CONTENT_LENGTH);
        let told = told.and_then(|told| told.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: usize| told != body.len()) {
            // An answer to HEAD in all but name; not one for others.
            let response = Response::from_parts(parts, Body::from(body));
            return Ok(lookup.note(response, Became::Miss(fwd), None));
        }
        let came = Came {
            status: parts.status,
            headers: &parts.headers,
            body: &body,
        };
        let stored = self.stored(&came, freshness, times);
        let kept = self.keep(&stored);
        let text = match (fwd, kept) {
            (_, false) => fwd,
            ("fwd=stale", true) => "fwd=stale; stored",
            (_, true) => "fwd=uri-miss; stored",
        };
        let response = stored.answer(self.wanted, times.clock);
        Ok(lookup.note(response, Became::Miss(text), None))
    }
}

/// A failure of the service that a stale answer may stand in for.
fn is_failure(status: StatusCode) -> bool {
    [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

/// Nothing has been passed on, so the client can be told.
fn broken() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "upstream_broken",
        "Bad gateway",
        "the service broke off inside its answer",
    )
}

fn not_kept() -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "not_cached",
        "Gateway timeout",
        "there is no answer in the cache, and only one from there was wanted",
    )
}

/// Reads a body of at most `most` bytes; one that is longer, slower or ends otherwise comes back to
/// be passed on as it is.
async fn read(mut body: Body, most: usize, until: Instant) -> Result<Bytes, Begun> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut length = 0;
    let next = loop {
        let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else {
            break None;
        };
        match frame {
            None => {
                let mut whole = BytesMut::with_capacity(length);
                for piece in &pieces {
                    whole.extend_from_slice(piece);
                }
                return Ok(whole.freeze());
            }
            Some(Ok(frame))
                if frame
                    .data_ref()
                    .is_some_and(|data| data.len() <= most - length) =>
            {
                if let Ok(data) = frame.into_data() {
                    length += data.len();
                    pieces.push(data);
                }
            }
            Some(other) => break Some(other),
        }
    };
    pieces.reverse();
    Err(Begun { pieces, next, body })
}

/// A body whose beginning has been read.
struct Begun {
    /// The last one first.
    pieces: Vec<Bytes>,
    next: Option<Result<Frame<Bytes>, BoxError>>,
    body: Body,
}

impl Begun {
    fn is_broken(&self) -> bool {
        matches!(self.next, Some(Err(_)))
    }
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = self.pieces.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(next) = self.next.take() {
            return Poll::Ready(Some(next));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.next.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let next = self.next.as_ref().and_then(|next| next.as_ref().ok());
        let next = next.and_then(|next| next.data_ref()).map_or(0, Bytes::len);
        let read = self.pieces.iter().map(Bytes::len).sum::<usize>() + next;
        let (lower, upper) = (hint.lower(), hint.upper());
        hint.set_lower(0);
        if let Some(upper) = upper {
            hint.set_upper(upper.saturating_add(read as u64));
        }
        hint.set_lower(lower.saturating_add(read as u64));
        hint
    }
}
