//! A run in which endpoints and the broker are killed, paused and restarted at random, judged by its history.

use std::time::Duration;

use common::channel::Channel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::actors::Stage;
use crate::brokers::Brokers;
use crate::fleet::{Fleet, Kind, Shape};
use crate::history::{Found, History, Millis, Operation, Told, Verdict, judge, now};
use crate::kafka::{Record, Topics, read};
use crate::process::Signal;
use crate::publishers::Publishers;
use crate::wait::eventually;

/// How long a command lives: longer than any outage that is made here.
const TTL: Duration = Duration::from_secs(30);
/// Within this time, in which nothing is broken, a command must reach a device that stays connected.
const DUE: Duration = Duration::from_secs(10);
/// How long what was mended is still felt: a lease that nobody renews, and a replica that is silent, count for 5 s, which is
/// looked at every second, and what was not taken is said again within 5 s.
const AFTERMATH: Duration = Duration::from_secs(6);
/// So many commands are accepted when nothing is broken any more. They must arrive: whatever got stuck before stands in
/// their way.
const IN_PEACE: usize = 100;

/// How long after its expiry a command has an end that nobody tells: the tracker says then that it does not know, 60 s after
/// the expiry or when it looks next, which is every 15 s. A machine that is busy takes longer.
const HOPE: Duration = Duration::from_secs(120);

/// Runs for a time and judges what happened. Returns `None`, having said why, where there is no Kafka to do it with.
///
/// # Panics
/// Panics if something that was killed does not come back.
pub async fn run(length: Duration, seed: u64) -> Option<Verdict> {
    let mut brokers = Brokers::start("chaos", 1).await?;
    fastrand::seed(seed);
    let shape = Shape { http: 2, mqtt: 2, command: 2 };
    let topics = Topics::new(brokers.servers());
    let mut fleet = Fleet::start(topics, shape, &["--publish-timeout=3s", "--log=info"]).await;
    let tenant = fleet.cloud().tenant().await;
    let stage = Stage::set(&tenant, 40, TTL).await;
    let mut devices = stage.start();
    let publishers = Publishers::start(&tenant, &tenant.device().await);
    let stop = CancellationToken::new();
    let mut senders = stage.send_at_random(TTL, &stop);
    // The time is up for whatever is under way: what was broken is mended all the same.
    let timer = tokio::spawn(tokio::time::sleep(length));
    while !timer.is_finished() {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(500..2_500))).await;
        let at = now();
        strike(&mut fleet, &mut brokers).await;
        let until = now() + AFTERMATH.as_millis() as Millis;
        stage.history().note(Operation::Struck { at, until });
    }
    fleet.wait_until_ready(true).await;
    let accepted = stage.accepted();
    eventually("commands are accepted in peace", || async {
        (stage.accepted() >= accepted + IN_PEACE).then_some(())
    })
    .await;
    stop.cancel();
    ended(&mut senders).await;
    let told = publishers.stop().await;
    // Whatever can still arrive has the time for it.
    tokio::time::sleep(TTL + Duration::from_secs(1)).await;
    let outcomes = settled(fleet.topics(), stage.history()).await;
    stage.stop();
    ended(&mut devices).await;
    let records = read(fleet.topics().servers(), &fleet.topics().of(Channel::Telemetry)).await;
    let of =
        |record: &Record| (record.header("ce_device").to_owned(), record.header("ce_subject").to_owned());
    let found = Found { telemetry: records.iter().map(of).collect(), outcomes: Some(outcomes) };
    let mut operations = stage.history().operations();
    operations.extend(told.operations());
    Some(judge(&operations, &found, DUE))
}

/// Reads what was told of commands, until there is an end of each that was accepted, or no hope of it.
pub async fn settled(topics: &Topics, history: &History) -> Vec<Told> {
    let timer = tokio::spawn(tokio::time::sleep(HOPE));
    loop {
        let records = read(topics.servers(), &topics.of(Channel::Outcomes)).await;
        let told: Vec<_> = records.iter().filter_map(Told::of_record).collect();
        if timer.is_finished() || history.is_settled_by(&told) {
            return told;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn ended(actors: &mut JoinSet<()>) {
    while let Some(actor) = actors.join_next().await {
        actor.expect("an actor does not fail");
    }
}

/// Breaks something at random, and mends it.
async fn strike(fleet: &mut Fleet, brokers: &mut Brokers) {
    let kinds = [Kind::Http, Kind::Mqtt, Kind::Command];
    let kind = kinds[fastrand::usize(..kinds.len())];
    let number = fastrand::usize(..2);
    let pause = Duration::from_millis(fastrand::u64(200..3_000));
    // Some are taken for dead meanwhile.
    let long = Duration::from_millis(fastrand::u64(200..8_000));
    match fastrand::u32(..10) {
        0..=4 => fleet.of(kind)[number].restart().await,
        5..=6 => {
            fleet.of(kind)[number].signal(Signal::Stop);
            tokio::time::sleep(long).await;
            fleet.of(kind)[number].signal(Signal::Continue);
        }
        7..=8 => {
            brokers.pause(1);
            tokio::time::sleep(pause).await;
            brokers.resume(1);
        }
        _ => {
            brokers.kill(1);
            tokio::time::sleep(pause).await;
            brokers.restart(1);
            brokers.wait_until_alive(1).await;
            // Commands that were accepted before must not lapse because the next strike comes too soon.
            fleet.wait_until_ready(true).await;
        }
    }
}
