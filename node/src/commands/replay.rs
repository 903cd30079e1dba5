//! `node experiments replay`: does one run again at its own seed and token count, and compares the two.

use std::{io, path::Path};

use autoswarm_protocol::{Experiment, Outcome, RunReport};
use serde::Serialize;

use super::common::{print, runtime};
use crate::{
    base::{hint::hinted, words::signed},
    cli::{
        args::{DeviceRequest, ReplayArgs},
        settings::{SessionSpec, Settings},
    },
    session,
    ui::view::{View, json::write_line},
};

/// The result of a replay, as `--json` prints it. Both values are bits per byte on validation.
#[derive(Debug, Serialize)]
struct Replay {
    number: u32,
    seed: u64,
    tokens: u64,
    recorded: f64,
    replayed: f64,
    same_bits: bool,
}

/// Runs `node experiments replay`.
pub fn run(home: &Path, args: &ReplayArgs) -> anyhow::Result<()> {
    let choice = SessionSpec { swarm_config: args.config.clone(), data: args.data.clone(), budget: None };
    let settings = Settings::for_text(choice.or_last(home), &DeviceRequest::All)?;
    let args = &args.show;
    let view = View::beside_result(args.output.json);
    let (experiment, recorded, outcome) =
        runtime()?.block_on(session::replay(&settings, home, view, &args.id))?;
    let report = match &outcome {
        Outcome::Finished(report) => report,
        Outcome::Pruned(_) => anyhow::bail!("the trainer stopped a run early that was not pruned"),
        Outcome::Crashed(crash) => {
            return Err(hinted(
                format!("the replay gave no number: {} ({})", crash.class, crash.message),
                "`node experiments show` has what the first run came to",
            ));
        }
    };
    let replay = compare(&experiment, &recorded, report);
    if args.output.json {
        return Ok(write_line(&mut io::stdout(), &replay)?);
    }
    print(&text(&replay))
}

fn compare(experiment: &Experiment, recorded: &RunReport, replayed: &RunReport) -> Replay {
    Replay {
        number: experiment.number,
        seed: recorded.seed,
        tokens: recorded.tokens,
        recorded: recorded.validation.get(),
        replayed: replayed.validation.get(),
        same_bits: recorded.validation == replayed.validation,
    }
}

fn text(replay: &Replay) -> String {
    let verdict = if replay.same_bits {
        "the same bits".to_owned()
    } else {
        let difference = signed(replay.replayed - replay.recorded);
        format!(
            "{difference}: bits repeat only with the same processor, threads and libtorch; else it is one \
             more sample"
        )
    };
    format!(
        "experiment #{}, seed {}, {} tokens\nrecorded  {:.6} bpb\nreplayed  {:.6} bpb  {verdict}\n",
        replay.number, replay.seed, replay.tokens, replay.recorded, replay.replayed
    )
}
