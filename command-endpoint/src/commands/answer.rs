//! Answers to a command that was accepted: at once, or when it is known what became of it.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderName};
use common::outcome::{Reply, State};
use common::tracker::Row;
use serde_json::json;

use super::existing::find;
use super::options::{Goal, Wait};
use super::view::View;
use crate::Api;
use crate::reply::ApiError;
use crate::tracker::{Progress, Watch};

const COMMAND_STATUS: HeaderName = HeaderName::from_static("command-status");

/// Answers that a command is accepted, and where it can be asked for.
pub(super) fn accepted(row: &Row) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((header::LOCATION, location(row)))
        .json(json!({ "id": row.id.as_str() }))
}

fn location(row: &Row) -> String {
    let (application, device) = (row.device.application(), row.device.device());
    format!("/v1/apps/{application}/devices/{device}/commands/{}", row.id)
}

/// Answers when what was waited for is known, or the time is over.
pub(super) async fn after(
    api: &Api,
    row: Row,
    wait: Wait,
    mut watch: Watch,
) -> Result<HttpResponse, ApiError> {
    let known = watch.until(|progress| is_known(wait.goal, progress.state));
    let known = tokio::select! {
        biased;
        progress = known => Some(progress),
        () = tokio::time::sleep(wait.timeout) => None,
        // Who asks is not to be left without an answer.
        () = api.shutdown.cancelled() => None,
    };
    let Some(progress) = known else { return Ok(accepted(&row)) };
    match (wait.goal, progress.state, &progress.reply) {
        (Goal::Reply, State::Replied, Some(reply)) => Ok(replied(&row, reply)),
        (Goal::Delivered, State::Delivered | State::Replied, _) | (Goal::Reply, State::Replied, None) => {
            Ok(HttpResponse::Ok()
                .insert_header((header::LOCATION, location(&row)))
                .json(view(api, row, &progress).await?))
        }
        _ => Err(ApiError::NotReached(Box::new(view(api, row, &progress).await?))),
    }
}

fn is_known(goal: Goal, state: State) -> bool {
    match goal {
        Goal::Delivered => state.is_settled(),
        Goal::Reply => state.is_settled() && state != State::Delivered,
    }
}

async fn view(api: &Api, row: Row, progress: &Progress) -> Result<View, ApiError> {
    let row = find(api, &row.device, &row.id).await?.unwrap_or(row);
    Ok(View::of(&row).updated(progress, api.backends.clock.wall()))
}

/// Answers with what the device said, as it said it.
fn replied(row: &Row, reply: &Reply) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::LOCATION, location(row)))
        .insert_header((COMMAND_STATUS, reply.status.to_string()))
        .insert_header((header::CONTENT_TYPE, reply.content_type.as_str()))
        .body(reply.payload.clone())
}
