//! What of a tracker outlives its process, beside the rows of the ledger.

use serde::{Deserialize, Serialize};

use super::Places;

/// The connections of a partition, and who owns its commands, at certain places of its logs. Opaque; serde gives it a form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Snapshot {
    places: Places,
}

impl Snapshot {
    /// Returns up to where the logs were read.
    pub fn places(&self) -> Places {
        self.places
    }

    /// Forgets who is connected, as what came after is not known; what is left are the rows, and the patterns of devices.
    pub fn forgotten(self) -> Self {
        Self { places: Places::default() }
    }
}
