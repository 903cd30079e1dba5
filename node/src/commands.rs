//! The verbs of the command line, one file each: a verb gets what was typed, does its work and prints.
//!
//! Errors come back here and are printed once.

pub mod check;
mod common;
pub mod discoveries;
pub mod doctor;
pub mod experiments;
pub mod findings;
pub mod join;
pub mod pause;
pub mod probe;
pub mod replay;
pub mod report;
pub mod solo;
pub mod status;
pub mod sync;
pub mod r#try;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

use crate::{
    base::{hint::hint_of, text},
    cli::{
        args::{Cli, Command},
        settings,
    },
    control::ControlError,
    home::{Home, git_config},
};

/// Does what was asked. Exit codes: 0 done, 1 failure. Where the command line makes no sense, clap exits with
/// 2 itself.
pub fn main(cli: Cli) -> ExitCode {
    start_logging(cli.verbose);
    git_config::ignore_the_users();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe because it has seen enough, as in `node experiments | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error, &mut io::stderr());
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let home = match cli.home {
        Some(home) => home,
        None => Home::default_path(|name| env::var_os(name))?,
    };
    match cli.command {
        Command::Status(args) => status::run(&home, &args),
        Command::Experiments(args) => experiments::run(&home, args),
        Command::Check(args) => check::run(&args, &settings::BUILT_IN),
        Command::Try(args) => r#try::run(&home, &args),
        Command::Doctor(output) => doctor::run(&home, settings::find_trainer(), output),
        Command::Pause => pause::run(&home, pause::Wish::Pause),
        Command::Resume => pause::run(&home, pause::Wish::Resume),
        Command::Stop => pause::run(&home, pause::Wish::Stop),
        Command::Solo(args) => solo::run(&home, &args),
        Command::Join(args) => join::join(&home, &args),
        Command::Seed(args) => join::seed(&home, &args),
        Command::Discoveries(args) => discoveries::run(&home, args),
        Command::Sync(args) => sync::run(&home, &args),
        Command::Probe(args) => probe::run(&home, &args),
        Command::Report(args) => report::run(&home, &args),
    }
}

/// Prints an error in one line; its hint, if it has one, is a line of its own.
fn print_error(error: &anyhow::Error, out: &mut impl Write) {
    let of_control = error.chain().find_map(|cause| match cause.downcast_ref::<ControlError>()? {
        ControlError::NotRunning => Some("start one with `node solo`"),
        ControlError::Refused { fix, .. } => fix.as_deref(),
        ControlError::Silent => Some("ask again in a moment; its own output says what it does"),
        _ => None,
    });
    let hint = of_control.or_else(|| hint_of(error));
    // A parser's message may point at the place with several lines: line breaks stay, other control codes go.
    let message: Vec<String> =
        format!("{error:#}").lines().map(|line| line.replace(|c: char| c.is_control(), " ")).collect();
    // If standard error is gone too, nobody is left to be told.
    let _ = writeln!(out, "error: {}", message.join("\n"));
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {}", text::one_line(hint, 300));
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// Sends logs to standard error: warnings, and more with each `-v`; `RUST_LOG` overrides both.
///
/// Of kad and gossipsub only errors are logged, because their warnings are no trouble here. They are about a
/// node that is the first of its swarm (kad), records that are told again, and what peers do wrong
/// (gossipsub).
fn start_logging(verbose: u8) {
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "warn,libp2p_kad=error,libp2p_gossipsub=error,autoswarm={level},autoswarm_node={level}"
        ))
    });
    // Only a test sets a subscriber before this.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::base::hint::hinted;

    #[track_caller]
    fn check(error: &anyhow::Error, expected: &str) {
        let mut out = Vec::new();
        print_error(error, &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn an_error_is_one_line_with_its_causes_and_a_hint_is_another() {
        let error = Err::<(), _>(anyhow::anyhow!("no space")).context("cannot write").expect_err("an error");
        check(&error, "error: cannot write: no space\n");
        check(&hinted("no home", "make one"), "error: no home\nhint: make one\n");
        let mut out = Vec::new();
        print_error(&ControlError::Silent.into(), &mut out);
        assert!(String::from_utf8(out).expect("UTF-8").contains("\nhint: ask again in a moment"));
        let error = anyhow::Error::from(ControlError::NotRunning).context("cannot pause");
        check(
            &error,
            "error: cannot pause: no node is running on this home\nhint: start one with `node solo`\n",
        );
    }

    #[test]
    fn control_characters_of_others_do_not_reach_the_terminal() {
        check(&anyhow::anyhow!("a\u{1b}[31mb\nc"), "error: a [31mb\nc\n");
        check(&hinted("x", "y\u{1b}c\nz"), "error: x\nhint: y c z\n");
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
