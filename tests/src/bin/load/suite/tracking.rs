//! What it costs those who submit that commands are tracked: with a tracker, and without one, in turns.

use std::path::PathBuf;

use anyhow::Context;

use super::servers::Drogue;
use super::{Report, Servers};
use crate::command;
use crate::report::Figure;
use crate::telemetry::Protocol;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(super) servers: Servers,

    #[command(flatten)]
    pub(super) rounds: Rounds,

    /// Another build of the server, which is measured too: as the one before commands were tracked.
    #[arg(long, value_name = "PATH")]
    pub(super) earlier: Option<PathBuf>,
}

/// How often, and at which rate besides.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Rounds {
    /// How often each server is measured, in turns. The medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Commands a second, where not as many are sent as are accepted.
    #[arg(long, default_value_t = 500.0)]
    submits: f64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { rounds: 3, submits: 500.0 }
    }
}

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Untracked,
    Earlier,
    Tracked,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Untracked => "drogue, untracked",
            Self::Earlier => "drogue, earlier",
            Self::Tracked => "drogue",
        }
    }
}

/// Measures commands that nobody waits for, and shows each figure on standard error as it is found.
///
/// # Errors
/// Fails if a server cannot be started, or a measurement fails.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut report = Report::default();
    add(options, &mut report)?;
    Ok(report.figures)
}

/// Measures for a report.
pub(super) fn add(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut kinds = vec![Kind::Untracked];
    kinds.extend(options.earlier.is_some().then_some(Kind::Earlier));
    kinds.push(Kind::Tracked);
    let mut runs = vec![(Vec::new(), Vec::new()); kinds.len()];
    for _ in 0..options.rounds.rounds {
        for (kind, (flat_out, steady)) in kinds.iter().zip(&mut runs) {
            let [first, second] = one(*kind, options)?;
            flat_out.push(first);
            steady.push(second);
        }
    }
    let mut floors: Option<[Figure; 2]> = None;
    for (kind, (flat_out, steady)) in kinds.into_iter().zip(runs) {
        let figures = [median(flat_out, |figure| figure.value)?, median(steady, |figure| figure.p99_ms)?];
        let beside = match &floors {
            None => figures.clone(),
            Some([rate, latency]) => {
                let [flat_out, steady] = figures.clone();
                [flat_out.with_rate_of(rate), steady.with_p50_of(latency)]
            }
        };
        beside.into_iter().for_each(|figure| report.add(kind.name(), figure));
        floors.get_or_insert(figures);
    }
    Ok(())
}

/// Measures one server: some commands a second, and then as many as are accepted.
fn one(kind: Kind, options: &Options) -> anyhow::Result<[Figure; 2]> {
    let servers = &options.servers;
    let server = match (kind, &options.earlier) {
        (Kind::Untracked, _) => Drogue::untracked(servers)?,
        (Kind::Earlier, Some(drogue)) => {
            Drogue::start(&Servers { drogue: drogue.clone(), ..servers.clone() })?
        }
        (Kind::Earlier, None) | (Kind::Tracked, _) => Drogue::start(servers)?,
    };
    let steady = command::Options::new(Protocol::Mqtt, server.mqtt, servers.seconds);
    let steady = command::Options { rate: options.rounds.submits, ..steady };
    let flat_out = command::Options { flat_out: true, ..steady.clone() };
    // The steady one first: what it finds is not to be how long a tracker writes what it read before.
    let figures = command::measure_each(&[steady, flat_out], &server.fleet)?;
    // Each is two figures, of which the second is that of the API.
    let mut accepted = figures.into_iter().skip(1).step_by(2);
    let (steady, flat_out) = accepted.next().zip(accepted.next()).context("a figure is missing")?;
    Ok([
        flat_out.called("commands accepted, 16 under way"),
        steady.called("commands accepted at a given rate"),
    ])
}

/// Returns the figure in the middle, with a note of the outermost.
fn median(mut figures: Vec<Figure>, of: impl Fn(&Figure) -> Option<f64>) -> anyhow::Result<Figure> {
    figures.sort_by(|one, other| of(one).partial_cmp(&of(other)).unwrap_or(std::cmp::Ordering::Equal));
    let outermost = figures.first().and_then(&of).zip(figures.last().and_then(&of));
    let note = outermost.map(|(least, most)| format!("{least:.1} to {most:.1} in {} runs", figures.len()));
    let middle = figures.len() / 2;
    let figure = figures.into_iter().nth(middle).context("nothing was measured")?;
    Ok(figure.with_more_behind(&note.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_in_the_middle_is_shown() {
        let figures = [3.0, 1.0, 2.0].map(|rate| Figure::new("rate", rate, "1/s"));
        let figure = median(figures.to_vec(), |figure| figure.value).unwrap();
        assert_eq!((figure.value, figure.note.as_str()), (Some(2.0), "1.0 to 3.0 in 3 runs"));
        assert!(median(Vec::new(), |figure| figure.value).is_err());
    }
}
