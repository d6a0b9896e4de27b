//! The command line: which words there are, and what each starts.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use common::startup;

use crate::client::{apps::Apps, commands::Commands, devices::Devices, events::Events, tokens::Tokens};
use crate::controller::{self, Controller};
use crate::data_dir::DataDir;
use crate::output;
use crate::status::Status;
use crate::up::{self, Up};

/// An IoT cloud on one machine: telemetry in, commands out.
///
/// Without a command it starts the whole cloud, as `drogue up` does.
#[derive(Debug, Parser)]
#[command(name = "drogue", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    #[command(flatten)]
    up: Up,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the whole cloud in this process
    Up(Box<Up>),
    /// Show what of the server is up, and how to send a first command
    Status(Status),
    /// Create, list, show and delete applications
    App(Apps),
    /// Create, import, list, show, change and delete devices
    Device(Devices),
    /// Create, list and revoke tokens of applications
    Token(Tokens),
    /// Send commands to devices
    Command(Commands),
    /// Follow what devices send
    Events(Events),
    /// Keep the registry in step with the Applications and Devices of a Kubernetes cluster
    Controller(Box<Controller>),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where a server keeps everything.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct DataDirOption {
    /// The directory in which the server keeps everything.
    #[arg(long, env = "DROGUE_DATA_DIR", value_name = "DIR", default_value = "./drogue-data")]
    data_dir: PathBuf,
}

impl DataDirOption {
    /// Names the directory.
    ///
    /// # Errors
    /// See [`DataDir::at`].
    pub fn open(&self) -> anyhow::Result<DataDir> {
        DataDir::at(&self.data_dir)
    }
}

/// Runs the command line of this process and returns its exit code.
pub fn run() -> ExitCode {
    let Cli { command, up } = startup::parse();
    match command {
        None => up::main(up),
        Some(Verb::Up(up)) => up::main(*up),
        Some(Verb::Status(status)) => ask(status.run()),
        Some(Verb::App(apps)) => ask(apps.run()),
        Some(Verb::Device(devices)) => ask(devices.run()),
        Some(Verb::Token(tokens)) => ask(tokens.run()),
        Some(Verb::Command(commands)) => ask(commands.run()),
        Some(Verb::Events(events)) => ask(events.run()),
        Some(Verb::Controller(controller)) => controller::main(*controller),
        Some(Verb::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "drogue", &mut script);
            ask(async move { Ok(output::line(String::from_utf8_lossy(&script).trim_end())?) })
        }
    }
}

/// Runs a command that asks the server. It ends at once when it is interrupted.
fn ask(command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start").and_then(|runtime| runtime.block_on(command));
    match result {
        Err(error) if output::is_unread(&error) => ExitCode::SUCCESS,
        result => startup::report(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_up() {
        let cli = Cli::try_parse_from(["drogue", "--http-listen", "off"]).unwrap();
        assert!(cli.command.is_none());
        assert!(matches!(Cli::try_parse_from(["drogue", "up"]).unwrap().command, Some(Verb::Up(_))));
        assert!(Cli::try_parse_from(["drogue", "--http-listen", "off", "status"]).is_err());
        assert!(Cli::try_parse_from(["drogue", "upp"]).is_err());
    }

    #[test]
    fn every_option_of_up_has_an_environment_variable_of_its_name() {
        let command = Cli::command();
        let up = command.find_subcommand("up").unwrap();
        for option in
            up.get_arguments().filter(|option| !["help", "version"].contains(&option.get_id().as_str()))
        {
            let long = option.get_long().unwrap();
            let expected = format!("DROGUE_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "--{long}");
            assert!(option.get_help().is_some(), "--{long} has no help");
        }
    }
}
