//! The probe: this machine's training speed, measured once per layout of its slots and remembered.
//!
//! Three shapes of one model are priced, on all slots at the same time, as they will run. One is bound by
//! launches, one is the reference, and one is bound by matrix products. The reference's speed decides the
//! budget's class, which is a number of tokens. Where the machine can be divided in several ways, it also
//! decides which way does most.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, anyhow};
use autoswarm_protocol::{
    Budget, CrashClass, EffectiveConfig, TrainConfig, TrainerEvent, outcome::TRAINER_SEMANTICS,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    base::files,
    machine::slots::{Placement, slot_name},
    objectives::train::plan::RunPlan,
    research::RunOrder,
    runs::supervisor::{self, Control, RunBudget},
};

/// Budget that each shape is priced for, seconds; the trainer spends about one of them on pricing.
const PRICED_FOR: f64 = 10.0;

/// The shapes: name and config. Every knob that is not named has its default.
const SHAPES: [(&str, &str); 3] = [
    ("launches", "depth = 2\nwidth = 64\nsequence_length = 128\nbatch_tokens = 2048"),
    ("reference", "depth = 4\nwidth = 128\nsequence_length = 256\nbatch_tokens = 4096"),
    ("products", "depth = 4\nwidth = 256\nsequence_length = 256\nbatch_tokens = 4096"),
];

/// Name of the shape that decides the class and the layout.
const REFERENCE: &str = "reference";

/// Factor by which all slots together must do more before the machine is divided further. With fewer slots
/// each run trains longer, and the search knows more before its next proposal.
const WORTH_DIVIDING: f64 = 1.05;

/// Most rests while other work takes the whole machine, [`REST`] each: ten minutes in all. Then the probe
/// gives up.
const MOST_RESTS: u32 = 40;
/// One rest before a price is tried again.
const REST: Duration = Duration::from_secs(15);

/// Most rests after a trainer that said nothing at all: it may hang, or other work may keep it from speaking.
const MOST_SILENCES: u32 = 3;

/// The speed of one shape on a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeShape {
    /// Name of the shape, such as `reference`.
    pub name: String,
    /// Training throughput, tokens a second.
    pub tokens_per_second: f64,
    /// Training throughput, FLOP/s.
    pub flops_per_second: f64,
}

/// The speed of one slot in a layout of equal slots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Device and threads of the slot, such as `cpu/2`.
    pub slot: String,
    /// Slots of this kind that were busy at the same time.
    pub slots: u16,
    /// The trainer's semantics number when it was measured; with another one the probe is void.
    pub semantics: u16,
    /// Speed of each shape on one slot; a layout that lost has the reference alone.
    pub shapes: Vec<ProbeShape>,
    /// The class of budget, kept while the machine's speed stays near it.
    pub class: u8,
}

impl Probe {
    /// Returns the throughput of the reference shape on one slot, tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.shapes.iter().find(|shape| shape.name == REFERENCE).map_or(1.0, |shape| shape.tokens_per_second)
    }

    /// Returns whether every shape was measured.
    pub fn is_complete(&self) -> bool {
        self.shapes.len() == SHAPES.len()
    }

    /// Returns the highest FLOP/s among the shapes.
    pub fn flops_per_second(&self) -> f64 {
        self.shapes.iter().map(|shape| shape.flops_per_second).fold(1.0, f64::max)
    }

    /// Returns the budget of the machine's class, and the seconds that it takes here.
    pub fn budget(&self) -> (Budget, f64) {
        let (class, seconds) = Budget::class_of(self.tokens_per_second(), Some(self.class));
        (Budget::Class(class), seconds)
    }
}

/// Returns the index of the layout that does most in a second; of nearly equal ones, that with fewer slots.
pub fn fastest(probes: &[Probe]) -> usize {
    let all_slots = |probe: &Probe| probe.tokens_per_second() * f64::from(probe.slots);
    // From few slots to many: each step has to be worth dividing further.
    let mut order: Vec<usize> = (0..probes.len()).collect();
    order.sort_by_key(|&index| probes[index].slots);
    let better = |best: usize, next: usize| {
        if all_slots(&probes[next]) > WORTH_DIVIDING * all_slots(&probes[best]) { next } else { best }
    };
    order.into_iter().reduce(better).unwrap_or(0)
}

/// Returns a slot's device and threads, without its cores.
fn shape_of(slot: &Placement) -> String {
    let device = slot_name(&Placement { cpus: Vec::new(), ..slot.clone() });
    format!("{device}/{}", slot.threads)
}

/// Returns the remembered probe of a layout, if it was measured with the trainer's present semantics.
pub fn remembered(file: &Path, layout: &[Placement]) -> Option<Probe> {
    let text = fs::read(file).ok()?;
    let probes: Vec<Probe> = serde_json::from_slice(&text).ok()?;
    let key = (shape_of(layout.first()?), layout.len());
    probes.into_iter().find(|probe| {
        (&probe.slot, usize::from(probe.slots)) == (&key.0, key.1) && probe.semantics == TRAINER_SEMANTICS
    })
}

/// Writes a probe to `file`, beside those of other layouts.
pub fn remember(file: &Path, probe: &Probe) -> anyhow::Result<()> {
    let mut probes: Vec<Probe> =
        fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    probes.retain(|other| (&other.slot, other.slots) != (&probe.slot, probe.slots));
    probes.push(probe.clone());
    files::replace(file, &serde_json::to_vec_pretty(&probes)?)
        .with_context(|| format!("cannot remember the probe in `{}`", file.display()))
}

