//! The research state machine: events in, actions out, at most one run in flight per slot.
//!
//! ```text
//!            ┌─ propose ─▶ screen ──▶ fresh pairs ─┬▶ keep: the child is the incumbent
//! baseline ──┤                │            │       └▶ discard
//!            └────────────────┴── crash ◀──┘
//! ```
//!
//! It does no IO, reads no clock and draws no random number of its own. The driver performs the actions and
//! reports what came of them. All that a restart must know is in the journal and in [`Research::pending`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use autoswarm_protocol::{
    Crash, CrashClass, EffectiveConfig, Estimate, Experiment, Hypothesis, Outcome, Patch, Proposer as Author,
    Pruned, Run, RunRole, Verdict,
    experiment::{DiscardReason, confirmation_seed, screening_seed},
    id::{ConfigHash, SpeedHash},
};

use super::{
    active::{Active, Need},
    messages::{Action, Incumbent, Input, Proposal, Propose, Reproduction, Rules, RunOrder},
    pruning::{Early, PruneModel},
    verdict::{Next, NoiseModel, Policy, ScreeningCache},
};
use crate::research::messages::ReproductionTerms;

/// Runs of the baseline, each on its own seed: two give a standard deviation, a third makes it usable.
pub const BASELINE_SEEDS: u32 = 3;

/// Most changes that wait for their turn. Beyond it a person's try is refused, and others are dropped.
const MAX_QUEUED: usize = 16;

/// Runs in a row that the machine, not a config, made fail, after which the node halts and asks a person.
const MAX_MACHINE_FAULTS: u32 = 6;

/// Screening runs of the incumbent whose early losses are remembered; about one run in sixty is such a run.
const MAX_EARLY: usize = 256;

/// Runs of one experiment that may be spoiled through no fault of the config; the last is not repeated.
const MAX_TRIES: u32 = 3;

/// A change that waits: a person's try (with a ticket), a peer's idea, or a win against an earlier incumbent.
#[derive(Debug, Clone)]
struct Queued {
    ticket: Option<u64>,
    proposal: Proposal,
}

/// The state machine.
pub struct Research {
    rules: Rules,
    proposer: Box<dyn Propose + Send>,
    noise: NoiseModel,
    incumbent: Option<Incumbent>,
    baseline_mean: Option<f64>,
    gain: Option<Estimate>,
    screening: ScreeningCache,
    prune: PruneModel,
    /// Early losses of the incumbent's screening runs, by seed.
    early: BTreeMap<u64, Early>,
    /// Training tokens that the budget buys at each known speed.
    prices: BTreeMap<SpeedHash, u64>,
    pricing: BTreeSet<SpeedHash>,
    active: Vec<Active>,
    running: BTreeMap<u64, RunOrder>,
    /// Earlier experiments on the same change, by child and parent.
    attempts: BTreeMap<(ConfigHash, Option<ConfigHash>), Attempts>,
    queue: VecDeque<Queued>,
    reproduction: Option<Reproduction>,
    next_run: u64,
    next_number: u32,
    finished_runs: u64,
    machine_faults: u32,
    left: Option<u32>,
    exhausted: bool,
    ending: bool,
}

