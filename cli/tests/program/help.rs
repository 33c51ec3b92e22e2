//! What the program says of itself: help, docs/cli.md, completions, manual pages.

use crate::common::run;
use hedgerow_testkit::Limit;
use std::fs;
use std::process::{Command, Stdio};

/// All commands that the program lists, but `help`.
fn commands() -> Vec<String> {
    let help = run(["--help"]).ok();
    let list = help.split("\nCommands:\n").nth(1).expect("a list");
    let list = list.split("\n\n").next().expect("its end");
    // A name stands after two spaces, what follows on another line after more.
    let names = list.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    let names = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

/// The exit codes of the help, and what they mean.
fn codes() -> Vec<(u8, String)> {
    let help = run(["--help"]).ok();
    let table = help.split("\nExit codes:\n").nth(1).expect("a table");
    let row = |row: &str| {
        let (code, meaning) = row.trim().split_once("  ").expect("a row");
        (code.parse().expect("a code"), meaning.to_owned())
    };
    table.trim_end().lines().map(row).collect()
}

#[test]
fn the_documentation_names_every_command_and_every_exit_code() {
    let _limit = Limit::new();
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md"));
    let docs = docs.expect("docs/cli.md");
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for command in &commands {
        assert!(docs.contains(&format!("\n### `{command}")), "docs/cli.md lacks {command}");
    }
    let headings = docs.lines().filter_map(|line| line.strip_prefix("### `"));
    let named: Vec<&str> = headings.filter_map(|line| line.split([' ', '`']).next()).collect();
    for name in &named {
        assert!(commands.iter().any(|command| command == name), "there is no command {name}");
    }
    let codes = codes();
    assert!(codes.iter().map(|(code, _)| *code).eq((0..=10).chain([130])), "{codes:?}");
    for (code, meaning) in codes {
        let row = docs.lines().find(|line| line.starts_with(&format!("| {code} |")));
        let row = row.unwrap_or_else(|| panic!("docs/cli.md lacks exit code {code}"));
        assert!(row.contains(&meaning), "{row} does not say: {meaning}");
    }
}

#[test]
fn every_command_has_help_and_a_manual_page() {
    let _limit = Limit::new();
    let (page, codes) = (run(["man"]).ok(), codes());
    assert!(page.contains("\n.TH hedgerow 1 "), "{page}");
    let commands = commands();
    for command in &commands {
        run([command.as_str(), "--help"]).ok();
        assert!(page.contains(&format!("hedgerow\\-{command}(1)")), "{command}: {page}");
        let own = run(["man", command]).ok();
        assert!(own.contains(&format!("\n.TH hedgerow-{command} 1 ")), "{own}");
        assert!(own.contains(&format!("\\fBhedgerow {command}\\fR")), "{own}");
        for (code, meaning) in &codes {
            assert!(own.contains(&format!("\\fB{code}\\fR\n{meaning}\n")), "{own}");
        }
    }
    let error = run(["man", "frobnicate"]).fails(2);
    assert!(error.contains("there is no command frobnicate"), "{error}");
}

#[test]
fn shells_know_every_command() {
    let _limit = Limit::new();
    let commands = commands();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(["completions", shell]).ok();
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell} does not know {command}");
        }
    }
    let script = run(["completions", "bash"]).ok();
    let checked = Command::new("bash").args(["-n", "-c", &script]).stdin(Stdio::null()).output();
    match checked {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => {
            eprintln!("SKIPPED: the completions are not parsed, there is no bash: {error}")
        }
    }
    run(["completions", "abacus"]).fails(2);
}
