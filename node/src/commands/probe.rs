//! `node probe`: measures this machine's training speed, and says which class of budget it gets.

use std::{fmt::Write, path::Path};

use super::common::{print, runtime};
use crate::{
    base::words::count,
    cli::{args::ProbeArgs, settings::Settings},
    objectives::train::probe::Probe,
    session,
    ui::view::{View, json::write_line},
};

/// Runs `node probe`.
pub fn run(home: &Path, args: &ProbeArgs) -> anyhow::Result<()> {
    let settings = Settings::for_probe(args)?;
    let probe = runtime()?.block_on(session::probe(
        &settings,
        home,
        View::beside_result(args.output.json),
        args.again,
    ))?;
    if args.output.json {
        return Ok(write_line(&mut std::io::stdout(), &probe)?);
    }
    print(&table(&probe))
}

/// Formats a probe for people.
fn table(probe: &Probe) -> String {
    let (budget, seconds) = probe.budget();
    let mut out = format!("slots      {} × {}\n", probe.slots, probe.slot);
    for shape in &probe.shapes {
        let (tokens, flops) = (count(shape.tokens_per_second), count(shape.flops_per_second));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<10} {tokens:>8} tokens/s  {flops:>8}FLOP/s", shape.name);
    }
    let _ = writeln!(out, "budget     {budget}: {seconds:.0} s of training a run on this machine");
    out
}
