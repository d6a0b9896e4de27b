//! What only a server can do: to pass on the word of a change, to sort in its own way, to break off, and to come back.

use super::database::Postgres;
use super::proxy::{Faults, relay};
use super::*;
use crate::error::ErrorKind;

/// So long between two looks that whatever is heard was told.
fn told() -> RegistrySettings {
    RegistrySettings { poll_interval: PATIENCE * 100, ..settings() }
}

on_postgres!(the_tables_are_made_once_however_many_processes_begin);
async fn the_tables_are_made_once_however_many_processes_begin(database: Database) {
    let opened: Vec<_> = (0..6)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { Registry::open(&database.url(), settings()).await.map(drop) })
        })
        .collect();
    for opened in opened {
        assert_eq!(opened.await.unwrap(), Ok(()));
    }
    assert_eq!(database.server().query("SELECT count(*)::text FROM _sqlx_migrations").await, ["2"]);
}

on_postgres!(names_are_ordered_by_their_bytes_whatever_the_database_thinks);
async fn names_are_ordered_by_their_bytes_whatever_the_database_thinks(database: Database) {
    let registry = fixture(database).await;
    let names = ["B", "C", "_a", "a-b", "a.c", "ab", "b"];
    for name in names {
        registry.put_device(&key(&format!("a/{name}")), DeviceSpec::default()).await.unwrap();
    }
    let devices = registry.devices(&app("a"), None, 10).await.unwrap();
    assert_eq!(devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), names);
    let after = registry.devices(&app("a"), Some(&id("_a")), 10).await.unwrap();
    assert_eq!(after.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), names[3..]);

    let server = registry.database.server();
    let own = server.query("SELECT name COLLATE \"default\" FROM devices ORDER BY 1").await;
    assert_ne!(own, names, "this database would order them otherwise");
    let others = "SELECT table_name || '.' || column_name FROM information_schema.columns \
         WHERE table_schema = 'public' AND data_type = 'text' AND table_name <> '_sqlx_migrations' \
         AND collation_name IS DISTINCT FROM 'C'";
    assert_eq!(server.query(others).await, [] as [&str; 0]);
}

on_postgres!(a_change_is_told_to_other_processes);
async fn a_change_is_told_to_other_processes(database: Database) {
    let one = fixture_with(database, told()).await;
    let other = one.database.open(told()).await;
    one.put_device(&key("a/d"), password("p")).await.unwrap();
    one.put_device(&key("a/e"), password("p")).await.unwrap();
    assert_eq!(other.authenticate(&login("a/d", "p")).await, Ok(()));
    let changes = observed(&other);
    one.put_device(&key("a/d"), password("q")).await.unwrap();
    eventually("the change is told", || changes.lock().unwrap().len() == 1).await;
    assert_eq!(other.authenticate(&login("a/d", "p")).await, Err(AuthError::Denied));
    one.delete_device(&key("a/e")).await.unwrap();
    eventually("the removal is told", || changes.lock().unwrap().len() == 2).await;
    one.delete_application(&app("a")).await.unwrap();
    eventually("the end of the application is told", || changes.lock().unwrap().len() == 3).await;
}

on_postgres!(who_listens_again_hears_what_was_said_meanwhile);
async fn who_listens_again_hears_what_was_said_meanwhile(database: Database) {
    let one = fixture_with(database, told()).await;
    one.put_device(&key("a/d"), DeviceSpec::default()).await.unwrap();
    let other = one.database.open(told()).await;
    let changes = observed(&other);
    let server = one.database.server();
    for round in 1..=3 {
        eventually_async("both listen", async || server.terminate("query LIKE 'LISTEN%'").await > 0).await;
        one.put_device(&key("a/d"), password(&round.to_string())).await.unwrap();
        eventually("the change is heard", || changes.lock().unwrap().len() == round).await;
    }
}

on_postgres!(a_server_that_breaks_off_makes_nothing_wrong_and_is_found_again);
async fn a_server_that_breaks_off_makes_nothing_wrong_and_is_found_again(database: Database) {
    let registry = fixture_with(database, told()).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let (_, token) = registry.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    let kinds = async || {
        registry.shared.cache.forget_all();
        let login = registry.authenticate(&login("a/d", "p")).await;
        let grant = registry.grant(&token).await.map(drop);
        for verdict in [login.clone(), grant.clone()] {
            assert!(matches!(verdict, Ok(()) | Err(AuthError::Unavailable)), "{verdict:?}");
        }
        let read = registry.device(&key("a/d")).await.map(drop);
        let written = registry.put_device(&key("a/d"), password("p")).await.map(drop);
        let listed = registry.devices(&app("a"), None, 10).await.map(|found| assert_eq!(found.len(), 1));
        for result in [&read, &written, &listed] {
            let kind = result.as_ref().err().map(RegistryError::kind);
            assert!(matches!(kind, None | Some(ErrorKind::Unavailable)), "{result:?}");
        }
        let all = [login.is_ok(), grant.is_ok(), read.is_ok(), written.is_ok(), listed.is_ok()];
        all.into_iter().filter(|is_ok| *is_ok).count()
    };
    let server = registry.database.server();
    // In the midst of what is being asked, again and again.
    let breaking_off = tokio::spawn(server.keep_terminating(50));
    while !breaking_off.is_finished() {
        kinds().await;
    }
    breaking_off.await.unwrap();
    // And for longer: nobody is let in, and nobody is told that there is no such thing.
    server.administer("ALTER DATABASE {} ALLOW_CONNECTIONS false").await;
    server.terminate("true").await;
    for _ in 0..3 {
        assert_eq!(kinds().await, 0);
    }
    server.administer("ALTER DATABASE {} ALLOW_CONNECTIONS true").await;
    eventually_async("all is well again", async || kinds().await == 5).await;
    let other = registry.database.open(told()).await;
    let changes = observed(&registry);
    other.delete_device(&key("a/d")).await.unwrap();
    eventually("changes are heard again", || changes.lock().unwrap().len() == 1).await;
}

