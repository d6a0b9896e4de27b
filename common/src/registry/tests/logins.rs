//! Logins of devices: what they cost, and what they see of changes.

use super::*;

on_each_store!(each_kind_of_credential_lets_its_device_in_and_no_other);
async fn each_kind_of_credential_lets_its_device_in_and_no_other(database: Database) {
    let registry = fixture(database).await;
    let brought = generate_token().unwrap();
    // The reference implementation made it: `echo -n hunter2 | argon2 saltsaltsalt -id -t 1 -k 64 -p 1 -e`.
    let hash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$RImIjsyxaIflNWFI1IH5rOtwoBK9E4w1E8aTF6j+8ew";
    let credentials = vec![
        Credential::Password(Secret::new("foobar")),
        Credential::Hash(Secret::new(hash)),
        Credential::Token(Some(brought.clone())),
        Credential::Token(None),
    ];
    let spec = DeviceSpec { credentials: Some(credentials), ..DeviceSpec::default() };
    let made = registry.put_device(&key("a/d"), spec).await.unwrap().tokens;
    assert_eq!(made.len(), 1, "a token that was brought along is not shown");
    registry.put_device(&key("a/e"), DeviceSpec::default()).await.unwrap();
    for secret in ["foobar", "hunter2", brought.expose(), made[0].expose()] {
        assert_eq!(registry.authenticate(&login("a/d", secret)).await, Ok(()));
        assert_eq!(registry.authenticate(&login("a/e", secret)).await, Err(AuthError::Denied));
        assert_eq!(registry.authenticate(&login("a/x", secret)).await, Err(AuthError::Denied));
        assert_eq!(registry.authenticate(&login("b/d", secret)).await, Err(AuthError::Denied));
    }
    let other = generate_token().unwrap();
    for wrong in ["", "foobar ", "Foobar", "hunter2\0", other.expose(), hash, &"f".repeat(100_000)] {
        assert_eq!(registry.authenticate(&login("a/d", wrong)).await, Err(AuthError::Denied), "{wrong:.80}");
    }
}

on_each_store!(a_change_is_seen_by_the_next_login);
async fn a_change_is_seen_by_the_next_login(database: Database) {
    let registry = fixture(database).await;
    let changes = observed(&registry);
    let (old, new) = (login("a/d", "old"), login("a/d", "new"));
    registry.put_device(&key("a/d"), password("old")).await.unwrap();
    assert_eq!(taken(&changes), [], "a new device is no change");
    for _ in 0..2 {
        assert_eq!(registry.authenticate(&old).await, Ok(()));
        assert_eq!(registry.authenticate(&new).await, Err(AuthError::Denied));
    }
    registry.put_device(&key("a/d"), password("new")).await.unwrap();
    assert_eq!(taken(&changes), [Change::Device(key("a/d"))]);
    for _ in 0..2 {
        assert_eq!(registry.authenticate(&old).await, Err(AuthError::Denied));
        assert_eq!(registry.authenticate(&new).await, Ok(()));
    }
    for (enabled, expected) in [(false, Err(AuthError::Denied)), (true, Ok(()))] {
        let spec = DeviceSpec { enabled: Some(enabled), ..DeviceSpec::default() };
        registry.put_device(&key("a/d"), spec).await.unwrap();
        assert_eq!(taken(&changes), [Change::Device(key("a/d"))]);
        assert_eq!(registry.authenticate(&new).await, expected);
    }
    registry.delete_device(&key("a/d")).await.unwrap();
    assert_eq!(taken(&changes), [Change::Device(key("a/d"))]);
    assert_eq!(registry.authenticate(&new).await, Err(AuthError::Denied));
    // What was wrong for the device that was is right for the one that is.
    registry.put_device(&key("a/d"), password("old")).await.unwrap();
    assert_eq!(registry.authenticate(&old).await, Ok(()));
}

