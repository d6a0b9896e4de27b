//! Whose state `drogue status` shows.

use std::process::{Command, Output};

/// Asks with a data directory that no server was started with.
fn status(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_drogue"));
    for variable in ["DROGUE_API", "DROGUE_TOKEN", "DROGUE_CA_CERT", "DROGUE_DATA_DIR"] {
        command.env_remove(variable);
    }
    command.args(["status", "--data-dir"]).arg(directory.path()).args(arguments);
    command.output().expect("the binary runs")
}

#[test]
fn a_token_is_enough_to_ask_the_default_interface() {
    let output = status(&["--token", "some"]);
    // Whether anybody is there is not known; that it was asked is.
    let (said, shown) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(shown.contains("http://127.0.0.1:8081"), "{said}{shown}");
}

#[test]
fn without_a_token_no_server_is_guessed() {
    let output = status(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no server was started with the data directory"), "{said}");
}
