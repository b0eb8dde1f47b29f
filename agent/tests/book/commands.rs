//! The reference of the command line: the help of each command.

use clap::CommandFactory;
use fieldlog::command_line::CommandLine;

const HEAD: &str = "# Command line

<!-- Made by `FIELDLOG_WRITE=1 cargo test -p fieldlog --test book`. -->

What each command says with `--help`. [Look at it](look.md) and [Disasters](disasters.md) say when to use which.
";

pub fn page() -> String {
    let mut text = HEAD.to_owned();
    let all = CommandLine::command();
    section(&mut text, "fieldlog", 2);
    for command in all.get_subcommands() {
        below(&mut text, &format!("fieldlog {}", command.get_name()), command, 2);
    }
    text
}

fn below(text: &mut String, name: &str, command: &clap::Command, level: usize) {
    section(text, name, level);
    for inner in command.get_subcommands() {
        below(text, &format!("{name} {}", inner.get_name()), inner, level + 1);
    }
}

fn section(text: &mut String, name: &str, level: usize) {
    *text += &format!("\n{} {name}\n\n```console\n$ {name} --help\n```\n", "#".repeat(level));
}
