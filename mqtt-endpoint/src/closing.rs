//! How the server closes a connection.

use std::io;
use std::time::Duration;

use ntex::io::IoBoxed;

use crate::packet::{Outbound, Version};
use crate::wire::Wire;

/// How long a closing connection is given to take what is still to be written, and to close its side.
const LINGER: Duration = Duration::from_millis(500);

/// Says the last word and closes the connection.
///
/// Closing a socket with something unread resets it, and a reset overtakes what was written: what the device still
/// sends is read away until it closes its side, for a short time.
pub(crate) async fn hang_up(io: &IoBoxed, wire: &Wire, last: Option<Outbound>) {
    if let Some(packet) = last
        && io.encode(packet, wire).is_err()
    {
        tracing::trace!("the last packet is longer than the device takes");
    }
    let lingered = tokio::time::timeout(LINGER, async {
        io.flush(true).await?;
        if wire.version() == Version::V5 {
            while io.read_ready().await?.is_some() {
                io.with_read_buf(|buffer| buffer.clear());
            }
        }
        io::Result::Ok(())
    });
    if lingered.await.is_ok_and(|flushed| flushed.is_err()) {
        return;
    }
    // The result says how the other side closed, which no longer matters.
    drop(tokio::time::timeout(LINGER, io.shutdown()).await);
}
