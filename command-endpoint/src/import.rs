//! `POST /v1/apps/{app}/devices`: devices in bulk, a line of JSON for each.
//!
//! Lines are read and written as they come, some at a time. The answers wait for the end of the body, for many clients
//! send all of it before they read anything, and would wait for the server as it for them.

mod answer;
mod lines;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use common::device::DeviceSpec;
use common::id::AppId;
use common::registry::Scope;
use common::web::{refuse_encoded, single_header};

use self::answer::Answer;
use self::lines::{Line, Lines, MAX_LINE};
use crate::Api;
use crate::access::Access;
use crate::reply::ApiError;
use crate::request::{parse_object, query, segment};

/// Devices that are written together.
const BATCH: usize = 200;

/// Creates or changes the devices of the body, and answers each line with one, in their order.
pub(crate) async fn import(
    request: HttpRequest,
    payload: Payload,
    api: Data<Api>,
) -> Result<HttpResponse, ApiError> {
    let access = Access::of(&request, &api).await?;
    let application = AppId::from_segment(segment(&request, "app"))?;
    access.permit(&application, Scope::Registry)?;
    query(&request, &[])?;
    check_content_type(&request)?;
    refuse_encoded(request.headers())?;
    api.backends.registry.application(&application).await?;
    let mut import = Import { api: &api, access, application, waiting: Vec::new(), answers: Vec::new() };
    let is_whole = import.read(Lines::new(payload, api.body_timeout)).await;
    let mut response = HttpResponse::Ok();
    if !is_whole {
        response.force_close();
    }
    Ok(response
        .content_type("application/x-ndjson")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(import.answers))
}

fn check_content_type(request: &HttpRequest) -> Result<(), ApiError> {
    let essence = single_header(request.headers(), &header::CONTENT_TYPE)?
        .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if essence.as_deref() == Some("application/x-ndjson") { Ok(()) } else { Err(ApiError::NotNdjson) }
}

/// A line that waits for those before it: a device to be written, or an answer.
enum Waiting {
    Device(usize, DeviceSpec),
    Answer(Answer),
}

struct Import<'a> {
    api: &'a Api,
    access: Access,
    application: AppId,
    waiting: Vec<Waiting>,
    answers: Vec<u8>,
}

impl Import<'_> {
    /// Takes all lines. Returns false if some of the body is left.
    async fn read(&mut self, mut lines: Lines<Payload>) -> bool {
        let mut count = 0;
        let is_whole = loop {
            match lines.next().await {
                Ok(None) => break true,
                Ok(Some(line)) if count == self.api.max_import => {
                    let detail = format!(
                        "an import has {count} lines at most, send the rest in another one (option --api-max-import)"
                    );
                    let refused = Answer::failed(line.number, StatusCode::PAYLOAD_TOO_LARGE, detail);
                    self.waiting.push(Waiting::Answer(refused));
                    break false;
                }
                Ok(Some(line)) => self.waiting.push(parse(&line)),
                Err(error) => {
                    let failed = Answer::failed(lines.next_number(), error.status(), error.to_string());
                    self.waiting.push(Waiting::Answer(failed));
                    break false;
                }
            }
            count += 1;
            if self.waiting.len() == BATCH {
                self.write().await;
            }
        };
        self.write().await;
        is_whole
    }

    /// Writes the devices that wait, and answers all lines that do.
    async fn write(&mut self) {
        let mut answers = Vec::new();
        let mut devices = Vec::new();
        for waiting in self.waiting.drain(..) {
            match waiting {
                Waiting::Answer(answer) => answers.push(answer),
                Waiting::Device(line, spec) => devices.push((line, spec)),
            }
        }
        answers.extend(self.put(devices).await);
        answers.sort_by_key(|answer| answer.line);
        for answer in answers {
            answer.write(&mut self.answers);
        }
    }

    /// Writes devices, if the bearer still may: an import can outlive its token.
    async fn put(&mut self, devices: Vec<(usize, DeviceSpec)>) -> Vec<Answer> {
        let name = |spec: &DeviceSpec| spec.name.as_ref().map(ToString::to_string);
        let lines: Vec<_> = devices.iter().map(|(line, spec)| (*line, name(spec))).collect();
        let specs = devices.into_iter().map(|(_, spec)| spec).collect();
        let results = match self.access.renew(&self.application, Scope::Registry).await {
            Ok(()) => self.api.backends.registry.put_devices(&self.application, specs).await,
            Err(error) => {
                return lines.into_iter().map(|(line, name)| Answer::refused(line, name, &error)).collect();
            }
        };
        let results = results.unwrap_or_else(|error| vec![Err(error); lines.len()]);
        lines
            .into_iter()
            .zip(results)
            .map(|((line, name), result)| match result {
                Ok(put) => Answer::put(line, put),
                Err(error) => Answer::refused(line, name, &error.into()),
            })
            .collect()
    }
}

fn parse(line: &Line) -> Waiting {
    let number = line.number;
    let Some(text) = &line.text else {
        let detail = format!("the line has more than {MAX_LINE} bytes");
        return Waiting::Answer(Answer::failed(number, StatusCode::PAYLOAD_TOO_LARGE, detail));
    };
    match parse_object(text) {
        Ok(spec) => Waiting::Device(number, spec),
        Err(error) => Waiting::Answer(Answer::failed(number, StatusCode::BAD_REQUEST, error)),
    }
}