/// Measures the reference shape on the plan's slots: enough to compare layouts. The class of a `known` probe
/// stays while the speed is near it.
pub async fn measure(plan: &RunPlan, known: Option<&Probe>) -> anyhow::Result<Probe> {
    let mut probe = Probe {
        slot: shape_of(&plan.slots[0]),
        slots: plan.slots.len() as u16,
        semantics: TRAINER_SEMANTICS,
        shapes: Vec::new(),
        class: 0,
    };
    measure_shapes(plan, &mut probe, |name| name == REFERENCE).await?;
    probe.class = Budget::class_of(probe.tokens_per_second(), known.map(|known| known.class)).0;
    Ok(probe)
}

/// Measures the shapes that a probe of the reference alone lacks.
pub async fn complete(plan: &RunPlan, probe: &mut Probe) -> anyhow::Result<()> {
    measure_shapes(plan, probe, |name| name != REFERENCE).await
}

async fn measure_shapes(
    plan: &RunPlan,
    probe: &mut Probe,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    for (name, toml) in SHAPES.into_iter().filter(|(name, _)| wanted(name)) {
        let config = TrainConfig::from_toml(toml)?.effective(plan.context as usize);
        // All slots at the same time: that is how they will run.
        let mut slots = JoinSet::new();
        for slot in 0..plan.slots.len() {
            slots.spawn(price(plan.clone(), slot, name, config.clone()));
        }
        let mut shapes = Vec::new();
        while let Some(priced) = slots.join_next().await {
            shapes.push(priced.context("a probe ended without an answer")??);
        }
        let mean = |of: fn(&ProbeShape) -> f64| shapes.iter().map(of).sum::<f64>() / shapes.len() as f64;
        probe.shapes.push(ProbeShape {
            name: name.to_owned(),
            tokens_per_second: mean(|shape| shape.tokens_per_second),
            flops_per_second: mean(|shape| shape.flops_per_second),
        });
    }
    Ok(())
}

/// Returns how often a pricing that ended with a crash of this class is tried again.
const fn rests_after(class: CrashClass) -> u32 {
    match class {
        CrashClass::Starved => MOST_RESTS,
        CrashClass::Hung => MOST_SILENCES,
        _ => 0,
    }
}

async fn price(
    plan: RunPlan,
    slot: usize,
    name: &'static str,
    config: EffectiveConfig,
) -> anyhow::Result<ProbeShape> {
    let order = RunOrder {
        id: 0,
        number: 0,
        slot,
        role: autoswarm_protocol::RunRole::Screen,
        pair: None,
        config,
        seed: 0,
        tokens: None,
        patch: autoswarm_protocol::Patch::default(),
        foreign_tokens: false,
        prune: None,
    };
    let mut spec = plan.spec(&order);
    spec.budget = RunBudget::Seconds(PRICED_FOR);
    // Even the slowest machine must get a price; its class says how slow it is.
    spec.min_steps = Some(1);
    let (sender, mut events) = mpsc::channel(64);
    let (_control, watch) = watch::channel(Control::Run);
    let mut rests = 0;
    let price = loop {
        let priced = supervisor::price(spec.clone(), sender.clone(), watch.clone()).await;
        match priced.context("the probe was cancelled")? {
            Ok(price) => break price,
            Err(crash) if rests < rests_after(crash.class) => {
                rests += 1;
                tokio::time::sleep(REST).await;
            }
            Err(crash) => {
                return Err(anyhow!(
                    "the probe's shape `{name}` gave no price: {} ({})",
                    crash.class,
                    crash.message
                ));
            }
        }
    };
    // The price says nothing of FLOPs; the `starting` event does.
    let mut flops_per_token = 0.0;
    while let Ok(progress) = events.try_recv() {
        if let TrainerEvent::Starting { flops_per_token: flops, .. } = progress.event {
            flops_per_token = flops;
        }
    }
    Ok(ProbeShape {
        name: name.to_owned(),
        tokens_per_second: price.tokens_per_second,
        flops_per_second: price.tokens_per_second * flops_per_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(layouts: &[(u16, f64)], expected: usize) {
        let probes: Vec<Probe> = layouts
            .iter()
            .map(|&(slots, tokens_per_second)| Probe {
                slot: "cpu".to_owned(),
                slots,
                semantics: TRAINER_SEMANTICS,
                shapes: vec![ProbeShape {
                    name: REFERENCE.to_owned(),
                    tokens_per_second,
                    flops_per_second: 1.0,
                }],
                class: 0,
            })
            .collect();
        assert_eq!(fastest(&probes), expected);
    }

    #[test]
    fn the_machine_is_divided_where_that_does_more() {
        check(&[(1, 13_500.0)], 0);
        check(&[(1, 13_500.0), (2, 8_200.0)], 1);
        check(&[(2, 8_200.0), (1, 13_500.0)], 0);
        check(&[(1, 13_500.0), (2, 6_900.0)], 0); // 2 % more is not worth it
        check(&[(1, 20_000.0), (2, 10_400.0), (4, 5_300.0)], 2); // one step of 4 %, two of 6 %
    }

    #[test]
    fn layouts_of_one_shape_are_remembered_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("probe.json");
        let slot = Placement { device: crate::machine::slots::Device::Cpu, threads: 1, cpus: vec![0] };
        let probe = |slots| Probe {
            slot: shape_of(&slot),
            slots,
            semantics: TRAINER_SEMANTICS,
            shapes: Vec::new(),
            class: slots as u8,
        };
        remember(&file, &probe(1)).expect("remembered");
        remember(&file, &probe(2)).expect("remembered");
        remember(&file, &probe(2)).expect("remembered");
        assert_eq!(remembered(&file, std::slice::from_ref(&slot)), Some(probe(1)));
        assert_eq!(remembered(&file, &[slot.clone(), slot.clone()]), Some(probe(2)));
        assert_eq!(remembered(&file, &[slot.clone(), slot.clone(), slot]), None);
    }
}
