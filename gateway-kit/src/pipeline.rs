//! What happens to a request, outside in. The order is fixed; each step is a module of its own:
//!
//! 1. request guard (`guard`)
//! 2. built-in endpoints (`built_in`)
//! 3. IP filter
//! 4. CORS
//! 5. security headers
//! 6. size limits
//! 7. rate limit by address
//! 8. route
//! 9. authentication: CSRF, JWT
//! 10. rate limit by consumer
//! 11. webhook, transforms, and outside of the call cache and coalescing
//! 12. compression of what came, from the cache or not
//! 13. retry, time per try, endpoint, breaker and bulkhead (`upstream::call`)
//! 14. one attempt (`upstream::forward`)
//!
//! The route is looked up once, before step 3, so that a route can have settings of its own for
//! every step; a request without one is refused in step 8 and not before. What a step adds to
//! answers it adds to refusals of later steps too; security headers are on all answers, as what
//! is done last.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::poll_fn;
#[cfg(feature = "jwt")]
use http::HeaderName;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};

use crate::alarm::Alarm;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::guard::Checked;
use crate::headers::{self, CORRELATION_ID, Origin};
use crate::layers::through;
use crate::path;
#[cfg(feature = "webhook")]
use crate::policy::webhook::Checks;
use crate::policy::{Policies, cors};
use crate::problem::Problem;
use crate::route::{Found, Route};
use crate::server::{Downstream, Inner};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::call::{self, Call};
use crate::upstream::upgrade;

/// One request and what is known of it, from the guard to the answer.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The peer, and whether what it says of others is believed.
    pub(crate) origin: Origin,
    /// The client's address as far as it can be believed.
    pub(crate) client: IpAddr,
    /// The client came by TLS, to us or to a proxy that we believe.
    pub(crate) secure: bool,
    /// The request is a question of CORS that is answered here.
    preflight: bool,
    pub(crate) checked: Checked,
    /// The route, or one of those of the path if `allow` says that there is none for the method.
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) allow: Option<HeaderValue>,
    /// What a good token says of the client; `None` without one.
    pub(crate) claims: Option<serde_json::Value>,
    /// What the upstream is told of that.
    #[cfg(feature = "jwt")]
    identity: Option<Vec<(HeaderName, HeaderValue)>>,
    pub(crate) exchange: Exchange,
    /// Of the connection, if it has requests one after the other.
    pub(crate) alarm: Option<Arc<Alarm>>,
}

impl Context {
    fn new(
        snapshot: Arc<Snapshot>,
        request: &Request<Body>,
        checked: Checked,
        downstream: Downstream,
        mut exchange: Exchange,
    ) -> Self {
        let origin = snapshot.origin(&downstream);
        let client = headers::client_address(request.headers(), &origin, |address| {
            snapshot.is_trusted(address)
        });
        // The guard has seen to it that there is one, or that the client is of HTTP/1.0.
        let host = request
            .headers()
            .get(HOST)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let matched = path::without_parameters(&checked.path);
        // A preflight request is about the route of what is to follow it.
        let asked = cors::preflight(request.method(), request.headers());
        let asked = asked.filter(|asked| {
            let found = snapshot.table.find(host, asked, &matched);
            snapshot.policies_of(found.route()).cors.is_some()
        });
        let method = asked.as_ref().unwrap_or_else(|| request.method());
        let found = snapshot.table.find(host, method, &matched);
        let (route, allow) = match found {
            Found::Route(route) => (Some(Arc::clone(route)), None),
            Found::WrongMethod(route, allow) => (Some(Arc::clone(route)), Some(allow.clone())),
            Found::Nothing => (None, None),
        };
        let secure = headers::is_secure(request.headers(), &origin);
        exchange.known(client, secure);
        if let Some(route) = &route {
            exchange.routed(route);
        }
        Self {
            snapshot,
            origin,
            client,
            secure,
            preflight: asked.is_some(),
            checked,
            route,
            allow,
            claims: None,
            #[cfg(feature = "jwt")]
            identity: None,
            exchange,
            alarm: downstream.alarm,
        }
    }

