//! Waiting for conditions.

use std::time::Duration;

/// How long a test waits for what must happen. Long, so that a loaded machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that cannot be waited for otherwise.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits for a future that must resolve.
///
/// # Panics
/// Panics with `what` if it does not within [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// Panics with `what` if there is none within [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    within(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await
}
