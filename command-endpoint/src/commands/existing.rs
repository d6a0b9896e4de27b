//! Commands that were accepted: their state, their list, and their end while they wait.

use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use common::channel::Channel;
use common::id::{DeviceKey, EventId};
use common::ledger::Cancel;
use common::outcome::State;
use common::service::publish;
use common::time::Timestamp;
use common::tracker::Row;

use super::commanded;
use super::view::{Page, View};
use crate::Api;
use crate::reply::ApiError;
use crate::request::{query, segment};

/// Commands of a list, if nothing else is asked for; and the most.
const LIMIT: usize = 100;
/// How long a command is looked for that was accepted a moment ago.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often.
const LOOK: Duration = Duration::from_millis(10);
/// What is older than this was read long ago.
const FRESH: Duration = Duration::from_secs(60);

/// Shows a command.
pub(crate) async fn show(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let device = commanded(&request, &api).await?;
    let id = EventId::from_segment(segment(&request, "name"))?;
    query(&request, &[])?;
    let row = find(&api, &device, &id).await?.ok_or(ApiError::NoCommand(id))?;
    Ok(HttpResponse::Ok().json(View::of(&row)))
}

/// Lists the commands of a device, the oldest first.
pub(crate) async fn list(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let device = commanded(&request, &api).await?;
    let query = query(&request, &["state", "after", "limit"])?;
    let state = match query.one("state")?.map(State::from_name) {
        Some(None) => {
            let known: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
            return Err(ApiError::Parameter(format!("state is one of '{}'", known.join("', '"))));
        }
        state => state.flatten(),
    };
    let limit = match query.one("limit")?.map(str::parse) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=LIMIT).contains(&limit) => limit,
        Some(_) => return Err(ApiError::Parameter(format!("limit is a number from 1 to {LIMIT}"))),
    };
    let after: Option<EventId> = query.one("after")?.map(str::parse).transpose()?;
    if !api.backends.registry.device_exists(&device).await? {
        return Err(ApiError::NoDevice(device));
    }
    let tracker = api.tracker()?;
    // One more tells whether there is more.
    let mut rows = tracker.ledger().list(&device, state, after.as_ref(), limit + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let after = rows.last().filter(|_| more).map(|row| row.id.to_string());
    // What was read since is news to the ledger. What the tracker knows no more it has written before: looked at anew.
    let known: Vec<_> = rows.iter().map(|row| tracker.command(&device, &row.id)).collect();
    let unknown = rows.iter().zip(&known).filter(|(_, known)| known.is_none());
    let written = tracker.ledger().find(unknown.map(|(row, _)| row.id.clone()).collect()).await?;
    let mut newest: Vec<Row> = known.into_iter().flatten().chain(written).collect();
    newest.sort_by(|one, other| one.id.cmp(&other.id));
    let wanted = newest.into_iter().filter(|row| state.is_none_or(|state| row.state == state));
    let items = wanted.map(|row| View::of(&row)).collect();
    Ok(HttpResponse::Ok().json(Page { items, after }))
}

/// Cancels a command that waits.
pub(crate) async fn cancel(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let device = commanded(&request, &api).await?;
    let id = EventId::from_segment(segment(&request, "name"))?;
    query(&request, &[])?;
    let now = api.backends.clock.wall();
    match api.tracker()?.ledger().cancel(&device, &id, now).await? {
        Cancel::Done(row) => {
            tell(&api, &row, row.id.clone()).await;
            Ok(HttpResponse::Ok().json(View::of(&row)))
        }
        Cancel::NotPending(row) => Err(ApiError::NotPending(Box::new(View::of(&row)))),
        Cancel::Unknown => match find(&api, &device, &id).await? {
            Some(row) => Err(ApiError::NotPending(Box::new(View::of(&row)))),
            None => Err(ApiError::NoCommand(id)),
        },
    }
}

/// Cancels all commands that wait for a device.
pub(crate) async fn cancel_all(api: &Api, device: &DeviceKey) -> Result<(), ApiError> {
    // Without one nothing waits.
    let Some(tracker) = &api.backends.tracker else { return Ok(()) };
    let ledger = tracker.ledger();
    let mut after = None;
    loop {
        let waiting = ledger.list(device, Some(State::Pending), after.as_ref(), LIMIT).await?;
        for row in &waiting {
            if let Cancel::Done(row) = ledger.cancel(device, &row.id, api.backends.clock.wall()).await? {
                tell(api, &row, row.id.clone()).await;
            }
        }
        after = waiting.last().map(|row| row.id.clone());
        if waiting.len() < LIMIT {
            return Ok(());
        }
    }
}

/// Finds a command. One that was accepted a moment ago may not have been read yet: it is waited for.
pub(super) async fn find(api: &Api, device: &DeviceKey, id: &EventId) -> Result<Option<Row>, ApiError> {
    let tracker = api.tracker()?;
    let clock = &api.backends.clock;
    let deadline = clock.instant() + PATIENCE;
    loop {
        if let Some(row) = tracker.command(device, id) {
            return Ok(Some(row));
        }
        if let Some(row) = tracker.ledger().get(device, id).await? {
            return Ok(Some(row));
        }
        if !is_fresh(id, clock.wall()) || clock.instant() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_fresh(id: &EventId, now: Timestamp) -> bool {
    let made = id.made_at().and_then(|millis| i64::try_from(millis).ok()).map(Timestamp::from_millis);
    made.is_some_and(|made| now.saturating_since(made) < FRESH && made <= now.saturating_add(FRESH))
}

/// Tells of a command that the ledger has ended. Should that fail, the tracker does it.
pub(super) async fn tell(api: &Api, row: &Row, cause: EventId) {
    let backends = &api.backends;
    let event = row.transition(cause).into_event();
    let told = publish(&*backends.sink, Channel::Outcomes, event, backends.limits.publish_timeout).await;
    if let Err(error) = told {
        tracing::debug!(id = row.id.as_str(), %error, "an end is left to the tracker to tell");
    }
}
