use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use plotters::chart::SeriesLabelPosition;
use resilience_core::coalesce::Config;
use resilience_tower::{
    coalesce::{CoalesceLayer, Coalescing},
    sim::{Clients, Request, Response, Simulation, Times, Upstream, World},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{Plot, Scenario, Variant, goodput, ms, peak, seconds, secs, share};

pub(crate) fn scenario() -> Scenario {
    let database = Upstream::new()
        .servers(20)
        .service_time(Times::around(ms(200)));
    let clients = Clients::open(100.0)
        .rate_from(secs(15), 1_000.0)
        .zipf_keys(500)
        .timeout(secs(1));
    let simulation = Simulation::new(6)
        .upstream("database", database)
        .clients(clients);
    let variants = vec![
        Variant {
            label: "each call fills",
            stack: "a cache that each call fills that does not find its answer; timeout 1 s",
            report: simulation.run(secs(60), |world| {
                Cache::emptied(world, world.upstream("database"))
            }),
        },
        Variant {
            label: "one call fills",
            stack: "the same cache → `coalesce`; timeout 1 s",
            report: simulation.run(secs(60), |world| {
                let coalescing = Coalescing::with_clock(Config::default(), world.clock());
                let layer = CoalesceLayer::new(coalescing, |call: &Request| Some(call.key));
                Cache::emptied(world, layer.layer(world.upstream("database")))
            }),
        },
    ];
    Scenario {
        name: "cold_cache",
        title: "Cold cache",
        story: "A database bears 100 calls a second, and a cache before it gets 1 000, for 500 things of\n\
                which some are asked for much more often than others (Zipf). At second 30 the cache is\n\
                emptied. Callers give up after a second.",
        variants,
        plot: Plot {
            y: "good calls per second",
            value: goodput,
        },
        columns: vec![
            ("good in all", share),
            ("well again after", |r| {
                seconds(r.time_to_recover(secs(30), 0.95))
            }),
            ("most calls to the database", |r| {
                format!("{:.0}/s", peak(r))
            }),
        ],
        trouble: vec![(30, 31)],
        legend: SeriesLabelPosition::UpperLeft,
        headroom: 1.05,
    }
}

/// A cache as it is often written: look, else call and remember.
#[derive(Clone)]
struct Cache<S> {
    inner: S,
    answers: Arc<Mutex<HashMap<u64, Response>>>,
}

impl<S> Cache<S> {
    /// Emptied at second 30.
    fn emptied(world: &World, inner: S) -> Self {
        let answers: Arc<Mutex<HashMap<_, _>>> = Arc::default();
        let emptied = Arc::clone(&answers);
        world.at(secs(30), move || emptied.lock().unwrap().clear());
        Self { inner, answers }
    }
}

impl<S> Service<Request> for Cache<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if let Some(answer) = self.answers.lock().unwrap().get(&request.key).cloned() {
            return Box::pin(async { Ok(answer) });
        }
        let (call, answers) = (self.inner.call(request), Arc::clone(&self.answers));
        Box::pin(async move {
            let answer = call.await?;
            answers.lock().unwrap().insert(request.key, answer.clone());
            Ok(answer)
        })
    }
}
