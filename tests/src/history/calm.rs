//! When nothing was broken: only that time counts against a command that has not arrived.

use super::Millis;

/// The times in which something was broken, or of which that was still to be felt.
#[derive(Debug, Default)]
pub(super) struct Strikes(Vec<(Millis, Millis)>);

impl Strikes {
    pub(super) fn new(mut strikes: Vec<(Millis, Millis)>) -> Self {
        strikes.sort_unstable();
        Self(strikes)
    }

    /// Returns when a command of `at` must have arrived: once there was calm for as long as `patience` since, all pauses
    /// added up, or for all of its life if that is shorter. `None`: there was not so much of it before it `expires`.
    pub(super) fn due(&self, at: Millis, expires: Millis, patience: Millis) -> Option<Millis> {
        let (mut from, mut left) = (at, patience.min(expires.saturating_sub(at)));
        for (struck, until) in self.0.iter().filter(|(_, until)| *until > at) {
            let calm = struck.saturating_sub(from);
            if calm >= left {
                break;
            }
            left -= calm;
            from = from.max(*until);
        }
        let due = from + left;
        (due <= expires).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calm_counts() {
        let strikes = |strikes: &[(Millis, Millis)]| Strikes::new(strikes.to_vec());
        let due = |strikes: Strikes| strikes.due(10, 50, 10);
        assert_eq!(due(strikes(&[])), Some(20));
        assert_eq!(due(strikes(&[(0, 10), (20, 30)])), Some(20), "before it, and behind");
        assert_eq!(due(strikes(&[(19, 30)])), Some(31));
        assert_eq!(due(strikes(&[(0, 12), (15, 20)])), Some(27));
        assert_eq!(due(strikes(&[(15, 20), (0, 17)])), Some(30), "two at once");
        assert_eq!(due(strikes(&[(0, 40)])), Some(50));
        assert_eq!(due(strikes(&[(0, 41)])), None);
        assert_eq!(strikes(&[]).due(10, 15, 10), Some(15), "it lives no longer");
        assert_eq!(strikes(&[(12, 13)]).due(10, 15, 10), None);
    }
}
