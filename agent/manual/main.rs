//! Writes the man pages and the completions for shells, for packages: `fieldlog-manual DIR` fills DIR/man and
//! DIR/completions, which `fieldlog man` and `fieldlog completions` print one by one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use fieldlog::command_line::CommandLine;
use fieldlog::command_line::completions::{Shell, write};

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: fieldlog-manual DIR");
        return ExitCode::from(64);
    };
    match make(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write into {}: {error}", dir.display());
            ExitCode::from(74)
        }
    }
}

fn make(dir: &Path) -> io::Result<()> {
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(CommandLine::command(), &man)?;
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    // The names under which each shell looks for them.
    for (shell, name) in
        [(Shell::Bash, "fieldlog"), (Shell::Fish, "fieldlog.fish"), (Shell::Zsh, "_fieldlog")]
    {
        let mut script = Vec::new();
        write(shell, &mut script);
        fs::write(completions.join(name), script)?;
    }
    Ok(())
}
