//! `completions` and `man`: what shells and man(1) know of the program, made from its arguments.

use crate::error::CliError;
use crate::outfile::{ForceArg, OutFile};
use crate::{Cli, exit::Kind};
use clap::builder::Resettable;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::PathBuf;

/// Print completions for a shell
///
/// For bash: hedgerow completions bash > ~/.local/share/bash-completion/completions/hedgerow
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
    #[command(flatten)]
    to: ToArgs,
}

/// Print the manual page of the program or of one of its commands, for man(1)
///
/// hedgerow man | man -l -
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// A command; the program itself if not given
    command: Option<String>,
    #[command(flatten)]
    to: ToArgs,
}

/// Where it goes.
#[derive(Debug, Args)]
struct ToArgs {
    /// File to write, - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArg,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut program = Cli::command();
    let name = program.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut text);
    OutFile::write(&args.to.output, args.to.force, &text)
}

pub(super) fn man(args: &ManArgs) -> Result<(), CliError> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => {
            let command = program.find_subcommand(name).cloned().ok_or_else(|| {
                CliError::Arguments(format!("there is no command {name}; see `hedgerow help`"))
            })?;
            // The page's name, as `git-log` has it.
            command.display_name(format!("hedgerow-{name}"))
        }
    };
    // A section of its own says what a paragraph after the options would.
    let command = command.after_long_help(Resettable::Reset).after_help(Resettable::Reset);
    let page = Man::new(command).source(concat!("hedgerow ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text).map_err(CliError::Output)?;
    text.extend(exit_status().as_bytes());
    OutFile::write(&args.to.output, args.to.force, &text)
}

/// The exit codes, as a section of a manual page.
fn exit_status() -> String {
    let row = |code: u8, meaning: &str| format!(".TP\n\\fB{code}\\fR\n{meaning}\n");
    let failures = Kind::ALL.iter().map(|kind| row(kind.code(), kind.meaning()));
    let rows: String = std::iter::once(row(0, "done")).chain(failures).collect();
    format!(".SH \"EXIT STATUS\"\n{rows}")
}
