//! `fieldlog man`.

use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::CommandLine;
use crate::cli::end;
use crate::client::Failure;
use crate::words::say;

/// Prints the man page of a subcommand, which is named by its words; without any, that of fieldlog.
pub(super) fn print(words: &[String]) -> ExitCode {
    end(page(words).map(|page| {
        say(&page);
        0
    }))
}

fn page(words: &[String]) -> Result<String, Failure> {
    let mut all = CommandLine::command().disable_help_subcommand(true);
    all.build();
    let mut command = &all;
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| unknown(command, word))?;
    }
    let mut page = Vec::new();
    let written = Man::new(command.clone()).render(&mut page);
    written.map_err(|error| Failure::internal(format!("the page cannot be written: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn unknown(command: &Command, word: &str) -> Failure {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    Failure::usage(match known.is_empty() {
        true => format!("{name} has no commands of its own, so there is no page of `{name} {word}`"),
        false => format!("{name} has no command {word:?}; it has {}", known.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<String, Failure> {
        page(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_page_is_of_fieldlog_or_of_a_command() {
        for (words, name, part) in [
            (&[][..], "fieldlog", "fieldlog\\-status(1)"),
            (&["status"], "fieldlog\\-status", "\\-\\-json"),
            (&["quarantine", "requeue"], "fieldlog\\-quarantine\\-requeue", "\\-\\-topic"),
        ] {
            let page = of(words).unwrap();
            let title = format!(".SH NAME\n{name} \\- ");
            assert!(page.contains(&title) && page.contains(part), "{words:?}: {page}");
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_said() {
        let failure = of(&["stats"]).unwrap_err();
        assert_eq!(failure.code, 64);
        assert!(failure.words.starts_with("fieldlog has no command \"stats\"; it has run, "), "{failure:?}");
        let failure = of(&["quarantine", "list", "all"]).unwrap_err();
        assert_eq!(
            failure.words,
            "fieldlog quarantine list has no commands of its own, so there is no page of `fieldlog quarantine list all`"
        );
    }
}