on_each_store!(observers_are_told_before_the_write_returns_and_after_memory_is_gone);
async fn observers_are_told_before_the_write_returns_and_after_memory_is_gone(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("old")).await.unwrap();
    registry.authenticate(&login("a/d", "old")).await.unwrap();
    let (seen, shared) = (Arc::new(Mutex::new(None)), Arc::downgrade(&registry.shared));
    let tell = seen.clone();
    registry.observe(Box::new(move |_| {
        let shared = shared.upgrade().unwrap();
        let old = login("a/d", "old");
        let verified = shared.cache.is_verified(&shared.cache.tag(&old), shared.cache.epoch(&old.device));
        *tell.lock().unwrap() = Some(verified);
    }));
    registry.put_device(&key("a/d"), password("new")).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(false));
}

on_each_store!(a_check_that_began_before_a_change_is_not_believed_after_it);
/// The check has read the old password and waits for a core when the change is committed; its verdict is old.
async fn a_check_that_began_before_a_change_is_not_believed_after_it(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("old")).await.unwrap();
    let held = registry.shared.passwords.hold().await;
    let early = tokio::spawn({
        let registry = registry.registry.clone();
        async move { registry.authenticate(&login("a/d", "old")).await }
    });
    eventually("the check waits", || registry.shared.passwords.waiting() == 1).await;
    let none = DeviceSpec { credentials: Some(vec![]), ..DeviceSpec::default() };
    registry.put_device(&key("a/d"), none).await.unwrap();
    // The same login, after the change, does not wait for that check: it is refused while that one is still held.
    let late = tokio::time::timeout(PATIENCE, registry.authenticate(&login("a/d", "old"))).await;
    assert_eq!(late.unwrap(), Err(AuthError::Denied));
    drop(held);
    assert_eq!(early.await.unwrap(), Ok(()), "it began before the change");
    assert_eq!(registry.authenticate(&login("a/d", "old")).await, Err(AuthError::Denied));
}

on_each_store!(a_verified_login_costs_neither_argon2_nor_sql);
async fn a_verified_login_costs_neither_argon2_nor_sql(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    registry.authenticate(&login("a/d", "p")).await.unwrap();
    let _held = registry.shared.passwords.hold().await;
    registry.shared.store.pool().close().await;
    for _ in 0..100 {
        assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));
    }
    // What is not known to be right is refused.
    assert_eq!(registry.authenticate(&login("a/d", "q")).await, Err(AuthError::Unavailable));
}

on_each_store!(the_same_login_at_the_same_time_is_checked_once);
async fn the_same_login_at_the_same_time_is_checked_once(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let held = registry.shared.passwords.hold().await;
    let logins: Vec<_> = (0..100)
        .map(|i| {
            let registry = registry.registry.clone();
            let secret = if i % 10 == 0 { "wrong" } else { "p" };
            tokio::spawn(async move { (secret, registry.authenticate(&login("a/d", secret)).await) })
        })
        .collect();
    eventually("two different logins wait", || registry.shared.passwords.waiting() == 2).await;
    drop(held);
    for login in logins {
        let (secret, verdict) = login.await.unwrap();
        assert_eq!(verdict, if secret == "p" { Ok(()) } else { Err(AuthError::Denied) });
    }
    assert_eq!(registry.shared.passwords.checks(), 2);
    // A wrong password is remembered too, until the device changes.
    assert_eq!(registry.authenticate(&login("a/d", "wrong")).await, Err(AuthError::Denied));
    assert_eq!(registry.shared.passwords.checks(), 2);
}

