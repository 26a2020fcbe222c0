//! The jobs that run beside the requests.

use std::{fmt::Display, time::Duration};

use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::AppState;
use crate::{
    payments::Error,
    ports::{JobKind, QueueError},
};

/// Starts the expiry scan, the job worker, the retries of the cache, the outbox and the workers of
/// tasks; the handle ends after `stop`.
pub(super) fn start(state: &AppState, stop: &CancellationToken) -> JoinHandle<()> {
    let settings = state.settings().jobs.clone();
    let (scan, work, retry, retain) = (state.clone(), state.clone(), state.clone(), state.clone());
    let (stop_scan, stop_work, stop_retry) = (stop.clone(), stop.clone(), stop.clone());
    let (outbox, stop_outbox) = (state.clone(), stop.clone());
    let (stop_retain, stop_tasks) = (stop.clone(), stop.clone());
    let workers = state.workers().clone();
    tokio::spawn(async move {
        let scan = every(settings.expiry_scan, stop_scan, scan, async |state| {
            state.payments().expire_due().await
        });
        let retry = every(settings.invalidation, stop_retry, retry, async |state| {
            Ok::<_, Error>(state.content().retry_invalidations().await)
        });
        // One worker takes both kinds of jobs.
        let interval = settings.verification.min(settings.refund);
        let work = every(interval, stop_work, work, run_jobs);
        let retain = every(settings.retention, stop_retain, retain, retain_tasks);
        // A round that is cut is done again, and consumers know what they have had.
        let consumers = outbox.inner.subscriptions.iter();
        let consumers = join_all(consumers.map(|consumer| consumer.run()));
        let outbox = async { tokio::join!(outbox.dispatcher().run(), consumers) };
        let outbox = stop_outbox.run_until_cancelled(outbox);
        tokio::join!(scan, work, retry, outbox, retain, workers.run(stop_tasks));
    })
}

/// Runs what is due, and shows what still waits.
async fn run_jobs(state: &AppState) -> Result<usize, Error> {
    let done = state.payments().run_due_jobs().await?;
    for kind in [JobKind::Verify, JobKind::Refund] {
        let waiting = state.payments().queued(kind).await?;
        state.metrics().queue_depth(kind.as_str(), waiting);
    }
    Ok(done)
}

async fn every<F, E>(interval: Duration, stop: CancellationToken, state: AppState, run: F)
where
    F: AsyncFn(&AppState) -> Result<usize, E>,
    E: Display,
{
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = async {
        loop {
            ticks.tick().await;
            if let Err(error) = run(&state).await {
                tracing::warn!(%error, "background job failed, it runs again");
            }
        }
    };
    // A round that is cut loses nothing: its jobs are leased, not taken.
    let _: Option<()> = stop.run_until_cancelled(rounds).await;
}

async fn retain_tasks(state: &AppState) -> Result<usize, QueueError> {
    let dropped = state.tasks().retain().await?;
    Ok(usize::try_from(dropped).unwrap_or(usize::MAX))
}
