//! What is logged on a test's thread.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default};
use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::MakeWriter;

/// What is logged on this thread, at every level, until this is dropped.
pub(crate) struct Logged {
    text: Text,
    _second: Dispatch,
    _logging: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// Begins to note what is logged.
    pub(crate) fn begin() -> Self {
        // With one subscriber only, threads of other tests would decide for this one what is worth logging.
        let second = Dispatch::new(NoSubscriber::new());
        let text = Text::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false);
        let logging = set_default(subscriber.with_writer(text.clone()).finish());
        Self { text, _second: second, _logging: logging }
    }

    /// Returns what was logged so far.
    pub(crate) fn text(&self) -> String {
        let bytes = self.text.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Text {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
