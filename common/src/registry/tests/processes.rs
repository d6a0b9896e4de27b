//! The registry as a file that several processes have open, and that outlives them.

use super::changes::Reader;
use super::*;

#[tokio::test]
async fn all_is_there_after_a_restart() {
    let Fixture { registry, directory } = fixture().await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let (token, secret) =
        registry.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    drop(registry);
    let registry = open_in(&directory, settings()).await;
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));
    assert_eq!(registry.tokens(&app("a")).await, Ok(vec![token]));
    assert!(registry.grant(&secret).await.is_ok());
}

#[tokio::test]
async fn a_change_reaches_other_processes() {
    let one = fixture().await;
    let other = open_in(&one.directory, settings()).await;
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

/// They come in batches, which end in the midst of a write.
#[tokio::test]
async fn of_many_changes_each_is_heard_once() {
    let one = fixture().await;
    let other =
        open_in(&one.directory, RegistrySettings { poll_interval: PATIENCE * 100, ..settings() }).await;
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

#[tokio::test]
async fn a_revoked_token_is_soon_refused_by_other_processes() {
    let one = fixture().await;
    let other = open_in(&one.directory, settings()).await;
    let (token, secret) = one.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    assert!(other.grant(&secret).await.is_ok());
    one.delete_token(&app("a"), &token.id).await.unwrap();
    eventually_async("it is refused", async || other.grant(&secret).await == Err(AuthError::Denied)).await;
}

#[tokio::test]
async fn processes_that_start_and_write_at_once_wait_for_each_other() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let directory = directory.clone();
            tokio::spawn(async move {
                let registry = open_in(&directory, settings()).await;
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
    let registry = open_in(&directory, settings()).await;
    assert_eq!(registry.devices(&app("a"), None, 1_000).await.unwrap().len(), 80);
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_and_tells_nobody() {
    let registry = fixture().await;
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
        ["postgres://me:secret@localhost/drogue", "mysql://x", "registry.sqlite", "sqlite::memory:", ""]
    {
        let error = Registry::open(url, settings()).await.unwrap_err().to_string();
        assert!(error.contains("sqlite://PATH") && !error.contains("secret"), "{error}");
    }
    let error = Registry::open("sqlite:///proc/nowhere/registry.sqlite", settings()).await.unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn no_file_of_the_registry_is_readable_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let registry = fixture().await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(registry.directory.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 2, "the database and its log");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{file:?}");
    }
}

#[tokio::test]
async fn no_file_of_the_registry_holds_a_secret() {
    let registry = fixture().await;
    let put = registry.put_device(&key("a/d"), new_token()).await.unwrap();
    registry.put_device(&key("a/e"), password("correct horse")).await.unwrap();
    let (_, token) = registry.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    for file in std::fs::read_dir(registry.directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in [put.tokens[0].expose(), "correct horse", token.expose()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
}
