//! What was found, as a table or as JSON.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::drive::Stats;
use crate::histogram::Histogram;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// The server that it is a figure of.
    pub(crate) server: String,
    /// The figure, if it is one number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    /// The unit of `value`.
    pub(crate) unit: &'static str,
    /// The latency that half of all do not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    /// The latency that 99 of 100 do not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ms: Option<f64>,
    /// How many requests were accepted, the uncounted ones of the warm-up too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accepted_in_all: Option<u64>,
    /// The figure divided by its floor's, which was measured in the same run: of rates, or else of p50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of_floor: Option<f64>,
    /// What a reader of the figure must know.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

impl Figure {
    /// Makes a figure of one number.
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (what, server, note) = (what.into(), String::new(), String::new());
        Self {
            what,
            server,
            value: Some(value),
            unit,
            p50_ms: None,
            p99_ms: None,
            accepted_in_all: None,
            of_floor: None,
            note,
        }
    }

    /// Makes a row that says why there is no figure.
    pub(crate) fn left_out(what: &str, why: &str) -> Self {
        Self { value: None, ..Self::new(what, 0.0, "").with_note(format!("left out: {why}")) }
    }

    /// Makes a figure of a rate and its latencies.
    pub(crate) fn of_stats(what: impl Into<String>, stats: &Stats) -> Self {
        let note = if stats.refused > 0 { format!("{} refused", stats.refused) } else { String::new() };
        let figure = Self::new(what, stats.rate(), "1/s").with_latency(&stats.latency).with_note(note);
        Self { accepted_in_all: Some(stats.accepted_in_all), ..figure }
    }

    /// Adds latencies.
    pub(crate) fn with_latency(mut self, latency: &Histogram) -> Self {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        self.p50_ms = latency.quantile(0.5).map(millis);
        self.p99_ms = latency.quantile(0.99).map(millis);
        self
    }

    /// Adds a note.
    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Says how large a rate is beside that of its floor.
    pub(crate) fn with_rate_of(self, floor: &Self) -> Self {
        let ratio = self.value.zip(floor.value).map(|(ours, floor)| ours / floor);
        let note = ratio.map(|ratio| format!("{:.0} % of the floor", ratio * 100.0));
        Self { of_floor: ratio, ..self.with_more(note) }
    }

    /// Says how large a median latency is beside that of its floor.
    pub(crate) fn with_p50_of(self, floor: &Self) -> Self {
        let ratio = self.p50_ms.zip(floor.p50_ms).map(|(ours, floor)| ours / floor);
        let note = ratio.map(|ratio| format!("p50 is {ratio:.2} times the floor's"));
        Self { of_floor: ratio, ..self.with_more(note) }
    }

    /// Puts more in front of the note.
    fn with_more(mut self, more: Option<String>) -> Self {
        let rest = std::mem::replace(&mut self.note, more.unwrap_or_default());
        self.with_more_behind(&rest)
    }

    /// Puts more behind the note.
    pub(crate) fn with_more_behind(mut self, more: &str) -> Self {
        let comma = if self.note.is_empty() || more.is_empty() { "" } else { ", " };
        self.note = format!("{}{comma}{more}", self.note);
        self
    }

    /// Says otherwise what was measured.
    pub(crate) fn called(mut self, what: &str) -> Self {
        self.what = what.to_owned();
        self
    }

    /// Says whose figure it is.
    pub(crate) fn of(mut self, server: &str) -> Self {
        self.server = server.to_owned();
        self
    }

    fn cells(&self) -> [String; 6] {
        let millis = |value: Option<f64>| value.map(|value| format!("{value:.2}")).unwrap_or_default();
        let value = self.value.map(|value| format!("{} {}", number(value), self.unit)).unwrap_or_default();
        let (p50, p99) = (millis(self.p50_ms), millis(self.p99_ms));
        [self.what.clone(), self.server.clone(), value, p50, p99, self.note.clone()]
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [what, server, value, p50, p99, note] = self.cells();
        write!(f, "{server}: {what}")?;
        if !value.is_empty() {
            write!(f, ": {value}")?;
        }
        if !p50.is_empty() {
            write!(f, ", p50 {p50} ms, p99 {p99} ms")?;
        }
        if note.is_empty() { Ok(()) } else { write!(f, " ({note})") }
    }
}

/// Writes a number as a person would: with thousands separated, or with some digits if it is small.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Writes figures to standard output: a Markdown table, or JSON with one figure a line.
///
/// # Errors
/// Fails if standard output is closed.
pub(crate) fn print(figures: &[Figure], json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for figure in figures {
            writeln!(out, "{}", serde_json::to_string(figure)?)?;
        }
    } else {
        out.write_all(table(figures).as_bytes())?;
    }
    Ok(())
}

fn table(figures: &[Figure]) -> String {
    let header = ["measured", "server", "figure", "p50 ms", "p99 ms", "note"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(figures.iter().map(Figure::cells)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut table = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            2..=4 => format!(" {cell:>width$} |"),
            _ => format!(" {cell:<width$} |"),
        });
        table += &format!("|{}\n", cells.collect::<String>());
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| match column {
                2..=4 => format!("{}:|", "-".repeat(width + 1)),
                _ => format!("{}|", "-".repeat(width + 2)),
            });
            table += &format!("|{}\n", rules.collect::<String>());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let mut latency = Histogram::default();
        latency.record(Duration::from_millis(2));
        let figures = [
            Figure::new("telemetry", 1_234_567.0, "1/s").with_latency(&latency).of("drogue"),
            Figure::new("memory", 8.8, "KB").with_note("idle"),
        ];
        let table = table(&figures);
        assert!(table.contains("| telemetry | drogue | 1,234,567 1/s |   2.0"), "{table}");
        assert!(table.contains("|       8.80 KB |"), "{table}");
        let widths: Vec<_> = table.lines().map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }

    #[test]
    fn a_figure_is_put_beside_its_floor() {
        let figure = |value| Figure::new("rate", value, "1/s").with_note("note");
        let beside = figure(60.0).with_rate_of(&figure(80.0));
        assert_eq!((beside.of_floor, beside.note.as_str()), (Some(0.75), "75 % of the floor, note"));
        let slow = Figure { p50_ms: Some(3.0), note: String::new(), ..figure(1.0) };
        let fast = Figure { p50_ms: Some(2.0), ..slow.clone() };
        assert_eq!(slow.with_p50_of(&fast).note, "p50 is 1.50 times the floor's");
        let cells = Figure::left_out("rate", "no broker").cells();
        assert_eq!((cells[2].as_str(), cells[5].as_str()), ("", "left out: no broker"));
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(0.24), "0.24");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(123.4), "123");
    }
}
