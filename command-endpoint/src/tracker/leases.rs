//! Which partitions this replica has charge of: a fair share of them, by leases in the ledger.

use std::sync::Arc;
use std::time::Duration;

use common::ledger::{Lease, LedgerError};
use common::service::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::seat::Seat;

/// How long a lease lasts that nobody renews.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// How often leases are renewed, and others looked for.
const RENEWAL: Duration = Duration::from_secs(1);
/// How often old commands are forgotten.
const PURGE: Duration = Duration::from_secs(3600);

/// Takes and renews leases until the shutdown.
pub(super) async fn keep(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut tick = interval(RENEWAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    let mut purged = None;
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        if !shared.is_caught_up() {
            continue;
        }
        let now = shared.clock.instant();
        if purged.is_none_or(|last| now.duration_since(last) >= PURGE) && shared.seats[0].is_acting() {
            purged = Some(now);
            tokio::spawn(purge(shared.clone()));
        }
        match turn(&shared).await {
            Ok(()) => failing = false,
            Err(error) if failing => tracing::debug!(%error, "leases cannot be renewed"),
            Err(error) => {
                failing = true;
                tracing::warn!(%error, "leases cannot be renewed, trying again");
            }
        }
    }
}

/// Forgets what was settled long ago. Whoever has charge of the first partition does it for all.
async fn purge(shared: Arc<Shared>) {
    let before = shared.clock.wall().saturating_sub(shared.history);
    match shared.ledger.purge(before).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "old commands were forgotten"),
        Err(error) => tracing::debug!(%error, "old commands cannot be forgotten now"),
    }
}

pub(super) async fn turn(shared: &Shared) -> Result<(), LedgerError> {
    let held: Vec<Lease> = shared.seats.iter().filter_map(|seat| *seat.lease.borrow()).collect();
    let renewed = shared.ledger.renew(&shared.replica, &held, shared.clock.wall(), LEASE).await?;
    for lost in held.iter().filter(|lease| !renewed.held.contains(lease)) {
        shared.seat(lost.partition).end_lease(*lost);
    }
    let trackers = usize::try_from(renewed.trackers).unwrap_or(1).max(1);
    let share = shared.seats.len().div_ceil(trackers);
    // Others start without any: what is above the share is theirs.
    for surplus in renewed.held.iter().skip(share) {
        shared.seat(surplus.partition).end_lease(*surplus);
        shared.ledger.give_up(*surplus).await?;
    }
    let mut missing = share.saturating_sub(renewed.held.len());
    let began = shared.clock.wall();
    for seat in shared.seats.iter().filter(|seat| seat.lease.borrow().is_none()) {
        if missing == 0 {
            break;
        }
        let Some(lease) = acquire(shared, seat).await? else { continue };
        seat.set_lease(lease);
        missing -= 1;
        // Where the ledger is slow, what is held would lapse meanwhile: the rest is for the next turn.
        if shared.clock.wall().saturating_since(began) >= RENEWAL {
            break;
        }
    }
    Ok(())
}

async fn acquire(shared: &Shared, seat: &Seat) -> Result<Option<Lease>, LedgerError> {
    // The log may know of a higher epoch than the ledger, if that was set back or replaced.
    let above = seat.tracker().highest_epoch();
    shared.ledger.acquire(seat.partition, above, &shared.replica, shared.clock.wall(), LEASE).await
}

/// Gives all leases back, so that others need not wait for their end.
pub(super) async fn leave(shared: &Shared) {
    let leases: Vec<Lease> = shared.seats.iter().filter_map(|seat| *seat.lease.borrow()).collect();
    for lease in leases {
        shared.seat(lease.partition).end_lease(lease);
        if let Err(error) = shared.ledger.give_up(lease).await {
            tracing::debug!(%error, "a lease is left to its end");
        }
    }
    if let Err(error) = shared.ledger.leave(&shared.replica).await {
        tracing::debug!(%error, "the replica's entry is left to its end");
    }
}