    /// Refuses paths that the route, if there is one, must not get.
    fn check_path(&self) -> Result<(), Problem> {
        let bad = |detail: &'static str| Err(Problem::bad_request("bad_path", detail));
        let route = self.route.as_deref();
        if self.checked.encoded_slash && !route.is_some_and(|route| route.encoded_slash) {
            return bad("the path has an escape or character that is not allowed");
        }
        // Matched without the parameters of its segments, and not the same with them.
        if route.is_some_and(|route| !path::is_under(&self.checked.path, &route.prefix)) {
            return bad("the path has a parameter where a route begins");
        }
        Ok(())
    }

    /// The answer, or what a refusal says.
    fn answer(&mut self, answer: Result<Response<Body>, Problem>) -> Response<Body> {
        answer.unwrap_or_else(|problem| {
            self.exchange.fail(problem.code);
            problem.into_response(self.exchange.correlation_id())
        })
    }

    /// Tells the upstream who the client is. After the fields of one connection are removed, so that
    /// a client cannot name these among them.
    #[cfg(feature = "jwt")]
    fn identify(&mut self, route: &Route, headers: &mut HeaderMap) {
        for (name, value) in self.identity.take().into_iter().flatten() {
            headers.insert(name, value);
        }
        if let Some(jwt) = &route.policies.jwt {
            jwt.hide_token(headers);
        }
    }

    /// For what the gateway does by itself because of this request.
    #[cfg(feature = "cache")]
    pub(crate) fn background(&self) -> Self {
        Self {
            snapshot: Arc::clone(&self.snapshot),
            origin: self.origin.clone(),
            client: self.client,
            checked: self.checked.clone(),
            route: self.route.clone(),
            allow: None,
            secure: self.secure,
            preflight: false,
            claims: self.claims.clone(),
            // Told already, in the request that is sent once more.
            #[cfg(feature = "jwt")]
            identity: None,
            exchange: self.exchange.background(),
            // It belongs to the task of the connection.
            alarm: None,
        }
    }

    /// Whether a step before found out who sent the request.
    #[cfg(feature = "cache")]
    pub(crate) const fn is_authenticated(&self) -> bool {
        self.claims.is_some()
    }

    /// The policies of the route, or those for requests without one.
    pub(crate) fn policies(&self) -> &Policies {
        self.snapshot.policies_of(self.route.as_ref())
    }
}

