//! `fieldlog completions`.

use std::io::Write;

use clap::{CommandFactory, ValueEnum};
use clap_complete::{generate, shells};

use super::CommandLine;
use crate::words::say;

/// A shell that gateways have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// fish.
    Fish,
    /// Z shell.
    Zsh,
}

/// Prints the script for a shell.
pub(super) fn print(shell: Shell) {
    let mut script = Vec::new();
    write(shell, &mut script);
    say(&String::from_utf8_lossy(&script));
}

/// Writes the script for a shell.
pub fn write(shell: Shell, to: &mut dyn Write) {
    let mut command = CommandLine::command();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "fieldlog", &mut &mut *to),
        Shell::Fish => generate(shells::Fish, &mut command, "fieldlog", &mut &mut *to),
        Shell::Zsh => generate(shells::Zsh, &mut command, "fieldlog", &mut &mut *to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_knows_the_subcommands_and_their_values() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let mut script = Vec::new();
            write(shell, &mut script);
            let script = String::from_utf8(script).unwrap();
            for part in ["check-config", "quarantine", "requeue", "--availability", "offline"] {
                let part = if shell == Shell::Fish { part.trim_start_matches('-') } else { part };
                assert!(script.contains(part), "{shell:?}: {part}");
            }
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        CommandLine::command().debug_assert();
    }
}
