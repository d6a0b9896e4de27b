//! The help is the reference: what the documentation names is in it.
//!
//! That this test runs the binary has a second use: Cargo builds `drogue` along with the tests of the workspace, with
//! the same features, and the system tests find it.

use std::process::Command;

fn help_of(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_drogue"))
        .args(arguments)
        .arg("--help")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

#[test]
fn every_documented_option_is_in_the_help_of_up() {
    let help = help_of(&["up"]);
    for name in [
        "data-dir",
        "http-listen",
        "https-listen",
        "mqtt-listen",
        "mqtts-listen",
        "api-listen",
        "api-tls-listen",
        "admin-listen",
        "database-url",
        "tls-cert",
        "tls-key",
        "max-payload",
        "max-ttd",
        "max-device-connections",
        "max-connections",
        "command-queue",
        "command-lifetime",
        "shutdown-grace",
    ] {
        assert!(help.contains(&format!("--{name} <")), "--{name}");
        let environment = format!("DROGUE_{}", name.replace('-', "_").to_uppercase());
        assert!(help.contains(&environment), "{environment}");
    }
}

#[test]
fn every_documented_command_is_in_the_help() {
    let help = help_of(&[]);
    for command in
        ["up", "status", "app", "device", "token", "command", "events", "controller", "completions"]
    {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
    }
    let devices = help_of(&["device"]);
    for verb in ["create", "import", "list", "show", "set-password", "delete"] {
        assert!(devices.lines().any(|line| line.trim_start().starts_with(verb)), "device {verb}: {devices}");
    }
}

#[test]
fn every_command_that_asks_the_server_finds_it_in_the_same_way() {
    for command in ["status", "app", "device", "token", "command", "events", "controller"] {
        let help = help_of(&[command]);
        for name in ["--api <", "DROGUE_API", "--token <", "DROGUE_TOKEN", "--ca-cert <", "--data-dir <"] {
            assert!(help.contains(name), "{command}: {name}: {help}");
        }
    }
}