impl Inner {
    /// Answers one request. A panic on the way is answered with 500, and the connection closed.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        request: Request<Body>,
        downstream: Downstream,
    ) -> Response<Body> {
        let mut answer = pin!(self.answer(request, downstream));
        let answered = poll_fn(|cx| {
            // What a panic leaves half done belongs to this request and is dropped with it.
            let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
            polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
        });
        answered.await.unwrap_or_else(|| self.panicked())
    }

    #[cold]
    fn panicked(&self) -> Response<Body> {
        let value = self.shared.new_id();
        let id = value.to_str().unwrap_or_default();
        tracing::error!(correlation_id = %id, "a request panicked");
        let problem = Problem::internal().header(CONNECTION, HeaderValue::from_static("close"));
        let mut response = problem.into_response(id);
        response.headers_mut().insert(CORRELATION_ID, value);
        response
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Body>,
        downstream: Downstream,
    ) -> Response<Body> {
        #[cfg(feature = "admin")]
        if downstream.admin {
            return self.admin(request, downstream).await;
        }
        let snapshot = self.snapshot.load_full();
        let mut exchange = Exchange::begin(&self.shared, &snapshot, &request, &downstream);
        let (mut parts, body) = request.into_parts();
        let checked = match snapshot.guard.check(&mut parts) {
            Ok(checked) => checked,
            Err(refused) => {
                let problem = Problem::guarded(refused, || snapshot.guard.allow());
                let secure = downstream.tls;
                return secured(refused_by(problem, exchange), &snapshot.policies, secure);
            }
        };
        #[cfg(feature = "admin")]
        if self.is_public_admin(&checked.path) {
            exchange.built_in(crate::admin::PREFIX);
            let client = snapshot.client(&parts.headers, downstream);
            let answer = Box::pin(self.administer(parts, body, &checked.path, client)).await;
            let answer = answer.unwrap_or_else(|problem| {
                exchange.fail(problem.code);
                problem.into_response(exchange.correlation_id())
            });
            return finished(crate::admin::secured(answer), exchange);
        }
        let request = snapshot.identity.remove(Request::from_parts(parts, body));
        if let Some((path, answer)) = self.built_in(&request, &checked.path) {
            exchange.built_in(path);
            let response = match answer {
                Ok(response) => finished(response, exchange),
                Err(problem) => refused_by(problem, exchange),
            };
            return secured(response, &snapshot.policies, downstream.tls);
        }
        let mut context = Context::new(snapshot, &request, checked, downstream, exchange);
        let answer = match &self.layers.edge {
            None => self.edge(request, &mut context).await,
            // Boxed: the steps are held twice here, which is too much for a stack.
            Some(layered) => {
                Box::pin(async {
                    through!(layered, request, {
                        let answer = self.edge(request, &mut context).await;
                        context.answer(answer)
                    })
                })
                .await
            }
        };
        let response = context.answer(answer);
        let response = secured(response, context.policies(), context.secure);
        finished(response, context.exchange)
    }

    /// What concerns every request, with a route or without.
    async fn edge(
        self: &Arc<Self>,
        request: Request<Body>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        context.check_path()?;
        let policies = context.policies();
        if let Some(filter) = &policies.ip_filter {
            filter.check(context.client)?;
        }
        let Some(cors) = policies.cors.clone() else {
            return self.admitted(request, context).await;
        };
        let told = cors.tell(request.headers());
        let answer = match context.preflight {
            true => Ok(cors.answer(&told)),
            false => self.admitted(request, context).await,
        };
        let mut response = context.answer(answer);
        cors.decorate(told, context.preflight, response.headers_mut());
        Ok(response)
    }

    /// What concerns every request that may be answered in full.
    async fn admitted(
        self: &Arc<Self>,
        mut request: Request<Body>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        let policies = context.policies();
        if let Some(limits) = &policies.size_limits {
            request = limits.check(request)?;
        }
        if let Some(limits) = &policies.limits {
            limits.check_address(context.client)?;
        }
        let route = context.route.clone().ok_or_else(Problem::no_route)?;
        if let Some(allow) = context.allow.take() {
            return Err(Problem::method_not_allowed(allow));
        }
        if !route.enabled {
            return Err(Problem::route_disabled());
        }
        let Some(layered) = &self.layers.route else {
            return self.routed(request, &route, context).await;
        };
        Box::pin(async {
            through!(layered, request, {
                let answer = self.routed(request, &route, context).await;
                context.answer(answer)
            })
        })
        .await
    }

    /// What concerns the requests of one route.
    async fn routed(
        self: &Arc<Self>,
        mut request: Request<Body>,
        route: &Arc<Route>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        self.authenticate(request.method(), request.headers(), route, context)
            .await?;
        if let Some(limits) = &route.policies.limits {
            limits.check_consumer(request.headers(), context.claims.as_ref(), context.client)?;
        }
        headers::remove_request_hop_by_hop(request.headers_mut());
        headers::set_forwarded(request.headers_mut(), &context.origin, context.client);
        #[cfg(feature = "jwt")]
        context.identify(route, request.headers_mut());
        let id = context.exchange.correlation_id.clone();
        request.headers_mut().insert(CORRELATION_ID, id);
        if let Some(trace) = &context.exchange.trace {
            trace.tell(trace.span, request.headers_mut());
        }
        if route.policies.work_on_content() {
            // Boxed: most routes have none of it.
            return Box::pin(self.content(request, route, context)).await;
        }
        self.forward(request, route, context).await
    }

    /// What reads, changes or keeps what goes through.
    async fn content(
        self: &Arc<Self>,
        request: Request<Body>,
        route: &Arc<Route>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        let policies = &route.policies;
        #[cfg(feature = "webhook")]
        let (request, delivery) = match &policies.webhook {
            Some(webhook) => {
                let (client, checked) = (context.client, &mut context.checked);
                match webhook.check(request, client, checked).await? {
                    Checks::Passed(request, delivery) => (request, Some(delivery)),
                    Checks::Repeated(response) => return Ok(response),
                }
            }
            None => (request, None),
        };
        let is_head = request.method() == Method::HEAD;
        let request = match &policies.transforms {
            Some(transforms) => {
                let (identity, checked) = (&context.snapshot.identity, &mut context.checked);
                transforms.request(request, identity, checked).await?
            }
            None => request,
        };
        #[cfg(feature = "compression")]
        let accepted = policies.compression.as_ref();
        #[cfg(feature = "compression")]
        let accepted = accepted.map(|compression| compression.accepted(&request));
        #[cfg(feature = "cache")]
        let response = match &policies.store {
            Some(store) => self.cached(request, route, store, context).await?,
            None => self.forward(request, route, context).await?,
        };
        #[cfg(not(feature = "cache"))]
        let response = self.forward(request, route, context).await?;
        #[cfg(feature = "webhook")]
        if let Some(delivery) = delivery {
            delivery.settle(response.status()).await;
        }
        let response = match &policies.transforms {
            Some(transforms) => {
                let identity = &context.snapshot.identity;
                transforms.response(response, identity, is_head).await?
            }
            None => response,
        };
        #[cfg(feature = "compression")]
        let response = match accepted {
            Some(accepted) => accepted.apply(response),
            None => response,
        };
        Ok(response)
    }

    /// The call to the service, inside the application's own layers.
    pub(crate) async fn forward(
        self: &Arc<Self>,
        request: Request<Body>,
        route: &Arc<Route>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        let Some(layered) = &self.layers.upstream else {
            return upstream(&self.shared, request, route, context).await;
        };
        Box::pin(async {
            through!(layered, request, {
                let answer = upstream(&self.shared, request, route, context).await;
                context.answer(answer)
            })
        })
        .await
    }
}

