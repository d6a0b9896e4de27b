//! The command line, against a running server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice, Refused};
use tests::secrets::{password, unique};
use tests::server::shared;
use tests::tenant::{Device, Tenant};
use tests::waiting::{LONG, Waiting};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("--json prints JSON")
}

async fn publishes(tenant: &Tenant, device: &Device) -> Result<(), Refused> {
    HttpDevice.publish(tenant.gate(), device, "a", b"x").await
}

#[test]
fn applications_are_created_listed_shown_and_deleted() {
    let (server, app) = (shared(), format!("cli-{}", unique()));
    server.drogue(&["app", "create", &app]);
    assert!(server.drogue(&["app", "list"]).lines().any(|line| line.trim() == app));
    assert_eq!(json(&server.drogue(&["app", "show", &app]))["name"], app.as_str());
    server.drogue(&["app", "delete", &app]);
    assert!(!server.drogue(&["app", "list"]).contains(&app));
    let show = server.command(&["app", "show", &app]).output().unwrap();
    assert_eq!(show.status.code(), Some(1), "{show:?}");
    assert!(String::from_utf8_lossy(&show.stderr).starts_with("error: "));
}

#[tokio::test]
async fn devices_are_created_listed_shown_changed_and_deleted() {
    let server = shared();
    let tenant = server.cloud().tenant().await;
    let device = tenant.stranger().with_secret(password());
    let on_app = |arguments: &[&str]| server.drogue(&[arguments, &["--app", &tenant.app]].concat());
    on_app(&["device", "create", &device.name, "--password", &device.secret]);
    assert_eq!(publishes(&tenant, &device).await, Ok(()));
    assert!(on_app(&["device", "list"]).contains(&device.name));
    let shown = on_app(&["device", "show", &device.name]);
    assert_eq!(json(&shown)["name"], device.name.as_str());
    assert!(!shown.contains(&device.secret) && !shown.contains("$argon2"), "secrets never come out: {shown}");
    let changed = device.with_secret(password());
    on_app(&["device", "set-password", &device.name, "--password", &changed.secret]);
    assert_eq!(publishes(&tenant, &changed).await, Ok(()));
    assert_eq!(publishes(&tenant, &device).await, Err(Refused::Login));
    on_app(&["device", "delete", &device.name]);
    assert_eq!(publishes(&tenant, &changed).await, Err(Refused::Login));
}

#[tokio::test]
async fn a_generated_token_is_printed_alone() {
    let server = shared();
    let tenant = server.cloud().tenant().await;
    let device = tenant.stranger();
    let printed = server.drogue(&["device", "create", &device.name, "--generate", "--app", &tenant.app]);
    let device = device.with_secret(printed.trim());
    assert!(device.secret.starts_with("drogue_") && device.secret.len() == 50, "{printed}");
    assert_eq!(publishes(&tenant, &device).await, Ok(()));
}

#[tokio::test]
async fn devices_are_imported_line_by_line() {
    let server = shared();
    let tenant = server.cloud().tenant().await;
    let devices: Vec<_> = (0..500).map(|_| tenant.stranger()).collect();
    let mut lines: Vec<_> = devices
        .iter()
        .map(|device| {
            format!(r#"{{"name": "{}", "credentials": [{{"token": "{}"}}]}}"#, device.name, device.secret)
        })
        .collect();
    let file = tests::binary::run_directory().join(format!("{}.ndjson", tenant.app));
    fs::write(&file, lines.join("\n")).unwrap();
    let path = file.to_str().unwrap();
    server.drogue(&["device", "import", path, "--app", &tenant.app]);
    for device in [&devices[0], &devices[499]] {
        assert_eq!(MqttDevice::<true>.publish(tenant.gate(), device, "a", b"x").await, Ok(()));
    }
    lines[1] = r#"{"name": "a/b"}"#.to_owned();
    fs::write(&file, lines[..3].join("\n")).unwrap();
    let import = server.command(&["device", "import", path, "--app", &tenant.app]).output().unwrap();
    let said = String::from_utf8_lossy(&import.stderr).into_owned();
    assert!(!import.status.success() && said.contains("line 2"), "{said}");
}

#[tokio::test]
async fn tokens_are_created_listed_and_revoked() {
    let server = shared();
    let tenant = server.cloud().tenant().await;
    let on_app = |arguments: &[&str]| server.drogue(&[arguments, &["--app", &tenant.app]].concat());
    let token = on_app(&["token", "create", "--scope", "registry"]);
    let api = tenant.api.with_token(token.trim());
    let devices = format!("apps/{}/devices", tenant.app);
    api.get(&devices).await.expect_status(200);
    let listed = on_app(&["token", "list"]);
    assert!(!listed.contains(token.trim()), "a token is shown once");
    let of_it =
        listed.lines().find(|line| line.trim_end().ends_with(" registry") && !line.contains("events"));
    let id = of_it.and_then(|line| line.split_whitespace().next()).expect("its id is the first column");
    on_app(&["token", "revoke", id]);
    api.get(&devices).await.expect_problem(401);
}

#[tokio::test]
async fn a_command_is_sent() {
    let server = shared();
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let waiting = Waiting::begin(HttpDevice, &tenant, &device, LONG).await;
    let body = r#"{"set-temp": 40}"#;
    let id = server.drogue(&["command", "send", &device.name, "set-temp", body, "--app", &tenant.app]);
    let command = waiting.end().await.expect("the command arrives");
    assert_eq!(
        (command.name.as_str(), &command.payload[..], &command.id[..]),
        ("set-temp", body.as_bytes(), id.trim())
    );
}

#[tokio::test]
async fn events_are_followed_as_one_cloudevent_a_line() {
    let server = shared();
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    for number in 0..3 {
        HttpDevice.publish(tenant.gate(), &device, &format!("n{number}"), b"x").await.unwrap();
    }
    let mut command = server.command(&["events", "--json", "--from", "earliest", "--app", &tenant.app]);
    let mut events = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(events.stdout.take().unwrap()).lines();
    // On a thread of its own: what never comes must not hang the test's runtime.
    let read = tokio::task::spawn_blocking(move || lines.take(3).map(Result::unwrap).collect::<Vec<_>>());
    let lines = tests::wait::within("three lines", read).await.unwrap();
    events.kill().unwrap();
    events.wait().unwrap();
    assert_eq!(lines.len(), 3, "the command has ended: {lines:?}");
    for (number, line) in lines.iter().enumerate() {
        let event = json(line);
        assert_eq!(event["subject"], format!("n{number}"));
        assert_eq!(event["specversion"], "1.0");
    }
}

#[test]
fn options_that_are_bad_exit_64_and_are_named() {
    for (arguments, named) in [
        (&["up", "--http-listen", "localhost"][..], "--http-listen"),
        (&["up", "--max-payload", "0"], "--max-payload"),
        (&["up", "--no-such-option"], "--no-such-option"),
    ] {
        let output = shared().command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn an_unreachable_server_is_said_to_be_that() {
    let mut command = shared().command(&["app", "list", "--api", "http://127.0.0.1:1"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("127.0.0.1:1"), "{output:?}");
}

#[test]
fn tokens_in_the_data_directory_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    for name in ["admin-token", "default-token", "server.key"] {
        let mode = fs::metadata(shared().data_directory().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(shared().drogue(&["completions", shell]).contains("set-password"), "{shell}");
    }
}