impl std::fmt::Debug for Research {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Research")
            .field("incumbent", &self.incumbent)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl Research {
    /// Rebuilds the state from this arena's journal, by rising number, and from the interrupted experiments.
    pub fn new(
        rules: Rules,
        proposer: Box<dyn Propose + Send>,
        journal: &[Experiment],
        pending: Vec<Active>,
        next_number: u32,
    ) -> Self {
        let left = rules.experiments;
        let mut research = Self {
            rules,
            proposer,
            noise: NoiseModel::from_baseline(&[]),
            incumbent: None,
            baseline_mean: None,
            gain: None,
            screening: ScreeningCache::default(),
            prune: PruneModel::default(),
            early: BTreeMap::new(),
            prices: BTreeMap::new(),
            pricing: BTreeSet::new(),
            active: Vec::new(),
            running: BTreeMap::new(),
            attempts: BTreeMap::new(),
            queue: VecDeque::new(),
            reproduction: None,
            next_run: 0,
            next_number,
            finished_runs: 0,
            machine_faults: 0,
            left,
            exhausted: false,
            ending: false,
        };
        for experiment in journal {
            research.finished_runs += experiment.runs.len() as u64;
            research.learn(experiment);
        }
        research.adopt_pending(pending);
        research
    }

    /// Takes over interrupted experiments of this arena: children if there is an incumbent, else a baseline.
    fn adopt_pending(&mut self, pending: Vec<Active>) {
        for active in pending {
            let has_parent = active.parent.is_some();
            if active.arena != self.rules.arena || has_parent != self.incumbent.is_some() {
                continue;
            }
            self.finished_runs += active.runs.len() as u64;
            self.next_number = self.next_number.max(active.number + 1);
            for run in &active.runs {
                self.learn_price(&active, run);
                if run.role == RunRole::IncumbentScreen {
                    self.learn_screening(run);
                    self.learn_early(run);
                }
            }
            self.left = self.left.map(|left| left.saturating_sub(u32::from(has_parent)));
            self.active.push(active);
        }
    }

    /// Returns whether a peer's idea waits in the queue or is being tried.
    pub fn is_inspired(&self) -> bool {
        self.queue.iter().any(|queued| !queued.proposal.hypothesis.inspired_by.is_empty())
            || self
                .active
                .iter()
                .any(|active| active.reproduction.is_none() && !active.hypothesis.inspired_by.is_empty())
    }

    /// Returns whether the re-run of a peer's discovery waits or runs.
    pub fn is_reproducing(&self) -> bool {
        self.reproduction.is_some() || self.active.iter().any(|active| active.reproduction.is_some())
    }

    /// Returns the experiments in flight. With them a restart goes on without repeating a run.
    pub fn pending(&self) -> &[Active] {
        &self.active
    }

    /// Returns the incumbent, once there is a baseline.
    pub fn incumbent(&self) -> Option<&Incumbent> {
        self.incumbent.as_ref()
    }

    /// Returns the sum of the gains kept since the baseline, with its standard error; none before the first.
    pub fn gain(&self) -> Option<Estimate> {
        self.gain
    }

    /// Returns the baseline's effective config.
    pub fn baseline(&self) -> &EffectiveConfig {
        &self.rules.baseline
    }

    /// Returns what is known of this machine's noise.
    pub fn noise(&self) -> &NoiseModel {
        &self.noise
    }

    /// Returns the proposer, to ask what it believes and has ruled out.
    pub fn proposer(&self) -> &(dyn Propose + Send) {
        self.proposer.as_ref()
    }

    /// Returns the constants by which this session judges.
    pub fn policy(&self) -> &Policy {
        &self.rules.policy
    }

    /// Returns the mean of the newest baseline's runs, bits per byte.
    pub fn baseline_mean(&self) -> Option<f64> {
        self.baseline_mean
    }

    /// Makes a proposal of a person's patch to the incumbent, or says in one line what is wrong with it.
    pub fn person_proposal(&self, patch: &str, because: &str) -> Result<Proposal, String> {
        let incumbent =
            self.incumbent.as_ref().ok_or("there is no baseline yet; ask again when there is one")?;
        let asked = Patch::parse(patch, &incumbent.config).map_err(|error| error.to_string())?;
        let child =
            asked.apply(&incumbent.config).map_err(|error| error.to_string())?.effective(self.rules.context);
        let patch = Patch::between(&incumbent.config, &child);
        if patch.is_empty() {
            return Err(format!("`{asked}` changes nothing that this incumbent executes"));
        }
        let because = Hypothesis::one_line(because);
        let hypothesis = Hypothesis {
            proposer: Author::Person,
            because,
            patch,
            simplifies: false,
            inspired_by: Vec::new(),
        };
        Ok(Proposal { child, hypothesis })
    }

    /// Returns the orders of the runs in flight.
    pub fn running(&self) -> impl Iterator<Item = &RunOrder> {
        self.running.values()
    }

    /// Returns how many runs experiment `number` still needs, at least, before it can be judged.
    pub fn outstanding_runs(&self, number: u32) -> usize {
        self.active.iter().find(|active| active.number == number).map_or(0, |active| active.needs().count())
    }

    /// Takes an event and returns what must be done. `now` is in seconds since 1970.
    pub fn handle(&mut self, event: Input, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Input::Start => {
                for index in (0..self.active.len()).rev() {
                    self.judge(index, now, &mut actions);
                }
            }
            Input::RunEnded { id, started_at, outcome, better_tokens } => {
                self.run_ended(id, started_at, *outcome, better_tokens, now, &mut actions);
            }
            Input::Try(ticket, proposal) => {
                let refusal = if self.ending {
                    Some("the node is ending".to_owned())
                } else if self.queue.len() >= MAX_QUEUED {
                    Some(format!("{MAX_QUEUED} changes are waiting already"))
                } else {
                    None
                };
                match refusal {
                    Some(reason) => actions.push(Action::TryRefused { ticket, reason }),
                    None => self.queue.push_back(Queued { ticket: Some(ticket), proposal: *proposal }),
                }
            }
            Input::Inspire(proposal) => {
                if self.queue.len() < MAX_QUEUED {
                    self.queue.push_back(Queued { ticket: None, proposal: *proposal });
                }
            }
            Input::Reproduction(reproduction) => self.reproduction = Some(*reproduction),
            Input::PeerResults(peer_results) => self.proposer.take_peer_results(*peer_results),
            Input::Stop => self.ending = true,
        }
        self.fill_slots(now, &mut actions);
        actions
    }