impl Inner {
    /// Finds out who sends a request, and refuses those who may not.
    async fn authenticate(
        &self,
        method: &Method,
        headers: &HeaderMap,
        route: &Route,
        context: &mut Context,
    ) -> Result<(), Problem> {
        let policies = &route.policies;
        let failed = |reason| self.shared.metrics.auth_failure(&route.label, reason);
        if let Some(csrf) = &policies.csrf {
            let checked = csrf.check(method, headers, context.checked.upgrade, context.secure);
            checked.inspect_err(|_| failed("cross_origin"))?;
        }
        #[cfg(feature = "jwt")]
        if let Some(jwt) = &policies.jwt {
            let checked = match jwt.check(headers).await {
                Ok(Some(claims)) => jwt.fields(&claims).map(|fields| Some((claims, fields))),
                other => other.map(|_| None),
            };
            let known = checked.map_err(|refusal| {
                failed(refusal.reason());
                jwt.problem(refusal)
            })?;
            (context.claims, context.identity) = known.unzip();
        }
        Ok(())
    }
}

/// The call to the service, and its answer in the form that is passed on.
async fn upstream(
    shared: &Shared,
    request: Request<Body>,
    route: &Arc<Route>,
    context: &mut Context,
) -> Result<Response<Body>, Problem> {
    let path = &context.checked.path;
    let chosen = route.choose(request.headers(), context.client, path);
    let upstream = chosen.ok_or_else(Problem::no_endpoint)?;
    context.exchange.chosen(upstream);
    let key = upstream.key(request.headers(), context.client, path);
    let (request, asked) = call::outgoing(request, route, &context.checked)?;
    context.exchange.sends(request.body().progress());
    let call = Call {
        upstream,
        exchange: &mut context.exchange,
        key,
        body_timeout: context.snapshot.body_timeout,
        asked,
        tunnels: &shared.tunnels,
        alarm: context.alarm.as_deref(),
    };
    let mut response = call.forward(request).await?;
    headers::remove_hop_by_hop(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        upgrade::set_fields(response.headers_mut());
    }
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

/// Puts security headers onto an answer; one that changes to another protocol has no page.
fn secured(mut response: Response<Body>, policies: &Policies, secure: bool) -> Response<Body> {
    if let Some(fields) = &policies.security_headers
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        fields.decorate(secure, response.headers_mut());
    }
    response
}

fn refused_by(problem: Problem, mut exchange: Exchange) -> Response<Body> {
    exchange.fail(problem.code);
    let response = problem.into_response(exchange.correlation_id());
    finished(response, exchange)
}

pub(crate) fn finished(mut response: Response<Body>, mut exchange: Exchange) -> Response<Body> {
    let id = exchange.correlation_id.clone();
    response.headers_mut().insert(CORRELATION_ID, id);
    exchange.answered(response.status());
    response.map(|body| body.measured(exchange))
}
