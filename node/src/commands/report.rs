//! `node report`: writes a page and a chart of what was found, and reads the locked split once.

use std::{io, path::Path};

use anyhow::Context;
use serde::Serialize;

use super::common::{open_existing, print, runtime};
use crate::{
    base::{files, hint::hinted},
    cli::{
        args::ReportArgs,
        settings::{SessionSpec, Settings},
    },
    home::journal::Journal,
    session,
    ui::{
        report::{Reading, Readings, Story, chart, markdown},
        view::{View, json::write_line},
    },
};

/// Names of the files that the verb writes into the home.
const PAGE: &str = "report.md";
const CHART: &str = "report.svg";

/// What `report --json` prints.
#[derive(Debug, Serialize)]
struct ReportSummary<'a> {
    arena: String,
    experiments: usize,
    keeps: usize,
    gain: Option<autoswarm_protocol::Estimate>,
    locked: Option<&'a Reading>,
    page: String,
}

/// Runs `node report`.
pub fn run(home: &Path, args: &ReportArgs) -> anyhow::Result<()> {
    let (story, reading, readings) = if args.no_locked { known(home)? } else { read(home, args)? };
    let picture = chart::svg(&story).context("the baseline has no value to draw")?;
    let page = markdown(&story, reading.as_ref(), readings, CHART);
    for (name, text) in [(PAGE, &page), (CHART, &picture)] {
        let file = home.join(name);
        files::replace(&file, text.as_bytes())
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    if args.output.json {
        let summary = ReportSummary {
            arena: story.arena.to_string(),
            // The first one of a story is its baseline.
            experiments: story.experiments.len() - 1,
            keeps: story.keeps().count(),
            gain: story.gain(),
            locked: reading.as_ref(),
            page: home.join(PAGE).display().to_string(),
        };
        return Ok(write_line(&mut io::stdout(), &summary)?);
    }
    print(&page)?;
    print(&format!("\nwritten to {} and {}\n", home.join(PAGE).display(), home.join(CHART).display()))?;
    if reading.is_none() && readings > 0 && !args.no_locked {
        print(
            "the locked split was read for an earlier choice already: `--again` reads it for this one too\n",
        )?;
    }
    Ok(())
}

/// Opens a session that reads the locked split, unless it was read before.
fn read(home: &Path, args: &ReportArgs) -> anyhow::Result<(Story, Option<Reading>, usize)> {
    // Checked first, because opening a session would make a home where there is none.
    drop(open_existing(home)?);
    let text = SessionSpec { swarm_config: args.swarm_config.clone(), data: args.data.clone(), budget: None };
    let settings = Settings::for_text(text.or_last(home), &args.devices)?;
    let view = View::beside_result(args.output.json);
    runtime()?.block_on(session::read_locked(&settings, home, view, args.again))
}

/// Returns what the home knows without training: its story, and an earlier reading if there is one.
fn known(home: &Path) -> anyhow::Result<(Story, Option<Reading>, usize)> {
    let _held = open_existing(home)?;
    let journal = Journal::open(home)?.experiments.into_iter().map(|found| found.experiment).collect();
    let story = Story::of(journal)
        .ok_or_else(|| hinted("this home has no baseline yet", "`node solo` measures one"))?;
    let readings = Readings::load(&home.join(session::LOCKED))?;
    let (reading, count) = (readings.find(&story).copied(), readings.count(story.arena));
    Ok((story, reading, count))
}
