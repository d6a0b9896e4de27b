//! Applications and devices.

use super::*;
use crate::error::ErrorKind;

fn labels(key: &str, value: &str) -> Labels {
    [(key.to_owned(), value.to_owned())].into()
}

on_each_store!(applications_come_and_go);
async fn applications_come_and_go(database: Database) {
    let registry = fixture(database).await;
    let spec = ApplicationSpec { name: Some(app("a")), labels: Some(labels("k", "v")) };
    assert_eq!(registry.put_application(&app("a"), spec.clone()).await, Ok(Put::Changed));
    let shown = registry.application(&app("a")).await.unwrap();
    assert_eq!(shown, Application { name: app("a"), labels: labels("k", "v") });
    // What is left out stays.
    assert_eq!(registry.put_application(&app("a"), ApplicationSpec::default()).await, Ok(Put::Changed));
    assert_eq!(registry.application(&app("a")).await, Ok(shown));
    assert_eq!(registry.put_application(&app("B"), ApplicationSpec::default()).await, Ok(Put::Created));
    let names: Vec<_> = registry.applications().await.unwrap().into_iter().map(|app| app.name).collect();
    assert_eq!(names, [app("B"), app("a")]);
    assert_eq!(registry.put_application(&app("c"), spec).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(registry.delete_application(&app("a")).await, Ok(()));
    let missing = Err(RegistryError::NoApplication(app("a")));
    assert_eq!(registry.delete_application(&app("a")).await, missing);
    assert_eq!(registry.application(&app("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

on_each_store!(an_application_goes_with_all_that_is_its);
async fn an_application_goes_with_all_that_is_its(database: Database) {
    let registry = fixture(database).await;
    registry.put_application(&app("ab"), ApplicationSpec::default()).await.unwrap();
    for device in ["a/d", "a/e", "ab/d"] {
        registry.put_device(&key(device), password("p")).await.unwrap();
        assert_eq!(registry.authenticate(&login(device, "p")).await, Ok(()));
        assert_eq!(registry.device_exists(&key(device)).await, Ok(true));
    }
    let (_, token) = registry.create_token(&app("a"), [Scope::Events].into(), String::new()).await.unwrap();
    let (_, other) = registry.create_token(&app("ab"), [Scope::Events].into(), String::new()).await.unwrap();
    for token in [&token, &other] {
        registry.grant(token).await.unwrap();
    }
    let changes = observed(&registry);
    registry.delete_application(&app("a")).await.unwrap();
    assert_eq!(taken(&changes), [Change::Application(app("a"))]);
    for device in ["a/d", "a/e"] {
        assert_eq!(registry.authenticate(&login(device, "p")).await, Err(AuthError::Denied));
        assert_eq!(registry.device_exists(&key(device)).await, Ok(false));
        assert_eq!(registry.device(&key(device)).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(registry.grant(&token).await, Err(AuthError::Denied));
    assert_eq!(registry.authenticate(&login("ab/d", "p")).await, Ok(()));
    assert!(registry.grant(&other).await.is_ok());
    // A new application of that name begins empty.
    registry.put_application(&app("a"), ApplicationSpec::default()).await.unwrap();
    assert_eq!(registry.devices(&app("a"), None, 10).await, Ok(vec![]));
    assert_eq!(registry.tokens(&app("a")).await, Ok(vec![]));
}

on_each_store!(a_device_is_shown_as_it_was_written);
async fn a_device_is_shown_as_it_was_written(database: Database) {
    let registry = fixture(database).await;
    let spec = DeviceSpec {
        labels: Some(labels("ü\0", "\u{1f980}\0")),
        enabled: Some(false),
        ..DeviceSpec::default()
    };
    let put = registry.put_device(&key("a/d"), spec).await.unwrap();
    let device = Device { name: id("d"), enabled: false, labels: labels("ü\0", "\u{1f980}\0") };
    assert_eq!(put, PutDevice { put: Put::Created, device: device.clone(), tokens: vec![] });
    assert_eq!(registry.device(&key("a/d")).await, Ok(device));
    let default = registry.put_device(&key("a/e"), DeviceSpec::default()).await.unwrap().device;
    assert_eq!(default, Device { name: id("e"), enabled: true, labels: Labels::new() });
}

on_each_store!(what_is_left_out_stays_and_what_is_the_same_is_no_change);
async fn what_is_left_out_stays_and_what_is_the_same_is_no_change(database: Database) {
    let registry = fixture(database).await;
    registry.put_device(&key("a/d"), password("p")).await.unwrap();
    let changes = observed(&registry);
    let spec = DeviceSpec { labels: Some(labels("k", "v")), ..DeviceSpec::default() };
    let changed = registry.put_device(&key("a/d"), spec).await.unwrap();
    assert_eq!((changed.put, taken(&changes)), (Put::Changed, vec![Change::Device(key("a/d"))]));
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));

    let shown = registry.device(&key("a/d")).await.unwrap();
    let again: DeviceSpec = serde_json::from_str(&serde_json::to_string(&shown).unwrap()).unwrap();
    let put = registry.put_device(&key("a/d"), again).await.unwrap();
    assert_eq!((put.put, put.device), (Put::Changed, shown));
    assert_eq!(taken(&changes), []);
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Ok(()));

    let none = DeviceSpec { credentials: Some(vec![]), ..DeviceSpec::default() };
    registry.put_device(&key("a/d"), none).await.unwrap();
    assert_eq!(registry.authenticate(&login("a/d", "p")).await, Err(AuthError::Denied));
}

on_each_store!(a_wrong_device_is_refused_and_not_written);
async fn a_wrong_device_is_refused_and_not_written(database: Database) {
    let registry = fixture(database).await;
    let put = async |spec| registry.put_device(&key("a/d"), spec).await.unwrap_err();
    let other = DeviceSpec { name: Some(id("e")), ..DeviceSpec::default() };
    assert_eq!(put(other).await.kind(), ErrorKind::Invalid);
    let many = (0..65).map(|i| (i.to_string(), String::new())).collect();
    let error = put(DeviceSpec { labels: Some(many), ..DeviceSpec::default() }).await;
    assert_eq!(error, RegistryError::Invalid(InvalidSpec::Labels(65)));
    let hostile =
        "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$X2sO8CE2DyIhXCQ1bGSUTLkP5Cl7nLxYKWyI1mLqGdA";
    let credentials = Some(vec![Credential::Hash(Secret::new(hostile))]);
    let error = put(DeviceSpec { credentials, ..DeviceSpec::default() }).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(registry.device_exists(&key("a/d")).await, Ok(false));
    let nowhere = registry.put_device(&key("b/d"), DeviceSpec::default()).await;
    assert_eq!(nowhere, Err(RegistryError::NoApplication(app("b"))));
    assert_eq!(registry.delete_device(&key("a/d")).await, Err(RegistryError::NoDevice(key("a/d"))));
}

on_each_store!(many_devices_are_written_in_order_and_each_gets_its_answer);
async fn many_devices_are_written_in_order_and_each_gets_its_answer(database: Database) {
    let registry = fixture(database).await;
    let named = |name: &str| DeviceSpec { name: Some(id(name)), ..new_token() };
    let mut specs: Vec<_> = (0..600).map(|i| named(&format!("d{i:03}"))).collect();
    specs[1].name = None;
    specs[300].credentials = Some(vec![Credential::Token(Some(Secret::new("short")))]);
    specs[599] = DeviceSpec { enabled: Some(false), ..named("d000") };
    let results = registry.put_devices(&app("a"), specs).await.unwrap();
    assert_eq!(results.len(), 600);
    for (i, result) in results.iter().enumerate() {
        match (i, result) {
            (1, result) => assert_eq!(*result, Err(InvalidSpec::NoName.into())),
            (300, result) => assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Invalid),
            (599, Ok(put)) => assert_eq!((put.put, put.device.enabled), (Put::Changed, false)),
            (i, Ok(put)) => {
                assert_eq!((put.put, put.device.name.as_str()), (Put::Created, &*format!("d{i:03}")));
                assert_eq!(put.tokens.len(), 1);
            }
            (i, Err(error)) => panic!("{i}: {error}"),
        }
    }
    let token = results[42].as_ref().unwrap().tokens[0].expose();
    assert_eq!(registry.authenticate(&login("a/d042", token)).await, Ok(()));
    assert_eq!(registry.authenticate(&login("a/d043", token)).await, Err(AuthError::Denied));

    let page = |after: Option<&'static str>| {
        let (registry, after) = (registry.registry.clone(), after.map(id));
        async move {
            let page = registry.devices(&app("a"), after.as_ref(), 250).await.unwrap();
            page.into_iter().map(|device| device.name.to_string()).collect::<Vec<_>>()
        }
    };
    let (first, last) = (page(None).await, page(Some("d500")).await);
    assert_eq!((first.len(), &*first[0], &*first[1], &*first[249]), (250, "d000", "d002", "d250"));
    assert_eq!((last.len(), &*last[0], &*last[97]), (98, "d501", "d598"));
    let nowhere = registry.put_devices(&app("b"), vec![]).await;
    assert_eq!(nowhere, Err(RegistryError::NoApplication(app("b"))));
    assert_eq!(registry.devices(&app("b"), None, 1).await, Err(RegistryError::NoApplication(app("b"))));
}

on_each_store!(that_a_device_exists_is_remembered_until_it_goes);
async fn that_a_device_exists_is_remembered_until_it_goes(database: Database) {
    let registry = fixture(database).await;
    assert_eq!(registry.device_exists(&key("a/d")).await, Ok(false));
    registry.put_device(&key("a/d"), DeviceSpec::default()).await.unwrap();
    assert_eq!(registry.device_exists(&key("a/d")).await, Ok(true));
    assert!(registry.shared.cache.is_device(&key("a/d")));
    registry.delete_device(&key("a/d")).await.unwrap();
    assert_eq!(registry.device_exists(&key("a/d")).await, Ok(false));
}