    fn fill_slots(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.ending || actions.iter().any(|action| matches!(action, Action::Halt(_))) {
            return;
        }
        loop {
            let Some(slot) =
                (0..self.rules.slots).find(|slot| self.running.values().all(|order| order.slot != *slot))
            else {
                return;
            };
            if let Some(order) = self.next_order(slot) {
                self.running.insert(order.id, order.clone());
                actions.push(Action::Run(Box::new(order)));
            } else if !self.begin_experiment(now, actions) {
                break;
            }
        }
        if self.running.is_empty() && self.active.is_empty() {
            actions.push(Action::Finish);
        }
    }

    /// Takes the first run that an experiment needs and that is not in flight yet, oldest experiment first.
    fn next_order(&mut self, slot: usize) -> Option<RunOrder> {
        let (number, need, config, patch, agreed, group) = self.active.iter().find_map(|active| {
            active.needs().find_map(|need| {
                let config = active.config_of(need.side);
                // One screening run of the incumbent serves all experiments that wait for its seed.
                let taken = self.running.values().any(|order| {
                    order.seed == need.seed
                        && order.config == *config
                        && (order.number == active.number || order.role == RunRole::IncumbentScreen)
                        && order.role == need.role
                });
                let agreed = active.agreed_tokens(need.side);
                // While one run measures the price of a speed, others wait, so that all get the same tokens.
                let waits = agreed.is_none() && self.pricing.contains(&config.speed_hash());
                (!taken && !waits).then(|| {
                    let patch = active.hypothesis.patch.clone();
                    (active.number, need, config.clone(), patch, agreed, active.group)
                })
            })
        })?;
        let speed = config.speed_hash();
        let tokens = agreed.or_else(|| self.prices.get(&speed).copied());
        if tokens.is_none() {
            self.pricing.insert(speed);
        }
        let id = self.next_run;
        self.next_run += 1;
        let Need { role, seed, pair, .. } = need;
        let foreign_tokens = agreed.is_some();
        let prune = self
            .early
            .get(&seed)
            .filter(|_| role == RunRole::Screen)
            .and_then(|early| self.prune.bounds(group, config.hash(), early));
        Some(RunOrder { id, number, slot, role, pair, config, seed, tokens, patch, foreign_tokens, prune })
    }

    fn begin_experiment(&mut self, now: u64, actions: &mut Vec<Action>) -> bool {
        let Some(incumbent) = self.incumbent.as_ref().map(|incumbent| incumbent.config.clone()) else {
            return self.begin_baseline(now);
        };
        // One more than slots: no slot idles while a price is measured, and all are on a recent incumbent.
        if self.active.len() > self.rules.slots {
            return false;
        }
        if let Some(reproduction) = self.reproduction.take() {
            self.begin_reproduction(reproduction, now, actions);
            return true;
        }
        let (ticket, proposal) = if let Some(queued) = self.next_queued(&incumbent, actions) {
            (queued.ticket, queued.proposal)
        } else {
            if self.left == Some(0) || self.exhausted {
                return false;
            }
            let pending: Vec<ConfigHash> = self.active.iter().map(|active| active.child.hash()).collect();
            let proposal = self.proposer.propose(&incumbent, &pending, self.next_number);
            actions.extend(self.proposer.take_note().map(Action::Note));
            let Some(proposal) = proposal else {
                self.exhausted = true;
                return false;
            };
            self.left = self.left.map(|left| left - 1);
            (None, proposal)
        };
        let number = self.next_number;
        self.next_number += 1;
        actions.extend(ticket.map(|ticket| Action::TryBegan { ticket, number }));
        let key = (proposal.child.hash(), Some(incumbent.hash()));
        let attempt = self.attempts.get(&key).map_or(0, |attempts| attempts.made);
        actions.push(Action::Propose { number, hypothesis: proposal.hypothesis.clone() });
        let mut active = Active::new(self.rules.arena, number, proposal, Some(incumbent), attempt, now);
        self.plan_screen(&mut active);
        self.active.push(active);
        true
    }

