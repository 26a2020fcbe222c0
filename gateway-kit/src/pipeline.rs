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
//! 9. authentication
//! 10. rate limit by consumer
//! 11. cache and coalescing
//! 12. compression
//! 13. retry, time per try, endpoint, breaker and bulkhead (`upstream::call`)
//! 14. one attempt (`upstream::forward`)
//!
//! The route is looked up once, before step 3, so that a route can have settings of its own for
//! every step; a request without one is refused in step 8 and not before. What a step adds to
//! answers it adds to refusals of later steps too.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderValue};
use http::{Request, Response, Version};

use crate::body::Body;
use crate::exchange::Exchange;
use crate::guard::{self, Checked};
use crate::headers::{self, CORRELATION_ID, Origin};
use crate::layers::through;
use crate::policy::Policies;
use crate::problem::Problem;
use crate::route::{Found, Route};
use crate::server::{Downstream, Inner};
use crate::snapshot::Snapshot;
use crate::upstream::call;

/// One request and what is known of it, from the guard to the answer.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The peer, and whether what it says of others is believed.
    pub(crate) origin: Origin,
    /// The client's address as far as it can be believed.
    pub(crate) client: IpAddr,
    pub(crate) checked: Checked,
    /// The route, or one of those of the path if `allow` says that there is none for the method.
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) allow: Option<HeaderValue>,
    pub(crate) exchange: Exchange,
}

impl Context {
    /// The answer, or what a refusal says.
    fn answer(&mut self, answer: Result<Response<Body>, Problem>) -> Response<Body> {
        answer.unwrap_or_else(|problem| {
            self.exchange.fail(problem.code);
            problem.into_response(&self.exchange.correlation_id)
        })
    }

    /// The policies of the route, or those for requests without one.
    pub(crate) fn policies(&self) -> &Policies {
        match &self.route {
            Some(route) => &route.policies,
            None => &self.snapshot.policies,
        }
    }
}

impl Inner {
    /// Answers one request.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        request: Request<Body>,
        downstream: Downstream,
    ) -> Response<Body> {
        let mut exchange = Exchange::begin(&self.shared, &request);
        let (mut parts, body) = request.into_parts();
        let checked = match guard::check(&mut parts) {
            Ok(checked) => checked,
            Err(problem) => return refused(problem, exchange),
        };
        let request = Request::from_parts(parts, body);
        if let Some((path, answer)) = self.built_in(&request, &checked.path) {
            exchange.built_in(path);
            return match answer {
                Ok(response) => finished(response, exchange),
                Err(problem) => refused(problem, exchange),
            };
        }
        let mut context = self.context(&request, checked, downstream, exchange);
        let answer = match &self.layers.edge {
            None => self.edge(request, &mut context).await,
            Some(layered) => through!(layered, request, {
                let answer = self.edge(request, &mut context).await;
                context.answer(answer)
            }),
        };
        let response = context.answer(answer);
        finished(response, context.exchange)
    }

    fn context(
        &self,
        request: &Request<Body>,
        checked: Checked,
        downstream: Downstream,
        exchange: Exchange,
    ) -> Context {
        let snapshot = self.snapshot.load_full();
        let origin = snapshot.origin(downstream);
        let client = headers::client_address(request.headers(), origin, |address| {
            snapshot.is_trusted(address)
        });
        // The guard has seen to it that there is one, or that the client is of HTTP/1.0.
        let host = request
            .headers()
            .get(HOST)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let found = snapshot.table.find(host, request.method(), &checked.path);
        let (route, allow) = match found {
            Found::Route(route) => (Some(Arc::clone(route)), None),
            Found::WrongMethod(route, allow) => (Some(Arc::clone(route)), Some(allow.clone())),
            Found::Nothing => (None, None),
        };
        Context {
            snapshot,
            origin,
            client,
            checked,
            route,
            allow,
            exchange,
        }
    }

    /// What concerns every request, with a route or without.
    async fn edge(
        self: &Arc<Self>,
        request: Request<Body>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        if let Some(limit) = &context.policies().client_limit {
            limit.check(context.client).inspect_err(|_| {
                self.shared.metrics.rate_limited.increment(1);
            })?;
        }
        let route = context.route.clone().ok_or_else(Problem::no_route)?;
        context.exchange.routed(&route);
        if let Some(allow) = context.allow.take() {
            return Err(Problem::method_not_allowed(allow));
        }
        if !route.enabled {
            return Err(Problem::route_disabled());
        }
        let Some(layered) = &self.layers.route else {
            return self.routed(request, &route, context).await;
        };
        through!(layered, request, {
            let answer = self.routed(request, &route, context).await;
            context.answer(answer)
        })
    }

    /// What concerns the requests of one route.
    async fn routed(
        self: &Arc<Self>,
        mut request: Request<Body>,
        route: &Arc<Route>,
        context: &mut Context,
    ) -> Result<Response<Body>, Problem> {
        headers::remove_request_hop_by_hop(request.headers_mut());
        headers::set_forwarded(request.headers_mut(), context.origin, context.client);
        if let Ok(id) = HeaderValue::from_str(&context.exchange.correlation_id) {
            request.headers_mut().insert(CORRELATION_ID, id);
        }
        let Some(layered) = &self.layers.upstream else {
            return upstream(request, route, context).await;
        };
        through!(layered, request, {
            let answer = upstream(request, route, context).await;
            context.answer(answer)
        })
    }
}

/// The call to the service, and its answer in the form that is passed on.
async fn upstream(
    request: Request<Body>,
    route: &Arc<Route>,
    context: &mut Context,
) -> Result<Response<Body>, Problem> {
    let path = &context.checked.path;
    let chosen = route.choose(request.headers(), context.client, path);
    let upstream = chosen.ok_or_else(Problem::no_endpoint)?;
    context.exchange.chosen(upstream);
    let key = upstream.key(request.headers(), context.client, path);
    let request = call::outgoing(request, route, &context.checked)?;
    let body_timeout = context.snapshot.body_timeout;
    let mut response = call::forward(upstream, key, request, body_timeout).await?;
    headers::remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

fn refused(problem: Problem, mut exchange: Exchange) -> Response<Body> {
    exchange.fail(problem.code);
    let response = problem.into_response(&exchange.correlation_id);
    finished(response, exchange)
}

fn finished(mut response: Response<Body>, mut exchange: Exchange) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(&exchange.correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    exchange.answered(response.status());
    response.map(|body| body.measured(exchange))
}
