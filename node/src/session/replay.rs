//! Runs again what the journal holds: a replay of one run, and the reading of the locked split.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use autoswarm_protocol::{EffectiveConfig, Experiment, Outcome, RunReport, RunRole, Split};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Session, use_slots};
use crate::{
    base::clock::unix_now,
    cli::settings::Settings,
    events::NodeEvent,
    machine::slots::Placement,
    objectives::train::plan::RunPlan,
    research::RunOrder,
    runs::supervisor::{self, Control, Limits, RunSpec},
    ui::{
        report::{READING_PAIRS, Reading, Readings, Story},
        view::View,
    },
};

/// Name of the file in a home that remembers the readings of the locked split.
pub const LOCKED: &str = "locked.json";

/// How long such a run may train: the recorded one may come from a faster day.
const PATIENCE: Duration = Duration::from_hours(1);

/// Runs the first finished run of an experiment's child again, with its own seed and token count. Returns the
/// experiment, the recorded report and the new outcome.
pub async fn replay(
    settings: &Settings,
    home: &Path,
    view: View,
    id: &str,
) -> anyhow::Result<(Experiment, RunReport, Outcome)> {
    let mut session = Session::open(settings, home, view)?;
    let experiment = session.memory.find(id)?.map_err(anyhow::Error::msg)?;
    let wanted = experiment.config.hash();
    let mut own = experiment.runs.iter().filter(|run| run.requested == wanted);
    let report = own.find_map(|run| run.outcome.report()).cloned();
    let report =
        report.with_context(|| format!("no run of experiment {} gave a number", experiment.number))?;
    let plan = session.prepare().await?;
    check_text(&plan, &report)?;
    let mut spec = recorded_run(&plan, 0, &experiment.config, report.seed, report.tokens);
    spec.placement.threads = report.threads;
    let outcome = run(spec).await;
    session.view.finish();
    Ok((experiment, report, outcome?))
}

/// Measures the chosen config of the home's newest arena against its baseline, on fresh pairs and all
/// held-out splits. Saves the reading, so that each choice is read only once.
///
/// Returns the story, its reading, and how often the locked split was read in this arena. There is no reading
/// where nothing was kept, or where the split was read for another choice and `again` is false.
pub async fn read_locked(
    settings: &Settings,
    home: &Path,
    view: View,
    again: bool,
) -> anyhow::Result<(Story, Option<Reading>, usize)> {
    let mut session = Session::open(settings, home, view)?;
    let journal = session.recorded.iter().map(|recorded| recorded.experiment.clone()).collect();
    let story = Story::of(journal).context("this home has no baseline yet: `node solo` measures one")?;
    let file = home.join(LOCKED);
    let mut readings = Readings::load(&file)?;
    let count = readings.count(story.arena);
    let known = readings.find(&story).copied();
    let Some(chosen) = story.chosen() else { return Ok((story, None, count)) };
    if known.is_some() || (count > 0 && !again) {
        return Ok((story, known, count));
    }
    let chosen = chosen.config.clone();
    let mut plan = session.prepare().await?;
    if let Some(layout) = layout_of(&story, &settings.layouts) {
        use_slots(&mut plan, layout);
    }
    let pairs = session.read_pairs(&plan, &story, &chosen).await;
    session.view.finish();
    let reading = Reading::of(&story, chosen.hash(), &pairs?, unix_now())
        .context("the trainer did not measure every split")?;
    readings.add(&file, reading)?;
    Ok((story, Some(reading), count + 1))
}