on_postgres!(a_write_that_happened_without_an_answer_is_heard_of);
/// Also if it was read meanwhile, and taken for one that was made known.
async fn a_write_that_happened_without_an_answer_is_heard_of(database: Database) {
    let faults = Arc::new(Faults::default());
    let Some(url) = through("a_write_without_an_answer", &database, &faults).await else { return };
    let direct = fixture_with(database, told()).await;
    for device in ["a/d", "a/e"] {
        direct.put_device(&key(device), password("p")).await.unwrap();
    }
    let registry = Registry::open(&url, settings()).await.unwrap();
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));
    let changes = observed(&registry);
    faults.hold_commit();
    let deletion = tokio::spawn({
        let registry = registry.clone();
        async move { registry.delete_device(&key("a/d")).await }
    });
    eventually_async("it happened", async || direct.device(&key("a/d")).await.is_err()).await;
    direct.delete_device(&key("a/e")).await.unwrap();
    eventually("it was read", || taken(&changes).contains(&Change::Device(key("a/e")))).await;
    assert!(!deletion.is_finished());
    faults.cut();
    assert_eq!(deletion.await.unwrap(), Err(RegistryError::Unavailable));
    eventually("it is heard", || taken(&changes).contains(&Change::Device(key("a/d")))).await;
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Err(AuthError::Denied));
}

on_postgres!(connections_that_have_died_silently_are_replaced);
async fn connections_that_have_died_silently_are_replaced(database: Database) {
    let faults = Arc::new(Faults::default());
    let Some(url) = through("connections_that_have_died_silently", &database, &faults).await else { return };
    let direct = fixture(database).await;
    direct.put_device(&key("a/d"), password("p")).await.unwrap();
    let registry = Registry::open(&url, told()).await.unwrap();
    assert_eq!(registry.device_exists(&key("a/d")).await, Ok(true));
    faults.silence();
    eventually_async("the server is reached again", async || {
        let verdict = registry.authenticate(&login("a/d", "p")).await;
        assert!(matches!(verdict, Ok(()) | Err(AuthError::Unavailable)), "{verdict:?}");
        verdict.is_ok()
    })
    .await;
}

/// Returns the address of a database through a wire that fails.
async fn through(test: &str, database: &Database, faults: &Arc<Faults>) -> Option<String> {
    let mut url = database.server().url.clone();
    let Some(host) = url.host_str().filter(|host| !host.contains('%')) else {
        crate::testing::skip(test, "postgres", "DATABASE_URL names no host");
        return None;
    };
    let address = relay(format!("{host}:{}", url.port().unwrap_or(5432)), faults.clone()).await;
    let mut others: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    others.retain(|(name, _)| !name.starts_with("ssl"));
    url.query_pairs_mut().clear().extend_pairs(others).append_pair("sslmode", "disable");
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(address.port())).unwrap();
    Some(url.to_string())
}

on_postgres!(connections_say_whose_they_are_and_have_limits);
async fn connections_say_whose_they_are_and_have_limits(database: Database) {
    let registry = fixture(database).await;
    let named = "SELECT pid::text FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'drogue'";
    let server = registry.database.server();
    eventually_async("the pool's and the listener's are named", async || {
        server.administer(named).await.len() >= 2
    })
    .await;
    let mut connection = registry.shared.store.pool().acquire().await.unwrap();
    for (setting, value) in [
        ("SHOW statement_timeout", "10s"),
        ("SHOW idle_in_transaction_session_timeout", "10s"),
        ("SHOW transaction_isolation", "read committed"),
    ] {
        let row = sqlx::query(setting).fetch_one(&mut *connection).await.unwrap();
        assert_eq!(sqlx::Row::get::<String, _>(&row, 0), value, "{setting}");
    }
}

on_postgres!(a_database_that_cannot_hold_every_text_is_refused);
async fn a_database_that_cannot_hold_every_text_is_refused(database: Database) {
    let poor = Postgres::create(&database.server().server, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    let error = Registry::open(poor.url.as_str(), settings()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("UTF8 and is LATIN1"), "{error}");
}
