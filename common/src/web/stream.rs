//! A connection that ends when its client dawdles.
//!
//! actix-http times the head of a connection's first request and the silence between requests. It times neither the
//! head of a later request, nor what is left of a body that nobody wants, nor a client that does not read. This does.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The time limits of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamLimits {
    /// From the first byte behind a response to the end of the next request's head.
    pub(super) head: Duration,
    /// Without the client taking anything of what is to be written.
    pub(super) write: Duration,
}

/// What the two sides of a connection know of each other: the stream, and the handlers of its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Rc<State>);

#[derive(Debug, Default)]
struct State {
    requests: Cell<usize>,
    closed: Cell<bool>,
}

impl Activity {
    /// Notes that a request's head is complete. The request lasts until the guard is dropped.
    pub(super) fn serve(&self) -> Serving {
        self.0.requests.set(self.0.requests.get() + 1);
        Serving(self.clone())
    }

    /// Tells whether the client is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    fn is_serving(&self) -> bool {
        self.0.requests.get() > 0
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Serving(Activity);

impl Drop for Serving {
    fn drop(&mut self) {
        let requests = &self.0.0.requests;
        requests.set(requests.get() - 1);
    }
}

/// A transport with time limits.
pub(super) struct Stream<T> {
    io: T,
    activity: Activity,
    head: Stopwatch,
    write: Stopwatch,
    open: Gauge,
}

impl<T> Stream<T> {
    /// Wraps a transport; `open` counts it for as long as it lives.
    pub(super) fn new(io: T, limits: StreamLimits, open: Gauge) -> Self {
        open.increment(1);
        let (head, write) = (Stopwatch::new(limits.head), Stopwatch::new(limits.write));
        Self { io, activity: Activity::default(), head, write, open }
    }

    /// Returns what the handlers of this connection share with it.
    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Times how long the client takes nothing.
    fn watch_write<R>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match &polled {
            Poll::Ready(result) => {
                self.write.stop();
                if result.is_err() {
                    self.activity.0.closed.set(true);
                }
            }
            Poll::Pending => {
                self.write.start();
                if self.write.poll_over(context) {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        polled
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(context, buffer);
        let received = buffer.filled().len() > before;
        if !received && polled.is_ready() {
            this.activity.0.closed.set(true);
        }
        if this.activity.is_serving() {
            this.head.stop();
        } else if received {
            this.head.start();
        }
        if this.head.poll_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(context, bytes);
        this.watch_write(context, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(context);
        this.watch_write(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_shutdown(context);
        this.watch_write(context, polled)
    }
}

/// A time limit on a state that is entered and left for every request. Its timer is set anew only when it has run
/// down, so that the limit costs next to nothing where it is kept.
struct Stopwatch {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stopwatch {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    #[expect(clippy::disallowed_methods, reason = "a transport's timer is tokio's, and so is its clock")]
    fn start(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn stop(&mut self) {
        self.since = None;
    }

    /// Tells whether the limit has passed; if not, the task is woken when it may have.
    fn poll_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(since) = self.since else { return false };
        let deadline = since + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }
}