impl Session<'_> {
    /// Runs the pairs of a reading: side by side where there are two slots, else in the order A B B A.
    async fn read_pairs(
        &mut self,
        plan: &RunPlan,
        story: &Story,
        chosen: &EffectiveConfig,
    ) -> anyhow::Result<Vec<[RunReport; 2]>> {
        let baseline = &story.baseline().config;
        let tokens =
            |config: &EffectiveConfig| story.tokens(config.hash()).context("a config never finished");
        let (chosen_tokens, baseline_tokens) = (tokens(chosen)?, tokens(baseline)?);
        let first = story.baseline().runs.iter().find_map(|run| run.outcome.report());
        check_text(plan, first.context("no run of the baseline gave a number")?)?;
        let side_by_side = plan.slots.len() > 1;
        let mut pairs = Vec::new();
        for pair in 0..READING_PAIRS {
            let (done, total) = (2 * u64::from(pair), 2 * u64::from(READING_PAIRS));
            self.tell(&NodeEvent::Working { stage: "locked".to_owned(), done, total })?;
            let seed = story.reading_seed(chosen.hash(), pair);
            let spec = |slot: usize, config, tokens| RunSpec {
                splits: vec![Split::Validation, Split::Audit, Split::Locked],
                ..recorded_run(plan, slot, config, seed, tokens)
            };
            let ours = spec(0, chosen, chosen_tokens);
            let theirs = spec(usize::from(side_by_side), baseline, baseline_tokens);
            let (ours, theirs) = if side_by_side {
                let mut both = JoinSet::new();
                both.spawn(async move { (true, run(ours).await) });
                both.spawn(async move { (false, run(theirs).await) });
                let mut ended = both.join_all().await;
                // They end in any order; the chosen config's run goes first.
                ended.sort_by_key(|(ours, _)| !ours);
                let mut outcomes = ended.into_iter().map(|(_, outcome)| outcome);
                match (outcomes.next(), outcomes.next()) {
                    (Some(ours), Some(theirs)) => (ours?, theirs?),
                    _ => bail!("a pair lost a half"),
                }
            } else if pair % 2 == 0 {
                (run(ours).await?, run(theirs).await?)
            } else {
                let theirs = run(theirs).await?;
                (run(ours).await?, theirs)
            };
            pairs.push([finished(ours)?, finished(theirs)?]);
        }
        Ok(pairs)
    }
}

/// Finds the layout whose slots have as many threads as the story's runs had. Where a core is not their own,
/// more threads than those share it badly.
fn layout_of<'a>(story: &Story, layouts: &'a [Vec<Placement>]) -> Option<&'a Vec<Placement>> {
    let report = story.baseline().runs.iter().find_map(|run| run.outcome.report())?;
    layouts.iter().find(|layout| layout.first().is_some_and(|slot| slot.threads == report.threads))
}

/// Makes the trainer's call for one run with a recorded seed and token count.
fn recorded_run(plan: &RunPlan, slot: usize, config: &EffectiveConfig, seed: u64, tokens: u64) -> RunSpec {
    let order = RunOrder {
        id: 0,
        number: 0,
        slot,
        role: RunRole::Screen,
        pair: None,
        config: config.clone(),
        seed,
        tokens: Some(tokens),
        patch: autoswarm_protocol::Patch::default(),
        foreign_tokens: false,
        prune: None,
    };
    RunSpec { limits: Limits::for_budget(PATIENCE, plan.memory_bytes), ..plan.spec(&order) }
}

/// Runs a spec outside of the event loop: its progress is dropped, and nothing pauses or cancels it.
async fn run(spec: RunSpec) -> anyhow::Result<Outcome> {
    let (sender, _events) = mpsc::channel(1);
    let (_control, watch) = watch::channel(Control::Run);
    supervisor::run(spec, sender, watch).await.outcome().context("the run was cancelled")
}

/// Returns the report of a finished run; anything else is an error, since a pair needs both numbers.
fn finished(outcome: Outcome) -> anyhow::Result<RunReport> {
    match outcome {
        Outcome::Finished(report) => Ok(*report),
        Outcome::Pruned(_) => bail!("the trainer stopped a run early that was not pruned"),
        Outcome::Crashed(crash) => {
            bail!("a run gave no number: {} ({}); nothing was read, try again", crash.class, crash.message)
        }
    }
}

/// Checks that the prepared text is the one that a recorded run was trained on.
fn check_text(plan: &RunPlan, report: &RunReport) -> anyhow::Result<()> {
    if (report.corpus, report.tokenizer) == (plan.corpus, plan.tokenizer) {
        return Ok(());
    }
    bail!(
        "the experiments were made with another text: name the swarm config that they belong to, \
         and `--data` where they had it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::settings::layouts, ui::view::lists::tests::several};

    #[test]
    fn a_reading_trains_on_as_many_threads_as_the_runs_that_it_checks() {
        let journal = |threads: u16| {
            let mut journal = several();
            for run in journal.iter_mut().flat_map(|experiment| &mut experiment.runs) {
                if let Outcome::Finished(report) = &mut run.outcome {
                    report.threads = threads;
                }
            }
            Story::of(journal).expect("a baseline")
        };
        let layouts = layouts(&"cpu".parse().expect("a device request"), 8).expect("they fit");
        for layout in &layouts {
            let threads = layout[0].threads;
            assert_eq!(layout_of(&journal(threads), &layouts), Some(layout), "{threads} threads");
        }
        assert_eq!(layout_of(&journal(99), &layouts), None);
    }
}
