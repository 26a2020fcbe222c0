//! The jobs that run beside the requests.

use std::time::Duration;

use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::AppState;
use crate::payments::{Error, PaymentService};

/// Starts the expiry scan and the job worker; the handle ends after `stop`.
pub(super) fn start(state: &AppState, stop: &CancellationToken) -> JoinHandle<()> {
    let settings = state.settings().jobs.clone();
    let (scan, work) = (state.payments().clone(), state.payments().clone());
    let (stop_scan, stop_work) = (stop.clone(), stop.clone());
    tokio::spawn(async move {
        let scan = every(settings.expiry_scan, stop_scan, scan, async |p| {
            p.expire_due().await
        });
        // One worker takes both kinds of jobs.
        let interval = settings.verification.min(settings.refund);
        let work = every(interval, stop_work, work, async |p| p.run_due_jobs().await);
        tokio::join!(scan, work);
    })
}

async fn every<F>(interval: Duration, stop: CancellationToken, payments: PaymentService, run: F)
where
    F: AsyncFn(&PaymentService) -> Result<usize, Error>,
{
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = async {
        loop {
            ticks.tick().await;
            if let Err(error) = run(&payments).await {
                tracing::warn!(%error, "background job failed, it runs again");
            }
        }
    };
    // A round that is cut loses nothing: its jobs are leased, not taken.
    let _: Option<()> = stop.run_until_cancelled(rounds).await;
}
