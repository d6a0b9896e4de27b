//! The model test: a world of replicas that keep to the rules, in which everything that can happen does, judged by what
//! devices saw and what was told.
//!
//! `PROPTEST_CASES` says how many histories are tried.

mod endpoint;
mod judge;
mod ledger;
mod log;
mod replica;
mod world;

use proptest::prelude::*;

use crate::records::Takes;
use world::{ENDPOINTS, TRACKERS, World};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    PlainWithRow,
    Kept,
    /// It did not come by the command endpoint.
    KeptElsewhere,
}

#[derive(Debug, Clone)]
enum Step {
    Submit {
        device: usize,
        kind: Kind,
        ttl: u64,
        lost: bool,
    },
    Cancel {
        command: usize,
        lost: bool,
    },
    Connect {
        replica: usize,
        device: usize,
        takes: Takes,
        client: Option<u8>,
        acknowledges: bool,
        lasts: u64,
    },
    Disconnect {
        replica: usize,
        connection: usize,
    },
    Write {
        replica: usize,
        connection: usize,
    },
    Acknowledge {
        replica: usize,
        at: usize,
    },
    Reply {
        replica: usize,
        at: usize,
    },
    Run {
        replica: usize,
        read: usize,
        flush: usize,
    },
    Crash {
        replica: usize,
        flush: usize,
    },
    ShutDown {
        replica: usize,
    },
    Pause {
        replica: usize,
        paused: bool,
    },
    Flush {
        replica: usize,
        flush: usize,
    },
    Tracker {
        tracker: usize,
        turn: Turn,
    },
    Stray,
    Pass {
        millis: u64,
    },
    Round {
        writes: bool,
        acknowledges: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Read(usize, usize),
    Lease,
    Commit,
    Ask,
    Checkpoint,
    Flush(usize),
    /// It does not know what became of a record; whether that comes.
    Doubt(bool),
    Crash(usize),
    /// It starts anew, and the logs no longer reach back to where it was.
    Forget,
    Pause(bool),
}

fn connect() -> impl Strategy<Value = Step> {
    let takes = prop_oneof![3 => Just(Takes::Many), 2 => Just(Takes::One), 1 => Just(Takes::Batch(2))];
    let client = proptest::option::weighted(0.4, 0..2u8);
    (0..ENDPOINTS, 0..2usize, takes, client, proptest::bool::weighted(0.7), 50..9_000u64).prop_map(
        |(replica, device, takes, client, acknowledges, lasts)| Step::Connect {
            replica,
            device,
            takes,
            client,
            acknowledges,
            lasts,
        },
    )
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => (0..6usize, 0..6usize).prop_map(|(commands, outcomes)| Turn::Read(commands, outcomes)),
        1 => Just(Turn::Lease),
        2 => Just(Turn::Commit),
        3 => Just(Turn::Ask),
        2 => Just(Turn::Checkpoint),
        3 => (0..4usize).prop_map(Turn::Flush),
        2 => proptest::bool::weighted(0.8).prop_map(Turn::Doubt),
        2 => (0..4usize).prop_map(Turn::Crash),
        1 => Just(Turn::Forget),
        1 => any::<bool>().prop_map(Turn::Pause),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        3 => Just(Kind::Plain),
        1 => Just(Kind::PlainWithRow),
        6 => Just(Kind::Kept),
        1 => Just(Kind::KeptElsewhere),
    ];
    let ttl = prop_oneof![1 => 10..2_000u64, 3 => 2_000..60_000u64];
    let lost = || proptest::bool::weighted(0.1);
    let submit = (0..2usize, kind, ttl, lost()).prop_map(|(device, kind, ttl, lost)| Step::Submit {
        device,
        kind,
        ttl,
        lost,
    });
    let replica = || 0..ENDPOINTS;
    let pass = prop_oneof![4 => 1..400u64, 2 => 400..4_000u64, 1 => 4_000..20_000u64];
    prop_oneof![
        8 => submit,
        1 => (0..5usize, lost()).prop_map(|(command, lost)| Step::Cancel { command, lost }),
        5 => connect(),
        2 => (replica(), 0..3usize)
            .prop_map(|(replica, connection)| Step::Disconnect { replica, connection }),
        5 => (replica(), 0..3usize).prop_map(|(replica, connection)| Step::Write { replica, connection }),
        3 => (replica(), 0..2usize).prop_map(|(replica, at)| Step::Acknowledge { replica, at }),
        2 => (replica(), 0..2usize).prop_map(|(replica, at)| Step::Reply { replica, at }),
        5 => (replica(), 0..6usize, 0..6usize)
            .prop_map(|(replica, read, flush)| Step::Run { replica, read, flush }),
        1 => (replica(), 0..4usize).prop_map(|(replica, flush)| Step::Crash { replica, flush }),
        1 => replica().prop_map(|replica| Step::ShutDown { replica }),
        2 => (replica(), any::<bool>()).prop_map(|(replica, paused)| Step::Pause { replica, paused }),
        1 => (replica(), 0..4usize).prop_map(|(replica, flush)| Step::Flush { replica, flush }),
        12 => (0..TRACKERS, turn()).prop_map(|(tracker, turn)| Step::Tracker { tracker, turn }),
        2 => Just(Step::Stray),
        4 => pass.prop_map(|millis| Step::Pass { millis }),
        12 => (proptest::bool::weighted(0.7), proptest::bool::weighted(0.3))
            .prop_map(|(writes, acknowledges)| Step::Round { writes, acknowledges }),
    ]
}

fn before() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(connect(), 1..4)]
}

fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    // As many as fit into some seconds, unless the environment says otherwise.
    let cases = if default.cases == 256 { 200 } else { default.cases };
    ProptestConfig { cases, max_shrink_iters: 4_000, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_command_has_one_end_and_no_outcome_contradicts_what_the_device_saw(
        before in before(),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(&before);
        for step in &steps {
            world.step(step);
        }
        let rested = world.settle();
        if let Err(wrong) = rested.and_then(|()| judge::judge(&world.log, &world.ledger)) {
            let history = world.log.trace.join("\n");
            prop_assert!(false, "{wrong}\n{history}");
        }
    }
}
