//! The registry as a database that several processes have open, and that outlives them.

use super::changes::Reader;
use super::*;
use crate::error::ErrorKind;

on_each_store!(all_is_there_after_a_restart);
async fn all_is_there_after_a_restart(database: Database) {
    let Fixture { registry, database } = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let (token, secret) =
        registry.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    drop(registry);
    let registry = database.open(settings()).await;
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));
    assert_eq!(registry.tokens(&app("a")).await, Ok(vec![token]));
    assert!(registry.grant(&secret).await.is_ok());
}

on_each_store!(a_change_reaches_other_processes);
async fn a_change_reaches_other_processes(database: Database) {
    let one = fixture(database).await;
    let other = one.database.open(settings()).await;
    for device in ["a/d", "a/e", "a/f"] {
        one.put_device(&key(device), password("p")).await.unwrap();
        // A new device can log in at once, everywhere.
        assert_eq!(other.authenticate(&login(device, "p")).await, Ok(()));
        assert_eq!(other.device_exists(&key(device)).await, Ok(true));
    }
    let (at_one, at_other) = (observed(&one), observed(&other));
    one.put_device(&key("a/d"), password("q")).await.unwrap();
    one.delete_device(&key("a/e")).await.unwrap();
    let changes = [Change::Device(key("a/d")), Change::Device(key("a/e"))];
    eventually("the changes arrive", || at_other.lock().unwrap().len() == 2).await;
    assert_eq!(taken(&at_other), changes);
    assert_eq!(other.authenticate(&login("a/d", "p")).await, Err(AuthError::Denied));
    assert_eq!(other.device_exists(&key("a/e")).await, Ok(false));
    assert_eq!(other.authenticate(&login("a/f", "p")).await, Ok(()));

    other.delete_application(&app("a")).await.unwrap();
    eventually("the application goes", || at_one.lock().unwrap().len() == 3).await;
    // Each process hears of its own changes once: here of the first two.
    let [first, second] = changes;
    assert_eq!(taken(&at_one), [first, second, Change::Application(app("a"))]);
    assert_eq!(taken(&at_other), [Change::Application(app("a"))]);
    assert_eq!(one.authenticate(&login("a/f", "p")).await, Err(AuthError::Denied));
}

on_each_store!(of_many_changes_each_is_heard_once);
/// They come in batches, which end in the midst of a write.
async fn of_many_changes_each_is_heard_once(database: Database) {
    let one = fixture(database).await;
    let other = one.database.open_unfollowed().await;
    let all = async |enabled| {
        let spec = |i| DeviceSpec { name: Some(id(&format!("d{i}"))), enabled, ..DeviceSpec::default() };
        one.put_devices(&app("a"), (0..2_500).map(spec).collect()).await.unwrap();
    };
    all(None).await;
    let changes = observed(&other);
    let mut reader = Reader::at_end(&other.shared.store).await.unwrap();
    all(Some(false)).await;
    reader.read(&other.shared).await.unwrap();
    let heard: Vec<_> = (0..2_500).map(|i| Change::Device(key(&format!("a/d{i}")))).collect();
    assert_eq!(taken(&changes), heard);
    reader.read(&other.shared).await.unwrap();
    assert_eq!(taken(&changes), []);
}

on_each_store!(a_revoked_token_is_soon_refused_by_other_processes);
async fn a_revoked_token_is_soon_refused_by_other_processes(database: Database) {
    let one = fixture(database).await;
    let other = one.database.open(settings()).await;
    let (token, secret) = one.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    assert!(other.grant(&secret).await.is_ok());
    one.delete_token(&app("a"), &token.id).await.unwrap();
    eventually_async("it is refused", async || other.grant(&secret).await == Err(AuthError::Denied)).await;
}

