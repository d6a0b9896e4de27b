//! What must not come out: secrets, by the store or by the log.

use super::*;
use crate::channel::Partition;
use crate::ledger::{Batch, Idempotency, Ledger, Submission};
use crate::testing::Logged;
use crate::time::Timestamp;
use crate::tracker::{Change, Row};

on_each_store!(the_store_holds_no_secret);
async fn the_store_holds_no_secret(database: Database) {
    let registry = fixture(database).await;
    let put = registry.put_device(&key("a/d"), new_token()).await.unwrap();
    registry.put_device(&key("a/e"), password("correct horse")).await.unwrap();
    let (_, token) =
        registry.create_token(&app("a"), [Scope::Events].into(), "staple".to_owned()).await.unwrap();
    let bytes = registry.database.contents().await;
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("staple"), "what is no secret is found");
    for secret in [put.tokens[0].expose(), "correct horse", token.expose()] {
        assert!(!holds(secret));
    }
}

on_postgres!(nothing_that_a_statement_carries_is_logged_at_any_level);
/// At levels that nobody logs libraries at (see `startup::logging`), and with a statement that is slow.
async fn nothing_that_a_statement_carries_is_logged_at_any_level(database: Database) {
    let logged = Logged::begin();
    let url = url::Url::parse(&database.url()).unwrap();
    let registry = fixture(database).await;
    let labels = Some([("marked".to_owned(), "hunter2".to_owned())].into());
    registry.put_device(&key("a/hunter2"), DeviceSpec { labels, ..password("hunter2") }).await.unwrap();
    registry.authenticate(&login("a/hunter2", "hunter2")).await.unwrap();
    registry.create_token(&app("a"), [Scope::Events].into(), "hunter2".to_owned()).await.unwrap();
    track_a_command(&Ledger::of(&registry)).await;
    let pool = registry.shared.store.pool();
    let slow = sqlx::query("SELECT 1 FROM pg_sleep(1.1) WHERE $1 <> 'x'").bind("hunter2");
    slow.fetch_one(pool).await.unwrap();
    let bad = sqlx::query("SELECT $1::bigint").bind("hunter2").fetch_one(pool).await;
    assert_eq!(RegistryError::from(bad.map(drop).unwrap_err()), RegistryError::Unavailable);
    let log = logged.text();
    for logged in ["INSERT INTO devices", "INSERT INTO commands", "slow statement", "22P02"] {
        assert!(log.contains(logged), "this is logged here: {logged}\n{log}");
    }
    for secret in [Some("hunter2"), url.password()].into_iter().flatten() {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Writes a command to the ledger, once in each way.
async fn track_a_command(ledger: &Ledger) {
    let now = Timestamp::from_millis(0);
    let command = crate::testing::command(&key("a/d"), "set".parse().unwrap(), b"hunter2");
    let row = Row::accepted(&command, now);
    let submission = Submission {
        command,
        accepted: now,
        idempotency: Some(Idempotency { key: "hunter2".to_owned(), fingerprint: "hunter2".to_owned() }),
        supersede: Some("hunter2".to_owned()),
        max_pending: 1,
    };
    ledger.submit(submission).await.unwrap();
    let ttl = Duration::from_secs(5);
    let lease = ledger.acquire(Partition(0), 0, "me", now, ttl).await.unwrap().unwrap();
    let batch = Batch {
        changes: vec![Change::Write { row: Box::new(row.clone()), returned: None }],
        saved: None,
        now,
    };
    ledger.commit(lease, batch).await.unwrap();
    assert_eq!(ledger.hand_over(lease, vec![(row.id.clone(), 1)]).await.unwrap()[0].content, row.content);
}

on_postgres!(an_address_that_leads_nowhere_is_named_without_its_password);
async fn an_address_that_leads_nowhere_is_named_without_its_password(database: Database) {
    let mut url = url::Url::parse(&database.url()).unwrap();
    url.set_path("none");
    url.set_password(Some("hunter2")).unwrap();
    let error = Registry::open(url.as_str(), settings()).await.unwrap_err().to_string();
    assert!(error.contains("/none") && !error.contains("hunter2"), "{error}");
}
