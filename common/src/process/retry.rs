//! Trying again, with pauses, until it was taken.

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

/// The pauses between attempts: each is twice as long as the one before.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// The first.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// Waits for an attempt to publish, and makes another one as long as they fail for what is worth one.
///
/// # Errors
/// Returns the first failure that is not.
pub async fn until_taken<F, E>(
    mut attempt: F,
    again: impl Fn() -> F,
    pauses: Pauses,
    is_worth_another: impl Fn(&E) -> bool,
) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let mut pause = pauses.first;
    loop {
        match attempt.await {
            Err(error) if is_worth_another(&error) => {
                tracing::debug!(%error, "an event was not taken, publishing it again");
            }
            result => return result,
        }
        sleep(pause).await;
        pause = pauses.longest.min(2 * pause);
        attempt = again();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use tokio::time::Instant;

    use super::*;
    use crate::channel::PublishError;

    const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(3) };

    #[expect(clippy::disallowed_methods, reason = "the pauses are those of the runtime's clock")]
    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_what_is_not_worth_it_ends_the_attempts() {
        let (left, start) = (Cell::new(4), Instant::now());
        let attempt = || match left.replace(left.get() - 1) {
            0 => ready(Err(PublishError::TooLarge)),
            _ => ready(Err(PublishError::Overloaded)),
        };
        let overloaded = |error: &PublishError| *error == PublishError::Overloaded;
        assert_eq!(until_taken(attempt(), attempt, PAUSES, overloaded).await, Err(PublishError::TooLarge));
        assert_eq!(start.elapsed(), Duration::from_secs(1 + 2 + 3 + 3));
        assert_eq!(until_taken(ready(Ok(())), || ready(Ok(())), PAUSES, overloaded).await, Ok(()));
    }
}