on_each_store!(processes_that_start_and_write_at_once_wait_for_each_other);
async fn processes_that_start_and_write_at_once_wait_for_each_other(database: Database) {
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let database = database.clone();
            tokio::spawn(async move {
                let registry = database.open(settings()).await;
                registry.put_application(&app("a"), ApplicationSpec::default()).await.unwrap();
                for i in 0..20 {
                    registry.put_device(&key(&format!("a/d{writer}-{i}")), new_token()).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let registry = database.open(settings()).await;
    assert_eq!(registry.devices(&app("a"), None, 1_000).await.unwrap().len(), 80);
}

on_each_store!(a_write_that_fails_leaves_nothing_and_tells_nobody);
async fn a_write_that_fails_leaves_nothing_and_tells_nobody(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let changes = observed(&registry);
    let mut write = registry.shared.store.write().await.unwrap();
    sqlx::query("DELETE FROM devices").execute(write.connection()).await.unwrap();
    write.note(Change::Device(key("a/d"))).await.unwrap();
    drop(write);
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));
    assert_eq!(taken(&changes), []);
}

#[tokio::test]
async fn an_address_of_another_kind_is_refused_without_its_password() {
    for url in
        ["postgres://me:secret@localhost", "mysql://me:secret@x", "registry.sqlite", "sqlite::memory:", ""]
    {
        let error = Registry::open(url, settings()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let error = error.to_string();
        assert!(error.contains("sqlite://PATH") && !error.contains("secret"), "{error}");
    }
    let error = Registry::open("sqlite:///proc/nowhere/registry.sqlite", settings()).await.unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    let error = Registry::open("postgres://me:secret@127.0.0.1:1/x", settings()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "the registry postgres://127.0.0.1:1/x cannot be opened: nobody answers");
}

#[cfg(unix)]
#[tokio::test]
async fn no_file_of_the_registry_is_readable_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let url = sqlite_url(&directory.path().join("registry.sqlite"));
    let registry = Registry::open(&url, settings()).await.unwrap();
    registry.put_application(&app("a"), ApplicationSpec::default()).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 2, "the database and its log");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
}

on_each_store!(a_store_that_was_set_back_is_read_from_there_on);
/// Whoever was told of a later write must not take the ones that follow for known.
async fn a_store_that_was_set_back_is_read_from_there_on(database: Database) {
    let one = fixture(database).await;
    let other = one.database.open_unfollowed().await;
    for device in ["a/d", "a/e"] {
        one.put_device(&key(device), password("p")).await.unwrap();
        assert_eq!(other.authenticate(&login(device, "p")).await, Ok(()));
    }
    let mut reader = Reader::at_end(&other.shared.store).await.unwrap();
    let set_back = "UPDATE writes SET last = last - 2";
    sqlx::query(set_back).execute(one.shared.store.pool()).await.unwrap();
    reader.read(&other.shared).await.unwrap();
    let (tag, epoch) = (other.shared.cache.tag(&login("a/d", "p")), other.shared.cache.epoch(&key("a/d")));
    assert!(!other.shared.cache.is_verified(&tag, epoch), "what was known came from writes that are lost");
    let changes = observed(&other);
    one.put_device(&key("a/e"), password("q")).await.unwrap();
    reader.read(&other.shared).await.unwrap();
    assert_eq!(taken(&changes), [Change::Device(key("a/e"))]);
}

on_each_store!(of_many_who_create_an_application_one_succeeds);
async fn of_many_who_create_an_application_one_succeeds(database: Database) {
    let fixture = fixture(database).await;
    let other = fixture.database.open(settings()).await;
    let create = |registry: Registry, name: String| async move {
        let labels = Some([("by".to_owned(), name)].into());
        let spec = ApplicationSpec { name: None, labels };
        registry.create_application(&app("b"), spec.clone()).await.map(|()| spec.labels)
    };
    let tasks: Vec<_> = (0..8)
        .map(|i| if i % 2 == 0 { fixture.registry.clone() } else { other.clone() })
        .enumerate()
        .map(|(i, registry)| tokio::spawn(create(registry, i.to_string())))
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(labels) => made.push(labels),
            Err(error) => assert_eq!(error, RegistryError::ApplicationExists(app("b"))),
        }
    }
    let found = fixture.application(&app("b")).await.unwrap().labels;
    assert_eq!(made, [Some(found)], "the one that succeeded, and nobody wrote over it");
}