on_each_store!(logins_beyond_the_limits_are_refused_and_those_that_are_known_are_not);
async fn logins_beyond_the_limits_are_refused_and_those_that_are_known_are_not(database: Database) {
    let registry = fixture_with(database, RegistrySettings { max_pending_logins: 20, ..settings() }).await;
    for device in ["a/d", "a/e", "a/f"] {
        registry.put_device(&key(device), password("p")).await.unwrap();
    }
    registry.authenticate(&login("a/f", "p")).await.unwrap();
    let held = registry.shared.passwords.hold().await;
    let begin = |device: &'static str, i: usize| {
        let registry = registry.registry.clone();
        tokio::spawn(async move { registry.authenticate(&login(device, &i.to_string())).await })
    };
    // Whoever guesses at one device occupies 16 places and no more.
    let mut guesses: Vec<_> = (0..16).map(|i| begin("a/d", i)).collect();
    eventually("guesses at one device wait", || registry.shared.passwords.waiting() == 16).await;
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Err(AuthError::Busy));
    guesses.extend((0..4).map(|i| begin("a/e", i)));
    eventually("all places are taken", || registry.shared.passwords.waiting() == 20).await;
    assert_eq!(registry.authenticate(&login("a/e", "p")).await, Err(AuthError::Busy));
    assert_eq!(registry.put_device(&key("a/g"), password("p")).await, Err(RegistryError::Busy));
    assert_eq!(registry.authenticate(&login("a/f", "p")).await, Ok(()));
    drop(held);
    for guess in guesses {
        assert_eq!(guess.await.unwrap(), Err(AuthError::Denied));
    }
    for device in ["a/d", "a/e"] {
        assert_eq!(registry.authenticate(&login(device, "p")).await, Ok(()));
    }
}

on_each_store!(a_refusal_without_a_check_is_as_late_as_one_with_it);
async fn a_refusal_without_a_check_is_as_late_as_one_with_it(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    registry.put_device(&key("a/e"), new_token()).await.unwrap();
    registry.authenticate(&login("a/d", "wrong")).await.unwrap_err();
    let typical = Duration::from_millis(300);
    registry.shared.passwords.seem(typical);
    // No such application, no such device, no password, and one that is known to be wrong.
    for device in ["b/d", "a/x", "a/e", "a/d"] {
        let start = registry.shared.settings.clock.instant();
        assert_eq!(registry.authenticate(&login(device, "wrong")).await, Err(AuthError::Denied));
        assert!(registry.shared.settings.clock.instant() - start >= typical, "{device}");
    }
    assert_eq!(registry.shared.passwords.checks(), 1);
}

on_each_store!(a_login_whose_caller_goes_is_checked_to_its_end);
async fn a_login_whose_caller_goes_is_checked_to_its_end(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let held = registry.shared.passwords.hold().await;
    let right = login("a/d", "p");
    let impatient = tokio::time::timeout(Duration::from_millis(1), registry.authenticate(&right)).await;
    assert!(impatient.is_err());
    drop(held);
    let (tag, epoch) = (registry.shared.cache.tag(&right), registry.shared.cache.epoch(&right.device));
    eventually("it is known to be right", || registry.shared.cache.is_verified(&tag, epoch)).await;
}

on_each_store!(blocking any_runtime_may_ask);
fn any_runtime_may_ask(database: Database) {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = home.block_on(async {
        let registry = fixture(database).await;
        registry.put_device(&key("a/d"), password("p")).await.unwrap();
        registry
    });
    // Another runtime, on another thread, without timers or I/O: nothing of the pool may come to depend on it.
    let asked = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let foreign = tokio::runtime::Builder::new_current_thread().build().unwrap();
            foreign.block_on(async {
                assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));
                assert_eq!(registry.authenticate(&login("a/d", "q")).await, Err(AuthError::Denied));
                registry.put_device(&key("a/e"), new_token()).await.unwrap().tokens
            })
        });
        asker.join().unwrap()
    });
    // And after that runtime is gone, everything works.
    home.block_on(async {
        assert_eq!(registry.authenticate(&login("a/e", asked[0].expose())).await, Ok(()));
        registry.delete_device(&key("a/e")).await.unwrap();
    });
}

on_each_store!(blocking a_login_is_refused_when_the_home_runtime_is_gone);
fn a_login_is_refused_when_the_home_runtime_is_gone(database: Database) {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let home = runtime();
    let registry = home.block_on(fixture(database));
    home.shutdown_timeout(PATIENCE);
    let verdict = runtime().block_on(registry.authenticate(&login("a/d", "p")));
    assert_eq!(verdict, Err(AuthError::Unavailable));
}
