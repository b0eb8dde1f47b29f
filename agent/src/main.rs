//! The `fieldlog` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldlog::command_line::main()
}
