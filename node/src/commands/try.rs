//! `node try`: puts one change of a person's or an agent's own through the same verdict as every experiment.
//!
//! The running node makes the experiment; where none runs, a session of its own does.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context, bail};

use super::common::{open_existing, print, runtime};
use crate::{
    base::clock::unix_now,
    cli::{args::TryArgs, settings::Settings},
    control::{self, ControlError, Reply, Request},
    session::{self, ending::PersonsChange},
    ui::view::{View, json, lists, plain::Plain},
};

/// Longest patch that is read from standard input, bytes. A patch that changes every knob takes below 4 KB.
const MAX_PATCH_BYTES: u64 = 16 * 1024;

/// Hands the change to the running node, or makes the experiment itself where none runs. Tells on standard
/// error what goes on, and prints the verdict.
pub fn run(home: &Path, args: &TryArgs) -> anyhow::Result<()> {
    let patch = if args.patch == "-" { read_patch(io::stdin())? } else { args.patch.clone() };
    let because = args.because.clone();
    let request = Request::Try { patch: patch.clone(), because: because.clone() };
    let mut narration = Plain::new(io::stderr());
    let asked = control::ask(home, &request, &mut |reply| {
        if let Reply::Event { event } = reply {
            // An error is no reason to stop: the verdict comes even when nobody reads the narration.
            let _ = narration.happened(unix_now(), &event);
        }
    });
    let reply = match asked {
        Err(ControlError::NotRunning) => {
            // Checked first, because opening a session would make a home where there is none.
            drop(open_existing(home)?);
            let view = View::beside_result(args.output.json);
            let change = PersonsChange { patch, because };
            let settings = Settings::for_try(home)?;
            match runtime()?.block_on(session::try_once(&settings, home, view, change))? {
                Reply::Refused { reason, fix } => Err(ControlError::Refused { reason, fix }),
                reply => Ok(reply),
            }
        }
        asked => asked,
    };
    let reply = reply.context("cannot try this")?;
    io::stderr().flush()?;
    match reply {
        Reply::Experiment { experiment } if args.output.json => {
            Ok(json::write_line(&mut io::stdout(), &experiment)?)
        }
        Reply::Experiment { experiment } => print(&lists::show(&experiment)),
        other => bail!("the node answered with something else: {other:?}"),
    }
}

fn read_patch(input: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    input.take(MAX_PATCH_BYTES + 1).read_to_string(&mut text).context("cannot read the patch")?;
    if text.len() as u64 > MAX_PATCH_BYTES {
        bail!("the patch on standard input is longer than {MAX_PATCH_BYTES} bytes");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_from_standard_input_has_a_limit() {
        assert_eq!(read_patch(&b"depth 3\n"[..]).expect("short"), "depth 3\n");
        let long = vec![b'x'; 20_000];
        assert!(read_patch(&long[..]).is_err());
        assert!(read_patch(&b"\xff"[..]).is_err());
    }
}
