//! Events on their way to Kafka: idempotent, acknowledged by all replicas in sync, in the order of the calls.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::counter;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::binding::Outgoing;
use super::context::Context;
use super::error::KafkaError;
use super::settings::{KafkaSettings, bad_property};
use crate::channel::{Channel, Partition, PublishError};
use crate::event::Event;
use crate::process::Clock;

/// What Kafka adds to a record, at most: a batch of its own, and a length for each field.
const OVERHEAD: usize = 512;

/// How long the end waits for what nobody waits for any more: what was accepted is acknowledged already.
const FLUSH: Duration = Duration::from_secs(2);

/// Resolves once Kafka has acknowledged an event, or is known not to.
pub(super) type Receipt = oneshot::Receiver<Result<(), PublishError>>;

pub(super) type Client = ThreadedProducer<Deliveries>;

/// Takes events. Dropping it waits a moment for what was taken and is not acknowledged.
pub(super) struct Sink {
    /// Replaced when it has failed for good.
    client: Mutex<Arc<Client>>,
    settings: KafkaSettings,
    topics: [String; Channel::ALL.len()],
    clock: Clock,
}

impl Sink {
    pub(super) fn new(settings: KafkaSettings, clock: Clock) -> Result<Self, KafkaError> {
        let topics = settings.names();
        let client = Mutex::new(Arc::new(connect(&settings, clock.clone())?));
        Ok(Self { client, settings, topics, clock })
    }

    /// Gives an event its place in the order of its device.
    ///
    /// What concerns all devices of a partition is told into which one it goes.
    pub(super) fn publish(
        &self,
        channel: Channel,
        partition: Option<Partition>,
        event: &Event,
    ) -> Result<Receipt, PublishError> {
        let outgoing = Outgoing::of(event).map_err(|error| PublishError::Unavailable(error.to_string()))?;
        let key = event.device.as_str();
        if outgoing.size + key.len() + OVERHEAD > self.settings.max_event {
            return Err(PublishError::TooLarge);
        }
        let (acknowledge, receipt) = oneshot::channel();
        let mut record = BaseRecord::with_opaque_to(&self.topics[channel as usize], Box::new(acknowledge))
            .key(key)
            .headers(outgoing.headers);
        if let Some(value) = &outgoing.value {
            record = record.payload(value);
        }
        if let Some(Partition(partition)) = partition {
            record = record.partition(i32::try_from(partition).unwrap_or(i32::MAX));
        }
        let client = self.client();
        let (error, record) = match client.send(record) {
            Ok(()) => return Ok(receipt),
            Err(refused) => refused,
        };
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::Fatal) {
            return Err(self.refused(&error));
        }
        let renewed = self.renew(&client)?;
        renewed.send(record).map(|()| receipt).map_err(|(error, _)| self.refused(&error))
    }

    /// Returns the producer of now.
    pub(super) fn client(&self) -> Arc<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a client that has failed for good, unless somebody else has done so.
    fn renew(&self, failed: &Arc<Client>) -> Result<Arc<Client>, PublishError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&client, failed) {
            let reason = failed.client().fatal_error().map(|(_, reason)| reason).unwrap_or_default();
            tracing::warn!(reason, "the Kafka producer has failed for good, a new one takes its place");
            counter!("drogue_kafka_producers_renewed_total").increment(1);
            let renewed = connect(&self.settings, self.clock.clone());
            let renewed = renewed.map_err(|error| PublishError::Unavailable(error.to_string()))?;
            let old = std::mem::replace(&mut *client, Arc::new(renewed));
            // It fails what it holds, which takes a moment that nobody here has to wait for.
            thread::spawn(move || drop(old));
        }
        Ok(client.clone())
    }

    fn refused(&self, error: &ClientError) -> PublishError {
        refusal(error, self.settings.publish_timeout)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Err(error) = self.client().flush(FLUSH.min(self.settings.delivery_timeout())) {
            tracing::error!(%error, "Kafka did not acknowledge in time what was published last");
        }
    }
}

fn connect(settings: &KafkaSettings, clock: Clock) -> Result<Client, KafkaError> {
    let context = Context::new(settings.oauth_token_file.clone(), clock);
    let deliveries = Deliveries { context, timeout: settings.publish_timeout };
    settings.producer().create_with_context(deliveries).map_err(bad_property)
}

/// Tells publishers what became of their events, on the client's own thread.
pub(super) struct Deliveries {
    context: Context,
    timeout: Duration,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.tell(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.context.note(&error, reason);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.context.token()
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), PublishError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, publisher: Self::DeliveryOpaque) {
        let told = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(refusal(error, self.timeout)),
        };
        // A publisher that no longer listens withdrew nothing.
        drop(publisher.send(told));
    }
}

/// Counts why an event was not taken, and says it in the channel's words.
fn refusal(error: &ClientError, timeout: Duration) -> PublishError {
    let code = error.rdkafka_error_code();
    let name = code.map_or_else(|| "unknown".to_owned(), |code| format!("{code:?}"));
    counter!("drogue_kafka_publish_errors_total", "code" => name).increment(1);
    match code {
        Some(RDKafkaErrorCode::QueueFull) => PublishError::Overloaded,
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            PublishError::TooLarge
        }
        Some(RDKafkaErrorCode::MessageTimedOut) => PublishError::TimedOut(timeout),
        Some(code) => PublishError::Unavailable(code.to_string()),
        None => PublishError::Unavailable(error.to_string()),
    }
}
