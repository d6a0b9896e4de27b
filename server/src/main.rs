//! The binary `drogue`.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::cli::run()
}
