//! Where a password comes from.

use std::io;

use anyhow::{Context, ensure};
use clap::Args;
use common::auth::Secret;
use console::Term;

/// Where a password comes from.
#[derive(Debug, Args)]
#[group(id = "source")]
pub struct PasswordOptions {
    /// The password. Other users of this machine can see it in the list of processes.
    #[arg(long, value_parser = super::secret)]
    password: Option<Secret>,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

impl PasswordOptions {
    /// Tells whether an option was given.
    pub fn is_given(&self) -> bool {
        self.password.is_some() || self.password_stdin
    }

    /// Returns the password; asks for it on the terminal if no option was given.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn read(&self) -> anyhow::Result<Secret> {
        if let Some(password) = &self.password {
            return Ok(password.clone());
        }
        let password = if self.password_stdin {
            let mut line = String::new();
            io::stdin().read_line(&mut line).context("cannot read the password from standard input")?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        } else {
            let terminal = Term::stderr();
            ensure!(terminal.is_term(), "no terminal to ask on: give the password with --password-stdin");
            terminal.write_str("password: ")?;
            terminal.read_secure_line().context("cannot read the password from the terminal")?
        };
        ensure!(!password.is_empty(), "the password is empty");
        Ok(Secret::new(password))
    }
}
