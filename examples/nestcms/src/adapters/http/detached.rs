//! Work that goes on when its client hangs up.

use std::future::Future;

use http::StatusCode;

use super::problem::Problem;
use crate::correlation;

/// Runs `work` in a task of its own. A client that disconnects drops the handler, and
/// with it everything between a commit and its events; the task goes on.
pub(super) async fn detached<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Into<Problem> + Send + 'static,
{
    match tokio::spawn(correlation::scope(correlation::current(), work)).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => {
            tracing::error!(%error, "a request's task ended early");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Err(Problem::new(status, "internal", "internal error"))
        }
    }
}
