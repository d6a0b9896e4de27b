//! The servers of a process, which live and end together.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinSet;

use super::Channels;
use crate::BoxFuture;
use crate::service::Shutdown;
use crate::web::admin::{self, Part, Readiness};

/// The servers of a process: when one ends, all end.
pub struct Services {
    running: JoinSet<anyhow::Result<()>>,
    parts: Vec<(&'static str, Live)>,
    last: Vec<BoxFuture<'static, ()>>,
    channels: Option<Channels>,
    shutdown: Shutdown,
}

type Live = Arc<dyn Fn() -> bool + Send + Sync>;

impl Services {
    /// Starts with none. All end when `shutdown` is cancelled, and it is cancelled when one ends.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { running: JoinSet::new(), parts: Vec::new(), last: Vec::new(), channels: None, shutdown }
    }

    /// Adds a part that must be live for the process to be ready.
    pub fn require(&mut self, name: &'static str, live: impl Fn() -> bool + Send + Sync + 'static) {
        self.parts.push((name, Arc::new(live)));
    }

    /// Adds the channels, which must be reachable for the process to be ready, and are closed behind everything else.
    pub fn require_channels(&mut self, channels: &Channels) {
        self.channels = Some(channels.clone());
        let channels = channels.clone();
        self.require("channels", move || channels.are_reachable());
    }

    /// Starts a server, which must end when the shutdown begins.
    pub fn spawn<E>(
        &mut self,
        name: &'static str,
        server: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        anyhow::Error: From<E>,
    {
        let running = Arc::new(AtomicBool::new(true));
        let watched = running.clone();
        self.require(name, move || watched.load(Ordering::Relaxed));
        self.running.spawn(async move {
            let result = server.await;
            running.store(false, Ordering::Relaxed);
            result.map_err(anyhow::Error::from).with_context(|| format!("the {name} server failed"))
        });
    }

    /// Adds what is done when all servers have ended.
    pub fn at_last(&mut self, last: impl Future<Output = ()> + Send + 'static) {
        self.last.push(Box::pin(last));
    }

    /// Runs until all servers have ended, and the admin server beside and after them.
    ///
    /// # Errors
    /// Fails with the first failure of a server.
    pub async fn run(mut self, admin: Option<TcpListener>, metrics: PrometheusHandle) -> anyhow::Result<()> {
        let ended = Shutdown::new();
        let readiness = self.readiness();
        let admin = tokio::spawn(admin::run(admin, readiness, metrics, ended.clone()));
        let mut result = Ok(());
        while let Some(joined) = self.running.join_next().await {
            let server = joined.context("a server panicked").flatten();
            result = result.and(server);
            self.shutdown.cancel();
        }
        for last in self.last {
            last.await;
        }
        if let Some(channels) = &self.channels {
            channels.close().await;
        }
        ended.cancel();
        let admin = admin.await.context("the admin server panicked").and_then(|result| Ok(result?));
        result.and(admin)
    }

    /// Says what is ready. Nothing is once the shutdown has begun.
    fn readiness(&self) -> Readiness {
        let (parts, shutdown) = (self.parts.clone(), self.shutdown.clone());
        Arc::new(move || {
            let ready = |live: &Live| live() && !shutdown.is_cancelled();
            parts.iter().map(|(name, live)| Part { name, ready: ready(live) }).collect()
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.iter().map(|(name, _)| name).collect::<Vec<_>>();
        f.debug_struct("Services").field("parts", &parts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn until(shutdown: Shutdown) -> anyhow::Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }

    fn unready(readiness: &Readiness) -> Vec<&'static str> {
        readiness().into_iter().filter(|part| !part.ready).map(|part| part.name).collect()
    }

    #[tokio::test]
    async fn when_one_server_fails_all_end() {
        let shutdown = Shutdown::new();
        let mut services = Services::new(shutdown.clone());
        services.spawn("a", until(shutdown.clone()));
        services.spawn("b", async { anyhow::bail!("no memory") });
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let ended = tokio::time::timeout(Duration::from_secs(30), services.run(None, metrics)).await.unwrap();
        assert_eq!(format!("{:#}", ended.unwrap_err()), "the b server failed: no memory");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn what_is_last_comes_behind_the_end_of_all_servers() {
        let shutdown = Shutdown::new();
        let mut services = Services::new(shutdown.clone());
        let ended = Arc::new(AtomicBool::new(false));
        let (ending, seen) = (ended.clone(), Arc::new(AtomicBool::new(false)));
        let at_last = seen.clone();
        services.at_last(async move { at_last.store(ended.load(Ordering::Relaxed), Ordering::Relaxed) });
        services.spawn("a", async move {
            tokio::task::yield_now().await;
            ending.store(true, Ordering::Relaxed);
            anyhow::Ok(())
        });
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        services.run(None, metrics).await.unwrap();
        assert!(seen.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn nothing_is_ready_that_is_not_live_or_shuts_down() {
        let shutdown = Shutdown::new();
        let live = Arc::new(AtomicBool::new(true));
        let mut services = Services::new(shutdown.clone());
        let watched = live.clone();
        services.require("commands", move || watched.load(Ordering::Relaxed));
        services.spawn("a", until(shutdown.clone()));
        let readiness = services.readiness();
        assert!(unready(&readiness).is_empty());
        live.store(false, Ordering::Relaxed);
        assert_eq!(unready(&readiness), ["commands"]);
        shutdown.cancel();
        assert_eq!(unready(&readiness), ["commands", "a"]);
    }
}
