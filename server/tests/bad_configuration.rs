//! What is said about a bad configuration: that alone, before anything is made.

use std::process::Command;

#[test]
fn nothing_to_listen_on_is_a_bad_configuration() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let data = directory.path().join("data");
    let listeners = ["http", "https", "mqtt", "mqtts", "api", "api-tls"];
    let output = Command::new(env!("CARGO_BIN_EXE_drogue"))
        .args(listeners.map(|name| format!("--{name}-listen=off")))
        .arg("--admin-listen=127.0.0.1:0")
        .arg("--data-dir")
        .arg(&data)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.starts_with("error: there is nothing to listen on") && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty() && !data.exists(), "{output:?}");
}
