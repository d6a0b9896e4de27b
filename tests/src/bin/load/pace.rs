//! When requests are sent: as soon as there is room, or at a rate that no slow answer slows down.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// The shortest time between two beats. At higher rates, several requests are due at one beat.
const BEAT: Duration = Duration::from_millis(1);

/// How many requests of one connection may be due and not sent before the metronome waits. Times stay the intended ones.
const BACKLOG: usize = 4096;

/// Reads the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the load tool measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// When requests begin to be sent.
    pub(crate) start: Instant,
    /// From when on they are counted: before, the server warms up.
    pub(crate) counted: Instant,
    /// When the last are sent.
    pub(crate) end: Instant,
}

impl Span {
    /// Makes a measurement that begins now.
    pub(crate) fn new(warm_up: Duration, duration: Duration) -> Self {
        let start = now();
        Self { start, counted: start + warm_up, end: start + warm_up + duration }
    }

    /// Tells whether what happens at `time` is counted.
    pub(crate) fn counts(&self, time: Instant) -> bool {
        self.counted <= time && time < self.end
    }

    /// Returns the seconds that are counted.
    pub(crate) fn seconds(&self) -> f64 {
        (self.end - self.counted).as_secs_f64()
    }
}

/// What tells a connection to send its next request.
#[derive(Debug)]
pub(crate) enum Pace {
    /// Whenever less than the window is under way, until the given time.
    Closed(Instant),
    /// At the times that come from here. They are the intended ones: a latency is measured from them, so that a server
    /// that stalls is charged for all requests that should have been sent meanwhile.
    Open(mpsc::Receiver<Instant>),
}

/// Starts a metronome that spreads `rate` requests a second over `connections`, from the start of a span to its end.
///
/// It is a thread that sleeps, because tokio's timers are no finer than a millisecond.
pub(crate) fn metronome(rate: f64, span: Span, connections: usize) -> Vec<Pace> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..connections).map(|_| mpsc::channel(BACKLOG)).unzip();
    thread::spawn(move || beat(rate, span, &senders));
    receivers.into_iter().map(Pace::Open).collect()
}

fn beat(rate: f64, span: Span, connections: &[mpsc::Sender<Instant>]) {
    let period = BEAT.max(Duration::from_secs_f64(1.0 / rate));
    let mut next = connections.iter().cycle();
    let mut sent = 0;
    for beat in (1..).map(|number| span.start + period * number).take_while(|beat| *beat < span.end) {
        thread::sleep(beat.saturating_duration_since(now()));
        let due = ((beat - span.start).as_secs_f64() * rate).round() as u64;
        for connection in next.by_ref().take((due - sent) as usize) {
            // A connection that broke has said so itself.
            if connection.blocking_send(beat).is_err() {
                return;
            }
        }
        sent = due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metronome_keeps_its_rate_and_takes_turns() {
        for rate in [100.0, 5_000.0] {
            let span = Span::new(Duration::ZERO, Duration::from_millis(200));
            let times: Vec<Vec<Instant>> = metronome(rate, span, 4)
                .into_iter()
                .map(|pace| match pace {
                    Pace::Open(mut times) => std::iter::from_fn(move || times.blocking_recv()).collect(),
                    Pace::Closed(_) => Vec::new(),
                })
                .collect();
            let counts: Vec<_> = times.iter().map(Vec::len).collect();
            let expected = rate * 0.2;
            let total = counts.iter().sum::<usize>() as f64;
            assert!((total - expected).abs() <= rate * 0.002 + 1.0, "{total} instead of {expected}");
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            assert!(times.iter().all(|times| times.is_sorted()));
        }
    }
}
