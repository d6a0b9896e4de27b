//! A connection that ends when its client dawdles.
//!
//! actix-http times the head of a connection's first request and the silence between requests. It times neither the
//! head of a later request, nor what is left of a body that nobody wants, nor a client that does not read. This does.
//! And it polls without pause while a request waits behind which a client has sent more than the read buffer holds;
//! that is noticed here by flushes between which nothing is read any more, and ends the connection.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// So many flushes in a row without a read mean that the read buffer is full of requests that nobody has asked for.
const MAX_BLIND_FLUSHES: u16 = 1_000;

/// The time limits of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamLimits {
    /// From the first byte behind a response to the end of the next request's head.
    pub(super) head: Duration,
    /// Between a response and the first byte behind it.
    pub(super) idle: Duration,
    /// Without the client taking anything of what is to be written.
    pub(super) write: Duration,
}

/// What the two sides of a connection know of each other: the stream, and the handlers of its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Rc<State>);

#[derive(Debug, Default)]
struct State {
    requests: Cell<usize>,
    /// Whether a head was completed since the stream last looked: a request may be over before it looks again.
    served: Cell<bool>,
    ending: Cell<bool>,
    closed: Cell<bool>,
}

impl Activity {
    /// Notes that a request's head is complete. The request lasts until the guard is dropped.
    pub(super) fn serve(&self) -> Serving {
        self.0.requests.set(self.0.requests.get() + 1);
        self.0.served.set(true);
        Serving(self.clone())
    }

    /// Notes that the connection ends with the present response: what still comes on it is not waited for.
    pub(super) fn end(&self) {
        self.0.ending.set(true);
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

/// What a stream waits for, apart from writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// An answer to the client; handlers have time limits of their own.
    Response,
    /// Anything from the client.
    Request,
    /// The rest of a head.
    Head,
}

/// A transport with time limits.
pub(super) struct Stream<T> {
    io: T,
    activity: Activity,
    limits: StreamLimits,
    phase: Phase,
    silence: Stopwatch,
    stuck: Stopwatch,
    blind_flushes: u16,
    open: Gauge,
}

impl<T> Stream<T> {
    /// Wraps a transport; `open` counts it for as long as it lives.
    pub(super) fn new(io: T, limits: StreamLimits, open: Gauge) -> Self {
        open.increment(1);
        Self {
            io,
            activity: Activity::default(),
            limits,
            phase: Phase::Response,
            silence: Stopwatch::default(),
            stuck: Stopwatch::default(),
            blind_flushes: 0,
            open,
        }
    }

    /// Returns what the handlers of this connection share with it.
    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Times how long the client sends no request. Fails when it has dawdled.
    fn watch_read(&mut self, context: &mut Context<'_>, received: bool) -> io::Result<()> {
        let limits = &self.limits;
        let unseen = self.activity.0.served.take() && self.phase != Phase::Response;
        let phase = if self.activity.is_serving() {
            Phase::Response
        } else if received {
            Phase::Head
        } else if self.phase == Phase::Response {
            Phase::Request
        } else {
            self.phase
        };
        // What was read with a request that was over before this looked may be the beginning of the next head, so the
        // phase stays; but it begins anew.
        if phase != self.phase || unseen {
            self.phase = phase;
            match phase {
                Phase::Response => self.silence.stop(),
                Phase::Request if self.activity.0.ending.get() => self.silence.start(limits.head),
                Phase::Request => self.silence.start(limits.idle),
                Phase::Head => self.silence.start(limits.head),
            }
        }
        self.silence.poll(context)
    }

    /// Times how long the client takes nothing.
    fn watch_write<R>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(result) = &polled {
            self.stuck.stop();
            if result.is_err() {
                self.activity.0.closed.set(true);
            }
        } else {
            if !self.stuck.is_running() {
                self.stuck.start(self.limits.write);
            }
            self.stuck.poll(context)?;
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
        this.blind_flushes = 0;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(context, buffer);
        let received = buffer.filled().len() > before;
        if !received && polled.is_ready() {
            this.activity.0.closed.set(true);
        }
        this.watch_read(context, received)?;
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
        this.blind_flushes += 1;
        if this.blind_flushes > MAX_BLIND_FLUSHES {
            return Poll::Ready(Err(io::Error::other("too much is sent behind a request that waits")));
        }
        // It is flushed behind every response, which is when the wait for the next request begins.
        this.watch_read(context, false)?;
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
/// down or would be late, so that the limit costs next to nothing where it is kept.
#[derive(Default)]
struct Stopwatch {
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a transport's timer is tokio's, and so is its clock")]
    fn start(&mut self, limit: Duration) {
        self.deadline = Some(Instant::now() + limit);
    }

    fn stop(&mut self) {
        self.deadline = None;
    }

    fn is_running(&self) -> bool {
        self.deadline.is_some()
    }

    /// Fails when the limit has passed; until then the task is woken when it may have.
    fn poll(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(deadline);
        }
        Ok(())
    }
}