    fn begin_reproduction(&mut self, reproduction: Reproduction, now: u64, actions: &mut Vec<Action>) {
        let number = self.next_number;
        self.next_number += 1;
        let key = (reproduction.child.hash(), Some(reproduction.parent.hash()));
        let attempt = self.attempts.get(&key).map_or(0, |attempts| attempts.made);
        actions.push(Action::Propose { number, hypothesis: reproduction.hypothesis.clone() });
        self.active.push(Active::reproduction(self.rules.arena, number, reproduction, attempt, now));
    }

    /// Takes the first queued change that still changes something when rebased onto the incumbent.
    fn next_queued(&mut self, incumbent: &EffectiveConfig, actions: &mut Vec<Action>) -> Option<Queued> {
        while let Some(Queued { ticket, proposal }) = self.queue.pop_front() {
            match rebase(proposal, incumbent, self.rules.context) {
                Some(proposal) => return Some(Queued { ticket, proposal }),
                None => actions.extend(ticket.map(|ticket| Action::TryRefused {
                    ticket,
                    reason: "meanwhile the incumbent has this change".to_owned(),
                })),
            }
        }
        None
    }

    fn begin_baseline(&mut self, now: u64) -> bool {
        if !self.active.is_empty() {
            return false;
        }
        let hypothesis = Hypothesis {
            proposer: Author::Baseline,
            because: "the calibrated default, to have something to compare with".to_owned(),
            patch: Patch::default(),
            simplifies: false,
            inspired_by: Vec::new(),
        };
        let proposal = Proposal { child: self.rules.baseline.clone(), hypothesis };
        let mut active = Active::new(self.rules.arena, self.next_number, proposal, None, 0, now);
        self.next_number += 1;
        for index in 0..BASELINE_SEEDS {
            active.add_baseline(screening_seed(self.rules.arena, index));
        }
        self.active.push(active);
        true
    }

    fn plan_screen(&mut self, active: &mut Active) {
        let limit = self.rules.policy.refresh_after;
        // On a seed of an earlier attempt the run would be the same.
        let key = (active.child.hash(), active.parent.as_ref().map(EffectiveConfig::hash));
        let earlier = self.attempts.get(&key);
        let is_spent = |seed| earlier.is_some_and(|attempts| attempts.screened.contains(&seed));
        let mut position = active.screens.len();
        let plan = loop {
            let plan = self.screening.plan(position, self.finished_runs, limit);
            // After a restart the seeds' order may differ. A second entry for a seed would never be filled.
            let is_new = active.screens.iter().all(|screen| screen.screening_index != Some(plan.seed_index));
            if is_new && !is_spent(screening_seed(self.rules.arena, plan.seed_index)) {
                break plan;
            }
            position += 1;
        };
        let seed = screening_seed(self.rules.arena, plan.seed_index);
        active.add_screen(plan.seed_index, seed, self.screening.value(plan.seed_index));
    }

