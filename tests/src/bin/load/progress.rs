//! Progress of long runs, on standard error, if that is a terminal.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(200);

/// Shows how many of `total` are done. Whoever does them counts them.
pub(crate) fn count(what: &str, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_message(what.to_owned());
    bar.with_style(style("{msg} {wide_bar} {human_pos}/{human_len}"))
}

/// Shows how long something has been running.
pub(crate) fn running(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    let bar = bar.with_style(style("{spinner} {msg} {elapsed}"));
    bar.enable_steady_tick(REDRAW);
    bar
}

/// Tells the user something.
pub(crate) fn say(text: &str) {
    // Whoever closed standard error does not want to know.
    writeln!(io::stderr(), "{text}").ok();
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
