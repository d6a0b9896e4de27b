//! Devices that take commands, and reply to them if they are to.

use std::cell::RefCell;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ledger::Ledger;
use crate::fleet::Login;
use crate::wire::http::{self, Response};
use crate::wire::mqtt::{self, Packet};

/// What devices reply.
const REPLY: &[u8] = b"{\"done\":true}";

/// The packet id of replies: one is under way at a time.
const REPLY_ID: u16 = 1;

/// Takes commands over MQTT; acknowledges each before it replies.
pub(super) async fn over_mqtt(
    mut stream: TcpStream,
    replies: bool,
    ledger: &RefCell<Ledger>,
) -> anyhow::Result<()> {
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        ensure!(stream.read_buf(&mut input).await? > 0, "the server closed the connection");
        while let Some((len, packet)) = mqtt::parse(&input)? {
            match packet {
                Packet::Publish { id, topic, payload } => {
                    ledger.borrow_mut().delivered(payload)?;
                    output.extend(id.map(mqtt::puback).into_iter().flatten());
                    if replies {
                        let id = topic.rsplit('/').next().unwrap_or_default();
                        output.extend(mqtt::publish(&format!("reply/{id}/200"), REPLY_ID, REPLY));
                    }
                }
                Packet::PubAck(REPLY_ID) if replies => {}
                other @ (Packet::ConnAck(_) | Packet::PubAck(_) | Packet::SubAck(_)) => {
                    bail!("unexpected {other:?}")
                }
            }
            input.drain(..len);
        }
        stream.write_all(&output).await?;
        output.clear();
    }
}

/// Takes commands over HTTP: waits for the next as soon as it has one, and has replied.
pub(super) async fn over_http(
    mut stream: TcpStream,
    login: &Login,
    replies: bool,
    ledger: &RefCell<Ledger>,
) -> anyhow::Result<()> {
    let authorization = http::basic(login);
    let wait = http::post("/v1/temperature?ttd=60", authorization.as_deref(), b"{\"temp\":42}");
    let mut input = Vec::new();
    loop {
        let command = exchange(&mut stream, &wait, &mut input, |response| {
            ensure!(response.status == 202, "telemetry was answered with {}", response.status);
            if response.body.is_empty() {
                return Ok(None);
            }
            ledger.borrow_mut().delivered(response.body)?;
            Ok(Some(response.header("command-id").context("a command has no id")?.to_owned()))
        });
        let Some(id) = command.await?.filter(|_| replies) else { continue };
        let target = format!("/v1/commands/{id}/reply?status=200");
        let reply = http::post(&target, authorization.as_deref(), REPLY);
        exchange(&mut stream, &reply, &mut input, |response| {
            ensure!(response.status == 202, "a reply was answered with {}", response.status);
            Ok(())
        })
        .await?;
    }
}

/// Sends a request, and takes what is wanted of its response.
async fn exchange<T>(
    stream: &mut TcpStream,
    request: &[u8],
    input: &mut Vec<u8>,
    take: impl FnOnce(&Response<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    stream.write_all(request).await?;
    loop {
        ensure!(stream.read_buf(input).await? > 0, "the server closed the connection");
        if let Some(response) = http::parse(input)? {
            let (len, taken) = (response.len, take(&response)?);
            input.drain(..len);
            return Ok(taken);
        }
    }
}