    fn run_ended(
        &mut self,
        id: u64,
        started_at: u64,
        outcome: Outcome,
        better_tokens: Option<u64>,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(order) = self.running.remove(&id) else { return };
        let outcome = if order.tokens.is_some() { not_the_configs_fault(outcome) } else { outcome };
        self.finished_runs += 1;
        let speed = order.config.speed_hash();
        self.pricing.remove(&speed);
        let tokens = outcome.report().map(|report| report.tokens);
        let machine_fault = matches!(&outcome, Outcome::Crashed(crash) if !crash.class.blames_config());
        self.machine_faults = if machine_fault { self.machine_faults + 1 } else { 0 };
        if let (Outcome::Crashed(crash), true) = (&outcome, self.machine_faults >= MAX_MACHINE_FAULTS) {
            actions.push(Action::Halt(format!(
                "{MAX_MACHINE_FAULTS} runs in a row failed through no fault of their configs; the last: {} ({})",
                crash.class, crash.message
            )));
        }
        let Some(owner) = self.active.iter().position(|active| active.number == order.number) else { return };
        let run = Run {
            role: order.role,
            requested: order.config.hash(),
            seed: order.seed,
            tokens: order.tokens.or(tokens),
            pair: order.pair,
            slot: order.slot as u16,
            started_at,
            outcome,
        };
        let value = run.validation();
        let crash = match &run.outcome {
            Outcome::Crashed(crash) => Some(crash.clone()),
            Outcome::Finished(_) => None,
            Outcome::Pruned(pruned) => {
                let pruned = *pruned;
                self.active[owner].runs.push(run);
                self.pruned(owner, &pruned, order.seed, now, actions);
                return;
            }
        };
        if order.role == RunRole::IncumbentScreen {
            self.learn_early(&run);
        }
        self.active[owner].runs.push(run);
        match (value, crash) {
            // The price was wrong: the tokens are not what the budget buys, so the value does not count.
            (Some(_), _) if better_tokens.is_some() && self.active[owner].repeat(&order, MAX_TRIES) => {
                self.prices.extend(better_tokens.map(|tokens| (speed, tokens)));
            }
            (Some(value), _) => {
                if let Some(tokens) = tokens.filter(|_| !order.foreign_tokens) {
                    self.prices.entry(speed).or_insert(tokens);
                }
                self.fill(&order, value);
            }
            (None, Some(crash)) => {
                // Only the child is on trial: a crash of the incumbent's run is repeated, whatever its class.
                let config_fault = crash.class.blames_config() && order.config == self.active[owner].child;
                if config_fault || !self.active[owner].repeat(&order, MAX_TRIES) {
                    self.crashed(owner, crash.class, crash.message, now, actions);
                    return;
                }
            }
            (None, None) => {}
        }
        for index in (0..self.active.len()).rev() {
            self.judge(index, now, actions);
        }
    }

    /// Stores a value in the experiment that ordered it; an incumbent's screening value in all that wait.
    fn fill(&mut self, order: &RunOrder, value: f64) {
        if order.role == RunRole::IncumbentScreen {
            let index = self.active.iter().find_map(|active| active.screen_index(order.seed));
            let current = self.incumbent.as_ref().is_some_and(|incumbent| incumbent.config == order.config);
            if let (Some(index), true) = (index, current) {
                self.screening.record(index, value, self.finished_runs);
            }
        }
        if let Some(incumbent) = self
            .incumbent
            .as_mut()
            .filter(|incumbent| incumbent.config == order.config && !order.foreign_tokens)
        {
            incumbent.values.push(value);
        }
        for active in &mut self.active {
            if active.number == order.number
                || (order.role == RunRole::IncumbentScreen && active.parent.as_ref() == Some(&order.config))
            {
                active.fill(order.role, order.seed, value);
            }
        }
    }

    /// Discards a candidate whose screening run was stopped early.
    fn pruned(&mut self, index: usize, pruned: &Pruned, seed: u64, now: u64, actions: &mut Vec<Action>) {
        let active = self.active.remove(index);
        let expected =
            self.early.get(&seed).and_then(|early| self.prune.expected(active.group, pruned, early));
        let verdict = Verdict::Discard {
            reason: DiscardReason::Pruned,
            screened: expected.or_else(|| active.evidence().screened()),
            estimate: None,
        };
        self.conclude(active, verdict, now, actions);
    }

    fn crashed(
        &mut self,
        index: usize,
        class: CrashClass,
        message: String,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        let active = self.active.remove(index);
        if active.parent.is_none() {
            actions.push(Action::Halt(format!("the baseline gave no number: {class} ({message})")));
            return;
        }
        let verdict = match active.reproduction {
            Some(ReproductionTerms { comparison, .. }) => {
                Verdict::Reproduction { comparison, found: Err(class) }
            }
            None => Verdict::Crash { class, message },
        };
        self.conclude(active, verdict, now, actions);
    }

