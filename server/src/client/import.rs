//! `drogue device import`: many devices at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::Path;

use anyhow::{Context, bail};
use common::id::AppId;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::Client;
use crate::output;

/// A request has at most so many lines, so that the bar moves and an interruption loses little.
const BATCH_LINES: usize = 200;
/// A request has at most so many bytes, unless one line alone is longer.
const BATCH_BYTES: usize = 128 * 1024;

/// Lines that go into one request, with their numbers in the file.
#[derive(Debug, Default)]
struct Batch {
    numbers: Vec<usize>,
    text: String,
    /// Bytes of the file up to the end of the batch.
    end: u64,
}

/// Creates or changes the devices of a file, and says which lines failed.
///
/// # Errors
/// Fails if a line failed, or if the file or the server gives out before the end.
pub async fn import(client: &Client, app: &AppId, file: &Path, json: bool) -> anyhow::Result<()> {
    let (reader, size) = open(file)?;
    let bar = progress(size);
    let mut tally = Tally { imported: 0, failed: 0, json, bar: bar.clone() };
    for batch in batches(reader) {
        let batch = batch.with_context(|| format!("cannot read {}", file.display()))?;
        let request = client
            .request(Method::POST, &format!("v1/apps/{app}/devices"))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(batch.text);
        let answer = match client.send(request).await {
            Ok(response) => response.text().await.context("reading the answer failed"),
            Err(error) => Err(error),
        };
        let answer =
            answer.with_context(|| format!("{} devices were imported before it failed", tally.imported))?;
        tally.add(&batch.numbers, &answer)?;
        bar.set_position(batch.end);
    }
    bar.finish_and_clear();
    eprintln!("{} devices imported, {} failed", tally.imported, tally.failed);
    if tally.failed > 0 {
        bail!("not all lines were imported; mend those that failed and import them again");
    }
    Ok(())
}

fn open(file: &Path) -> anyhow::Result<(Box<dyn BufRead>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let size = opened.metadata().ok().map(|metadata| metadata.len());
    Ok((Box::new(BufReader::new(opened)), size))
}

/// Shows a bar on a terminal, and nothing elsewhere.
fn progress(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:40} {percent}% {msg} [{elapsed} of about {duration}]";
    match (size, ProgressStyle::with_template(style)) {
        (Some(size), Ok(style)) => ProgressBar::new(size).with_style(style),
        _ => ProgressBar::new_spinner(),
    }
}

fn batches(reader: impl BufRead) -> impl Iterator<Item = io::Result<Batch>> {
    let mut lines = reader.lines().enumerate();
    let mut end = 0;
    let mut held = None;
    std::iter::from_fn(move || {
        let mut batch = Batch::default();
        while let Some((index, line)) = held.take().or_else(|| lines.next()) {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let full = batch.numbers.len() == BATCH_LINES || batch.text.len() + line.len() >= BATCH_BYTES;
            if full && !batch.numbers.is_empty() {
                held = Some((index, Ok(line)));
                break;
            }
            end += line.len() as u64 + 1;
            if !line.trim().is_empty() {
                batch.numbers.push(index + 1);
                batch.text += &line;
                batch.text.push('\n');
            }
        }
        batch.end = end;
        (!batch.numbers.is_empty()).then_some(Ok(batch))
    })
}

/// What became of the lines so far.
#[derive(Debug)]
struct Tally {
    imported: usize,
    failed: usize,
    json: bool,
    bar: ProgressBar,
}

impl Tally {
    /// Takes the answer to a batch, which has a line for each of its lines.
    fn add(&mut self, numbers: &[usize], answer: &str) -> anyhow::Result<()> {
        let answers: Vec<&str> = answer.lines().filter(|line| !line.trim().is_empty()).collect();
        if answers.len() != numbers.len() {
            bail!("the server answered {} lines with {}", numbers.len(), answers.len());
        }
        for (number, answer) in numbers.iter().zip(answers) {
            self.add_line(*number, answer)?;
        }
        self.bar.set_message(format!("{} imported, {} failed", self.imported, self.failed));
        Ok(())
    }

    fn add_line(&mut self, number: usize, answer: &str) -> anyhow::Result<()> {
        let mut result: Value = serde_json::from_str(answer).context("the server's answer is no JSON")?;
        let accepted = result["status"].as_u64().is_some_and(|status| (200..300).contains(&status));
        if accepted {
            self.imported += 1;
        } else {
            self.failed += 1;
            let reason = result["detail"].as_str().unwrap_or(answer);
            self.bar.suspend(|| eprintln!("line {number}: {reason}"));
        }
        // The server counts within the request.
        result["line"] = number.into();
        // Tokens that were made are in the answer, and nowhere else.
        if self.json || !super::devices::made_tokens(&result).is_empty() {
            self.bar.suspend(|| output::line(&result))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<Batch> {
        batches(text.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn blank_lines_are_skipped_and_still_counted() {
        let batches = split("{}\n\n  \n{}");
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].numbers.as_slice(), batches[0].text.as_str()), (&[1, 4][..], "{}\n{}\n"));
        assert!(split("\n\n").is_empty());
    }

    #[test]
    fn batches_are_bounded_in_lines_and_bytes_and_lose_no_line() {
        let text = "{}\n".repeat(BATCH_LINES * 2 + 1);
        let sizes: Vec<_> = split(&text).iter().map(|batch| batch.numbers.len()).collect();
        assert_eq!(sizes, [BATCH_LINES, BATCH_LINES, 1]);
        assert_eq!(split(&text).last().unwrap().end, text.len() as u64);

        let long = "x".repeat(BATCH_BYTES);
        let numbers: Vec<_> =
            split(&format!("{{}}\n{long}\n{{}}\n")).into_iter().map(|batch| batch.numbers).collect();
        assert_eq!(numbers, [vec![1], vec![2], vec![3]]);
    }

    #[test]
    fn an_answer_is_counted_line_by_line() {
        let mut tally = Tally { imported: 0, failed: 0, json: false, bar: ProgressBar::hidden() };
        tally.add(&[1, 4], "{\"status\":201}\n{\"status\":400,\"detail\":\"bad name\"}\n").unwrap();
        assert_eq!((tally.imported, tally.failed), (1, 1));
        assert!(tally.add(&[5, 6], "{\"status\":201}\n").is_err());
    }
}
