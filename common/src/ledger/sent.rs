//! What the ledger knows of commands that devices reply to.

use super::Ledger;
use super::error::LedgerError;
use super::rows::{self, columns};
use crate::BoxFuture;
use crate::id::EventId;
use crate::replies::{Sent, SentCommands, StoreUnavailable};
use crate::tracker::Row;

impl SentCommands for Ledger {
    fn sent(&self, command: &EventId) -> BoxFuture<'_, Result<Option<Sent>, StoreUnavailable>> {
        let id = command.clone();
        Box::pin(async move {
            let found = self.at_home(|store| async move {
                let select = concat!("SELECT ", columns!(), " FROM commands WHERE id = $1");
                let row = sqlx::query(select).bind(id.as_str()).fetch_optional(store.pool()).await?;
                row.as_ref().map(rows::read).transpose()
            });
            Ok(found.await.map_err(|_: LedgerError| StoreUnavailable)?.and_then(sent))
        })
    }
}

/// A command that no connection was given has not been sent, whatever became of it.
fn sent(row: Row) -> Option<Sent> {
    let since = row.history.last().map_or(row.accepted, |step| step.time);
    let Row { device, name, attempt, state, .. } = row;
    (attempt > 0).then_some(Sent { device, name, attempt, state, since })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, DEFAULT_LIFETIME};
    use crate::event::example;
    use crate::outcome::State;
    use crate::time::Timestamp;
    use crate::tracker::Step;

    #[test]
    fn what_no_connection_was_given_was_not_sent() {
        let time = Timestamp::from_millis;
        let command = Command::from_event(example(), DEFAULT_LIFETIME).unwrap();
        let mut row = Row::accepted(&command, time(1));
        assert_eq!(sent(row.clone()), None);
        (row.attempt, row.state) = (2, State::Delivered);
        row.history.push(Step { state: State::Delivered, time: time(7), reason: None, attempt: 2 });
        let found = sent(row).unwrap();
        assert_eq!((found.attempt, found.state, found.since), (2, State::Delivered, time(7)));
    }
}
