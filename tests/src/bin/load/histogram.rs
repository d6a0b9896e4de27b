//! Durations, counted in buckets whose width is at most 1/128 of their value.

use std::time::Duration;

/// Buckets for each power of two.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts durations; what it says about them is less than 1 % off.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; place(u64::MAX) + 1], count: 0 }
    }
}

/// Returns the bucket of a number: exact below `STEPS`, then `STEPS` of them for each power of two.
fn place(nanos: u64) -> usize {
    let magnitude = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (u64::from(magnitude) * STEPS + (nanos >> magnitude)) as usize
}

/// Returns the highest number of a bucket.
fn highest(place: usize) -> u64 {
    let place = place as u64;
    let magnitude = (place / STEPS).saturating_sub(1);
    let step = place - magnitude * STEPS;
    (((u128::from(step) + 1) << magnitude) - 1) as u64
}

impl Histogram {
    /// Counts a duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        self.buckets[place(duration.as_nanos().try_into().unwrap_or(u64::MAX))] += 1;
        self.count += 1;
    }

    /// Returns the duration that the given share of all, 0 to 1, does not exceed. `None` if nothing was counted.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_nanos(highest(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_per_cent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100_000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        for (share, expected) in [(0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0), (0.00001, 1.0)] {
            let found = histogram.quantile(share).unwrap().as_secs_f64() * 1e6;
            assert!((found / expected - 1.0).abs() < 0.01, "{share}: {found} instead of {expected}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for nanos in [0, 1, 127, 128, 129, 255, 256, 257, 1 << 40, u64::MAX - 1, u64::MAX] {
            let bucket = place(nanos);
            assert!(highest(bucket) >= nanos);
            assert!(bucket == 0 || highest(bucket - 1) < nanos);
        }
    }
}
