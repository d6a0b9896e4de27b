//! Kills endpoints and a broker at random for as long as it is told to, and prints the judgement.
//!
//! It needs the brokers that `KAFKA_BOOTSTRAP_SERVERS` names, to start one of its own like them.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::time::parse_duration;

/// Kill endpoints and a broker at random, and judge what devices and applications saw.
#[derive(Debug, Parser)]
struct Options {
    /// How long to go on.
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = parse_duration)]
    length: Duration,

    /// What the random choices follow from.
    #[arg(long, default_value = "1")]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let Some(verdict) = tests::chaos::run(options.length, options.seed).await else {
        return ExitCode::FAILURE;
    };
    eprintln!("{verdict}");
    if verdict.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