    /// Judges an experiment if none of its planned runs is missing; the outcome may be to plan more.
    fn judge(&mut self, index: usize, now: u64, actions: &mut Vec<Action>) {
        if self.active[index].needs().next().is_some() {
            return;
        }
        if self.active[index].parent.is_none() {
            let active = self.active.remove(index);
            self.conclude(active, Verdict::Baseline, now, actions);
            return;
        }
        let group = self.active[index].group;
        let evidence = self.active[index].evidence();
        if let Some(ReproductionTerms { comparison, .. }) = self.active[index].reproduction {
            let active = self.active.remove(index);
            let estimate = evidence.estimate(self.noise.pair_sd(group));
            // There is no estimate without a pair, but a re-run is ordered with at least one.
            let found = estimate.ok_or(CrashClass::BadOutput);
            self.conclude(active, Verdict::Reproduction { comparison, found }, now, actions);
            return;
        }
        match self.rules.policy.next(&evidence, &self.noise, group) {
            Next::Screen => {
                let mut active = self.active.remove(index);
                // The cached screening runs are the current incumbent's; an older parent has none left.
                if self.incumbent.as_ref().map(|incumbent| &incumbent.config) == active.parent.as_ref() {
                    self.plan_screen(&mut active);
                } else {
                    self.plan_pairs(&mut active, 1);
                }
                self.active.insert(index, active);
            }
            Next::Pair(count) => {
                let mut active = self.active.remove(index);
                self.plan_pairs(&mut active, count);
                self.active.insert(index, active);
            }
            Next::Keep(estimate, _) => {
                let active = self.active.remove(index);
                self.keep(active, estimate, now, actions);
            }
            Next::Discard(reason, estimate) => {
                let active = self.active.remove(index);
                let screened = evidence.screened();
                self.conclude(active, Verdict::Discard { reason, screened, estimate }, now, actions);
            }
        }
    }

    fn plan_pairs(&self, active: &mut Active, count: u16) {
        let parent = active.parent.as_ref().expect("only a child of an incumbent is paired").hash();
        for _ in 0..count {
            let index = active.pairs.len() as u16;
            let seed =
                confirmation_seed(self.rules.arena, active.child.hash(), parent, active.attempt, index);
            active.add_pair(seed);
        }
    }

    fn keep(&mut self, active: Active, estimate: Estimate, now: u64, actions: &mut Vec<Action>) {
        let current = self.incumbent.as_ref().map(|incumbent| &incumbent.config) == active.parent.as_ref();
        if !current {
            let reason = DiscardReason::Superseded;
            let screened = active.evidence().screened();
            if self.queue.len() < MAX_QUEUED {
                let because =
                    format!("won as experiment {} against the incumbent before this one", active.number);
                let hypothesis = Hypothesis { because, ..active.hypothesis.clone() };
                let proposal = Proposal { child: active.child.clone(), hypothesis };
                self.queue.push_back(Queued { ticket: None, proposal });
            }
            self.conclude(
                active,
                Verdict::Discard { reason, screened, estimate: Some(estimate) },
                now,
                actions,
            );
            return;
        }
        let audit = active.audit_estimate();
        self.conclude(active, Verdict::Keep { estimate, audit }, now, actions);
    }

    fn conclude(&mut self, active: Active, verdict: Verdict, now: u64, actions: &mut Vec<Action>) {
        let experiment = active.into_experiment(verdict, now);
        self.learn(&experiment);
        self.exhausted = false;
        actions.push(Action::Conclude(Box::new(experiment)));
    }

    /// Learns from a finished experiment; a restart calls it for the whole journal.
    fn learn(&mut self, experiment: &Experiment) {
        self.next_number = self.next_number.max(experiment.number + 1);
        let key = (experiment.config.hash(), experiment.parent);
        let attempts = self.attempts.entry(key).or_default();
        attempts.made += 1;
        let screened = experiment.runs.iter().filter(|run| run.role == RunRole::Screen);
        attempts.screened.extend(screened.map(|run| run.seed));
        let active = Active::from_experiment(experiment);
        for run in &experiment.runs {
            self.learn_price(&active, run);
            if run.role == RunRole::IncumbentScreen {
                self.learn_screening(run);
                self.learn_early(run);
            }
            if let (RunRole::Screen, Some(report), Some(early)) =
                (run.role, run.outcome.report(), self.early.get(&run.seed))
            {
                self.prune.observe(experiment.group, report, early);
            }
        }
        let values = || -> Vec<f64> {
            let child = experiment.config.hash();
            let fresh = |run: &&Run| run.requested == child && run.role != RunRole::Screen;
            experiment.runs.iter().filter(fresh).filter_map(Run::validation).collect()
        };
        match &experiment.verdict {
            Verdict::Baseline => {
                self.noise = NoiseModel::from_baseline(&values());
                self.baseline_mean =
                    values().into_iter().reduce(|a, b| a + b).map(|sum| sum / values().len() as f64);
                self.incumbent = Some(Incumbent { config: experiment.config.clone(), values: values() });
                self.gain = None;
                self.screening = ScreeningCache::default();
                for (index, value) in values().into_iter().enumerate() {
                    self.screening.record(index as u32, value, self.finished_runs);
                }
                self.early.clear();
                for run in &experiment.runs {
                    self.learn_early(run);
                }
            }
            Verdict::Keep { estimate, .. } => {
                self.noise.observe(experiment.group, &active.evidence());
                self.incumbent = Some(Incumbent { config: experiment.config.clone(), values: values() });
                self.gain = Some(self.gain.map_or(*estimate, |gain| gain.and_then(*estimate)));
                self.screening.incumbent_changed();
                self.early.clear();
            }
            // These have no final difference, and the share of gains counts only experiments that have one.
            Verdict::Discard { reason: DiscardReason::Pruned, .. } | Verdict::Crash { .. } => {}
            Verdict::Discard { .. } | Verdict::Reproduction { .. } => {
                self.noise.observe(experiment.group, &active.evidence());
            }
        }
        self.proposer.observe(experiment);
    }

    /// Remembers the early losses of a run, if it is the current incumbent's.
    fn learn_early(&mut self, run: &Run) {
        if let (true, Some(early)) = (self.is_incumbents(run), run.outcome.report().and_then(Early::of)) {
            if self.early.len() >= MAX_EARLY {
                self.early.clear();
            }
            self.early.insert(run.seed, early);
        }
    }

    /// Remembers an incumbent's screening run, so that a restart does not repeat it. Of a run of an earlier
    /// incumbent only the seed counts: it is used up.
    fn learn_screening(&mut self, run: &Run) {
        let Some(value) = run.validation() else { return };
        let Some(index) = (0..self.screening.next_seed() + 64)
            .find(|&index| screening_seed(self.rules.arena, index) == run.seed)
        else {
            return;
        };
        if self.is_incumbents(run) && self.screening.value(index).is_none() {
            self.screening.record(index, value, self.finished_runs);
        } else {
            self.screening.spend(index);
        }
    }

    fn is_incumbents(&self, run: &Run) -> bool {
        self.incumbent.as_ref().is_some_and(|incumbent| incumbent.config.hash() == run.requested)
    }

    fn learn_price(&mut self, active: &Active, run: &Run) {
        // The tokens of a re-run may be another node's.
        let own = run.requested == active.child.hash() && active.reproduction.is_none();
        if let (Some(tokens), true) = (run.tokens, own) {
            self.prices.entry(active.child.speed_hash()).or_insert(tokens);
        }
    }
}

#[derive(Debug, Default)]
struct Attempts {
    made: u16,
    /// Seeds of all their screening runs.
    screened: BTreeSet<u64>,
}

/// Blames a timeout at known tokens on the machine: a run in time priced them, or they are another node's.
fn not_the_configs_fault(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Crashed(crash) if crash.class == CrashClass::TimedOut => {
            let message = format!("far slower than these tokens were thought to take: {}", crash.message);
            Outcome::Crashed(Crash { class: CrashClass::Starved, message, ..crash })
        }
        other => other,
    }
}

/// Rebases a queued proposal onto the current incumbent; none if it changes nothing there.
fn rebase(queued: Proposal, incumbent: &EffectiveConfig, context: usize) -> Option<Proposal> {
    let Proposal { child: meant, hypothesis } = queued;
    let child = hypothesis.patch.transplant(incumbent).ok()?.effective(context);
    let patch = Patch::between(incumbent, &child);
    if patch.is_empty() {
        return None;
    }
    let because = if child == meant {
        hypothesis.because
    } else {
        Hypothesis::one_line(&format!("on an incumbent that came since: {}", hypothesis.because))
    };
    Some(Proposal { child, hypothesis: Hypothesis { patch, because, ..hypothesis } })
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
